import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedinv.task.columns import Categorical, Continuous
from fedinv.task.foreign.encoded import schema_of_inputs


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(0, 2**16))
def test_one_hot_groups_and_numbers_are_told_apart(widths, seed):
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for width in widths:
        if width == 1:
            parts.append(torch.randn(40, 1, generator=generator))
        else:
            # each value occurs
            place = torch.arange(40)[torch.randperm(40, generator=generator)] % width
            parts.append(torch.eye(width)[place])
    found = schema_of_inputs(torch.cat(parts, 1))
    assert [column.width for column in found.columns] == widths
    assert all(isinstance(c, Continuous if c.width == 1 else Categorical) for c in found.columns)


def test_records_fit_their_schema():
    inputs = torch.tensor([[0.5, 1, 0, 0, 0], [2.0, 0, 1, 1, 0], [-1.0, 1, 0, 1, 0]])
    found = schema_of_inputs(inputs)
    assert [(c.kind, c.width) for c in found.columns] == [
        ("continuous", 1),
        ("categorical", 2),
        ("continuous", 1),
        ("continuous", 1),
    ]
    assert torch.equal(found.encode(found.decode(inputs)), inputs)


def test_numbers_of_other_records_may_lie_beyond_the_known_ones():
    first, second = schema_of_inputs(torch.tensor([[0.5, 3.0], [2.0, 3.0], [-2.0, 3.0]])).columns
    assert (first.low, first.high) == (-4.0, 4.0)
    assert (second.low, second.high) == (3.0, 3.0), "what never changes is taken for constant"


def test_numbers_that_are_not_finite_have_no_schema():
    with pytest.raises(ValueError, match="not finite"):
        schema_of_inputs(torch.tensor([[0.0], [float("inf")]]))
