import numpy as np
import pytest

from fedinv.results.intervals import clopper_pearson
from fedinv.studies.maximum import Counts, of_maximum, widened

FIELDS, GUESS = 100.0, 0.4


def drawn(rng, leakage, clusters, attacks):
    """Counts of attacks that each get `leakage` of what a guess gets wrong, on clusters that differ a lot."""
    found = []
    for share in np.broadcast_to(leakage, attacks):
        right = GUESS + (1 - GUESS) * (share + rng.normal(0, 0.1, clusters))
        found.append(Counts({(0, c): (FIELDS * r, FIELDS * GUESS, FIELDS) for c, r in enumerate(right)}))
    return found


@pytest.mark.parametrize("clusters", [4, 12])
def test_many_attacks_that_guess_make_no_leak(clusters):
    rng = np.random.default_rng(1)
    tried = [drawn(rng, 0.0, clusters, 6) for _ in range(60)]
    corrected = np.mean([of_maximum(one)[0] > 0 for one in tried])
    alone = np.mean([max(of_maximum([attack])[0] for attack in one) > 0 for one in tried])
    assert corrected <= 0.05
    assert alone > corrected  # uncorrected, the best of six looks like a leak more often


def test_the_interval_covers_the_largest_leakage_and_sees_it():
    rng = np.random.default_rng(2)
    found = [of_maximum(drawn(rng, [0.0, 0.3, 0.5], 8, 3)) for _ in range(60)]
    assert np.mean([low <= 0.5 <= high for low, high in found]) >= 0.93
    assert all(low > 0 for low, _ in found)


def test_attacks_on_other_clusters_are_resampled_apart_and_one_cluster_tells_nothing():
    rng = np.random.default_rng(3)
    (client,), (total,) = drawn(rng, 0.1, 6, 1), drawn(rng, 0.6, 5, 1)
    assert total.leakage == pytest.approx(0.6, abs=0.2)
    low, high = of_maximum([client, Counts({(seed, -1): v for (_, seed), v in total.by_cluster.items()})])
    assert low <= total.leakage <= high
    assert of_maximum(drawn(rng, 0.1, 1, 2)) is None
    assert of_maximum([Counts({(0, 0): (4.0, 4.0, 4.0), (0, 1): (4.0, 4.0, 4.0)})]) == (0.0, 0.0)


def test_clients_that_all_fare_the_same_are_trials_and_no_certainty():
    def same(right, clusters=4):
        return Counts({(0, c): (right, 40.0, 100.0) for c in range(clusters)})

    none, all_ = of_maximum([same(40.0)]), of_maximum([same(100.0), same(40.0)])
    assert none == pytest.approx(clopper_pearson(0, 4))
    assert all_ == pytest.approx(clopper_pearson(4, 4))
    assert of_maximum([same(100.0, 40)])[0] > 0.9


def test_several_intervals_that_hold_together_are_wider():
    assert widened(0.5, (0.4, 0.6), 1) == pytest.approx((0.4, 0.6))
    low, high = widened(0.5, (0.4, 0.6), 5)
    assert low < 0.4 < 0.6 < high
