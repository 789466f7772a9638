import pytest
from scipy.stats import norm

from fedinv.defense import PrivacyEvent
from fedinv.privacy import claim, epsilon


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


def test_rounds_compose_and_are_not_quoted_singly():
    one, ten = epsilon([event(steps=10)], 1e-5), epsilon([event(steps=10)] * 10, 1e-5)
    assert ten == pytest.approx(epsilon([event(steps=100)], 1e-5), rel=1e-3)
    assert ten > 2 * one


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
