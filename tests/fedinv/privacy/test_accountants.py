import math
import subprocess
import sys
from dataclasses import replace

import pytest
from dp_accounting import DpEvent, GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
from dp_accounting.pld import PLDAccountant
from scipy.optimize import brentq
from scipy.stats import norm

from fedinv.privacy.accountants import POINTS, ROUGH_POINTS, Spent, composed, grid, losses, most_steps, noise_for
from fedinv.privacy.events import HIGHEST, PrivacyEvent
from fedinv.privacy.gaussian import gaussian_epsilon


def event(noise=1.0, rate=0.1, steps=100, neighbors="add-or-remove-one"):
    return PrivacyEvent(noise, rate, steps, 0.0, "example", neighbors, "")


def plain(one: PrivacyEvent) -> float:
    whole: DpEvent = PoissonSampledDpEvent(one.sampling_rate, GaussianDpEvent(one.noise_multiplier))
    return PLDAccountant().compose(SelfComposedDpEvent(whole, one.steps)).get_epsilon(1e-5)


@pytest.mark.parametrize(
    "one", [event(1.0, 0.01, 100), event(2.0, 0.25, 40), event(8.0, 0.1, 500)], ids=["weak", "some", "strong"]
)
def test_where_losses_are_small_it_is_what_dp_accounting_says(one):
    found = composed((one,), 1e-5)
    assert found.accountant == "PLD"
    assert found.epsilon == pytest.approx(plain(one), rel=2e-4)


@pytest.mark.parametrize("one", [event(0.3, 0.1, 30), event(1.0, 0.1, 300)])
def test_a_coarser_grid_never_claims_less_and_hardly_more(one):
    fine, rough = composed((one,), 1e-5), composed((one,), 1e-5, ROUGH_POINTS)
    assert fine.epsilon <= rough.epsilon <= 1.005 * fine.epsilon


EXTREMES = [
    event(noise, rate, steps, neighbors)
    for noise in (0.001, 0.1, 1.0, 100.0)
    for rate, steps in ((0.1, 1), (0.001, 10**7), (0.3, 10**9))
    for neighbors in ("add-or-remove-one", "replace-one")
]


@pytest.mark.parametrize("one", EXTREMES, ids=str)
def test_no_grid_has_many_more_points_than_it_may(one):
    interval = grid((one,), 1e-5, ROUGH_POINTS)
    if interval is not None:
        whole = losses(one, interval)
        # no public member of dp-accounting counts the points
        assert max(whole._pmf_remove.size, whole._pmf_add.size) <= 2 * ROUGH_POINTS
    assert composed((one,), 1e-5, ROUGH_POINTS).epsilon > 0


@pytest.mark.slow
def test_the_weakest_noise_is_priced_within_a_gibibyte():
    code = """
import resource
from fedinv.privacy.accountants import composed
from fedinv.privacy.events import PrivacyEvent
resource.setrlimit(resource.RLIMIT_DATA, (2**30, 2**30))
for noise, rate, steps in ((5e-324, 0.1, 1), (0.001, 0.1, 1), (0.02, 0.1, 100), (0.1, 0.1, 10**4), (1e-4, 1.0, 10**9)):
    print(composed((PrivacyEvent(noise, rate, steps, 0.0, "example", "add-or-remove-one", ""),), 1e-5).epsilon)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    none, one_step, many, most, last = map(float, done.stdout.split())
    assert (none, last) == (math.inf, math.inf)
    assert one_step == pytest.approx(503_720, rel=1e-3)  # 1 / (2 * 0.001^2) and its tail
    assert many == pytest.approx(31_083, rel=1e-3)
    assert many < most <= HIGHEST


@pytest.mark.parametrize("steps", [1, 10**9])
@pytest.mark.parametrize("neighbors", ["add-or-remove-one", "replace-one"])
def test_without_sampling_the_curve_is_in_closed_form(steps, neighbors):
    mu = (2 if neighbors == "replace-one" else 1) * math.sqrt(steps) / 1e4
    found = composed((event(1e4, 1.0, steps, neighbors),), 1e-5)
    assert found.accountant == "Gaussian"

    def delta(eps):  # Balle and Wang 2018, theorem 8
        return norm.cdf(mu / 2 - eps / mu) - math.exp(eps + norm.logcdf(-mu / 2 - eps / mu))

    exact = 0.0 if delta(0.0) < 1e-5 else brentq(lambda eps: delta(eps) - 1e-5, 0, 1e3)
    assert found.epsilon == pytest.approx(exact, abs=1e-6)
    assert found.epsilon >= exact - 1e-9


@pytest.mark.parametrize("mu", [1e-3, 1.0, 40.0, 1400.0])
def test_the_closed_form_lies_between_its_bounds_at_any_size(mu):
    epsilon = gaussian_epsilon(mu, 1e-5)
    assert epsilon <= mu**2 / 2 + mu * norm.isf(1e-5)
    assert epsilon >= max(0.0, mu**2 / 2 + mu * norm.isf(2e-2)) or mu <= 1


def test_what_no_grid_can_hold_is_bounded_by_renyi_divergences():
    found = composed((event(100.0, 0.3, 10**9),), 1e-5)
    assert found.accountant == "RDP"
    assert found.epsilon < composed((event(100.0, 1.0, 10**9),), 1e-5).epsilon


def test_above_a_million_nothing_is_claimed():
    assert composed((event(0.001, 0.5, 1000),), 1e-5).epsilon == math.inf
    assert composed((event(0.0, 0.5, 1),), 1e-5) == Spent(math.inf, "Gaussian")


@pytest.mark.slow
def test_events_of_several_rates_share_one_grid():
    parts = (event(2.0, 0.1, 20), event(2.0, 0.5, 10), event(4.0, 1.0, 3))
    whole = composed(parts, 1e-5).epsilon
    assert max(composed((one,), 1e-5).epsilon for one in parts) < whole
    assert whole < composed(tuple(replace(one, sampling_rate=1.0) for one in parts), 1e-5).epsilon


@pytest.mark.parametrize(("budget", "used"), [(1000.0, 0.98), (5000.0, 0.95), (4e5, 0.5)])
def test_noise_is_found_for_a_budget_that_promises_little(budget, used):
    whole = event(rate=0.25, steps=20)
    noise = noise_for(replace(whole, delta=1e-5), budget)
    assert used * budget < composed((replace(whole, noise_multiplier=noise),), 1e-5, POINTS).epsilon <= budget


def test_the_steps_that_a_budget_pays_for_are_counted_to_the_last():
    one = replace(event(2.0, 0.2), delta=1e-5)
    steps = most_steps(one, 3.0)

    def cost(steps):
        return composed((replace(one, steps=steps, delta=0.0),), 1e-5, ROUGH_POINTS).epsilon

    assert cost(steps) <= 3.0 < cost(steps + 1)
    assert most_steps(one, 0.01) == 0


def test_less_noise_never_costs_less_where_losses_are_large():
    costs = [composed((event(noise, 0.1, 300),), 1e-5, ROUGH_POINTS) for noise in (0.3, 0.17, 0.15, 0.1, 0.07, 0.05)]
    assert [one.epsilon for one in costs] == sorted(one.epsilon for one in costs)
    assert {one.accountant for one in costs} == {"PLD"}
