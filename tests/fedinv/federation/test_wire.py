import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord
from hypothesis import given
from hypothesis import strategies as st

from fedinv.federation import wire
from fedinv.federation.ring import from_ring, to_ring


def test_pack_and_unpack_are_inverse():
    tensors = {"b": torch.randn(3, 2), "a": torch.tensor([1, -(2**62)]), "c": torch.tensor(1.5)}
    back = wire.unpack(wire.pack(tensors))
    assert list(back) == list(tensors)
    assert all(torch.equal(back[k], tensors[k]) and back[k].dtype == tensors[k].dtype for k in tensors)


def test_arrays_are_flowers_own_in_both_directions():
    values = torch.randn(4, 3)
    ours = wire.pack({"w": values})["w"]
    theirs = Array(values.numpy())
    assert (ours.dtype, ours.shape, ours.stype, ours.data) == (theirs.dtype, theirs.shape, theirs.stype, theirs.data)
    assert torch.equal(wire.view(ArrayRecord({"w": theirs}))["w"], values)
    turned = Array(np.asfortranarray(values.numpy()))
    assert torch.equal(wire.unpack(ArrayRecord({"w": turned}))["w"], values)


@given(st.lists(st.floats(-1000, 1000, width=32), min_size=1, max_size=5), st.integers(1, 50))
def test_the_ring_keeps_values_to_its_resolution(values, weight):
    update = {"w": torch.tensor(values)}
    back = from_ring(to_ring(update, weight), weight)
    assert torch.allclose(back["w"], update["w"], atol=1e-9)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e9])
def test_the_ring_refuses_what_it_cannot_hold(bad):
    with pytest.raises(ValueError, match="w holds values"):
        to_ring({"w": torch.tensor([bad])}, 1)


def test_the_mean_of_masked_updates_is_the_mean_of_the_plain_ones():
    updates = [{"w": torch.randn(7)} for _ in range(3)]
    weights = [1.0, 2.0, 5.0]
    mask = torch.randint(-(2**63), 2**63 - 1, (7,))
    ring = [to_ring(u, w) for u, w in zip(updates, weights, strict=True)]
    ring[0]["w"] = ring[0]["w"] + mask
    ring[2]["w"] = ring[2]["w"] - mask
    plain, masked = wire.weighted_mean(updates, weights), wire.weighted_mean(ring, weights)
    assert torch.allclose(plain["w"], masked["w"], atol=1e-7)


@pytest.mark.parametrize(
    ("update", "word"),
    [
        ({"w": torch.ones(2, 1)}, "shape"),
        ({"v": torch.ones(2)}, "parameters"),
        ({"w": torch.tensor([1.0, float("nan")])}, "non-finite"),
        ({"w": torch.ones(2, dtype=torch.float64)}, "float64"),
        ({"w": torch.tensor([float("inf"), -float("inf")])}, "non-finite"),
    ],
)
def test_a_faulty_update_is_named(update, word):
    assert word in wire.fault(update, {"w": torch.zeros(2)})
    assert wire.fault({"w": torch.ones(2)}, {"w": torch.zeros(2)}) is None
