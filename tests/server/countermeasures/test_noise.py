import math

import pytest

from fedinv.attack import Exchange, Knowledge, Observation
from server.countermeasures import answer

CLIP_NOISE = {"kind": "clip-noise", "clip": 2.0, "noise_multiplier": 0.5}
DP_SGD = {"kind": "dp-sgd", "clip": 1.5, "noise_multiplier": 2.0}


def _distortion(knows):
    exchange = Exchange(1, {}, {}, 20)
    return answer(Observation((0,), (exchange,)), knows).distortion(exchange)


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
    assert _distortion(knows).noise == pytest.approx(expected)


def test_clipping_hides_the_scale():
    assert _distortion(Knowledge(defenses=(CLIP_NOISE,))).rescales(2.0)
    assert not _distortion(Knowledge(defenses=(CLIP_NOISE,))).rescales(1.0)
    assert _distortion(Knowledge(defenses=(DP_SGD,))).rescales(0.1)
    assert not _distortion(Knowledge()).rescales(100.0)
    assert _distortion(Knowledge(defenses=(DP_SGD,))).record_clip == 1.5
    assert _distortion(Knowledge(defenses=(CLIP_NOISE,))).record_clip == math.inf
