from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, one_hot

from fedinv.attack import Exchange, Knowledge, Observation
from fedinv.task.columns import Categorical, Continuous
from fedinv.task.models import build, load, state
from fedinv.task.networks.perceptron import Mlp
from fedinv.task.schema import Schema
from server.inversion.distortion import UNDISTORTED
from server.inversion.local_training import step_length
from server.inversion.matching.matcher import matching
from server.inversion.matching.optimize import Descent, Found, Problem, descend
from server.inversion.matching.presets import PRESETS
from server.inversion.matching.refinement import (
    MOST,
    Refinement,
    joinable,
    mean_objective,
    refined,
    resumed,
    same_records,
)
from server.inversion.matching.relaxation import relax

SCHEMA = Schema(
    columns=(
        Continuous(name="age", mean=50, std=15, low=18, high=95, mode=45, integer=True),
        Categorical(name="ward", values=tuple("abcdef"), frequencies=(0.3, 0.2, 0.2, 0.1, 0.1, 0.1)),
        Continuous(name="weight", mean=75, std=12, low=40, high=140, mode=72),
    ),
    label="ill",
    classes=("no", "yes"),
)
N, LR, STEPS = 6, 0.1, 6
MODEL = Mlp(hidden=(24, 24))
KNOWS = Knowledge(
    model=MODEL, loss="cross-entropy", schema=SCHEMA, algorithm="fedavg", lr=LR, batch_size=2, epochs=2, defenses=()
)


def _records(seed):
    rng = np.random.default_rng(seed)
    return SCHEMA.encode(SCHEMA.decode(SCHEMA.draw(N, rng))), torch.from_numpy(rng.integers(0, 2, N))


def _trained(sent, x, y, round_):
    network = load(MODEL, SCHEMA.shape, 2, {key: weight.clone() for key, weight in sent.items()})
    order, weights = np.random.default_rng(round_), list(network.parameters())
    for _ in range(2):
        for rows in order.permutation(N).reshape(-1, 2):
            gradients = torch.autograd.grad(cross_entropy(network(x[rows]), y[rows]), weights)
            with torch.no_grad():
                torch._foreach_add_(weights, gradients, alpha=-LR)
    received = {key: (end - sent[key]).detach() for key, end in state(network).items()}
    return Exchange(round_, sent, received, N)


def _watched(*records):
    """One exchange for each of these records and labels, the next one's weights those that came back."""
    sent, exchanges = {k: t.clone() for k, t in state(build(MODEL, SCHEMA.shape, 2, 0)).items()}, []
    for round_, (x, y) in enumerate(records, 1):
        exchanges.append(_trained(sent, x, y, round_))
        sent = {key: weight + exchanges[-1].received[key] for key, weight in sent.items()}
    return Observation((0,), tuple(exchanges))


def _matched(knows, exchange):
    return matching(exchange, knows, UNDISTORTED, PRESETS["fedinv"], step_length(knows, N))


def _same(seen, knows=KNOWS):
    x, y = _records(1)
    matched = partial(_matched, knows)
    match = matched(seen.last)
    found = Found(x[None], one_hot(y, 2)[None].float(), torch.zeros(1))
    drawn = SCHEMA.draw(64 * N, np.random.default_rng(4)).reshape(64, N, SCHEMA.width)
    return same_records(joinable(seen, knows)[:-1], (match, seen.last), matched, found, drawn)


def test_the_misfit_and_slopes_of_joined_rounds_are_their_means():
    (x, y), seen = _records(1), _watched(_records(1), _records(1))
    rounds = [matching(e, KNOWS, UNDISTORTED, PRESETS["fedinv"], 1.0).objective for e in seen.exchanges]
    inputs, labels = x[None] + 0.1, one_hot(y, 2)[None].float()
    both = mean_objective(rounds)(inputs, labels)
    for mean, first, second in zip(both, rounds[0](inputs, labels), rounds[1](inputs, labels), strict=True):
        assert torch.allclose(mean, (first + second) / 2)
    assert mean_objective(rounds[:1]) is rounds[0]
    assert mean_objective(rounds).flops(N) == sum(one.flops(N) for one in rounds)


def test_rounds_of_the_same_records_join():
    seen = _watched(*[_records(1)] * 3)
    assert [e.round for _, e in _same(seen)] == [1, 2, 3]


def test_rounds_of_other_records_are_left_aside():
    assert [e.round for _, e in _same(_watched(_records(2), _records(1)))] == [2]
    assert [e.round for _, e in _same(_watched(_records(1), _records(2), _records(1)))] == [1, 3]


def test_fedsgd_is_never_joined_and_neither_is_anything_of_other_size():
    seen = _watched(*[_records(1)] * 3)
    assert joinable(seen, replace(KNOWS, algorithm="fedsgd")) == (seen.last,)
    assert joinable(seen, replace(KNOWS, algorithm=None)) == (seen.last,)
    fewer = Observation((0,), (replace(seen.exchanges[0], records=N - 1), *seen.exchanges[1:]))
    assert [e.round for e in joinable(fewer, KNOWS)] == [2, 3]


def test_only_the_latest_rounds_are_joined():
    seen = _watched(*[_records(1)] * (MOST + 2))
    assert [e.round for e in joinable(seen, KNOWS)] == list(range(3, MOST + 3))


@pytest.mark.slow
def test_joined_rounds_bring_the_numbers_nearer_than_one():
    x, y = _records(0)
    seen, length, relaxation = _watched(*[(x, y)] * 4), step_length(KNOWS, N), relax(SCHEMA, SCHEMA.width, "relaxed")
    rounds = [(matching(e, KNOWS, UNDISTORTED, PRESETS["fedinv"], length), e) for e in seen.exchanges]
    labels, numbers = one_hot(y, 2)[None].float(), relaxation.groups.sum(1) == 0
    rough = x + 0.3 * numbers * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    near = rough.clamp(relaxation.low + 1e-3, relaxation.low + relaxation.span - 1e-3)
    problem = Problem(rounds[-1][0].objective, relaxation)
    found = descend(resumed(relaxation, near[None]), labels, problem, Descent(100, 0.1), lambda _: None)
    preset = replace(PRESETS["fedinv"], simulate=250)
    one, four = (
        refined(found, part, Refinement(relaxation, KNOWS, length, preset), lambda _: None)
        for part in (rounds[3:], rounds)
    )
    apart = [float((r.found.inputs[0] - x)[:, numbers].abs().mean()) for r in (one, four)]
    assert apart[1] < 0.5 * apart[0]
    assert one.explained > 0.99
    assert "several local steps were simulated in 4" in one.notes[0]
    assert "4 rounds" in four.notes[1]


def test_a_single_step_is_not_refined():
    x, y = _records(1)
    seen, relaxation = _watched((x, y)), relax(SCHEMA, SCHEMA.width, "relaxed")
    knows = replace(KNOWS, epochs=1, batch_size=N)
    rounds = [(matching(seen.last, knows, UNDISTORTED, PRESETS["fedinv"], LR), seen.last)]
    found = Found(x[None], one_hot(y, 2)[None].float(), torch.zeros(1))
    how = Refinement(relaxation, knows, LR, PRESETS["fedinv"])
    assert refined(found, rounds, how, lambda _: None) is None


def test_records_are_resumed_where_they_were():
    x, _ = _records(1)
    relaxation = relax(SCHEMA, SCHEMA.width, "relaxed")
    assert torch.allclose(relaxation.inputs(resumed(relaxation, x[None])), x[None], atol=0.01)
