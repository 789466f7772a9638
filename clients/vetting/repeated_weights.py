"""The model stands still: weights received before come again."""

from typing import ClassVar, Literal

from pydantic import Field

from fedinv.detector import NOTHING, Detector, Look, Weights


class RepeatedWeights(Detector):
    """1 less the least distance of any matrix from the one received earlier, in lengths of the client's own last step.

    1 where a matrix is the same as before, although this client's step moved it; lower, also below 0, where it moved.
    Flags `repeat` and what changes biases alone from round to round. It needs weights and a step of an earlier round. A
    round that failed for all clients is followed by the same weights, too, and so nearly is a mean over very many
    clients.
    """

    kind: Literal["repeated-weights"] = "repeated-weights"
    """Selects this detector: the same weights again."""
    threshold: float = 0.999
    """Score above which weights are flagged: 1 less a distance in lengths of the client's own last step."""
    rounds: int = Field(default=1, ge=1, le=100)
    """Earlier rounds, 1 to 100, that are compared with; a client keeps the weights of each."""
    highest: ClassVar[float] = 1.0

    @property
    def remembers(self) -> int:
        """The number of rounds that are compared with."""
        return self.rounds

    def score(self, received: Weights, look: Look) -> float:
        """1 less the least ratio of any matrix that the client's own step moved, over the earlier rounds."""
        least = None
        for earlier in look.earlier[: self.rounds]:
            for name, tensor in received.items():
                own, before = (look.step or {}).get(name), earlier.get(name)
                if tensor.ndim < 2 or own is None or before is None or before.shape != tensor.shape:
                    continue
                length = float(own.double().norm())
                if length > 0:
                    ratio = float((tensor.double() - before.double()).norm()) / length
                    least = ratio if least is None else min(least, ratio)
        return NOTHING if least is None else 1.0 - least
