"""Reads what the server sent for a round, and refuses what no server that follows the protocol sends."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

from flwr.app import ArrayRecord, ConfigRecord, RecordDict
from torch import Tensor

from fedinv.errors import plain
from fedinv.federation import wire
from fedinv.task.models import AnyModel, shapes
from fedinv.task.networks.architecture import Shape

NAMED = 5
"""Number of parameters that a refusal names of those that are missing or unknown."""


class UnfitError(Exception):
    """The message cannot be answered: one line, a clause whose subject is the server."""


@dataclass(frozen=True)
class Order:
    """The round that a message belongs to."""

    round: int
    """Number of the round, from 1."""
    cohort: tuple[int, ...]
    """Numbers of the round's clients, sorted."""
    digests: tuple[str, ...] = ()
    """Digest of the weights that each of them was sent, as clients publish it among themselves; empty without that."""


def order(content: RecordDict) -> Order:
    """The round of a message. Raises UnfitError where the message has no number of a round or no cohort."""
    try:
        config = wire.record(content, "config", ConfigRecord)
        round_, cohort = config["round"], config["cohort"]
    except (KeyError, TypeError):
        raise UnfitError("sent no round and cohort to train for") from None
    whole = isinstance(round_, int) and not isinstance(round_, bool) and round_ > 0
    if not whole or not isinstance(cohort, list) or not all(isinstance(one, int) for one in cohort):
        raise UnfitError("sent a round or a cohort that is not one of whole numbers")
    published = config.get("digests", [])
    if not isinstance(published, list) or not all(isinstance(one, str) for one in published):
        raise UnfitError("sent digests that are no texts")
    return Order(cast(int, round_), tuple(cast(list[int], cohort)), tuple(cast(list[str], published)))


def weights(
    content: RecordDict, model: AnyModel, shape: Shape, outputs: int
) -> tuple[ArrayRecord, Mapping[str, Tensor]]:
    """The weights of a message, as they crossed the wire and as tensors that must not be changed.

    They have the names, in order, the shapes and the type of the model that was agreed on, and are finite. Raises
    UnfitError naming the first that is not so.
    """
    try:
        arrays = wire.record(content, "arrays", ArrayRecord)
    except (KeyError, TypeError):
        raise UnfitError("sent no weights") from None
    wanted = _shapes(model, tuple(shape), outputs)
    if list(arrays) != list(wanted):
        raise UnfitError(plain(_unknown(list(arrays), list(wanted))))
    for name, array in arrays.items():
        if tuple(array.shape) != wanted[name] or array.dtype != "float32":
            form = f"{plain(array.dtype, 20)} of the shape {tuple(array.shape)[:8]}"
            raise UnfitError(plain(f"sent {form} for {name} instead of float32 of the shape {wanted[name]}"))
    try:
        tensors = wire.view(arrays)
    except Exception as error:  # a server may send any bytes
        raise UnfitError(plain(f"sent weights that cannot be read ({error})")) from None
    for name, tensor in tensors.items():
        if tuple(tensor.shape) != wanted[name]:
            raise UnfitError(plain(f"sent weights for {name} that are not what their header says"))
        # the sum is finite unless an entry is not, or it overflows: then each entry is looked at
        if not math.isfinite(float(tensor.sum())) and not bool(tensor.isfinite().all()):
            raise UnfitError(f"sent weights for {name} that are not finite")
    return arrays, tensors


def _unknown(found: list[str], wanted: list[str]) -> str:
    """Which parameters a message lacks, and which ones nobody agreed on."""
    missing = [name for name in wanted if name not in found]
    more = [name for name in found if name not in wanted]
    said = [f"sent no {_listed(missing)}"] if missing else []
    said += [f"sent {_listed(more)}, which the model does not have"] if more else []
    return " and ".join(said) or "sent the model's parameters in another order"


def _listed(names: list[str]) -> str:
    rest = len(names) - NAMED
    return ", ".join(plain(name, 40) for name in names[:NAMED]) + (f" and {rest} more" if rest > 0 else "")


@lru_cache(maxsize=8)
def _shapes(model: AnyModel, shape: tuple[int, ...], outputs: int) -> Mapping[str, tuple[int, ...]]:
    return shapes(model, shape, outputs)
