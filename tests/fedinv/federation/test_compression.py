import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedinv.federation import compression, wire


def there_and_back(values):
    data = compression.encode(values)
    return values if data is None else compression.decode(data, values.dtype, values.shape)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 1500),
    st.sampled_from([0.0, 0.02, 0.5, 1.0]),
    st.sampled_from([None, 1, 2, 15, 255, 300]),
)
def test_nothing_is_lost(seed, size, density, levels):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=size).astype(np.float32)
    if levels is not None:
        values = rng.normal(size=levels).astype(np.float32)[rng.integers(levels, size=size)]
    values[rng.random(size) > density] = 0
    assert np.array_equal(there_and_back(values), values)


def test_it_takes_what_the_forms_cost():
    rng, count = np.random.default_rng(0), 512 * 100
    dense = rng.normal(size=count).astype(np.float32)
    assert compression.encode(dense) is None
    sparse = np.where(rng.random(count) < 0.1, dense, 0).astype(np.float32)
    assert len(compression.encode(sparse)) == pytest.approx(count / 8 + 0.4 * count, rel=0.02)
    signs = np.sign(dense).astype(np.float32)
    assert len(compression.encode(signs)) == 1 + 100 * (2 + 8 + 64)


def test_values_that_are_not_finite_stay_what_they_are():
    values = np.array([np.nan, np.inf, 0, 1] * 50, np.float32)
    assert np.array_equal(there_and_back(values), values, equal_nan=True)


@pytest.mark.parametrize(
    "data",
    [b"", b"V123", b"Q" + bytes(80), b"Z", b"Z" + bytes(13) + b"V1234", b"L\x01\x00" + bytes(4), b"L" + b"\xff" * 100],
)
def test_damaged_bytes_are_refused(data):
    with pytest.raises(ValueError):  # noqa: PT011
        compression.decode(data, np.dtype(np.float32), (100,))


def test_a_small_claim_of_a_huge_array_is_refused_before_memory_is_taken():
    with pytest.raises(ValueError, match="do not fit"):
        compression.decode(b"Z123", np.dtype(np.float32), (10**12,))


def test_the_wire_packs_and_reads_both_forms():
    tensors = {"sparse": torch.zeros(40, 40), "dense": torch.randn(9, 9), "ring": torch.arange(100)}
    tensors["sparse"][3, 4] = 1.5
    packed = wire.pack_small(tensors)
    assert wire.size(packed) < wire.size(wire.pack(tensors)) - 6000
    for back in (wire.unpack(packed), wire.view(packed)):
        assert all(torch.equal(back[name], tensors[name]) for name in tensors)
