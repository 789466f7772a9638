import pytest
import torch

from fedinv.task.columns import Categorical, Continuous
from fedinv.task.schema import Schema
from server.inversion.matching.pooling import agreement, align, certainty, determined, pool, pool_by, weights
from server.inversion.matching.relaxation import relax

SCHEMA = Schema(
    columns=(
        Continuous(name="age", mean=0, std=1, low=-3, high=3, mode=0),
        Categorical(name="sex", values=("f", "m"), frequencies=(0.5, 0.5)),
    ),
    label="ill",
    classes=("no", "yes"),
)
RELAXATION = relax(SCHEMA, 3)
RECORDS = torch.tensor([[-1.0, 1, 0], [0.0, 0, 1], [2.0, 1, 0]])


def test_alignment_undoes_a_shuffle():
    shuffled = torch.stack([RECORDS, RECORDS[[2, 0, 1]], RECORDS[[1, 2, 0]]])
    assert torch.equal(align(shuffled, torch.zeros(3, 3).long()), RECORDS.expand(3, -1, -1))


def test_alignment_keeps_labels_apart():
    swapped = torch.stack([RECORDS, RECORDS[[1, 0, 2]]])
    assert torch.equal(align(swapped, torch.tensor([[0, 1, 1], [0, 1, 1]])), swapped)


def test_pool_takes_the_median_of_numbers_and_the_mean_of_groups():
    restarts = torch.tensor([[[0.0, 0.9, 0.1]], [[1.0, 0.8, 0.2]], [[3.0, 0.1, 0.9]]])
    pooled = pool(restarts, torch.full((3,), 1 / 3), RELAXATION)
    assert torch.allclose(pooled, torch.tensor([[1.0, 0.6, 0.4]]))
    assert torch.allclose(pool(restarts, torch.tensor([0.1, 0.1, 0.8]), RELAXATION)[0, 0], torch.tensor(3.0))


def test_a_restart_that_explains_all_counts_alone():
    assert torch.allclose(weights(torch.tensor([0.0, 0.1, 0.5])), torch.tensor([1.0, 0.0, 0.0]), atol=1e-6)
    assert torch.allclose(weights(torch.tensor([0.5, 0.5])), torch.tensor([0.5, 0.5]))


def test_agreement():
    agreed = RECORDS.expand(4, -1, -1)
    share = torch.full((4,), 0.25)
    assert torch.allclose(agreement(agreed, share, RECORDS, RELAXATION), torch.ones(3, 2))
    differing = agreed.clone()
    differing[:2, 0] = torch.tensor([2.0, 0.0, 1.0])
    sure = agreement(differing, share, RECORDS, RELAXATION).mean(1)
    assert torch.allclose(sure, torch.tensor([0.5, 1.0, 1.0]))


def test_certainty_falls_with_spread_and_entropy():
    schema = Schema(columns=SCHEMA.columns[::-1], label="ill", classes=("no", "yes"))
    relaxation = relax(schema, 3)
    share = torch.full((2,), 0.5)
    agreed = torch.tensor([[1.0, 0, 2]]).expand(2, 1, 3)
    assert torch.allclose(certainty(agreed, share, relaxation), torch.ones(1, 2))
    torn = torch.tensor([[[1.0, 0, 2]], [[0.0, 1, 2]]])
    assert certainty(torn, share, relaxation).tolist() == [[pytest.approx(0, abs=1e-6), 1]]  # the schema's order
    apart = torch.tensor([[[1.0, 0, 0]], [[1.0, 0, 2]]])
    assert certainty(apart, share, relaxation)[0].tolist() == [1, pytest.approx(0.25, abs=0.01)]  # normal, std 1


def test_equal_pooling_does_not_look_at_the_misfit():
    restarts = torch.tensor([[[0.0, 1, 0]], [[3.0, 0, 1]], [[3.0, 0, 1]]])
    classes, misfits = torch.zeros(3, 1).long(), torch.tensor([0.01, 0.5, 0.5])
    assert float(pool_by("equal", restarts, classes, misfits, RELAXATION).records[0, 0]) == 3
    assert float(pool_by("weighted", restarts, classes, misfits, RELAXATION).records[0, 0]) == 0


def test_a_record_without_influence_is_not_determined():
    sure = determined(torch.tensor([0.5, 0.5, 0.0]), 0.01)
    assert float(sure[:2].min()) > 0.99
    assert float(sure[2]) == 0
    assert float(determined(torch.tensor([0.5, 0.5]), 1.0).max()) <= 0.5
