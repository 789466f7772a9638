"""Opens every update behind SecAgg+, whose clients do not check whom the server lists as dropped out."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from fedinv.deviation import Deviation, Weights


class Unmask(Deviation):
    """Each update behind secagg-plus is opened: the server names all clients both as present and as dropped out.

    Threat model: a malicious server that clients of SecAgg+ believe. For a client that dropped out its neighbors reveal
    the shares of its key, and for one that is present those of its own mask; a server that receives both removes all
    masks of every update. Weights are an honest model's, so that clients that look at these alone see nothing;
    clients that look at the lists (`check_lists`) refuse.

    Claims: nothing of its own; every attack reads the single updates in place of their sum.

    Protocol: Bell, Bonawitz, Gascon, Lepoint and Raykova (2020), Secure single-server aggregation with
    (poly)logarithmic overhead, in which clients sign the lists against such a server; Flower's clients do not. The
    messages are those of `server.aggregation.opened_secagg`.
    """

    kind: Literal["unmask"] = "unmask"
    """Selects this deviation: updates behind secagg-plus are opened."""
    rounds: tuple[Annotated[int, Field(gt=0)], ...] | None = Field(default=None, min_length=1)
    """Rounds in which updates are opened, counted from 1. Default: all."""
    unmasks: ClassVar[bool] = True

    def active(self, round_: int, watched: tuple[int, ...]) -> bool:
        """Whether updates are opened in a round: in each, unless rounds are named."""
        return self.rounds is None or round_ in self.rounds

    def next_model(self, before: Weights, sent: Weights, averaged: Weights, round_: int) -> Weights:
        """The average: the weights that were sent are the model's, and the opened updates train it."""
        return averaged
