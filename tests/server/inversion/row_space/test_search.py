import torch

from server.inversion.row_space.local_search import Block, Equations
from server.inversion.row_space.search import DRIFTED, EXACT, _different, _distinct


def _line(d=6):
    """Equations that the multiples of the first axis fulfill, at the inputs alone."""
    rows = torch.eye(d + 1, dtype=torch.float64)[1:d]
    at = Block(rows, rows[:0])
    none = Block(rows[:0], rows[:0])
    return Equations(torch.eye(d, dtype=torch.float64), torch.zeros(d, dtype=torch.float64), "relu", at, none)


def test_a_copy_that_did_not_get_to_the_record_counts_as_one_with_it():
    record, other = torch.zeros(2, 6, dtype=torch.float64)
    record[0], other[0] = 2.0, 3.0
    record[2] = other[2] = 1e-5  # rounding
    copy = record.clone()
    copy[1] = 5e-3  # a misfit of 5e-6, and as far from the record
    equations = _line()
    assert 1e-6 < float(equations.misfit(copy[None])) < EXACT.accept
    found, misfit = _distinct(torch.stack([copy, record, other]), equations, EXACT, 3)
    assert sorted(found[:, 0].tolist()) == [2.0, 3.0]
    assert float(misfit.max()) < 1e-9
    assert len(_different(torch.stack([copy, record, other]), equations, EXACT.accept, EXACT.apart)) == 3


def test_the_best_records_are_kept_and_repeats_are_not():
    record, other = torch.zeros(2, 6, dtype=torch.float64)
    record[0], other[0] = 2.0, 3.0
    record[2] = other[2] = 1e-5
    found, _ = _distinct(torch.stack([record, record + 1e-6, other]), _line(), DRIFTED, 3)
    assert len(found) == 2
    assert len(_distinct(torch.stack([record, other]), _line(), DRIFTED, 1)[0]) == 1
