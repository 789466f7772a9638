"""Arrays of a message as bytes with names, dtypes and shapes, their digest, and the files that hold them.

Server and site compute the same digest of the same arrays, whichever engine carried them: it is taken over the numbers
in C order, not over a serialization, whose headers differ between versions.
"""

import hashlib
import json
import math
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flwr.app import Array
from torch import Tensor

from fedinv.errors import RunError
from fedinv.storage import files

NUMBERS: Mapping[str, torch.dtype] = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.bool,
        torch.uint8,
        torch.uint16,
        torch.uint32,
        torch.uint64,
        torch.int8,
        torch.int16,
        torch.int32,
        torch.int64,
        torch.float16,
        torch.bfloat16,
        torch.float32,
        torch.float64,
        torch.complex64,
    )
}
"""The dtypes that are kept as they are, by the name that numpy and torch share; all others are kept as their bytes."""
NUMPY = "numpy.ndarray"
"""The serialization of Flower's arrays, the .npy format."""


@dataclass(frozen=True)
class Part:
    """One array of a message."""

    name: str
    """Name of the array in its record."""
    dtype: str
    """A key of NUMBERS; "uint8" for an array that is kept as the bytes that crossed the wire."""
    shape: tuple[int, ...]
    """Sides of the array."""
    data: bytes | memoryview
    """Numbers in C order, little-endian."""
    form: str = ""
    """How to read bytes that are no array of numbers: the sender's dtype, shape and serialization; else empty."""


def of_record(record: Mapping[str, Array]) -> tuple[Part, ...]:
    """The arrays of a Flower record, in its order, without a copy of plain ones; none is refused."""
    return tuple(_of_array(name, array) for name, array in record.items())


def of_tensors(tensors: Mapping[str, Tensor], forms: Mapping[str, str] | None = None) -> tuple[Part, ...]:
    """Tensors as parts, in their order; `forms` are those of the tensors that hold another array's bytes."""
    return tuple(
        Part(name, _dtype_of(tensor), tuple(tensor.shape), _bytes_of(tensor), (forms or {}).get(name, ""))
        for name, tensor in tensors.items()
    )


def digest(parts: Iterable[Part]) -> str:
    """SHA-256 over names, dtypes, shapes and numbers, as 64 hexadecimal digits."""
    total = hashlib.sha256()
    for part in parts:
        total.update(json.dumps([part.name, part.dtype, part.shape, part.form]).encode() + b"\n")
        total.update(part.data)
    return total.hexdigest()


EMPTY = digest(())
"""The digest of a record without arrays."""


def path_of(folder: Path, key: str) -> Path:
    """The file of the arrays with this digest, in a recording's folder of files."""
    return folder / f"{key}.safetensors"


def write(folder: Path, key: str, parts: Sequence[Part]) -> None:
    """Write the file of the arrays with this digest atomically, where it is not there yet. Raises RunError."""
    path = path_of(folder, key)
    if _is_whole(path, sum(len(part.data) for part in parts)):
        return
    # processes on one folder may write the same arrays at once: each to a file of its own, the last one stays
    temporary = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
    forms = {part.name: part.form for part in parts if part.form}
    try:
        files.write_tensors(temporary, {part.name: tensor(part) for part in parts}, forms)
        temporary.replace(path)
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({error.strerror})") from error


def read(folder: Path, key: str) -> dict[str, Tensor]:
    """The arrays with this digest, in the order sent; bytes that are no array of numbers as uint8 (length,).

    Raises RunError naming a file that is missing, damaged, or not what its name says.
    """
    path = path_of(folder, key)
    tensors, forms = files.read_tensors(path)
    if digest(of_tensors(tensors, {name: str(form) for name, form in forms.items()})) != key:
        raise RunError(f"{path}: is damaged: it does not hold the arrays that it is named after")
    return tensors


def _is_whole(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size > size
    except OSError:
        return False


def _of_array(name: str, array: Array) -> Part:
    """One array; the .npy header is believed, as Flower's older strategies leave dtype and shape out."""
    if array.stype == NUMPY:
        try:
            dtype, shape, by_columns, start = _header(array.data)
        except Exception:  # numpy parses it as Python, which fails in many ways: kept as bytes below
            return _raw(name, array)
        whole = len(array.data) - start == dtype.itemsize * math.prod(shape)
        if whole and dtype.name in NUMBERS and dtype.subdtype is None:
            data = memoryview(array.data)[start:]
            if by_columns or dtype.byteorder == ">":
                values = np.frombuffer(data, dtype).reshape(shape, order="F" if by_columns else "C")
                data = memoryview(values.astype(dtype.newbyteorder("<")).tobytes())
            return Part(name, dtype.name, shape, data)
    return _raw(name, array)


def _raw(name: str, array: Array) -> Part:
    form = json.dumps([array.dtype, list(array.shape), array.stype])
    return Part(name, "uint8", (len(array.data),), array.data, form)


def _header(data: bytes) -> tuple[np.dtype[Any], tuple[int, ...], bool, int]:
    """dtype, shape, whether it is in Fortran order, and where the numbers begin."""
    long = data[6:7] != b"\x01"
    start = (12 if long else 10) + int.from_bytes(data[8:12] if long else data[8:10], "little")
    return (*_parsed(data[:start]), start)


@lru_cache(maxsize=1024)
def _parsed(head: bytes) -> tuple[np.dtype[Any], tuple[int, ...], bool]:
    source = BytesIO(head)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, by_columns, dtype = readers[np.lib.format.read_magic(source)](source)
    return dtype, shape, by_columns


def _dtype_of(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _bytes_of(tensor: Tensor) -> memoryview:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy().data)


def tensor(part: Part) -> Tensor:
    """The numbers of one array, as a tensor of its own memory."""
    if not len(part.data):
        return torch.empty(part.shape, dtype=NUMBERS[part.dtype])
    return torch.frombuffer(bytearray(part.data), dtype=NUMBERS[part.dtype]).reshape(part.shape)


def full_name(record: str, name: str, several: bool) -> str:
    """Name of an array of a message, with its record's before it where the message has `several` records of arrays."""
    return f"{record}/{name}" if several else name
