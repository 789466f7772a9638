"""Federated training with a wiretap that stores what the server sees of the watched rounds."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from torch import Tensor

from fedinv.attack import Exchange, Knowledge
from fedinv.detector import digest
from fedinv.federation import ring, wire
from fedinv.federation.agreement import Agreement, round_clients, round_senders
from fedinv.storage import observations

from . import aggregation, malicious, server_step, wiretap
from .aggregation import Summed
from .malicious import Planned
from .wiretap import Refusal, Reply, Wiretap


@dataclass(frozen=True)
class LeftOut:
    """A client whose reply in a round was not used."""

    round: int
    """Number of the round, from 1."""
    client: int
    """Number of the client, from 0."""
    reason: str
    """Reason why the reply was not used, a phrase whose subject is the client."""


@dataclass
class WiretapFedAvg(Strategy):
    """McMahan et al. 2017, algorithm 1, on updates (local minus global), with each watched update stored.

    The step by the mean is that of Flower's strategy which the scenario names, see `server_step`.
    A reply that is an error, has the wrong shape or is not finite is left out and reported; the round goes on without
    it. Under masking the sum is meaningless unless every client replied: then the round changes nothing.
    """

    agreement: Agreement
    nodes: dict[int, int]
    """Flower's node id of each client."""
    folder: Path
    """Folder in which observations are stored."""
    absent: Mapping[int, str] = field(default_factory=dict)
    """Reason why each client without a node takes no part."""
    left_out: list[LeftOut] = field(default_factory=list)
    """Clients whose replies were not used, over all rounds."""
    bytes_up: int = 0
    """Bytes that clients sent, over all rounds."""
    used: int = 0
    """Number of updates that entered the global model, over all rounds."""
    memory: Mapping[str, Tensor] = field(default_factory=dict)
    """What the scenario's strategy remembers of earlier rounds, by name."""
    knows: Callable[[int], Knowledge] = lambda round_: Knowledge()
    """Returns what a malicious server knows in a round, by which it makes weights."""
    _planned: Planned = field(default_factory=lambda: Planned({}, {}, ()))

    @property
    def wiretap(self) -> Wiretap:
        """The wiretap, which stores what the attacker watches."""
        return Wiretap(self.folder, self.agreement.attacker.watch)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The messages that send the round's clients the global model, or a malicious server's weights in its place."""
        model, cohort = wire.unpack(arrays), self.cohort(server_round)
        planned = malicious.plan(self.agreement, model, self.knows(server_round), server_round, cohort, self._earlier)
        self._planned = planned
        self.wiretap.sent(server_round, planned.base, planned.sent)
        told = ConfigRecord({**config, "round": server_round, "cohort": list(cohort)})
        if self.agreement.vetting:
            # stands in for the clients' own channel: what each would publish of what it is really sent
            made = {id(weights): digest(weights) for weights in planned.sent.values()}
            told["digests"] = [made[id(planned.sent[client])] for client in cohort]
        packed = {id(model): arrays}  # clients that are sent the same share one record
        messages = []
        for client in cohort:
            if client not in self.nodes:
                continue
            weights = planned.sent[client]
            if id(weights) not in packed:
                packed[id(weights)] = wire.pack(weights)
            content = RecordDict({"arrays": packed[id(weights)], "config": told})
            messages.append(Message(content, self.nodes[client], "train", group_id=str(server_round)))
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message], summed: Summed | None = None
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Check, store and average the replies. Returns None for the model when no reply could be used.

        `summed` is the outcome of a secure aggregation: then its mean is used, or none where it has none.
        """
        before = self.bytes_up
        clients = {node: client for client, node in self.nodes.items()}
        cohort = self.cohort(server_round)
        by_client = {clients[reply.metadata.src_node_id]: reply for reply in replies}
        read: dict[int, Reply | Refusal] = {}
        for client in cohort:
            if client in self.absent:
                read[client] = Refusal(self.absent[client])
                continue
            read[client], size = wiretap.read(
                by_client.get(client), self._planned.base, self.agreement.training.heaviest
            )
            self.bytes_up += size
        read = _of_one_form(read)
        self.left_out += [LeftOut(server_round, c, one.reason) for c, one in read.items() if isinstance(one, Refusal)]
        used = {client: one for client, one in read.items() if isinstance(one, Reply)}
        senders = round_senders(self.agreement.federation, self.agreement.seed, server_round)
        self.wiretap.replies(server_round, senders, used)
        masked, unusable = [ring.is_ring(one.update) for one in used.values()], None
        if summed is not None:
            self.bytes_up = before + summed.bytes_up
            unusable = summed.halted if summed.mean is None else None
        elif any(masked) and (not all(masked) or len(used) < len(cohort)):
            unusable = "sent a masked update that is unusable, as another client of the round is missing"
        if unusable is not None:
            self.left_out += [LeftOut(server_round, client, unusable) for client in used]
        if unusable is not None or not used:
            return None, None
        if summed is not None and summed.mean is not None:
            mean = summed.mean
        else:
            updates, weights = [one.update for one in used.values()], [one.weight for one in used.values()]
            mean = aggregation.mean(self.agreement, self._planned.base, updates, weights, server_round)
        self.used += len(used)
        if all(masked):
            self.wiretap.sum(server_round, used, mean)
        stepped = server_step.step(
            self.agreement.federation.strategy, self._planned.base, mean, self.memory, server_round
        )
        model = self._planned.next_model(stepped.weights, server_round)
        if model is stepped.weights:  # a server that sends the same weights again has not taken its step
            self.memory = stepped.memory
        return wire.pack(model), MetricRecord({"num-examples": sum(one.records for one in used.values())})

    def _earlier(self, client: int) -> tuple[Exchange, ...]:
        """What this client, or the sum it was part of, sent back in the watched rounds before this one."""
        found = [one for one in observations.read(self.folder) if client in one.clients]
        return found[-1].exchanges if found else ()

    def cohort(self, server_round: int) -> tuple[int, ...]:
        """Numbers of the clients of a round, sorted."""
        federation = self.agreement.federation
        return round_clients(federation.clients, federation.participants, self.agreement.seed, server_round)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """No messages: utility is measured on records that no client holds."""
        return []

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """No metrics, as clients do not evaluate."""
        return None

    def summary(self) -> None:
        """Log nothing, unlike Flower's own strategies."""


def _of_one_form(read: Mapping[int, Reply | Refusal]) -> dict[int, Reply | Refusal]:
    """The replies with masked ones refused where at least as many are plain: one client alone masks nothing.

    Else it would make the round unusable for all others, as masks cancel only in the sum over everyone.
    """
    masked = {c: ring.is_ring(one.update) for c, one in read.items() if isinstance(one, Reply)}
    if 2 * sum(masked.values()) > len(masked):
        return dict(read)
    refused = Refusal("sent masked integers where the others send numbers")
    return {client: refused if masked.get(client) else one for client, one in read.items()}
