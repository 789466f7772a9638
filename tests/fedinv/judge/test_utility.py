import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from fedinv.judge.utility import auc


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
