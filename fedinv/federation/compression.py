"""Tensors in few bytes, without loss: those with many zeros, and those with few distinct values.

The bytes are one letter and then
Z: a bit for each entry, whether it is not zero; then the values of those, as a tensor of their own
V: the values of a float32 array, as they are
L: blocks of 512 entries, each with the number of its distinct values, these values, and an index of as few bits as they
need for each entry
"""

import math

import numpy as np
from numpy.typing import NDArray

FORM = "fedinv.compact"
"""What Flower calls the serialization of such an array."""
BLOCK = 512
MOST = 256
"""Distinct values of a block."""


def encode(values: NDArray[np.float32]) -> bytes | None:
    """The smallest form of a float32 array; None where plain bytes are no larger."""
    if values.dtype != np.float32 or values.size < 64:
        return None
    flat = np.ascontiguousarray(values).reshape(-1)
    inner, kept = flat, b"V"
    there = flat != 0
    if there.mean() < 0.9:
        inner, kept = flat[there], b"Z" + np.packbits(there).tobytes() + b"V"
    plain = kept + inner.tobytes()
    leveled = _levels(inner)
    best = plain if leveled is None or len(leveled) >= 4 * inner.size else kept[:-1] + leveled
    return best if len(best) < values.nbytes else None


def decode(data: bytes, dtype: np.dtype[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The array again. Raises ValueError for bytes that are not of this form or not of this shape."""
    count = math.prod(shape)
    if dtype != np.float32 or count > 8 * len(data):
        raise ValueError("compact bytes do not fit the array's shape")
    if data[:1] != b"Z":
        return _inner(data, count).reshape(shape)
    bits = np.frombuffer(data, np.uint8, _bytes(count, 1), 1)
    there = np.unpackbits(bits, count=count).astype(bool)
    flat = np.zeros(count, np.float32)
    flat[there] = _inner(data[1 + len(bits) :], int(there.sum()))
    return flat.reshape(shape)


def _inner(data: bytes, count: int) -> NDArray[np.float32]:
    if data[:1] == b"V":
        values = np.frombuffer(data, np.float32, offset=1)
        if len(values) != count:
            raise ValueError(f"compact bytes hold {len(values)} values instead of {count}")
        return values
    if data[:1] != b"L":
        raise ValueError("compact bytes of an unknown form")
    out, at = np.empty(count, np.float32), 1
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        levels = int.from_bytes(data[at : at + 2], "little")
        width = _width(levels)
        table = np.frombuffer(data, np.float32, levels, at + 2)
        at += 2 + 4 * levels
        packed = np.frombuffer(data, np.uint8, _bytes(size, width), at)
        at += len(packed)
        bits = np.unpackbits(packed, count=size * width).reshape(size, width)
        index = bits @ (1 << np.arange(width - 1, -1, -1))
        if size and (not levels or int(index.max()) >= levels):
            raise ValueError("compact bytes name a level that is not there")
        out[start : start + size] = table[index]
    return out


def _levels(flat: NDArray[np.float32]) -> bytes | None:
    """Blocks of few distinct values; None as soon as one has too many."""
    parts = [b"L"]
    for start in range(0, len(flat), BLOCK):
        block = flat[start : start + BLOCK]
        table, index = np.unique(block, return_inverse=True)
        if len(table) > MOST or not np.isfinite(table).all() or 4 * len(table) > 3 * len(block):
            return None
        width = _width(len(table))
        bits = (index[:, None] >> np.arange(width - 1, -1, -1)) & 1
        parts += [len(table).to_bytes(2, "little"), table.tobytes(), np.packbits(bits.astype(np.uint8)).tobytes()]
    return b"".join(parts)


def _width(levels: int) -> int:
    """Bits of an index among so many levels."""
    return max(1, (levels - 1).bit_length())


def _bytes(entries: int, bits: int) -> int:
    return -(-entries * bits // 8)
