import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedinv.task.columns import Categorical, Continuous
from fedinv.task.schema import Schema
from server.inversion.matching.relaxation import relax

SCHEMA = Schema(
    columns=(
        Continuous(name="age", mean=50, std=10, low=20, high=90, mode=45, integer=True),
        Categorical(name="sex", values=("f", "m"), frequencies=(0.5, 0.5)),
        Continuous(name="constant", mean=3, std=1, low=3, high=3, mode=3),
        Categorical(name="ward", values=("a", "b", "c", "d"), frequencies=(0.4, 0.3, 0.2, 0.1)),
        Categorical(name="only", values=("x",), frequencies=(1.0,)),
    ),
    label="ill",
    classes=("no", "yes"),
)


def _valid(inputs):
    relaxation = relax(SCHEMA, SCHEMA.width)
    assert bool(torch.isfinite(inputs).all())
    for column, where in zip(SCHEMA.columns, SCHEMA.slices, strict=True):
        part = inputs[..., where]
        if isinstance(column, Continuous):
            low, high = (column.low - column.mean) / column.std, (column.high - column.mean) / column.std
            assert float(part.min()) >= low - 1e-5
            assert float(part.max()) <= high + 1e-5
        else:
            assert float(part.min()) >= 0
            assert torch.allclose(part.sum(-1), torch.ones(part.shape[:-1]), atol=1e-5)
    hard = relaxation.harden(inputs)
    again = SCHEMA.encode(SCHEMA.decode(hard))
    assert float((again - hard).abs().max()) <= 0.5 / 10 + 1e-5  # ages are rounded to years, nothing else moves


@settings(max_examples=100)
@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=SCHEMA.width, max_size=SCHEMA.width))
def test_any_free_numbers_denote_valid_records(numbers):
    _valid(relax(SCHEMA, SCHEMA.width).inputs(torch.tensor(numbers).reshape(1, -1)))


def test_slopes_equal_autograds():
    relaxation = relax(SCHEMA, SCHEMA.width)
    generator = torch.Generator().manual_seed(0)
    free = torch.randn(2, 3, SCHEMA.width, generator=generator).requires_grad_()
    slope = torch.randn(2, 3, SCHEMA.width, generator=generator)
    inputs = relaxation.inputs(free)
    (expected,) = torch.autograd.grad(inputs, free, slope)
    assert torch.allclose(relaxation.pull_back(slope, inputs.detach()), expected, atol=1e-6)


def test_free_numbers_start_near_the_drawn_records():
    relaxation = relax(SCHEMA, SCHEMA.width)
    drawn = SCHEMA.draw(50, np.random.default_rng(0))
    again = relaxation.inputs(relaxation.free(drawn))
    hot = relaxation.groups.sum(1) > 0
    assert torch.equal(relaxation.harden(again)[:, hot], drawn[:, hot])
    assert float((again - drawn)[:, ~hot].abs().max()) < 0.05


def test_freedom_counts_what_can_vary():
    assert relax(SCHEMA, SCHEMA.width).freedom == 1 + 1 + 3
    assert relax(None, 7).freedom == 7


@pytest.mark.parametrize("method", ["inputs", "free", "harden"])
def test_without_a_schema_inputs_are_free(method):
    x = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(0))
    assert torch.equal(getattr(relax(None, 7), method)(x), x)


def test_a_box_is_held_and_fixed_categories_stay():
    relaxation = relax(SCHEMA, SCHEMA.width, "box")
    wild = 100 * torch.randn(2, 3, SCHEMA.width, generator=torch.Generator().manual_seed(0))
    held = wild.clone()
    relaxation.project(held)
    assert bool((held >= relaxation.low).all() and (held <= relaxation.low + relaxation.span).all())
    records = relaxation.harden(held[0])
    fixed = relaxation.fixed(records)
    moved = wild.clone()
    fixed.project(moved)
    hot = relaxation.groups.sum(1) > 0
    assert torch.equal(moved[:, :, hot], records[:, hot].expand(2, -1, -1))
    assert not torch.equal(moved[..., ~hot], records[:, ~hot].expand(2, -1, -1))
    assert float(fixed.pull_back(torch.ones_like(moved), moved)[..., hot].abs().max()) == 0


def test_categories_that_no_record_has_stay_0_and_one_of_each_column_stays():
    whole = relax(SCHEMA, SCHEMA.width)
    absent = torch.tensor([True, True, False, True, False, True, False, False, True])
    left = whole.without(absent)
    inputs = left.inputs(torch.randn(5, SCHEMA.width, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(inputs[:, [1, 5]], torch.zeros(5, 2))
    assert torch.allclose(inputs[:, [4, 6, 7]].sum(1), torch.ones(5))
    # numbers are no categories, and of a column with one value that is taken away the value stays
    assert bool((inputs[:, 0] != 0).all())
    assert torch.equal(inputs[:, 8], torch.ones(5))
    assert left.freedom == whole.freedom - 2
    assert torch.equal(left.pull_back(torch.ones(5, SCHEMA.width), inputs)[:, [1, 5]], torch.zeros(5, 2))
