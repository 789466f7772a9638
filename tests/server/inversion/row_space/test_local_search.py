import numpy as np
import pytest
import torch

from fedinv.task.columns import Categorical, Continuous
from fedinv.task.schema import Schema
from server.inversion.row_space.local_search import Block, Equations, improve, input_kinds, polish
from server.inversion.row_space.spans import span

SCHEMA = Schema(
    columns=(
        Continuous(name="age", mean=50, std=10, low=18, high=95, mode=45),
        Categorical(name="ward", values=("a", "b", "c", "d"), frequencies=(0.4, 0.3, 0.2, 0.1)),
        Continuous(name="constant", mean=1, std=1, low=1, high=1, mode=1),
        Categorical(name="blood", values=("x", "y", "z"), frequencies=(0.5, 0.3, 0.2)),
        Categorical(name="only", values=("one",), frequencies=(1.0,)),
    ),
    label="ill",
    classes=("no", "yes"),
)


def _case(activation="relu", n=5):
    generator = torch.Generator().manual_seed(0)
    records = SCHEMA.draw(n, np.random.default_rng(0)).double()
    weight = torch.randn(30, SCHEMA.width, generator=generator, dtype=torch.float64)
    bias = torch.randn(30, generator=generator, dtype=torch.float64)
    empty = Block(torch.zeros(0, 31, dtype=torch.float64), torch.zeros(0, 31, dtype=torch.float64))
    nothing = Block(torch.zeros(0, SCHEMA.width + 1, dtype=torch.float64), torch.zeros(0, SCHEMA.width + 1).double())
    plain = Equations(weight, bias, activation, nothing, empty)
    hidden = torch.cat([plain.hidden(records), torch.ones(n, 1, dtype=torch.float64)], 1)
    slopes = torch.randn(20, n, generator=generator, dtype=torch.float64)
    rows = span(slopes @ hidden, n, 0.0, generator)
    at_hidden = Block(rows.equations, rows.right)
    return records, Equations(weight, bias, activation, nothing, at_hidden)


def test_the_form_leaves_out_what_cannot_vary():
    shape = input_kinds(SCHEMA, SCHEMA.width)
    assert shape.numbers.tolist() == [0]
    assert [(g.start, g.stop) for g in shape.groups] == [(1, 5), (6, 9)]
    free = input_kinds(None, 4)
    assert free.numbers.tolist() == [0, 1, 2, 3]
    assert not free.groups


@pytest.mark.parametrize("activation", ["relu", "leaky-relu", "gelu", "tanh", "sigmoid"])
def test_records_fulfill_their_equations_and_the_search_finds_them(activation):
    records, equations = _case(activation)
    assert float(equations.misfit(records).max()) < 1e-12
    shape = input_kinds(SCHEMA, SCHEMA.width)
    begun = SCHEMA.draw(200, np.random.default_rng(1)).double()
    ended = improve(begun, equations, shape, 10, 1e-12)
    assert bool((equations.attraction(ended) <= equations.attraction(begun)).all())
    ended = polish(ended, equations, shape, 3)
    apart = (ended[:, None] - records).abs().amax(2)
    assert bool((apart.amin(0) < 1e-4).all())
    hit = equations.misfit(ended) < 1e-10
    assert bool((apart[hit].amin(1) < 1e-3).all())


def test_known_records_lose_their_attraction():
    records, equations = _case()
    hidden = torch.cat([equations.hidden(records[:3]), torch.ones(3, 1, dtype=torch.float64)], 1)
    basis = torch.linalg.qr(hidden.T).Q
    unexplained = equations.at_hidden.unexplained
    rest = torch.linalg.svd(unexplained - (unexplained @ basis) @ basis.T, full_matrices=False)[2][:2]
    aimed = Equations(
        equations.weight, equations.bias, "relu", equations.at_inputs, Block(equations.at_hidden.equations, rest)
    )
    spoiled = records.clone()
    spoiled[:, 0] += 0.05
    cost = aimed.attraction(spoiled) / aimed.misfit(spoiled)
    assert float(cost[:3].min()) > 3 * float(cost[3:].max())
