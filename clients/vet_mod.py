"""Turns detectors into a Flower mod, which looks at the weights that any ClientApp is sent before it trains on them."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from flwr.app import Array, ArrayRecord, Context, Error, Message
from flwr.common.constant import ErrorCode
from torch import Tensor, nn

from fedinv.detector import Detector, Look, Weights, examine
from fedinv.errors import RequestError, plain

from . import arrays, vetted

Mod = Callable[[Message, Context, Callable[[Message, Context], Message]], Message]
Records = tuple[Tensor, Tensor]
"""Inputs (n, ...) and labels (n,) of a site."""
LOG = logging.getLogger("flwr")
"""Flower's own log, which each engine shows."""


def as_mod(
    detectors: Sequence[Detector],
    network: nn.Module | None = None,
    records: Records | Callable[[Context], Records] | None = None,
) -> Mod:
    """A Flower mod that looks at the weights of each train message, and does what its detectors say.

    What is flagged is a line in Flower's log. Raises RequestError for an action that a mod cannot carry out.
    """
    for one in detectors:
        if one.action == "clip":
            raise RequestError(f"{one.kind}: a mod does not see gradients to clip: choose report, refuse or drop-rows")
        if one.action == "drop-rows" and (network is None or records is None):
            raise RequestError(f'{one.kind}: "drop-rows" needs the network and the records that units fire on')

    def mod(message: Message, context: Context, call_next: Callable[[Message, Context], Message]) -> Message:
        if message.metadata.message_type.partition(".")[0] != "train":
            return call_next(message, context)
        try:
            received = _received(message, network)
            look, round_ = _look(context, network, records, message), _round(message, context)
            found = examine(detectors, received, look)
        except Exception as error:  # vetting that fails lets nothing pass
            return _refusal(message, f"the weights could not be looked at: {type(error).__name__}: {plain(error)}")
        vetted.note(context, round_, found)
        for one in found:
            if one.flagged:
                LOG.warning("fedinv vet: %s is %.3g, above %g", one.detector.kind, one.score, one.detector.threshold)
        decided = vetted.decided(found)
        if decided.refusal is not None:
            return _refusal(message, decided.refusal)
        reply = call_next(message, context)
        record = None if reply.has_error() else _same(reply, received, network)
        if record is None:
            return reply
        back = _named({name: arrays.tensor(array) for name, array in record.items()}, network)
        update = {name: back[name].float() - received[name].float() for name in back}
        vetted.remember(context, round_, detectors, received, update)
        if decided.few is not None:
            kept = vetted.rows_dropped(update, received, look, decided.few)
            for (name, array), own in zip(list(record.items()), back, strict=True):
                if kept[own] is not update[own]:
                    record[name] = arrays.like(array, received[own] + kept[own])
        return reply

    return mod


def _received(message: Message, network: nn.Module | None) -> dict[str, Tensor]:
    """The weights of a message, finite. Raises ValueError where there are none or they are not."""
    found = [record for record in message.content.values() if isinstance(record, ArrayRecord) and len(record)]
    if len(found) != 1:
        raise ValueError(f"the message has {len(found)} records of arrays instead of one")
    tensors = {name: arrays.tensor(array) for name, array in _numbers(found[0])}
    if odd := [name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())]:
        raise ValueError(f"{odd[0]} holds values that are not finite")
    return _named(tensors, network)


def _named(tensors: Mapping[str, Tensor], network: nn.Module | None) -> dict[str, Tensor]:
    """The tensors by the network's names where theirs are positions. Raises ValueError where they are not its own."""
    if network is None:
        return dict(tensors)
    wanted = {name: tensor.shape for name, tensor in network.state_dict().items() if tensor.is_floating_point()}
    names = list(tensors) if set(tensors) == set(wanted) else list(wanted)
    made = dict(zip(names, tensors.values(), strict=False))
    if len(tensors) != len(wanted) or any(made[name].shape != wanted[name] for name in made):
        raise ValueError("the arrays are not those of the network")
    return made


def _numbers(record: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
    """The arrays of floating-point numbers, without counts of batches."""
    return ((name, array) for name, array in record.items() if arrays.floating(array))


def _same(reply: Message, received: Weights, network: nn.Module | None) -> ArrayRecord | None:
    """The reply's record of arrays that are weights like those received; None where there is none."""
    for record in reply.content.values():
        if isinstance(record, ArrayRecord) and all(arrays.floating(array) for array in record.values()):
            shapes = [tuple(array.shape) for array in record.values()]
            if shapes == [tuple(tensor.shape) for tensor in received.values()]:
                return record
    return None


def _look(context: Context, network: nn.Module | None, records: Any, message: Message) -> Look:
    given = records(context) if callable(records) else records
    inputs, labels = (None, None) if given is None else given
    kept = vetted.kept(context)
    before = int(kept.get("answered", 0))  # type: ignore[arg-type]
    return Look(
        network=network,
        inputs=None if inputs is None else torch.as_tensor(inputs),
        labels=None if labels is None else torch.as_tensor(labels),
        earlier=vetted.earlier(context),
        rounds=max(1, _round(message, context) - before),
        step=vetted.step(context),
    )


def _round(message: Message, context: Context) -> int:
    """The round as the server's strategy names it, else the one after the last that was answered."""
    for config in message.content.config_records.values():
        named = config.get("server-round")
        if isinstance(named, int) and not isinstance(named, bool):
            return named
    return int(vetted.kept(context).get("answered", 0)) + 1  # type: ignore[arg-type]


def _refusal(message: Message, reason: str) -> Message:
    LOG.warning("fedinv vet: %s", reason)
    return Message(Error(ErrorCode.MOD_FAILED_PRECONDITION, f"fedinv vet: {reason}"), reply_to=message)
