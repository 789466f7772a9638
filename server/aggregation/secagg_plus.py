"""The server's part of SecAgg+: Flower's own workflow, between our strategy and our clients.

Bell, Bonawitz, Gascon, Lepoint, Raykova 2020. Flower 1.41 has the protocol for its older programming interface only:
here its workflow runs over a stand-in for the grid, which translates messages for our ClientApp and keeps what the
server sees.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.common import FitIns, FitRes, Parameters, bytes_to_ndarray, parameters_to_ndarrays
from flwr.common.constant import ErrorCode
from flwr.common.secure_aggregation.quantization import dequantize
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, Key, Stage
from flwr.server import LegacyContext
from flwr.server.client_proxy import ClientProxy
from flwr.server.strategy import Strategy
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD
from flwr.server.workflow.constant import Key as WorkflowKey
from flwr.server.workflow.secure_aggregation.secaggplus_workflow import WorkflowState
from flwr.serverapp import Grid
from numpy.typing import NDArray
from torch import Tensor

from fedinv.defense_terms.secagg_plus import MODULUS, SecaggTerms, terms
from fedinv.errors import plain
from fedinv.federation import wire
from fedinv.federation.agreement import Agreement
from fedinv.federation.reply_codes import HALTED

from .. import malicious
from ..messaging import ask
from ..wiretap import first_line
from . import Gathered, Summed, opened_secagg, size


def gather(grid: Grid, messages: Sequence[Message], timeout: float, agreement: Agreement) -> Gathered:
    """Run a round's four exchanges.

    The update in a client's reply is its masked vector, integers modulo 2^32, or its plain update where a malicious
    server unmasked it; the mean is over all clients that sent one.
    """
    agreed = terms(agreement.defense("secagg-plus") or {})
    tap = _Tap(grid, {message.metadata.dst_node_id: message for message in messages}, timeout)
    arguments = _arguments(agreed, len(messages), agreement.training.heaviest)
    active = malicious.active(agreement, tap.round)
    opening = any(type(deviation).unmasks for deviation in active)
    problem = tap.run(_Opening(tap, **arguments) if opening else _Workflow(**arguments))
    halted = "" if tap.mean is not None else _halted(tap, agreed, problem)
    replies = {node: Message(Error(HALTED, halted), reply_to=tap.asked[node]) for node in tap.there if halted}
    return Gathered(list((replies | tap.failed | tap.seen()).values()), Summed(tap.mean, halted, tap.bytes_up))


def _halted(tap: "_Tap", agreed: SecaggTerms, problem: str) -> str:
    cohort = len(tap.asked)
    told = problem or next((first_line(reply.error.reason) for reply in tap.failed.values()), "")
    return (
        f"cannot be used: SecAgg+ came to no sum, {len(tap.there)} of {cohort} clients answered in its stage "
        f"{tap.stage.replace('_', ' ')} and {agreed.needed(cohort)} of each one's {agreed.neighbors(cohort)} neighbors "
        "must" + (f" ({told})" if told else "")
    )


def _arguments(agreed: SecaggTerms, cohort: int, limit: float | None) -> dict[str, Any]:
    """Arguments of Flower's workflow; 1.0, a share, stands for all clients, as it refuses a number as small as 2."""
    neighbors, needed = agreed.neighbors(cohort), agreed.needed(cohort)
    return {
        "num_shares": 1.0 if neighbors == cohort else neighbors,
        "reconstruction_threshold": 1.0 if needed == neighbors else needed,
        "clipping_range": agreed.clipping_range,
        "quantization_range": 2**agreed.quantization_bits,
        "modulus_range": MODULUS,
        "max_weight": agreed.heaviest(limit),
    }


class _Workflow(SecAggPlusWorkflow):
    """Flower's workflow with a fix: a client that dropped out before it shared its keys leaves the protocol.

    Flower's would name it as dropped out to its neighbors, who hold no share of it and would fail.
    """

    def share_keys_stage(self, grid: Grid, context: LegacyContext, state: WorkflowState) -> bool:
        """Collect the shares; from here on only clients that shared theirs take part."""
        enough = super().share_keys_stage(grid, context, state)
        state.sampled_node_ids = set(state.active_node_ids)
        return enough


