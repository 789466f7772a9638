import numpy as np
import pytest
import torch

from fedinv.attack import Claim
from fedinv.judge.calibration import calibration, confidences
from fedinv.judge.truth import population_of, true_rows
from fedinv.judge.verdict import Case, judge
from fedinv.scenario.reading import loads


def test_honest_claims_are_calibrated_and_boasts_are_not():
    rng = np.random.default_rng(0)
    stated = rng.uniform(size=20_000)
    right = rng.uniform(size=20_000) < stated
    honest = calibration(stated, right)
    assert honest.expected_calibration_error < 0.02
    assert honest.brier == pytest.approx(1 / 6, abs=0.01)
    assert all(one.ci95[0] <= one.right <= one.ci95[1] for one in honest.bins)
    boast = calibration(np.ones(20_000), right)
    assert boast.expected_calibration_error == pytest.approx(0.5, abs=0.02)
    assert boast.brier == pytest.approx(0.5, abs=0.02)


def test_bins_hold_what_they_say():
    found = calibration(np.array([0.0, 0.05, 0.1, 0.95, 1.0]), np.array([False, True, True, True, False]))
    assert [(one.low, one.high, one.count, one.right) for one in found.bins] == [
        (0.0, 0.1, 2, 0.5),
        (0.1, 0.2, 1, 1.0),
        (0.9, 1.0, 2, 0.5),
    ]
    assert found.bins[2].claimed_mean == pytest.approx(0.975)
    assert found.bins[0].ci95 == pytest.approx((0.0126, 0.9874), abs=1e-4)
    assert found.expected_calibration_error == pytest.approx((2 * 0.475 + 1 * 0.9 + 2 * 0.475) / 5)


def test_no_claims_no_calibration():
    assert calibration(np.empty(0), np.empty(0, dtype=bool)) is None


def test_claims_are_right_when_their_record_is_recovered_and_wrong_when_they_are_too_many(tiny):
    scenario = loads(tiny)
    people = population_of(scenario)
    rows = true_rows(scenario, people, (0,), 1)
    records = torch.cat([people.inputs[rows].flip(0), people.inputs[people.holdout[:3]]])
    stated = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, float("nan")])
    assert len(rows) == 6
    verdicts, _ = judge([Case(Claim(records, stated), rows)] * 2, people, 0.319, np.random.default_rng(0))
    said, right = confidences(verdicts)
    assert said.tolist() == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.0] * 2)
    assert right.tolist() == ([True] * 6 + [False] * 3) * 2
    silent = Claim(torch.zeros(0, people.table.schema.width), torch.zeros(0))
    verdicts, _ = judge([Case(silent, rows)], people, 0.319, np.random.default_rng(0))
    assert [len(part) for part in confidences(verdicts)] == [0, 0]
