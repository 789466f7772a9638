"""The wiretap: reads what each client sent, and stores the updates of the watched rounds as they crossed the wire."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flwr.app import ArrayRecord, Message, MetricRecord
from torch import Tensor

from fedinv.federation import wire
from fedinv.federation.agreement import Watch
from fedinv.federation.reply_codes import DECLINED, GONE, HALTED
from fedinv.storage import observations

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Reply:
    """A client's reply that can be used."""

    update: dict[str, Tensor]
    """Local minus global by parameter name: float32, or uint32 where it is masked."""
    records: int
    """Number of examples that the client reports."""
    weight: float
    """Weight of the update in the mean."""


@dataclass(frozen=True)
class Refusal:
    """A client's reply that cannot be used."""

    reason: str
    """Reason why the reply cannot be used, a phrase whose subject is the client."""


@dataclass(frozen=True)
class Wiretap:
    """Stores the rounds and clients that the attacker watches; rounds that are not watched are ignored."""

    folder: Path
    """Folder in which observations are stored."""
    watch: Watch
    """Rounds to watch, and how many of a round's clients."""

    def sent(self, round_: int, weights: Weights) -> None:
        """Store the weights that are sent to the clients of a round."""
        if round_ in self.watch.rounds:
            observations.write_sent(self.folder, round_, weights)

    def replies(self, round_: int, cohort: Sequence[int], used: Mapping[int, Reply]) -> None:
        """Store the usable updates of the `watch.clients` watched clients of a round's cohort.

        The first by number, or those that reported the fewest records; of equally many the first by number.
        """
        if round_ not in self.watch.rounds:
            return
        watched = sorted(used, key=lambda c: (used[c].records, c)) if self.watch.choose == "smallest" else cohort
        for client in watched[: self.watch.clients]:
            if client in used:
                one = used[client]
                observations.write_update(self.folder, round_, [client], one.records, one.update)

    def sum(self, round_: int, used: Mapping[int, Reply], mean: Weights) -> None:
        """Store the mean of a round's masked updates, which is all that the server can use of them."""
        if round_ in self.watch.rounds:
            total = sum(one.records for one in used.values())
            observations.write_update(self.folder, round_, list(used), total, mean)


def read(reply: Message | None, sent: Weights) -> tuple[Reply | Refusal, int]:
    """Check a client's reply to the weights `sent`; returns it, or why it is unusable, and the bytes of its arrays."""
    if reply is None:
        return Refusal("did not reply in time"), 0
    if reply.has_error():
        return Refusal(_error(reply)), 0
    try:
        arrays = wire.record(reply.content, "update", ArrayRecord)
        metrics = wire.record(reply.content, "metrics", MetricRecord)
        examples, weight = metrics["num-examples"], metrics["weight"]
        update = wire.view(arrays)
    except (KeyError, ValueError, TypeError) as error:
        return Refusal(f"sent a reply that cannot be read ({_one_line(str(error))})"), 0
    size = wire.size(arrays)
    problem = wire.fault(update, sent)
    if problem is not None:
        return Refusal(problem), size
    if not isinstance(examples, int) or examples < 1:
        return Refusal(f"sent num-examples {examples!r} instead of a positive whole number"), size
    if not isinstance(weight, float) or not 0 < weight < math.inf:
        return Refusal(f"sent weight {weight!r} instead of a positive number"), size
    return Reply(update, examples, weight), size


def _error(reply: Message) -> str:
    reason = _one_line(reply.error.reason)
    if reply.error.code == DECLINED:
        return f"declined: {reason}"
    return reason if reply.error.code in (HALTED, GONE) else f"raised an error: {reason}"


def _one_line(reason: str | None) -> str:
    """The first line of a Flower error, which carries the client's whole traceback below it."""
    return (reason or "no reason given").strip().split("\n", 1)[0][:300]