class _Opening(_Workflow):
    """The workflow of a malicious server: it unmasks each update, and averages the unmasked ones."""

    def __init__(self, tap: "_Tap", **arguments: Any) -> None:
        super().__init__(**arguments)
        self._tap = tap

    def unmask_stage(self, grid: Grid, context: LegacyContext, state: WorkflowState) -> bool:
        """Remove the masks of each vector; False, and no sum, without enough shares."""
        tap = self._tap
        secrets = opened_secagg.ask(grid, state, tap.round)
        for node, vector in tap.vectors.items():
            bare = opened_secagg.opened(node, vector, secrets, state)
            if bare is None:
                return False
            weight = max(int(bare[0][0]), 1) / self.quantization_range
            values = dequantize(cast(Any, bare[1:]), self.clipping_range, self.quantization_range)
            tap.opened[node] = (weight, tap.named([value / weight for value in values]))
        tap.mean = wire.weighted_mean([u for _, u in tap.opened.values()], [w for w, _ in tap.opened.values()])
        return True


@dataclass
class _Tap:
    """Stand-in for the workflow's grid and strategy in one round, which records what the server sees."""

    grid: Grid
    asked: Mapping[int, Message]
    """The strategy's message to each node."""
    timeout: float
    """Seconds to wait for the replies of each exchange."""
    vectors: dict[int, list[NDArray[np.int64]]] = field(default_factory=dict)
    """Masked vector of each node: its weight, then its parameters."""
    metrics: dict[int, MetricRecord] = field(default_factory=dict)
    """Metrics that each node sent in the clear."""
    opened: dict[int, tuple[float, dict[str, Tensor]]] = field(default_factory=dict)
    """Weight as a share of max_weight, and update, of each client that was unmasked."""
    failed: dict[int, Message] = field(default_factory=dict)
    """First error reply of each node that failed."""
    mean: dict[str, Tensor] | None = None
    """Mean update; None until the protocol comes to one."""
    bytes_up: int = 0
    """Bytes that clients sent in all exchanges."""
    stage: str = ""
    """Name of the last stage that was begun."""
    there: set[int] = field(default_factory=set)
    """Nodes that answered in the last stage."""

    @property
    def round(self) -> int:
        """Number of the round."""
        return int(next(iter(self.asked.values())).metadata.group_id)

    def run(self, workflow: SecAggPlusWorkflow) -> str:
        """Run the protocol; return the exception that broke it as text, empty where there was none."""
        context = LegacyContext(Context(0, 0, {}, RecordDict(), {}), strategy=cast(Strategy, self))
        context.state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({WorkflowKey.CURRENT_ROUND: self.round})
        context.state.array_records[MAIN_PARAMS_RECORD] = ArrayRecord()
        logger = logging.getLogger("flwr")
        level = logger.level
        logger.setLevel(logging.CRITICAL)  # a protocol that halts is reported by `_halted`
        try:
            workflow(cast(Grid, self), context)
        except Exception as error:  # a client may send anything, and Flower's workflow checks nothing
            return plain(f"{type(error).__name__}: {error}")
        finally:
            logger.setLevel(level)
        return ""

    def configure_fit(
        self, server_round: int, parameters: Parameters, manager: Any
    ) -> list[tuple[ClientProxy, FitIns]]:
        """Part of a Flower strategy: the round's clients, whose model `_outgoing` adds to the messages."""
        return [(cast(ClientProxy, SimpleNamespace(node_id=n)), FitIns(Parameters([], ""), {})) for n in self.asked]

    def aggregate_fit(
        self, server_round: int, results: list[tuple[ClientProxy, FitRes]], failures: list[Any]
    ) -> tuple[None, dict[str, Any]]:
        """Part of a Flower strategy: keep the mean, which the workflow gives as every client's result."""
        self.mean = self.named(parameters_to_ndarrays(results[0][1].parameters))
        return None, {}

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Part of a grid: one exchange with the clients."""
        outgoing = [self._outgoing(message) for message in messages]
        replies = []
        for reply in ask(self.grid, outgoing, self.timeout):
            self.bytes_up += size(reply)
            problem = None if reply.has_error() else self._take(reply)
            if problem is not None:
                error = Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, problem)
                reply = Message(error, reply_to=self.asked[reply.metadata.src_node_id])
            if reply.has_error():
                self.failed.setdefault(reply.metadata.src_node_id, reply)
            replies.append(reply)
        self.there = {reply.metadata.src_node_id for reply in replies if not reply.has_error()}
        return replies

    def _outgoing(self, message: Message) -> Message:
        configs = message.content.config_records[RECORD_KEY_CONFIGS]
        self.stage = str(configs[Key.STAGE])
        if self.stage != Stage.COLLECT_MASKED_VECTORS:
            return message
        asked = self.asked[message.metadata.dst_node_id]
        content = RecordDict({**asked.content, RECORD_KEY_CONFIGS: configs})
        return Message(content, asked.metadata.dst_node_id, "train", group_id=asked.metadata.group_id)

    def seen(self) -> dict[int, Message]:
        """The reply of each client whose update the server sees, masked or unmasked, in the form our strategy reads."""
        replies = {}
        for node, (_, *vector) in self.vectors.items():
            names = [name for name, _ in self._sent()]
            update = dict(zip(names, (torch.from_numpy(array.astype(np.uint32)) for array in vector), strict=True))
            if node in self.opened:
                _, update = self.opened[node]
            content = RecordDict({"update": wire.pack(update), "metrics": self.metrics[node]})
            replies[node] = Message(content, reply_to=self.asked[node])
        return replies

    def named(self, arrays: Sequence[NDArray[Any]]) -> dict[str, Tensor]:
        """Arrays in the parameters' order as float32 tensors by name."""
        names = [name for name, _ in self._sent()]
        return {name: torch.from_numpy(array).float() for name, array in zip(names, arrays, strict=True)}

    def _take(self, reply: Message) -> str | None:
        """Check a reply, keep its masked vector, and add what the workflow reads; return why it cannot be used."""
        try:
            configs = reply.content.config_records[RECORD_KEY_CONFIGS]
            if self.stage != Stage.COLLECT_MASKED_VECTORS:
                return None
            vector = [bytes_to_ndarray(data) for data in cast(list[bytes], configs[Key.MASKED_PARAMETERS])]
            metrics = reply.content.metric_records["metrics"]
            examples = metrics["num-examples"]
        except Exception as error:  # a client may send anything
            return plain(f"sent a reply that SecAgg+ cannot read ({type(error).__name__}: {error})")
        shapes = [(1,), *(tuple(tensor.shape) for _, tensor in self._sent())]
        if [array.shape for array in vector] != shapes or any(array.dtype != np.int64 for array in vector):
            return "sent a masked vector of another shape or type than the model's"
        if any(((array < 0) | (array >= MODULUS)).any() for array in vector):
            return "sent a masked vector that is not modulo 2^32"
        problem = wire.count_fault(examples, 1.0, None)
        if problem is not None:
            return plain(problem)
        self.vectors[reply.metadata.src_node_id] = vector
        self.metrics[reply.metadata.src_node_id] = metrics
        reply.content["fitres.parameters"] = ArrayRecord()
        reply.content["fitres.num_examples"] = MetricRecord({"num_examples": 0})
        reply.content["fitres.metrics"] = ConfigRecord()
        reply.content["fitres.status"] = ConfigRecord({"code": 0, "message": ""})
        return None

    def _sent(self) -> list[tuple[str, Tensor]]:
        """Name and value of the global model's parameters, whose shapes the update has."""
        asked = next(iter(self.asked.values()))
        return list(wire.view(asked.content.array_records["arrays"]).items())
