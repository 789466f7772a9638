from types import SimpleNamespace as Namespace

import pytest

from fedinv.report.comparison_page import epsilon
from fedinv.results.comparison import Cost, DefenseLeak, Row, Worst
from fedinv.results.intervals import clopper_pearson
from fedinv.results.run import ClientRate, Rate
from fedinv.studies import recommendation, seed_pooling


def leak(leakage, half=0.02, attack="exact", variant="adaptive", verdict="leaks"):
    rate = Rate(value=max(0.0, leakage), count=50, ci95=(0, 1), prior=0.0)
    interval = (leakage - half, leakage + half)
    return DefenseLeak(
        attack=attack,
        variant=variant,
        leakage=leakage,
        ci95=interval,
        recovered=rate,
        fields=rate,
        seconds=1,
        verdict=verdict,
    )


def row(name, leakage, lost, spread=0.001, epsilon=None, **more):
    return Row(
        defenses=name,
        runs=["x"],
        leaks=[leak(leakage, **more)],
        worst=seed_pooling._worst([leak(leakage, **more)], {}),
        utility=Cost(value=0.8 - lost, ci95=None),
        lost=Cost(value=lost, ci95=(lost - spread, lost + spread)),
        epsilon=epsilon,
        unit="example" if epsilon else None,
        against_server=True,
        bytes_up=1,
        bytes_ratio=1,
        seconds=1,
        seconds_ratio=1,
        failed=[],
    )


PLAIN = row("none", 1.0, 0.0)


def test_noise_too_weak_for_a_guarantee_is_shown_as_such():
    assert [epsilon(one) for one in (PLAIN, row("a", 0.1, 0.0, epsilon=3.0))] == ["none", "3.0 a record"]
    assert epsilon(PLAIN.model_copy(update={"exceeds": 1e6})) == "> 10^6: none"


def test_leakage_is_what_a_guesser_gets_wrong_and_the_attacker_right():
    share, interval = seed_pooling.above_guess(0.7, (0.6, 0.8), 0.4)
    assert (share, *interval) == pytest.approx((0.5, 1 / 3, 2 / 3))
    assert seed_pooling.above_guess(1.0, (1.0, 1.0), 1.0) == (0.0, (0.0, 0.0))


def test_what_leaks_less_and_costs_less_dominates():
    found = recommendation.dominated([PLAIN, row("good", 0.1, 0.01), row("bad", 0.5, 0.03)])
    assert [(one.defenses, one.by) for one in found] == [("bad", "good")]
    assert "10 against 50 % leaked" in found[0].says


def test_differences_within_the_intervals_dominate_nothing():
    assert recommendation.dominated([PLAIN, row("a", 0.30, 0.01, half=0.2), row("b", 0.31, 0.01, half=0.2)]) == []


def test_a_heuristic_does_not_dominate_a_guarantee():
    assert recommendation.dominated([PLAIN, row("heuristic", 0.0, 0.0), row("dp-sgd", 0.1, 0.05, epsilon=3.0)]) == []


def test_the_recommendation_keeps_to_the_limit_and_leaks_least():
    found = [PLAIN, row("cheap", 0.4, 0.0), row("close", 0.05, 0.015), row("dear", 0.0, 0.2)]
    said = recommendation.recommendation(found, 0.02, "AUC")
    assert said.startswith("At most 2.0 points of AUC: the least leaks with close, and that is 5 % of what a guesser")
    assert "nothing is guaranteed" in said
    assert "dear withstood" in recommendation.recommendation(found, 0.5, "AUC")
    assert "none of the defenses keeps that; cheap loses 0.0 points" in recommendation.recommendation(
        found, -0.01, "AUC"
    )


def test_where_leakage_ties_a_guarantee_decides():
    none = {"verdict": "not measurable"}
    found = [PLAIN, row("heuristic", 0.0, 0.0, **none), row("dp-sgd", 0.01, 0.015, epsilon=3.0, **none)]
    said = recommendation.recommendation(found, 0.02, "AUC")
    assert "take dp-sgd" in said
    assert "guaranteed is epsilon 3.0 per record" in said


def test_what_helps_nobody_is_not_recommended():
    said = recommendation.recommendation([PLAIN, row("theater", 1.0, 0.0)], 0.02, "AUC")
    assert "nothing that keeps it (theater) leaks measurably less" in said


def test_what_would_stop_the_attacks_is_said_with_its_price():
    found = [PLAIN, row("cheap", 0.4, 0.0), row("dp-sgd", 0.0, 0.1, epsilon=3.0, verdict="not measurable")]
    said = recommendation.recommendation(found, 0.02, "AUC")
    assert "guarantees something costs more: dp-sgd loses 10.0 points, guaranteed is epsilon 3.0 per record" in said


