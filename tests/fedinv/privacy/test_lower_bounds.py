import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from fedinv.privacy.lower_bounds import HIGHEST, chance_of, gaussian, gaussian_epsilon, one_run

DELTA = 1e-5


def drawn(mu, count, seed):
    rng = np.random.default_rng(seed)
    present = rng.random(count) < 0.5
    return rng.standard_normal(count) + mu * present, present


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 5.0, 12.0])
def test_mu_to_epsilon_is_the_gaussian_curve(epsilon):
    mu = 0.1 + epsilon / 3
    found = gaussian_epsilon(mu, DELTA)
    back = norm.cdf(mu / 2 - found / mu) - math.exp(found) * norm.cdf(-mu / 2 - found / mu)
    assert back == pytest.approx(DELTA, rel=1e-3)


@given(st.integers(1, 300), st.floats(0, 8), st.floats(0, 8))
def test_more_right_guesses_are_less_likely_and_a_larger_epsilon_allows_more(guesses, one, other):
    low, high = sorted((one, other))
    right = guesses - guesses // 4
    assert chance_of(right, guesses, 300, low, 0.0) <= chance_of(right, guesses, 300, high, 0.0) + 1e-12
    assert chance_of(right, guesses, 300, low, 0.0) <= chance_of(right, guesses, 300, low, DELTA)


def test_without_delta_it_is_the_binomials_tail():
    assert chance_of(10, 10, 10, 0.0, 0.0) == pytest.approx(2**-10)
    assert chance_of(0, 10, 10, 0.0, DELTA) == pytest.approx(1.0)


@pytest.mark.parametrize("mu", [0.5, 1.5])
@pytest.mark.slow
def test_bounds_lie_below_the_truth_in_nearly_every_run(mu):
    truth = gaussian_epsilon(mu, DELTA)
    bounds = [(gaussian(*drawn(mu, 400, s), DELTA), one_run(*drawn(mu, 400, s), DELTA)) for s in range(100)]
    assert sum(g.epsilon > truth for g, _ in bounds) <= 7
    assert sum(o.epsilon > truth for _, o in bounds) <= 3
    assert np.mean([g.epsilon for g, _ in bounds]) > 0.5 * truth


def test_scores_that_say_nothing_bound_nothing():
    found = [
        max(gaussian(*drawn(0.0, 200, s), DELTA).epsilon, one_run(*drawn(0.0, 200, s), DELTA).epsilon)
        for s in range(60)
    ]
    assert sum(value > 0 for value in found) <= 6


def test_scores_that_say_all_bound_as_much_as_their_number_allows():
    present = np.arange(100) % 2 == 0
    told = one_run(present.astype(float), present, DELTA)
    assert (told.right, told.guesses) == (100, 100)
    assert 2.5 < told.epsilon < 6
    assert gaussian(present.astype(float), present, DELTA).epsilon == HIGHEST


def test_a_handful_of_canaries_is_no_ground_for_anything():
    assert gaussian(np.arange(4.0), np.array([True, False, False, False]), DELTA).epsilon == 0
    assert one_run(np.arange(2.0), np.array([False, True]), DELTA).epsilon == 0
