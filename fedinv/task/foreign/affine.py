"""Undoes an affine map before a layer, such as a division by 255 or a standardization, found by running the network."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

WIDEST = 512
"""Numbers of a record at most where the map mixes them; a map of each number by itself is undone at any width."""
CHUNK = 64
"""Records that are run at once."""
EXACT = 1e-4
"""Largest error of what the map found gives, relative to how far records move a layer's inputs."""
LOST = 1e-6
"""Singular values below this share of the largest are numbers of a record that the map loses."""
LOST_ALONE = 1e-12
"""Factors of numbers by themselves below this share of the largest: columns may be of any units."""


@dataclass(frozen=True)
class Undo:
    """What takes a layer's inputs back to the records that the network was given."""

    start: nn.Module
    """The network at the weights that were sent, in evaluation mode, float64."""
    layer: str
    """Name of the layer."""
    shape: tuple[int, ...]
    """Shape of one record."""
    offset: Tensor
    """The layer's inputs at a record of zeros, float64 (w,)."""
    back: Tensor
    """Inverse of the map without its offset, float64: a factor a number (w,), or a matrix (d, w)."""

    def records(self, inputs: Tensor) -> Tensor | None:
        """The flat records (n, d), float32, of which the layer is fed these inputs (n, w).

        None where the network makes other inputs of them, as where the map holds in a range only.
        """
        inputs = inputs.detach().double()
        moved = inputs - self.offset
        found = moved * self.back if self.back.ndim == 1 else moved @ self.back.T
        again = inputs_at(self.start, self.layer, found.reshape(len(found), *self.shape))
        if again is None or float((again - inputs).norm()) > EXACT * float(moved.norm()):
            return None
        return found.float()


def undo(network: nn.Module, weights: Mapping[str, Tensor], layer: str, example: Tensor) -> Undo | None:
    """What undoes the map from records to a layer's inputs, at these weights and buffers.

    `example` (n, ...) is a batch of the network's inputs. None where the map is not affine, loses a part of a record,
    or mixes more than WIDEST numbers.
    """
    if not example.is_floating_point():
        return None
    start = copy.deepcopy(network)
    start.load_state_dict({**start.state_dict(), **weights})
    start.eval().double()
    shape, width = tuple(example.shape[1:]), example[0].numel()
    ends = inputs_at(start, layer, torch.stack([torch.zeros(shape), torch.ones(shape)]).double())
    if ends is None:
        return None
    offset, back = ends[0], None
    if ends.shape[1] == width:
        back = _inverse(ends[1] - offset)
        found = None if back is None else Undo(start, layer, shape, offset, back)
        if found is not None and _fits(found, example):
            return found
    if width > WIDEST:
        return None
    units = torch.eye(width, dtype=torch.float64).reshape(width, *shape)
    seen = [inputs_at(start, layer, one) for one in torch.split(units, CHUNK)]
    rows = [one for one in seen if one is not None]
    if len(rows) < len(seen):
        return None
    matrix = (torch.cat(rows) - offset).T  # (w, d)
    values = torch.linalg.svdvals(matrix)
    if len(values) < width or float(values[-1]) <= LOST * float(values[0]):
        return None
    found = Undo(start, layer, shape, offset, torch.linalg.pinv(matrix))
    return found if _fits(found, example) else None


def inputs_at(network: nn.Module, layer: str, records: Tensor) -> Tensor | None:
    """A layer's flat inputs (n, w) at records (n, ...), float64; None where it is not reached with one a record."""
    kept: list[Tensor] = []

    def keep(_: nn.Module, given: tuple[Any, ...]) -> None:
        kept.append(given[0].detach().double())
        raise _ReachedError

    handle = network.get_submodule(layer).register_forward_pre_hook(keep)
    try:
        with torch.no_grad():
            network(records)
    except Exception:  # what a foreign network raises before the layer: its inputs cannot be had
        if not kept:
            return None
    finally:
        handle.remove()
    return kept[0].flatten(1) if kept and len(kept[0]) == len(records) else None


class _ReachedError(Exception):
    """The layer was reached, and what is behind it need not run."""


def _inverse(factors: Tensor) -> Tensor | None:
    """The inverses (w,) of factors; None where some are lost."""
    return None if float(factors.abs().min()) <= LOST_ALONE * float(factors.abs().max()) else 1 / factors


def _fits(found: Undo, example: Tensor) -> bool:
    """Whether the map gives an example's inputs, and these its records."""
    inputs = inputs_at(found.start, found.layer, example.double())
    records = None if inputs is None else found.records(inputs)
    true = example.double().flatten(1)
    return records is not None and float((records - true).norm()) <= EXACT * float(true.norm())
