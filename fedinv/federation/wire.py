"""Weights and updates as Flower records, and their weighted mean."""

import io
import math
import warnings
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from numpy.typing import NDArray
from torch import Tensor

from fedinv.federation import compression
from fedinv.federation.ring import from_ring, is_ring

Kind = TypeVar("Kind", ArrayRecord, ConfigRecord, MetricRecord)

LARGEST = 2.0**22
"""Largest absolute value of an update's entry, as large as what fixed-point sums can hold. Beyond it training has
diverged; taken into the mean, it would make every other client's next update overflow."""
MOST_RECORDS = 2**31
"""Largest number of records, and largest weight, that a client may report where the scenario sets no limit."""


def record(content: RecordDict, name: str, kind: type[Kind]) -> Kind:
    """Return one record of a message's content, without the copy of all records that `array_records[name]` makes.

    Raises KeyError where it is missing, TypeError where it is of another kind.
    """
    found = content[name]
    if not isinstance(found, kind):
        raise TypeError(f"{name} is no {kind.__name__}")
    return found


def pack(tensors: Mapping[str, Tensor]) -> ArrayRecord:
    """Turn tensors by name into a Flower record, in the same order."""
    packed = ArrayRecord()  # its constructor would make every Array twice, its item setter would check each at length
    packed.__dict__["_data"].update({name: _array(tensor.numpy(force=True)) for name, tensor in tensors.items()})
    return packed


def pack_small(tensors: Mapping[str, Tensor]) -> ArrayRecord:
    """Turn tensors by name into a Flower record, losslessly compressed where they have zeros or few distinct values.

    `unpack` reads it; Flower's own strategies cannot.
    """
    packed = ArrayRecord()
    for name, tensor in tensors.items():
        values = tensor.detach().contiguous().numpy()
        small = compression.encode(values)
        packed[name] = (
            _array(values) if small is None else Array(_name(values.dtype), values.shape, compression.FORM, small)
        )
    return packed


def unpack(record: ArrayRecord) -> dict[str, Tensor]:
    """Copy a Flower record into tensors, in the same order. Raises ValueError for bytes that cannot be read."""
    return {name: torch.from_numpy(_values(array).copy()) for name, array in record.items()}


