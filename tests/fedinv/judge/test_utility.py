import numpy as np
import pytest
import torch
from sklearn.metrics import r2_score, roc_auc_score
from torch import nn

from fedinv.judge.utility import auc, r2


class Given(nn.Module):
    """Returns its input as logits."""

    def forward(self, inputs):
        return inputs


@pytest.mark.parametrize("classes", [2, 3])
def test_auc_is_scikit_learns(classes):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, classes, (150,), generator=generator)
    logits = torch.randn(150, classes, generator=generator)
    logits[torch.arange(150), labels] += 1
    scores = torch.softmax(logits.double(), 1).numpy()
    expected = (
        roc_auc_score(labels, scores[:, 1])
        if classes == 2
        else np.mean([roc_auc_score(labels == c, scores[:, c]) for c in range(classes)])
    )
    value, (low, high) = auc(Given(), logits, labels, np.random.default_rng(0))
    assert value == pytest.approx(expected)
    assert low < value < high
    assert high - low < 0.25


def test_ties_count_half_and_rubbish_is_chance():
    labels = torch.arange(40) % 2
    assert auc(Given(), torch.zeros(40, 2), labels, np.random.default_rng(0))[0] == 0.5
    assert auc(Given(), torch.full((40, 2), float("nan")), labels, np.random.default_rng(0))[0] == 0.5


@pytest.mark.parametrize("noise", [0.5, 3.0])
def test_r2_is_scikit_learns(noise):
    generator = torch.Generator().manual_seed(0)
    targets = torch.randn(200, generator=generator) * 2 + 1
    predicted = targets + noise * torch.randn(200, generator=generator)
    value, (low, high) = r2(Given(), predicted[:, None], targets, np.random.default_rng(0))
    assert value == pytest.approx(r2_score(targets.double(), predicted.double()))
    assert (value > 0.9) == (noise < 1)
    assert low < value < high


def test_r2_of_the_mean_is_zero_and_so_is_that_of_rubbish():
    targets = torch.arange(40.0)
    mean = targets.mean().expand(40, 1)
    assert r2(Given(), mean, targets, np.random.default_rng(0))[0] == pytest.approx(0, abs=1e-9)
    assert r2(Given(), torch.full((40, 1), float("inf")), targets, np.random.default_rng(0)) == (0.0, (0.0, 0.0))


@pytest.mark.parametrize("rubbish", [0.0, float("nan")])
def test_labels_that_are_all_the_same_measure_nothing(rubbish):
    assert r2(Given(), torch.full((40, 1), rubbish), torch.ones(40), np.random.default_rng(0)) is None
    for label in (0, 1):
        labels = torch.full((40,), label)
        assert auc(Given(), torch.full((40, 2), rubbish), labels, np.random.default_rng(0)) is None


def test_a_single_positive_is_measured_without_a_warning():
    labels = torch.zeros(40, dtype=torch.long)
    labels[3] = 1
    logits = torch.stack([torch.zeros(40), torch.arange(40.0)], 1)
    value, (low, high) = auc(Given(), logits, labels, np.random.default_rng(0))
    assert value == pytest.approx(3 / 39)
    assert 0 <= low <= value <= high <= 1
