import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedinv.judge.matching import match
from fedinv.task.columns import Categorical, Continuous
from fedinv.task.schema import Schema

SCHEMA = Schema(
    columns=(
        Continuous(name="age", mean=50, std=10, low=0, high=100, mode=50, integer=True),
        Continuous(name="crp", mean=5, std=2, low=0, high=50, mode=5),
        Categorical(name="sex", values=("f", "m"), frequencies=(0.5, 0.5)),
        Categorical(name="drug", values=("a", "b", "c"), frequencies=(0.6, 0.3, 0.1)),
    ),
    label="y",
    classes=("no", "yes"),
)


def people(count, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "age": rng.integers(20, 90, count).astype(float),
        "crp": rng.uniform(0, 20, count).round(1),
        "sex": rng.choice(["f", "m"], count).astype(object),
        "drug": rng.choice(["a", "b", "c"], count).astype(object),
    }


@given(st.integers(1, 12), st.integers(0, 1000))
def test_the_truth_in_any_order_is_recovered_exactly(count, seed):
    truth = people(count, seed)
    order = np.random.default_rng(seed).permutation(count)
    found = match(SCHEMA.encode(truth)[order], truth, SCHEMA, 0.319)
    assert found.exact.all()
    assert found.recovered.all()
    assert sorted(found.claim) == list(range(count))


@given(st.integers(0, 6), st.integers(1, 6), st.integers(0, 1000))
def test_matching_is_one_to_one_for_any_sizes(claims, records, seed):
    found = match(SCHEMA.draw(claims, np.random.default_rng(seed)), people(records, seed), SCHEMA, 0.319)
    assert found.claimed.sum() == min(claims, records)
    used = found.claim[found.claimed]
    assert len(set(used)) == len(used)
    assert not found.right[~found.claimed].any()


@given(st.integers(1, 5), st.integers(0, 200))
@pytest.mark.slow
def test_no_other_assignment_has_more_right_fields(count, seed):
    from itertools import permutations

    truth, claims = people(count, seed), SCHEMA.draw(count, np.random.default_rng(seed + 1))
    best = match(claims, truth, SCHEMA, 0.319).right.sum()
    for order in permutations(range(count)):
        one_by_one = sum(
            match(claims[i : i + 1], {k: v[j : j + 1] for k, v in truth.items()}, SCHEMA, 0.319).right.sum()
            for i, j in enumerate(order)
        )
        assert one_by_one <= best


@pytest.mark.parametrize(
    ("shift", "right", "exact"), [(0.0, True, True), (0.5, True, False), (0.62, True, False), (0.7, False, False)]
)
def test_a_continuous_field_is_right_within_the_tolerance(shift, right, exact):
    truth = {k: v[:1] for k, v in people(1).items()}
    truth["crp"] = np.array([10.0])
    moved = {**truth, "crp": truth["crp"] + shift}
    found = match(SCHEMA.encode(moved), truth, SCHEMA, 0.319)
    assert (found.right[0, 1], found.exact[0], found.recovered[0]) == (right, exact, right)


def test_one_wrong_category_is_one_wrong_field():
    truth = {k: v[:1] for k, v in people(1).items()}
    claim = SCHEMA.encode({**truth, "drug": np.array(["a" if truth["drug"][0] != "a" else "b"], dtype=object)})
    found = match(claim, truth, SCHEMA, 0.319)
    assert found.right[0].tolist() == [True, True, True, False]
    assert not found.recovered[0]


def test_claims_that_are_not_finite_are_judged_and_not_believed():
    truth = people(2)
    found = match(torch.full((2, SCHEMA.width), float("nan")), truth, SCHEMA, 0.319)
    assert not found.recovered.any()