def view(record: ArrayRecord) -> dict[str, Tensor]:
    """Turn a Flower record into tensors on its own memory: faster than `unpack`, and read-only."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that the memory is read-only
        return {name: torch.from_numpy(_values(array)) for name, array in record.items()}


def _array(values: NDArray[Any]) -> Array:
    """Make the array that `flwr.app.Array(values)` makes, with the .npy header cached."""
    data = b"".join((_header(values.dtype, values.shape), np.ascontiguousarray(values).data))
    array = Array.__new__(Array)  # its constructor accepts several kinds of arguments and takes ten times as long
    array.__dict__.update(dtype=_name(values.dtype), shape=values.shape, stype="numpy.ndarray", data=data)
    return array


_name = lru_cache(maxsize=16)(str)
_dtype = lru_cache(maxsize=16)(np.dtype)


@lru_cache(maxsize=256)
def _header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    sink = io.BytesIO()
    np.lib.format.write_array_header_1_0(sink, {"descr": dtype.str, "fortran_order": False, "shape": shape})
    return sink.getvalue()


def _values(array: Array) -> NDArray[Any]:
    """Read an array of plain numbers; the .npy header is parsed only if it is not the expected one.

    Raises ValueError for any other bytes: no pickle, no archive, no more numbers than there are bytes for.
    """
    dtype, shape = _dtype(array.dtype), tuple(array.shape)
    if dtype.kind not in "biuf" or dtype.subdtype is not None or any(side < 0 for side in shape):
        raise ValueError(f"arrays of type {dtype} and shape {shape} are not read")
    if array.stype == compression.FORM:
        return compression.decode(array.data, np.dtype(array.dtype), shape)
    if array.stype != "numpy.ndarray":
        raise ValueError(f"arrays of the form {array.stype!r} are not read")
    if array.data.startswith(head := _header(dtype, shape)):
        return np.frombuffer(array.data, dtype, offset=len(head)).reshape(shape)
    return _unusual(array.data)


def _unusual(data: bytes) -> NDArray[Any]:
    """Read .npy bytes with a header that another version of numpy wrote."""
    source = io.BytesIO(data)
    try:
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, by_columns, dtype = readers[np.lib.format.read_magic(source)](source)
    except Exception as error:  # numpy parses it as Python, which fails in many ways
        raise ValueError(f"an array's header cannot be read ({type(error).__name__})") from None
    if dtype.kind not in "biuf" or dtype.itemsize * math.prod(shape) != len(data) - source.tell():
        raise ValueError(f"an array's header says {dtype} of shape {shape}, and that is not what follows")
    flat = np.frombuffer(data, dtype, offset=source.tell())
    return flat.reshape(shape, order="F" if by_columns else "C")


def size(record: ArrayRecord) -> int:
    """Number of bytes of all arrays of a record, as serialized."""
    return sum(len(array.data) for array in record.values())


def misfit(received: ArrayRecord, sent: Mapping[str, Tensor]) -> str | None:
    """Why a received record is of another form than `sent`, as the end of a sentence, before its bytes are read."""
    if list(received) != list(sent):
        return f"sent parameters {', '.join(list(received)[:20])} instead of {', '.join(sent)}"
    for name, array in received.items():
        if tuple(array.shape) != tuple(sent[name].shape):
            return f"sent shape {tuple(array.shape)} for {name} instead of {tuple(sent[name].shape)}"
    return None


def fault(update: Mapping[str, Tensor], sent: Mapping[str, Tensor]) -> str | None:
    """Return why a received update cannot be used, as the end of a sentence; None if it can."""
    if list(update) != list(sent):
        return f"sent parameters {list(update)} instead of {list(sent)}"
    ringed = is_ring(update)
    for name, tensor in update.items():
        if tensor.shape != sent[name].shape:
            return f"sent shape {tuple(tensor.shape)} for {name} instead of {tuple(sent[name].shape)}"
        if tensor.dtype != torch.float32 and not ringed:
            return f"sent {str(tensor.dtype).removeprefix('torch.')} for {name} instead of float32"
    if ringed or not any(tensor.numel() for tensor in update.values()):
        return None
    low, high = torch.aminmax(torch.cat([tensor.flatten() for tensor in update.values()]))
    largest = max(-float(low), float(high))  # not a number where any entry is none
    if largest <= LARGEST:
        return None
    for name, tensor in update.items():
        if not bool(torch.isfinite(tensor).all()):
            return f"sent non-finite values in {name}, as when training diverges: lower training.lr"
    return (
        f"sent values of up to {largest:.1g}, and more than {LARGEST:.0f} is no training that converges: "
        "lower training.lr if all clients do"
    )


def count_fault(examples: object, weight: object, most: float | None) -> str | None:
    """Why a client's number of records or its weight in the mean cannot be used, as the end of a sentence.

    `most` is the scenario's largest number of records of a client; None where it sets none.
    """
    limit = MOST_RECORDS if most is None else max(1.0, most)
    if isinstance(examples, bool) or not isinstance(examples, int) or not 0 < examples <= limit:
        return f"sent num-examples {examples!r} instead of a positive whole number of at most {limit:.0f}"
    if not isinstance(weight, float) or not 0 < weight <= limit:
        return f"sent weight {weight!r} instead of a positive number of at most {limit:.0f}"
    return None


def weighted_mean(updates: Iterable[Mapping[str, Tensor]], weights: Iterable[float]) -> dict[str, Tensor]:
    """Weighted mean of updates, summed in the order given; fixed-point integers are summed modulo 2^64.

    Fixed-point integers are multiplied by their weights already, see `to_ring`.
    """
    updates, weights = list(updates), list(weights)
    total = math.fsum(weights)
    if all(is_ring(update) for update in updates):
        ring = {name: torch.stack([u[name] for u in updates]).sum(0) for name in updates[0]}
        return from_ring(ring, total)
    # in double precision, so that an entry that is equal for all clients keeps its last digit
    mean = {name: torch.zeros_like(tensor, dtype=torch.float64) for name, tensor in updates[0].items()}
    for update, weight in zip(updates, weights, strict=True):
        for name, tensor in update.items():
            mean[name].add_(tensor, alpha=weight / total)
    return {name: tensor.float() for name, tensor in mean.items()}
