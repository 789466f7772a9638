import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedinv import plugins
from fedinv.defense import Sending


def defense(kind, **settings):
    return plugins.load("defenses", kind).model_validate({"kind": kind, **settings})


def sending(seed=0, memory=None):
    return Sending(0, 1, (0,), 4, seed, np.random.default_rng(seed), memory={} if memory is None else memory)


def update(seed=0, big=1.0):
    generator = torch.Generator().manual_seed(seed)
    return {"w": big * torch.randn(40, 30, generator=generator), "b": torch.randn(40, generator=generator)}


def flat(tensors):
    return torch.cat([t.flatten() for t in tensors.values()])


@given(st.floats(0.001, 1))
def test_top_k_sends_the_largest_entries_over_all_parameters(keep):
    whole, sent = flat(update()), flat(defense("top-k", keep=keep).protect(update(), sending()))
    kept = sent != 0
    assert int(kept.sum()) == max(1, round(keep * len(whole)))
    assert torch.equal(sent[kept], whole[kept])
    assert bool(kept.all()) or whole[kept].abs().min() >= whole[~kept].abs().max()


def test_what_top_k_keeps_back_is_sent_later():
    top, memory, sent = defense("top-k", keep=0.2), {}, 0.0
    for _ in range(60):
        sent = sent + flat(top.protect(update(), sending(memory=memory)))
    assert torch.allclose(sent / 60, flat(update()), atol=0.15)
    assert torch.allclose(sent + flat(memory), 60 * flat(update()), atol=1e-3)
    assert defense("top-k", error_feedback=False).protect(update(), sending(memory={})) is not None


def test_prune_gradient_prunes_each_parameter_by_itself():
    sent = defense("prune-gradient", prune=0.75).protect(update(big=100.0), sending())
    assert {name: int((t != 0).sum()) for name, t in sent.items()} == {"w": 300, "b": 10}


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_quantize_is_right_in_the_mean_and_has_few_levels(bits):
    kind = defense("quantize", bits=bits)
    drawn = torch.stack([flat(kind.protect(update(), sending(seed))) for seed in range(400)])
    levels = 2 ** (bits - 1) - 1
    step = flat(update()).abs().max() / levels
    assert torch.allclose(drawn.mean(0), flat(update()), atol=float(4 * 0.5 * step / 20))
    first = kind.protect(update(), sending())["w"].flatten()[:512]
    assert len(first.unique()) <= 2 * levels + 1


def test_sign_sends_one_size_a_parameter_and_repays_what_it_leaves_out():
    sign, memory = defense("sign"), {}
    sent = sign.protect(update(), sending(memory=memory))
    assert all(len(t.abs().unique()) == 1 for t in sent.values())
    assert torch.equal(flat(sent) < 0, flat(update()) < 0)
    assert torch.allclose(flat(sent) + flat(memory), flat(update()), atol=1e-6)


@pytest.mark.parametrize("kind", ["top-k", "prune-gradient", "quantize", "sign"])
def test_what_is_not_finite_is_not_sent_and_not_remembered(kind):
    memory = {}
    bad = {"w": torch.tensor([float("nan"), float("inf"), 1.0, -2.0])}
    sent = defense(kind).protect(bad, sending(memory=memory))
    assert bool(torch.isfinite(sent["w"]).all())
    assert all(bool(torch.isfinite(t).all()) for t in memory.values())
