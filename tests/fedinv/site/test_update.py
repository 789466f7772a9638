"""Clipping and noise bound an update whatever the app sends."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fedinv.site.policy import UpdateRules
from fedinv.site.update import bounded, gaussian

SENT = {"w": np.ones((2, 3), np.float32), "n": np.int64(5)}


@given(
    arrays.arrays(np.float64, (2, 3), elements=st.floats(-1e150, 1e150)),
    st.floats(1e-3, 1e3),
    st.sampled_from(["weights", "changes"]),
)
def test_no_change_is_longer_than_the_norm(values, clip, sends):
    sent = {"w": np.full((2, 3), 0.25)}
    found = bounded(sent, {"w": values}, UpdateRules(clip=clip, sends=sends))["w"]
    change = found - (sent["w"] if sends == "weights" else 0.0)
    assert np.linalg.norm(change) <= clip * (1 + 1e-9) + 1e-12
    if np.linalg.norm(values - (found - change)) <= clip:
        np.testing.assert_allclose(found, values, rtol=1e-9, atol=1e-12)


def test_numbers_whose_squares_are_not_finite_are_clipped_as_well():
    found = bounded({}, {"w": np.array([3e300, 4e300])}, UpdateRules(clip=5.0))["w"]
    np.testing.assert_allclose(found, [3, 4])


def test_without_a_norm_nothing_is_changed():
    back = {"w": np.full((2, 3), 7, np.float32), "n": np.int64(9)}
    assert bounded(SENT, back, UpdateRules()) == back


def test_what_is_no_floating_point_number_goes_back_as_it_came():
    back = {"n": np.int64(2**60), "w": SENT["w"], "new": np.array([3, 4])}
    found = bounded(SENT, back, UpdateRules(clip=1.0))
    assert found["n"] == 5
    assert found["new"].tolist() == [0, 0]
    assert list(found) == ["n", "w", "new"]
    np.testing.assert_array_equal(found["w"], SENT["w"])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_noise_is_of_the_size_that_is_named(dtype):
    sent = {"w": np.zeros(20_000, dtype)}
    back = {"w": np.full(20_000, 3, dtype)}
    found = bounded(sent, back, UpdateRules(clip=2.0, noise_multiplier=1.5))["w"]
    assert found.dtype == dtype
    # the clipped change is 2 / sqrt(20,000) an entry; the deviation of 20,000 has a standard error of 0.5 %
    assert float(found.astype(np.float64).std()) == pytest.approx(3.0, rel=0.04)
    assert float(found.astype(np.float64).mean()) == pytest.approx(0.0141, abs=0.11)


def test_normal_numbers_are_normal_independent_and_drawn_anew():
    values = gaussian(100_001)
    assert len(values) == 100_001
    sorted_, at = np.sort(values), np.arange(1, 100_002) / 100_001
    from scipy.stats import norm

    assert float(np.abs(norm.cdf(sorted_) - at).max()) < 0.0074  # Kolmogorov, one in ten million
    assert abs(float(np.corrcoef(values[:-1], values[1:])[0, 1])) < 0.017
    assert not np.array_equal(values[:10], gaussian(10))
    assert np.isfinite(gaussian(8, lambda size: b"\x00" * size)).all()
    assert np.isfinite(gaussian(8, lambda size: b"\xff" * size)).all()
    assert gaussian(0).shape == (0,)
