"""The gate at a site: an update is attacked before it is sent, and stays where too much can be read off it."""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from flwr.app import ArrayRecord, Context, Error, Message
from flwr.common.constant import ErrorCode
from torch import Tensor, nn

from fedinv.errors import RequestError, plain
from fedinv.recording import content
from fedinv.recording.lines import reported_records
from fedinv.recording.recorder import round_of
from fedinv.results.app_verdict import UpdateVerdict, refusal
from fedinv.results.terms import Answer
from fedinv.runs.own_apps import reading
from fedinv.runs.own_apps.targets import Given, Target, target_of
from fedinv.task.foreign import factory
from fedinv.task.foreign.encoded import schema_of_inputs
from fedinv.task.schema import Schema

Known = Schema | Tensor | Callable[[Context], Any] | None
"""A schema, the site's own records as a network's inputs (n, d), what gives them for a Context, or nothing."""
LOG = logging.getLogger("flwr")
"""Flower's own log, which each engine shows."""


@dataclass(frozen=True)
class Rule:
    """What may leave a site."""

    limit: float = 0.0
    """Largest share of an update's records, 0 to 1, that may be read off it."""
    seconds: float = 2.0
    """Computing time that the attacks on an update may take together; they end when it is used up."""
    unknown: Answer = "refuse"
    """What is done with an update that no attack here reads, by its network or optimizer: nothing is known of it."""
    unfinished: Answer = "refuse"
    """What is done with an update of which too little was read when the time was over."""


@dataclass(frozen=True)
class Finding:
    """What the gate found of one update."""

    reason: str
    """Why the update may not leave; empty where it may."""
    verdict: UpdateVerdict
    """The attacks on it."""


def judge(target: Target, given: Given, rule: Rule) -> Finding:
    """Attack one update, until more of its records were read than may be or the time is over.

    Raises RequestError for an update that the network does not fit.
    """
    bounded = replace(given, seconds=rule.seconds, limit=rule.limit)
    verdict, _ = reading.attacked(bounded, [target], [], lambda share: None)
    one = verdict.updates[0]
    return Finding(refusal(one, rule.limit, rule.unknown, rule.unfinished), one)


@dataclass(frozen=True)
class Source:
    """Where the network comes from."""

    network: str | nn.Module | Callable[[], nn.Module]
    """The network, what makes it, or where that is, as "app.task:Net"."""
    example: str | Tensor | None = None
    """A batch of its inputs, or where one is; made up where there is none."""
    project: Path | None = None
    """Folder that is imported from; the current one without it."""

    def load(self) -> tuple[nn.Module, Tensor | None]:
        """The network and the batch. Raises RequestError where they cannot be had."""
        network, example = self.network, self.example
        made = factory.load_network(network, self.project) if isinstance(network, str) else network
        batch = factory.load_example(example, self.project) if isinstance(example, str) else example
        return made if isinstance(made, nn.Module) else made(), batch


class GateMod:
    """A Flower mod that refuses replies; Ray may send it to another process, which loads the network for itself."""

    def __init__(self, source: Source, rule: Rule, known: Known) -> None:
        """Judge the network's updates by this rule; `known` is what the attacks know of records."""
        self._source, self._rule, self._known = source, rule, known
        self._lock, self._loaded = threading.Lock(), list[tuple[nn.Module, Tensor | None]]()

    def __reduce__(self) -> tuple[type["GateMod"], tuple[Any, ...]]:
        """What another process makes the mod of."""
        return GateMod, (self._source, self._rule, self._known)

    def __call__(self, message: Message, context: Context, call_next: Callable[[Message, Context], Message]) -> Message:
        """Let the app handle a message, and refuse its reply where that holds arrays that give records away."""
        # an app may change its own message
        sent = {name: tensor.clone() for name, tensor in _tensors(message).items()}
        reply = call_next(message, context)
        returned = {} if reply.has_error() else _tensors(reply)
        if not returned:
            return reply
        claimed = reported_records(one for one in reply.content.values() if not isinstance(one, ArrayRecord))
        try:
            with self._lock:
                reason = self._reason((sent, returned), round_of(message), claimed, context)
        except RequestError as error:
            reason = str(error)
        except Exception as error:  # a gate that fails stays shut
            reason = f"the update could not be judged: {type(error).__name__}: {plain(error, 200)}"
        if not reason:
            return reply
        LOG.warning("fedinv gate: refused: %s", reason)
        return Message(Error(ErrorCode.MOD_FAILED_PRECONDITION, f"fedinv gate: {reason}"), reply_to=message)

    def _reason(
        self,
        arrays: tuple[Mapping[str, Tensor], Mapping[str, Tensor]],
        round_: int | None,
        claimed: int | None,
        context: Context,
    ) -> str:
        """Why what came back for what was sent, the two `arrays`, may not leave; empty where it may."""
        sent, returned = arrays
        target = target_of(sent, returned, claimed, round_ or 1)
        if not self._loaded:
            self._loaded.append(self._source.load())
        network, example = self._loaded[0]
        return judge(target, Given(network, example, schema=self._schema(context)), self._rule).reason

    def _schema(self, context: Context) -> Schema | None:
        known = self._known
        if known is None or isinstance(known, Schema):
            return known
        try:
            return schema_of_inputs(torch.as_tensor(known(context) if callable(known) else known))
        except ValueError as error:
            raise RequestError(f"knows: {error}") from None


def _tensors(message: Message) -> Mapping[str, Tensor]:
    """Arrays of a message by name, with their record's before it where there are several records."""
    records = {name: one for name, one in message.content.items() if isinstance(one, ArrayRecord)}
    several = len(records) > 1
    return {
        content.full_name(record, part.name, several): content.tensor(part)
        for record, arrays in records.items()
        for part in content.of_record(dict(arrays.items()))
    }
