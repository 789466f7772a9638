import numpy as np
import pytest
from scipy.stats import chisquare

from fedinv import roles

discrete_gaussian = roles.load("clients", "mechanisms.discrete_gaussian").discrete_gaussian


@pytest.mark.parametrize("std", [0.4, 1.0, 3.3])
def test_it_has_the_law_that_it_is_named_after(std):
    drawn = discrete_gaussian(std, 60_000, np.random.default_rng(1))
    support = np.arange(-int(3 * std) - 1, int(3 * std) + 2)
    chances = np.exp(-(np.arange(-60, 61) ** 2) / (2 * std**2))
    expected = np.exp(-(support**2) / (2 * std**2)) / chances.sum() * len(drawn)
    counts = np.array([(drawn == x).sum() for x in support])
    rest = [len(drawn) - counts.sum()], [len(drawn) - expected.sum()]
    assert chisquare(np.append(counts, rest[0]), np.append(expected, rest[1])).pvalue > 1e-3


def test_at_large_scales_it_is_a_gaussian_of_whole_numbers():
    drawn = discrete_gaussian(3e10, 100_000, np.random.default_rng(2))
    assert np.array_equal(drawn, np.round(drawn))
    assert drawn.std() == pytest.approx(3e10, rel=0.01)
    assert abs(drawn.mean()) < 4 * 3e10 / 316


def test_a_standard_deviation_must_be_positive():
    with pytest.raises(ValueError, match="positive"):
        discrete_gaussian(0.0, 3, np.random.default_rng(0))
