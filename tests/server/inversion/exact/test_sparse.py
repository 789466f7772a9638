import pytest
import torch

from server.inversion.exact.sparse import sparse_directions, sparsest


def _signals(h, r, seed):
    generator = torch.Generator().manual_seed(seed)
    signals = torch.randn(h, r, dtype=torch.float64, generator=generator)
    signals = signals * (torch.rand(h, r, generator=generator) < 0.5)
    left, _, _ = torch.linalg.svd(signals, full_matrices=False)
    truth = left.T @ signals
    return left, truth / truth.norm(dim=0)


@pytest.mark.parametrize(("h", "r"), [(64, 1), (128, 2), (256, 8), (512, 16)])
def test_every_sparse_direction_is_found_and_ranks_first(h, r):
    left, truth = _signals(h, r, 0)
    found = sparse_directions(left, 20 * r, 150, torch.Generator().manual_seed(1))
    likeness = (truth.T @ found).abs()
    assert float(likeness.amax(1).min()) > 1 - 1e-8
    assert set(likeness.argmax(1).tolist()) == set(range(r))


def test_repeats_are_left_out_and_mixtures_come_last():
    left, truth = _signals(256, 3, 2)
    mixed = truth[:, :1] + truth[:, 1:2]
    ranked = sparsest(left, torch.cat([mixed / mixed.norm(), truth, -truth], 1))
    assert ranked.shape == (3, 4)
    assert float((ranked[:, -1:].T @ mixed).abs()) > 0.999 * float(mixed.norm())


def test_units_that_are_dead_for_all_records_say_nothing():
    left, truth = _signals(128, 4, 3)
    padded = torch.cat([left, torch.zeros(100, 4, dtype=torch.float64)])
    found = sparse_directions(padded, 80, 150, torch.Generator().manual_seed(1))[:, :4]
    assert float((truth.T @ found).abs().amax(1).min()) > 1 - 1e-8


@pytest.mark.parametrize("seed", range(12))
def test_rounding_does_not_choose_rows_that_hold_too_few_signals(seed):
    left, truth = _signals(256, 4, seed)
    found = sparse_directions(left, 80, 150, torch.Generator().manual_seed(1))
    assert float((truth.T @ found).abs().amax(1).min()) > 1 - 1e-8
