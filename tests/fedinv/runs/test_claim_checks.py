import math
from dataclasses import replace

import pytest
import torch

from fedinv.attack import Answer, Claim, Question, Sample
from fedinv.runs.claim_checks import wrong
from fedinv.task.columns import Continuous
from fedinv.task.schema import Schema

X = Continuous(name="x", mean=0, std=1, low=-1, high=1, mode=0)
TABLE = Schema(columns=(X, X.model_copy(update={"name": "z"})), label="y", classes=("a", "b"))
NUMBER = Schema(columns=TABLE.columns, label="y", target=X)
RIGHT = Claim(torch.zeros(3, 2), torch.ones(3), torch.tensor([0, 1, 1]), 0.1, ("all of them",), torch.full((3, 2), 0.5))
PEOPLE = Question(Sample(torch.zeros(5, 2), torch.zeros(5, dtype=torch.int64)), "x", torch.zeros(4, 1))


def test_a_right_claim_passes_and_so_does_one_of_nothing():
    assert wrong(RIGHT, "records", None, TABLE) is None
    nothing = Claim(torch.zeros(0, 2), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    assert wrong(nothing, "records", None, NUMBER) is None
    assert wrong(Claim(torch.zeros(0, 7), torch.zeros(0), notes=("why",)), "records", None, TABLE) is None
    assert wrong(replace(RIGHT, labels=torch.zeros(3)), "records", None, NUMBER) is None


@pytest.mark.parametrize(
    ("change", "phrase"),
    [
        ({"records": [[0.0, 0.0]]}, "records must be a float32 tensor of shape .*, not a list"),
        ({"records": torch.zeros(3, 2).double()}, "records must be a float32 tensor .*, not float64"),
        ({"records": torch.zeros(3, 4)}, r"shape \(3, 2\), not \(3, 4\)"),
        ({"records": torch.zeros(3)}, r"shape \(3, 2\), not \(3,\)"),
        ({"records": torch.tensor(1.0)}, "shape"),
        ({"records": torch.full((3, 2), math.nan)}, "records must be finite"),
        ({"records": torch.zeros(3, 2, requires_grad=True)}, r"detach\(\)"),
        ({"records": torch.zeros(3, 2, device="meta")}, r"on meta, call \.cpu\(\)"),
        ({"confidence": torch.ones(3, 1)}, r"confidence must be a float32 tensor of shape \(3,\), not \(3, 1\)"),
        ({"confidence": torch.ones(2)}, r"shape \(3,\), not \(2,\)"),
        ({"confidence": torch.full((3,), 1.5)}, "confidence must be probabilities between 0 and 1"),
        ({"confidence": torch.full((3,), -0.1)}, "confidence must be probabilities between 0 and 1"),
        ({"confidence": torch.full((3,), math.inf)}, "confidence must be finite"),
        ({"labels": torch.zeros(3)}, "labels must be a int64 tensor .*, not float32"),
        ({"labels": torch.tensor([0, 1, 2])}, "labels must be classes from 0 to 1, not 0 to 2"),
        ({"labels": torch.tensor([0, 1])}, r"shape \(3,\), not \(2,\)"),
        ({"fields": torch.zeros(3, 3)}, r"fields must be a float32 tensor of shape \(3, 2\)"),
        ({"fields": torch.full((3, 2), 2.0)}, "fields must be probabilities"),
        ({"mismatch": math.nan}, "mismatch must be finite"),
        ({"mismatch": torch.tensor(0.5)}, "mismatch must be a float or None, not a Tensor"),
        ({"notes": "one"}, "notes must be a tuple of strings, .*, not a str"),
        ({"notes": (1,)}, "notes must be a tuple of strings"),
    ],
)
def test_each_fault_of_a_claim_is_said_with_what_to_return_instead(change, phrase):
    with pytest.raises(AssertionError, match=phrase):
        raise AssertionError(wrong(replace(RIGHT, **change), "records", None, TABLE))


@pytest.mark.parametrize(
    ("asks", "shape", "right"),
    [
        ("attribute", (5, 4), True),
        ("attribute", (5, 3), False),
        ("membership", (5, 1), True),
        ("membership", (1, 5), False),
        ("line-up", (1, 5), True),
        ("line-up", (5, 1), False),
        ("labels", (1, 2), True),
        ("labels", (2, 1), False),
        ("property", (1, 1), True),
        ("property", (1, 2), False),
        ("property", (0, 0), True),
    ],
)
def test_an_answer_has_a_score_for_all_that_was_asked(asks, shape, right):
    found = wrong(Answer(torch.zeros(shape)), asks, PEOPLE, TABLE)
    assert (found is None) == right, found


def test_a_claim_where_an_answer_is_asked_for_is_refused_and_so_is_the_reverse():
    assert "returns an Answer, not a Claim" in wrong(RIGHT, "membership", PEOPLE, TABLE)
    assert "returns a Claim, not an Answer" in wrong(Answer(torch.zeros(1, 1)), "classes", None, TABLE)
    assert "returns a Claim, not None" in wrong(None, "records", None, TABLE)
    assert "scores must be finite" in wrong(Answer(torch.full((1, 1), math.nan)), "property", PEOPLE, TABLE)
