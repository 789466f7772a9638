"""The model went further than clients' training takes it."""

from typing import Literal

from fedinv.detector import NOTHING, Detector, Look, Weights


class Jump(Detector):
    """Distance from the weights received before over the length of the client's own step on them, of any matrix.

    The mean of honest steps is no longer than a step, so that weights made anew, whatever they are, are far. Rounds
    that the client did not take part in are counted. It needs weights and a step of an earlier round: in a client's
    first round it says nothing. A strategy at the server that takes longer steps needs a higher threshold.
    """

    kind: Literal["jump"] = "jump"
    """Selects this detector: a step longer than honest ones."""
    threshold: float = 3.0
    """Score above which weights are flagged: lengths of the client's own last step, a round."""

    @property
    def remembers(self) -> int:
        """One round, with the step taken in it."""
        return 1

    def score(self, received: Weights, look: Look) -> float:
        """The largest ratio of any matrix that the client's own step moved, a million at most."""
        moved = ratios(received, look)
        return min(max(moved) / max(1, look.rounds), 1e6) if moved else NOTHING


def ratios(received: Weights, look: Look) -> list[float]:
    """Distance from the last weights received over the length of the client's own step, of each matrix it moved."""
    if not look.earlier or look.step is None:
        return []
    found = []
    for name, tensor in received.items():
        own, before = look.step.get(name), look.earlier[0].get(name)
        if tensor.ndim < 2 or own is None or before is None or before.shape != tensor.shape:
            continue
        length = float(own.double().norm())
        if length > 0:
            found.append(float((tensor.double() - before.double()).norm()) / length)
    return found
