from dataclasses import replace

import dp_accounting
import pytest
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from scipy.stats import norm

from fedinv.errors import RequestError
from fedinv.privacy.accountants import noise_for
from fedinv.privacy.claims import claim, epsilon
from fedinv.privacy.events import PrivacyEvent


def event(noise=1.0, rate=0.1, steps=100, neighbors="add-or-remove-one", unit="example", mechanism="dp-sgd"):
    return PrivacyEvent(noise, rate, steps, 1e-5, unit, neighbors, mechanism)


def gaussian_delta(eps, mu):
    """Balle and Wang 2018, theorem 8: the exact curve of the Gaussian mechanism."""
    return norm.cdf(mu / 2 - eps / mu) - pow(2.718281828459045, eps) * norm.cdf(-mu / 2 - eps / mu)


@pytest.mark.parametrize(("rate", "steps", "expected"), [(0.01, 100, 0.718), (0.01, 1000, 1.828), (0.1, 1000, 25.20)])
def test_sampled_gaussian_against_published_composition(rate, steps, expected):
    assert epsilon([event(rate=rate, steps=steps)], 1e-5) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("steps", [1, 25])
def test_without_sampling_it_is_the_exact_gaussian_curve(steps):
    for neighbors, sensitivity in [("add-or-remove-one", 1), ("replace-one", 2)]:
        eps = epsilon([event(noise=4.0, rate=1.0, steps=steps, neighbors=neighbors)], 1e-5)
        assert gaussian_delta(eps, sensitivity * steps**0.5 / 4.0) == pytest.approx(1e-5, rel=0.02)


@pytest.mark.slow
def test_rounds_compose_and_are_not_quoted_singly():
    one, four = epsilon([event(steps=10)], 1e-5), epsilon([event(steps=10)] * 4, 1e-5)
    assert four == pytest.approx(epsilon([event(steps=40)], 1e-5), rel=1e-3)
    assert four > 1.5 * one


def test_the_claim_is_of_the_client_that_spent_most():
    ledger = {"0": [vars(event(steps=10))], "1": [vars(event(steps=300))], "2": [vars(event(steps=10))]}
    found = claim(ledger, ["dp-sgd"])
    assert found.epsilon == pytest.approx(epsilon([event(steps=300)], 1e-5))
    assert (found.unit, found.accountant, found.delta) == ("example", "PLD", 1e-5)


def test_no_noise_and_no_defense_claim_nothing():
    assert claim({"0": [vars(event(noise=0.0))]}, ["dp-sgd"]).epsilon is None
    nothing = claim({"0": []}, ["masking"])
    assert nothing.epsilon is None
    assert "masking claims none" in nothing.note
    assert "no defense is on" in claim({"0": []}, []).note


def test_different_units_are_never_composed():
    with pytest.raises(ValueError, match="cannot be composed"):
        epsilon([event(), event(unit="client", neighbors="replace-one")], 1e-5)


def test_two_mechanisms_are_told_apart_and_both_named():
    local = event(noise=8.0, rate=1.0, steps=2, neighbors="replace-one", unit="client", mechanism="clip-noise")
    found = claim({"0": [vars(event(steps=10)), vars(local)]}, ["dp-sgd", "clip-noise"])
    assert found.epsilon == pytest.approx(min(epsilon([event(steps=10)], 1e-5), epsilon([local], 1e-5)))
    assert "dp-sgd gives epsilon" in found.note
    assert "clip-noise gives epsilon" in found.note


PUBLISHED = [
    (0.01, 100, 1.214, 0.718),
    (0.01, 1000, 2.101, 1.828),
    (0.1, 1000, 27.16, 25.20),
    (1.0, 100, 96.1, 91.82),
]


@pytest.mark.parametrize(("rate", "steps", "renyi", "expected"), PUBLISHED)
def test_the_ledger_is_what_dp_accounting_says_and_tighter_than_renyi(rate, steps, renyi, expected):
    gaussian = dp_accounting.GaussianDpEvent(1.0)
    sampled = gaussian if rate == 1 else dp_accounting.PoissonSampledDpEvent(rate, gaussian)
    whole = dp_accounting.SelfComposedDpEvent(sampled, steps)
    own = epsilon([event(rate=rate, steps=steps)], 1e-5)
    if rate < 1:  # without sampling it takes seconds, and the exact curve is known
        assert own == pytest.approx(PLDAccountant().compose(whole).get_epsilon(1e-5), abs=1e-6)
    assert own == pytest.approx(expected, abs=0.006 * expected)
    assert RdpAccountant().compose(whole).get_epsilon(1e-5) == pytest.approx(renyi, rel=0.01)


@pytest.mark.parametrize("steps", [1, 20])
def test_replaced_units_cost_the_same_by_either_account_where_nothing_is_sampled(steps):
    drawn = replace(
        event(noise=8.0, rate=1.0, steps=steps, neighbors="replace-one"), sampling="fixed-size", population=9
    )
    whole = epsilon([drawn], 1e-5)
    gaussian = dp_accounting.GaussianDpEvent(4.0)
    relation = dp_accounting.NeighboringRelation.REPLACE_ONE
    renyi = RdpAccountant(neighboring_relation=relation).compose(gaussian, steps).get_epsilon(1e-5)
    assert whole <= renyi <= 1.25 * whole


def test_a_sample_of_fixed_size_is_charged_with_the_sensitivity_of_a_replacement():
    drawn = replace(
        event(noise=8.0, rate=0.1, steps=50, neighbors="replace-one"), sampling="fixed-size", population=100
    )
    relation = dp_accounting.NeighboringRelation.REPLACE_ONE
    inner = dp_accounting.SampledWithoutReplacementDpEvent(100, 10, dp_accounting.GaussianDpEvent(4.0))
    direct = RdpAccountant(neighboring_relation=relation).compose(inner, 50).get_epsilon(1e-5)
    assert epsilon([drawn], 1e-5) == pytest.approx(direct, abs=1e-6)
    found = claim({"0": [vars(drawn)]}, ["x"])
    assert found.accountant == "RDP"
    assert "Renyi" in found.note


@pytest.mark.parametrize("budget", [0.5, 3.0, 20.0])
def test_calibrated_noise_keeps_the_budget_and_hardly_more(budget):
    whole = event(rate=0.25, steps=20)
    noise = noise_for(whole, budget)
    assert 0.98 * budget < epsilon([replace(whole, noise_multiplier=noise)], 1e-5) <= budget


def test_a_budget_that_cannot_be_kept_is_refused():
    with pytest.raises(RequestError, match="cannot be kept"):
        noise_for(event(rate=1.0, steps=100), 1e-6)
