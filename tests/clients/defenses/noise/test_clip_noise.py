from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedinv import roles
from fedinv.defense import Sending
from fedinv.federation.training import Participation
from fedinv.privacy.claims import epsilon

ClipNoise = roles.load("clients", "defenses.noise.clip_noise").ClipNoise


def sending(seed=0):
    return Sending(client=0, round=1, cohort=(0, 1), records=4, seed=1, rng=np.random.default_rng(seed))


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=6), st.floats(0.01, 100))
def test_the_norm_never_exceeds_the_clip(values, clip):
    out = ClipNoise(clip=clip, noise_multiplier=0.0).protect({"w": torch.tensor(values)}, sending())
    assert out["w"].double().norm() <= clip * (1 + 1e-5)


def test_a_small_update_without_noise_is_unchanged():
    update = {"w": torch.tensor([0.1, -0.2]), "b": torch.zeros(1)}
    out = ClipNoise(clip=1.0, noise_multiplier=0.0).protect(update, sending())
    assert all(torch.equal(out[k], update[k]) for k in update)


def test_the_noise_has_the_stated_standard_deviation():
    out = ClipNoise(clip=0.5, noise_multiplier=3.0).protect({"w": torch.zeros(40_000)}, sending())
    assert out["w"].std() == pytest.approx(1.5, rel=0.02)


def test_values_that_are_not_finite_do_not_get_through():
    out = ClipNoise(clip=1.0, noise_multiplier=1.0).protect({"w": torch.tensor([float("nan"), 1.0])}, sending())
    assert bool(torch.isfinite(out["w"]).all())


def test_each_round_is_charged_once():
    defense = ClipNoise(clip=1.0, noise_multiplier=2.0)
    (event,) = defense.privacy_events(Participation(rounds=7))
    assert (event.steps, event.unit, event.neighbors) == (1, "client", "replace-one")


def test_an_epsilon_calibrates_the_noise_for_the_whole_run():
    defense, taken = ClipNoise(epsilon=8.0), Participation(rounds=7)
    (event,) = defense.privacy_events(taken)
    assert 7.9 < epsilon([replace(event, steps=7)], event.delta) <= 8.0
    assert defense.known(taken)["noise_multiplier"] == event.noise_multiplier
