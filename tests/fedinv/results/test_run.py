import pytest

from fedinv.results.ranking import exceeds_guess, severity
from fedinv.results.run import AttackResult, InferenceResult, Measure, Rate, Undefended, Utility
from fedinv.results.wording import hits, measure_text, percent, unlearned


def nothing():
    return Rate(value=0.0, count=0, ci95=(0.0, 1.0), prior=0.4)


def test_a_rate_of_nothing_has_no_value_interval_or_prior():
    for found in (nothing(), Rate.model_validate_json(nothing().model_dump_json())):
        assert (found.value, found.ci95, found.prior, found.numbers) == (None, None, None, None)
        assert (hits(found), percent(found.value)) == (0, "not measurable")
    assert Rate(value=0.0, count=3, ci95=(0.0, 0.7), prior=0.1).numbers == (0.0, (0.0, 0.7), 0.1)


def test_a_measure_of_nobody_exceeds_no_guess():
    measure = Measure(name="right value", value=1.0, count=0, ci95=(1.0, 1.0), prior=0.1)
    assert (measure.value, measure.ci95, measure.prior) == (None, None, None)
    assert measure_text(measure)[:2] == ("not measurable", "not measurable")
    one = InferenceResult(
        kind="any",
        variant="static",
        target="client",
        asks="attribute",
        parameters={},
        observations=1,
        answered=1,
        seconds=1,
        says="told",
        measures=[measure],
    )
    assert not exceeds_guess(one)


def test_an_attack_on_no_records_is_the_least_severe():
    values = {"kind": "any", "variant": "static", "target": "client", "parameters": {}, "observations": 1}
    empty = AttackResult(
        **values, records=0, claimed=0, seconds=1, field_accuracy=nothing(), recovered=nothing(), exact=nothing()
    )
    assert severity(empty) == pytest.approx((0.0, False, 0.0))


@pytest.mark.parametrize(
    ("metric", "value", "low", "undefended", "said"),
    [
        ("auc", 0.8, 0.7, None, ""),
        ("auc", 0.52, 0.45, None, "not measurably better than chance (AUC 0.520)"),
        ("auc", 0.52, 0.45, (0.8, 0.7), ""),  # a defense's doing
        ("auc", 0.52, 0.45, (0.55, 0.49), "not measurably better than chance even without defenses (AUC 0.550)"),
        ("r2", -3.0, -9.0, None, "not measurably better than the mean (R\u00b2 -3.000)"),
        ("r2", None, None, None, ""),
    ],
)
def test_a_model_that_has_not_learned_is_said_to_tell_nothing_of_costs(metric, value, low, undefended, said):
    plain = None if undefended is None else Undefended(value=undefended[0], ci95=(undefended[1], 1))
    interval = None if low is None else (low, 1.0)
    found = unlearned(Utility(metric=metric, value=value, ci95=interval, count=99, undefended=plain))
    assert said in found
    assert bool(said) == bool(found)
    assert not found or "training.lr" in found
