import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedinv.results.intervals import bootstrap_mean, clopper_pearson


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    [(0, 10, 0.0, 0.30850), (10, 10, 0.69150, 1.0), (5, 10, 0.18709, 0.81291), (1, 100, 0.00025, 0.05446)],
)
def test_clopper_pearson_against_published_tables(hits, trials, low, high):
    assert clopper_pearson(hits, trials) == pytest.approx((low, high), abs=1e-5)


def test_nothing_tried_says_nothing():
    assert clopper_pearson(0, 0) == (0.0, 1.0)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_the_bootstrap_interval_lies_within_the_values(values):
    array = np.array(values)
    low, high = bootstrap_mean(array, np.ones(len(array)), np.random.default_rng(0))
    assert array.min() - 1e-9 <= low <= high <= array.max() + 1e-9


def test_the_bootstrap_covers_the_mean_at_about_the_stated_rate():
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        low, high = bootstrap_mean(rng.normal(0.5, 0.1, 30), np.ones(30), rng, 400)
        hits += low <= 0.5 <= high
    assert 0.88 <= hits / 200 <= 0.99