def test_a_heuristic_is_never_said_to_leak_nothing():
    none = {"verdict": "not measurable", "half": 0.0}
    found = [PLAIN, row("zeroed", 0.0, 0.0, **none), row("dp-sgd", 0.0, 0.1, epsilon=12.0, **none)]
    said = recommendation.recommendation(found, 0.02, "AUC", {"gradient-matching": "", "labels": ""})
    assert "take zeroed" not in said
    assert (
        "zeroed withstood: the one attack run on it told nothing measurable beyond a guess (exact (adaptive))" in said
    )
    assert "a heuristic that guarantees nothing: an attack that was not run may break it" in said
    assert "With a guarantee: dp-sgd loses 10.0 points, guaranteed is epsilon 12.0 per record (weak" in said
    assert said.endswith("Not tried, so nothing is known of them: gradient-matching, labels.")


def test_what_a_limit_of_an_attacks_own_ended_is_not_said_to_be_withstood_alone():
    none = {"verdict": "not measurable", "half": 0.0}
    found = [PLAIN, row("summed", 0.0, 0.0, **none)]
    ended = [one.model_copy(update={"unfinished": ["320 records are more than it takes"]}) for one in found[1].leaks]
    found[1] = found[1].model_copy(update={"leaks": ended})
    said = "Not tried to the end on summed: exact (adaptive) (320 records are more than it takes)."
    assert said in recommendation.recommendation(found, 0.02, "AUC")
    assert said in recommendation.recommendation([*found, row("leaky", 0.5, 0.0)], 0.02, "AUC")
    # what it did not try without defenses either says nothing of these
    plain = PLAIN.model_copy(update={"leaks": ended})
    assert "Not tried to the end" not in recommendation.recommendation([plain, found[1]], 0.02, "AUC")


def test_what_lies_below_a_guess_leaks_0_percent():
    found = [PLAIN, row("below", -0.3, 0.0, half=0.05), row("some", 0.4, 0.05)]
    assert (found[1].worst.leakage, found[1].worst.ci95) == (0.0, (0.0, 0.0))
    assert found[1].leaks[0].leakage == -0.3
    assert "0 against 40 % leaked at worst" in recommendation.dominated(found)[0].says


def test_an_uncertain_cost_is_said():
    said = recommendation.recommendation([PLAIN, row("a", 0.1, 0.01, spread=0.05)], 0.02, "AUC")
    assert "the limit may be broken" in said


def test_attacks_too_weak_to_tell_recommend_nothing():
    found = [PLAIN, row("a", 0.0, 0.0, verdict="attack too weak")]
    assert found[1].worst is None
    assert "nothing can be recommended" in recommendation.recommendation(found[1:], 0.02, "AUC")


def test_rates_of_several_seeds_are_pooled():
    rates = [Rate(value=0.5, count=10, ci95=(0.3, 0.7), prior=0.1), Rate(value=1.0, count=30, ci95=(0.9, 1), prior=0.3)]
    pooled = seed_pooling._pooled(rates)
    assert (pooled.value, pooled.count, pooled.prior) == (pytest.approx(0.875), 40, pytest.approx(0.25))
    assert pooled.ci95[0] == pytest.approx(0.875 - (0.05**2 + 0.075**2) ** 0.5)


def test_records_rebuilt_of_several_seeds_are_counted_by_client():
    """Two seeds with four clients each, of which one is opened whole: it says little of the next client."""

    def seed(*hits):
        clients = [
            ClientRate(client=i, records=8, recovered=hit, fields=80, right=8.0 * hit, guessed=40.0)
            for i, hit in enumerate(hits)
        ]
        rate = Rate(value=sum(hits) / 32, count=32, ci95=(0, 1), prior=0.0)
        return Namespace(recovered=rate, clients=clients)

    pooled = seed_pooling.recovered_over_seeds([seed(8, 0, 0, 0), seed(8, 0, 0, 0)])
    assert pooled.value == 0.25
    assert pooled.ci95 == pytest.approx(clopper_pearson(2, 8), abs=0.06)
    mixed = seed_pooling.recovered_over_seeds([seed(2, 2, 2, 2), seed(2, 2, 2, 2)])
    assert mixed.ci95[1] - mixed.ci95[0] < pooled.ci95[1] - pooled.ci95[0]
    summed = Namespace(recovered=Rate(value=0.5, count=10, ci95=(0.2, 0.8), prior=0.0), clients=[])
    assert seed_pooling.recovered_over_seeds([summed]).ci95 == pytest.approx(clopper_pearson(5, 10))


@pytest.mark.parametrize(
    ("one", "other", "less"),
    [
        ((0.0, 0.0, 0.6), (1.0, 0.4, 1.0), True),  # none of four clients, and all of them
        ((0.0, 0.0, 0.6), (0.5, 0.2, 0.8), False),
        ((0.0, 0.0, 0.1), (0.5, 0.3, 0.7), True),
        ((0.5, 0.3, 0.7), (0.5, 0.3, 0.7), False),
        ((0.6, 0.5, 0.7), (0.5, 0.4, 0.6), False),
    ],
)
def test_less_leaks_where_the_interval_of_the_difference_lies_above_0(one, other, less):
    found = [
        Worst(
            attack="exact", variant="static", leakage=leak, ci95=(low, high), verdict="leaks", attacks=[], client=None
        )
        for leak, low, high in (one, other)
    ]
    assert recommendation._leaks_less(*found) is less
