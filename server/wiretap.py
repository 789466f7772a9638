"""The wiretap: reads what each client sent, and stores the updates of the watched rounds as they crossed the wire."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from flwr.app import ArrayRecord, Message, MetricRecord
from torch import Tensor

from fedinv.errors import plain
from fedinv.federation import wire
from fedinv.federation.agreement import Watch
from fedinv.federation.reply_codes import DECLINED, DISTRUSTED, DROPPED, GONE, HALTED
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

    def sent(self, round_: int, base: Weights, to: Mapping[int, Weights]) -> None:
        """Store the weights that are sent to the clients of a round: `base`, and those of clients that get others."""
        if round_ not in self.watch.rounds:
            return
        observations.write_sent(self.folder, round_, base)
        groups: dict[int, list[int]] = {}
        for client, weights in to.items():
            if weights is not base:
                groups.setdefault(id(weights), []).append(client)
        for place, clients in enumerate(groups.values()):
            observations.write_sent_to(self.folder, round_, place, clients, to[clients[0]])

    def replies(self, round_: int, senders: Sequence[int], used: Mapping[int, Reply]) -> None:
        """Store the usable updates of the `watch.clients` watched clients of those that were to send one in a round.

        The first by number, or those that reported the fewest records; of equally many the first by number.
        """
        if round_ not in self.watch.rounds:
            return
        watched = sorted(used, key=lambda c: (used[c].records, c)) if self.watch.choose == "smallest" else senders
        for client in watched[: self.watch.clients]:
            if client in used:
                one = used[client]
                observations.write_update(self.folder, round_, [client], one.records, one.update)

    def sum(self, round_: int, used: Mapping[int, Reply], mean: Weights) -> None:
        """Store the mean of a round's masked updates, which is all that the server can use of them."""
        if round_ in self.watch.rounds:
            total = sum(one.records for one in used.values())
            observations.write_update(self.folder, round_, list(used), total, mean)


def read(reply: Message | None, sent: Weights, most: float | None = None) -> tuple[Reply | Refusal, int]:
    """Check a client's reply to the weights `sent`; returns it, or why it is unusable, and the bytes of its arrays.

    `most` is the scenario's largest number of records of a client, None where it sets none. Whatever the client sent,
    nothing is raised.
    """
    if reply is None:
        return Refusal("did not reply in time"), 0
    if reply.has_error():
        return Refusal(_error(reply)), 0
    size = 0
    try:
        arrays = wire.record(reply.content, "update", ArrayRecord)
        size = wire.size(arrays)
        metrics = wire.record(reply.content, "metrics", MetricRecord)
        examples, weight = metrics["num-examples"], metrics["weight"]
        problem = wire.misfit(arrays, sent)
        update = wire.view(arrays) if problem is None else {}
    except Exception as error:  # a client may send anything
        return Refusal(plain(f"sent a reply that cannot be read ({error})")), size
    problem = problem or wire.fault(update, sent) or wire.count_fault(examples, weight, most)
    if problem is not None:
        return Refusal(plain(problem)), size
    return Reply(update, cast(int, examples), cast(float, weight)), size


def _error(reply: Message) -> str:
    reason = first_line(reply.error.reason)
    if reply.error.code == DECLINED:
        return f"declined: {reason}"
    return reason if reply.error.code in (HALTED, GONE, DROPPED, DISTRUSTED) else f"raised an error: {reason}"


def first_line(reason: str | None) -> str:
    """The first line of a Flower error, which carries the client's whole traceback below it."""
    return plain((reason or "").strip()[:2000].split("\n", 1)[0], 300) or "no reason given"
