import torch

from server.inversion.row_space.spans import MIXED, span


def _batch(n, inputs, outputs, seed=0):
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(n, inputs, generator=generator, dtype=torch.float64)
    slopes = torch.randn(n, outputs, generator=generator, dtype=torch.float64)
    ahead = torch.cat([vectors, torch.ones(n, 1, dtype=torch.float64)], 1)
    return vectors, slopes, ahead, slopes.T @ ahead


def test_every_vector_of_the_batch_fulfills_the_equations_and_no_other_does():
    for inputs, outputs in ((40, 60), (400, 300)):
        _, _, ahead, update = _batch(7, inputs, outputs)
        found = span(update, 7, 0.0, torch.Generator().manual_seed(0))
        assert found.rank == 7
        assert len(found.equations) == (inputs + 1 - 7 if inputs == 40 else MIXED)
        assert float((found.equations @ ahead.T).abs().max()) < 1e-9
        other = _batch(1, inputs, outputs, seed=1)[2]
        assert float((found.equations @ other.T).norm()) > 0.5 * float(other.norm())


def test_the_rank_is_what_stands_above_noise():
    _, _, _, update = _batch(7, 40, 60)
    generator = torch.Generator().manual_seed(0)
    noisy = update + 0.01 * torch.randn(update.shape, generator=generator, dtype=torch.float64)
    assert span(noisy, 20, 0.01, generator).rank == 7
    assert span(noisy, 20, 100.0, generator).rank == 0


def test_taking_a_part_away_takes_a_rank_away():
    vectors, slopes, ahead, update = _batch(7, 40, 60)
    found = span(update, 7, 0.0, torch.Generator().manual_seed(0))
    parts = found.part(vectors, 3 * slopes)
    assert torch.allclose(parts, torch.full((7,), 1 / 3, dtype=torch.float64))
    rest = update - parts[0] * 3 * slopes[0][:, None] * ahead[0]
    assert span(rest, 7, 0.0, torch.Generator().manual_seed(0)).rank == 6
    assert float(found.outside(slopes).max()) < 1e-9
    assert float(found.outside(_batch(1, 40, 60, seed=1)[1])) > 0.5
