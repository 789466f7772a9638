import math

import pytest

from fedinv.attack import Knowledge
from server.inversion.noise import noise_std, record_clip, rescaled

CLIP_NOISE = {"kind": "clip-noise", "clip": 2.0, "noise_multiplier": 0.5}
DP_SGD = {"kind": "dp-sgd", "clip": 1.5, "noise_multiplier": 2.0}


@pytest.mark.parametrize(
    ("knows", "expected"),
    [
        (Knowledge(), 0),
        (Knowledge(defenses=({"kind": "masking"},)), 0),
        (Knowledge(defenses=(CLIP_NOISE,)), 1.0),
        (Knowledge(defenses=(DP_SGD,), lr=0.1, batch_size=8, epochs=3, algorithm="fedsgd"), 0.1 * 3 / 8),
        (Knowledge(defenses=(DP_SGD,), lr=0.1, batch_size=8, epochs=3, algorithm="fedavg"), 0.1 * 3 / 8 * math.sqrt(9)),
        (Knowledge(defenses=(DP_SGD,), lr=0.1, batch_size=80, epochs=1, algorithm="fedavg"), 0.1 * 3 / 20),
        (Knowledge(defenses=(DP_SGD,)), 0),
    ],
)
def test_noise(knows, expected):
    assert noise_std(knows, 20) == pytest.approx(expected)


def test_clipping_hides_the_scale():
    assert rescaled(Knowledge(defenses=(CLIP_NOISE,)), 2.0)
    assert not rescaled(Knowledge(defenses=(CLIP_NOISE,)), 1.0)
    assert rescaled(Knowledge(defenses=(DP_SGD,)), 0.1)
    assert not rescaled(Knowledge(), 100.0)
    assert record_clip(Knowledge(defenses=(DP_SGD,))) == 1.5
    assert record_clip(Knowledge(defenses=(CLIP_NOISE,))) == math.inf
