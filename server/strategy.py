"""FedAvg that keeps what it sees: the strategy is the wiretap."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from torch import Tensor

from fedinv.defense_terms.central_dp import CentralNoise
from fedinv.federation import ring, wire
from fedinv.federation.agreement import Agreement, round_clients
from fedinv.federation.reply_codes import DECLINED, GONE, HALTED
from fedinv.federation.streams import stream
from fedinv.storage import observations

from .aggregation import Summed
from .aggregation.central_dp import noised_mean
from .malicious.overflow import overflowing


@dataclass(frozen=True)
class LeftOut:
    """A client whose reply of a round was not used, and why."""

    round: int
    client: int
    reason: str


@dataclass(frozen=True)
class Reply:
    """What a client sent."""

    update: dict[str, Tensor]
    records: int
    weight: float
    """What it counts in the mean."""


@dataclass
class WiretapFedAvg(Strategy):
    """McMahan et al. 2017, algorithm 1, on updates (local minus global), with each watched update stored.

    A reply that is an error, has the wrong shape or is not finite is left out and reported; the round goes on without
    it. Under masking the sum is meaningless unless every client replied: then the round changes nothing.
    """

    agreement: Agreement
    nodes: dict[int, int]
    """Flower's node id of each client."""
    folder: Path
    """Where observations go."""
    left_out: list[LeftOut] = field(default_factory=list)
    bytes_up: int = 0
    used: int = 0
    """Updates that entered the global model, over all rounds."""
    _sent: dict[str, Tensor] = field(default_factory=dict)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Send the global model to the round's clients."""
        self._sent = wire.unpack(arrays)
        if self.agreement.server.overflow:
            self._sent = overflowing(self._sent)
            arrays = wire.pack(self._sent)
        if server_round in self.agreement.attacker.watch.rounds:
            observations.write_sent(self.folder, server_round, self._sent)
        cohort = self.cohort(server_round)
        told = ConfigRecord({**config, "round": server_round, "cohort": list(cohort)})
        return [
            Message(RecordDict({"arrays": arrays, "config": told}), self.nodes[c], "train", group_id=str(server_round))
            for c in cohort
        ]

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message], summed: Summed | None = None
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Check, store and average the replies. Returns None for the model when no reply could be used.

        `summed` is what a secure aggregation gave: then its mean is taken, or nothing where it came to none.
        """
        before = self.bytes_up
        clients = {node: client for client, node in self.nodes.items()}
        cohort = self.cohort(server_round)
        by_client = {clients[reply.metadata.src_node_id]: reply for reply in replies}
        used: dict[int, Reply] = {}
        for client in cohort:
            problem = self._read(by_client.get(client), client, used)
            if problem is not None:
                self.left_out.append(LeftOut(server_round, client, problem))
        watch = self.agreement.attacker.watch
        if server_round in watch.rounds:
            for client in cohort[: watch.clients]:
                if client in used:
                    one = used[client]
                    observations.write_update(self.folder, server_round, [client], one.records, one.update)
        masked, unusable = [ring.is_ring(one.update) for one in used.values()], None
        if summed is not None:
            self.bytes_up = before + summed.bytes_up
            unusable = summed.halted if summed.mean is None else None
        elif any(masked) and (not all(masked) or len(used) < len(cohort)):
            unusable = "its update is unusable: another client of the masked round is missing"
        if unusable is not None:
            self.left_out += [LeftOut(server_round, client, unusable) for client in used]
        if unusable is not None or not used:
            return None, None
        if summed is not None and summed.mean is not None:
            mean = dict(summed.mean)
        else:
            mean = self._mean(list(used.values()), server_round)
        self.used += len(used)
        total = sum(one.records for one in used.values())
        if all(masked) and server_round in watch.rounds:
            observations.write_update(self.folder, server_round, list(used), total, mean)
        if server_round < self.agreement.server.repeat:
            return wire.pack(self._sent), MetricRecord({"num-examples": total})
        new = {name: tensor + mean[name] for name, tensor in self._sent.items()}
        return wire.pack(new), MetricRecord({"num-examples": total})

    def cohort(self, server_round: int) -> tuple[int, ...]:
        """The clients of a round."""
        federation = self.agreement.federation
        return round_clients(federation.clients, federation.participants, self.agreement.seed, server_round)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Nothing: utility is measured on records that no client holds."""
        return []

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Nothing."""
        return None

    def summary(self) -> None:
        """Nothing to log."""

    def _mean(self, used: list[Reply], round_: int) -> dict[str, Tensor]:
        central = self.agreement.defense("central-dp")
        if central is None:
            return wire.weighted_mean([one.update for one in used], [one.weight for one in used])
        federation = self.agreement.federation
        noise = CentralNoise.model_validate(central)
        multiplier = noise.event(federation.clients, federation.participants, federation.rounds).noise_multiplier
        seed = int(stream(self.agreement.seed, "central-dp", round_).integers(2**32))
        return noised_mean(self._sent, [one.update for one in used], noise.clip, multiplier, round_, seed)

    def _read(
        self,
        reply: Message | None,
        client: int,
        replies: dict[int, "Reply"],
    ) -> str | None:
        """Take a reply's update in, or say why not."""
        if reply is None:
            return "did not reply in time"
        if reply.has_error() and reply.error.code == DECLINED:
            return f"declined: {_one_line(reply.error.reason)}"
        if reply.has_error() and reply.error.code in (HALTED, GONE):
            return _one_line(reply.error.reason)
        if reply.has_error():
            return f"raised an error: {_one_line(reply.error.reason)}"
        try:
            arrays = wire.record(reply.content, "update", ArrayRecord)
            metrics = wire.record(reply.content, "metrics", MetricRecord)
            examples, weight = metrics["num-examples"], metrics["weight"]
            update = wire.view(arrays)
        except (KeyError, ValueError, TypeError) as error:
            return f"sent a reply that cannot be read ({_one_line(str(error))})"
        self.bytes_up += wire.size(arrays)
        problem = wire.fault(update, self._sent)
        if problem is not None:
            return problem
        if not isinstance(examples, int) or examples < 1:
            return f"sent num-examples {examples!r} instead of a positive whole number"
        if not isinstance(weight, float) or not 0 < weight < math.inf:
            return f"sent weight {weight!r} instead of a positive number"
        replies[client] = Reply(update, examples, weight)
        return None


def _one_line(reason: str | None) -> str:
    """The first line of a Flower error, which carries the client's whole traceback below it."""
    return (reason or "no reason given").strip().split("\n", 1)[0][:300]
