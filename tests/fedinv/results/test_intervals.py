import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedinv.results.intervals import clopper_pearson, mean_interval, share_interval


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    [(0, 10, 0.0, 0.30850), (10, 10, 0.69150, 1.0), (5, 10, 0.18709, 0.81291), (1, 100, 0.00025, 0.05446)],
)
def test_clopper_pearson_against_published_tables(hits, trials, low, high):
    assert clopper_pearson(hits, trials) == pytest.approx((low, high), abs=1e-5)


def test_nothing_tried_says_nothing():
    assert clopper_pearson(0, 0) == (0.0, 1.0)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.integers(1, 5))
def test_an_interval_of_shares_holds_their_mean_and_stays_within_0_and_1(values, clusters):
    array = np.array(values)
    low, high = share_interval(array, np.arange(len(array)) % clusters)
    assert 0 <= low <= array.mean() + 1e-9
    assert array.mean() - 1e-9 <= high <= 1


def test_values_that_differ_by_rounding_alone_have_the_interval_of_equal_ones():
    equal = np.full(3, 0.5)
    assert share_interval(equal - [0, 1e-16, 0]) == pytest.approx(share_interval(equal))


def test_nothing_of_four_clients_is_not_nothing_of_all():
    none = share_interval(np.zeros(32), np.repeat(np.arange(4), 8))
    assert none == pytest.approx(clopper_pearson(0, 4))
    assert share_interval(np.ones(32), np.repeat(np.arange(4), 8))[0] == pytest.approx(1 - none[1])
    assert share_interval(np.ones(32), np.repeat(np.arange(4), 8), floor=0.5)[0] > 0.5


def test_one_client_s_people_are_counted_one_by_one():
    assert share_interval(np.ones(18), np.zeros(18)) == pytest.approx(clopper_pearson(18, 18))


def test_equal_records_of_a_client_are_one_trial_and_unlike_ones_are_more():
    whole = share_interval(np.repeat([0.0, 1.0] * 10, 8), np.repeat(np.arange(20), 8))
    mixed = share_interval(np.tile([0.0, 1.0], 80), np.repeat(np.arange(20), 8))
    assert whole[1] - whole[0] > 1.5 * (mixed[1] - mixed[0])
    assert whole[1] - whole[0] > 0.4


@pytest.mark.parametrize("alike", [0.0, 0.3, 0.6, 1.0])
@pytest.mark.parametrize(("victims", "share", "each"), [(4, 0.2, 8), (12, 0.05, 8), (40, 0.95, 8), (40, 0.05, 32)])
def test_the_interval_of_clustered_hits_covers_the_truth(victims, share, each, alike):
    rng, covered = np.random.default_rng(1), 0
    for _ in range(200):
        found = clustered(rng, victims, each, share, alike)
        low, high = share_interval(found.ravel(), np.repeat(np.arange(victims), each))
        covered += low <= share <= high
    assert covered / 200 >= 0.92  # 0.95 nominal, less the simulation's own spread


def clustered(rng, victims, each, share, alike):
    """Hits (victims, each) with the mean `share`; `alike` is the correlation of two of one victim."""
    if alike == 1:
        chances = (rng.random(victims) < share).astype(float)
    else:
        other = 1 / alike - 1 if alike else 1e9
        chances = rng.beta(share * other, (1 - share) * other, victims)
    return (rng.random((victims, each)) < chances[:, None]).astype(float)


def test_the_interval_of_a_mean_is_student_s_between_clusters():
    values = np.array([1.0, 3.0, 2.0, 4.0])
    low, high = mean_interval(values, np.array([0, 0, 1, 1]), bounds=(-100, 100))
    half = 12.706 * 0.5  # the clusters' means are 2 and 3
    assert (low, high) == pytest.approx((2.5 - half, 2.5 + half), abs=1e-3)
    assert mean_interval(values, np.zeros(4), bounds=(-100, 100))[1] == pytest.approx(2.5 + 3.182 * 0.6455, abs=1e-3)
    assert mean_interval(values[:1]) == (0.0, 1.0)
