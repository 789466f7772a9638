"""Reads and writes the arrays of any Flower app in their own type, and tells parameters from buffers."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from flwr.app import Array
from numpy.typing import NDArray
from torch import Tensor

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""Names of BatchNorm's buffers in torch, without the layer's, in the order in which torch lists them."""


def floating(array: Array) -> bool:
    """Whether the entries are floating-point numbers of any width, by the declared type of the array."""
    try:
        return np.dtype(array.dtype).kind == "f"
    except TypeError:  # types that NumPy lacks: bfloat16, float8_e4m3
        return "float" in array.dtype


def buffers(arrays: Mapping[str, Array]) -> frozenset[str]:
    """Names of arrays that are not parameters: BatchNorm's running statistics, and all that are not floating point.

    Statistics are recognized by the last part of their name. Where all names are positions, as in an app on
    NumPyClient, they are two vectors of equal length followed by an integer scalar.
    """
    named = {name for name, array in arrays.items() if not floating(array) or _last(name) in STATISTICS}
    if all(name.isdecimal() for name in arrays):
        names = list(arrays)
        for three in zip(names, names[1:], names[2:], strict=False):
            mean, variance, count = (arrays[name] for name in three)
            if len(mean.shape) == 1 and mean.shape == variance.shape and count.shape == () and not floating(count):
                named.update(three)
    return frozenset(named)


def tensor(array: Array) -> Tensor:
    """Copy the entries into a tensor: float64 stays float64, all other floating types become float32.

    Raises ValueError for other types, for types wider than float64, and for bytes that are no .npy.
    """
    if array.dtype == "bfloat16":
        return _bits(array).view(torch.bfloat16).float()
    values = _numpy(array)
    if values.dtype.kind != "f" or values.dtype.itemsize > 8:
        raise ValueError(f"holds {values.dtype}, send float16, bfloat16, float32 or float64")
    return torch.from_numpy(values.astype(np.float64 if values.dtype.itemsize == 8 else np.float32))


def like(array: Array, entries: Tensor) -> Array:
    """Turn entries into an array of the type, shape and serialization of `array`, which `tensor` can read."""
    if array.dtype == "bfloat16":
        rounded = entries.bfloat16().view(torch.int16).numpy().view(_numpy(array).dtype)
        return Array(array.dtype, array.shape, array.stype, Array(rounded).data)
    return Array(entries.numpy().astype(np.dtype(array.dtype)))


def zeros(array: Array) -> Array:
    """Make an array of zeros of the type and shape of `array`."""
    made = Array(np.zeros_like(_numpy(array)))
    return Array(array.dtype, array.shape, array.stype, made.data)


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _numpy(array: Array) -> NDArray[Any]:
    try:
        return np.asarray(array.numpy())
    except TypeError:
        raise ValueError(f"is serialized as {array.stype!r}, send it as flwr.app.Array(values) does") from None


def _bits(array: Array) -> Tensor:
    """Bit patterns of a bfloat16 array as int16: NumPy lacks the type and holds two bytes per entry."""
    values = _numpy(array)
    if values.dtype.itemsize != 2:
        raise ValueError(f"is declared bfloat16 and holds entries of {values.dtype.itemsize} bytes instead of 2")
    return torch.from_numpy(np.ascontiguousarray(values).view(np.int16).copy())
