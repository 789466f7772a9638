"""Draws records from their posterior given an update behind a known mechanism, field by field.

Likelihood of Balunovic et al. 2022, prior from the published marginals; fields are drawn one by one given all others
(Gibbs sampling, Geman and Geman 1984), so that the confidence in a field that noise hides is that of a guess.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedinv.attack import Progress, Sample
from fedinv.task.columns import Categorical, Column
from fedinv.task.schema import Schema

from .likelihood import Mechanism

GRID = 25
"""Values of a number whose posterior is computed, evenly spaced over its range."""
NARROWINGS = 14
"""Times that the search for a number's best value halves its step."""


@dataclass(frozen=True)
class Posterior:
    """The likeliest value of each field, and its posterior probability."""

    best: Sample
    """Records and labels of the likeliest values, n of them."""
    fields: Tensor
    """Posterior probability that each field is right, a number within the tolerance, float32 (n, columns)."""
    records: Tensor
    """Posterior probability that all fields of a record are right at once, float32 (n,)."""


@dataclass(frozen=True)
class _Context:
    """The likelihood, and the schema whose marginals are the prior."""

    given: Mechanism
    schema: Schema


@dataclass
class _State:
    """The current records of the walk, their labels, and their clipped gradients."""

    records: Tensor
    labels: Tensor
    gradients: Tensor

    def put(self, i: int, record: Tensor, label: Tensor, gradient: Tensor) -> None:
        self.records[i], self.labels[i], self.gradients[i] = record, label, gradient


def first_record(given: Mechanism, schema: Schema) -> Tensor | None:
    """The one record of an update by rank-one total least squares, float32 (width,).

    The first layer's gradient of one record is d [x; 1]^T; under equal noise on all entries the likelihood's maximum is
    the top right singular vector of [dW | db], divided by its last entry. None where the first layer is not linear or
    that entry is 0.
    """
    named = dict(given.network.named_parameters())
    weight, bias = named.get("0.weight"), named.get("0.bias")
    if weight is None or bias is None or weight.dim() != 2 or weight.shape[1] != schema.width:
        return None
    names, start, parts = list(named), 0, dict[str, Tensor]()
    for name in names[:2]:
        parts[name] = given.update[start : start + named[name].numel()].view(named[name].shape)
        start += named[name].numel()
    gradient = torch.cat([parts["0.weight"], parts["0.bias"][:, None]], 1).double()
    vector = torch.linalg.svd(gradient, full_matrices=False).Vh[0]
    if float(vector[-1].abs()) < 1e-9:
        return None
    return _valid(schema, (vector[:-1] / vector[-1]).float()[None])[0]


@dataclass(frozen=True)
class Draws:
    """How the posterior is sampled."""

    sweeps: int
    """Times that all fields are drawn, one after the other."""
    tolerance: float
    """Error in standard deviations up to which a drawn number supports the claimed one."""


def sample(
    given: Mechanism, schema: Schema, starts: Tensor, draws: Draws, rng: np.random.Generator, progress: Progress
) -> Posterior:
    """Climb to the likeliest records from `starts` (n, width), then draw every field in each sweep."""
    sweeps, tolerance, context = draws.sweeps, draws.tolerance, _Context(given, schema)
    torch_rng = torch.Generator().manual_seed(int(rng.integers(2**62)))
    labels = torch.zeros(len(starts)) if schema.target is not None else torch.zeros(len(starts), dtype=torch.int64)
    state = _State(starts.clone(), labels, given.gradients(Sample(starts, labels)))
    climbs = 3
    for climb in range(climbs):
        for i in range(len(starts)):
            _step(state, i, -1, context, None, torch_rng)
            for column in range(len(schema.columns)):
                _step(state, i, column, context, None, torch_rng)
                if not isinstance(schema.columns[column], Categorical):
                    _narrow(state, i, column, given, schema)
        progress((climb + 1) / (2 * climbs))
    best = Sample(state.records.clone(), state.labels.clone())
    chances: dict[tuple[int, int], Tensor] = {}
    drawn = []
    for sweep in range(sweeps):
        for i in range(len(starts)):
            _step(state, i, -1, context, best, torch_rng)
            for column in range(len(schema.columns)):
                chance = _step(state, i, column, context, best, torch_rng)
                chances[i, column] = chances.get((i, column), 0) + chance / sweeps
        drawn.append(state.records.clone())
        progress(0.5 + (sweep + 1) / (2 * sweeps))
    return _likeliest(best, schema, chances, torch.stack(drawn), tolerance)


def _likeliest(
    best: Sample, schema: Schema, chances: dict[tuple[int, int], Tensor], drawn: Tensor, tolerance: float
) -> Posterior:
    """Each field's likeliest value: a category, or the number with most posterior within the tolerance.

    Each draw of a field gave the probabilities of all its values; their mean is the field's posterior (Gelfand and
    Smith 1990, Rao-Blackwellization). Where the update reveals everything this is the likeliest record, where it
    reveals nothing it is the best guess.
    """
    records, fields = best.records.clone(), torch.zeros(len(best), len(schema.columns))
    for (i, column), chance in chances.items():
        at = schema.slices[column]
        own = best.records[i, at]
        values, _ = _values(schema.columns[column], own)
        near = (values[:, None] - values[None]).abs().amax(2) <= tolerance
        held = near.double() @ chance
        pick = int((held - 1e-6 * (values - own).abs().amax(1)).argmax())
        records[i, at], fields[i, column] = values[pick], held[pick].float()
    hits = [(drawn[:, :, at] - records[:, at]).abs().amax(2) <= tolerance for at in schema.slices]
    # half a right draw and half a wrong one are added, so that a short walk never gives probability 0 or 1
    all_right = (torch.stack(hits, 2).all(2).float().sum(0) + 0.5) / (len(drawn) + 1)
    return Posterior(Sample(records, best.labels), fields.clamp(0, 1), all_right)


def _step(
    state: _State,
    i: int,
    column: int,
    context: _Context,
    around: Sample | None,
    rng: torch.Generator,
) -> Tensor:
    """Set one field of record i (-1: its label): to its likeliest value, or where `around` is given to a drawn one.

    Returns the posterior probabilities (values,) of the field's values, given all other fields; `around` supplies the
    record's own value of a number, which is one of them.
    """
    given, schema = context.given, context.schema
    if column < 0:
        labels, prior = _labels(state, i, schema)
        records = state.records[i].repeat(len(labels), 1)
    else:
        own = None if around is None else around.records[i, schema.slices[column]]
        values, prior = _values(schema.columns[column], state.records[i, schema.slices[column]] if own is None else own)
        records = state.records[i].repeat(len(values), 1)
        records[:, schema.slices[column]] = values
        labels = state.labels[i].repeat(len(values))
    score, gradients = _score(state, i, Sample(records, labels), given)
    chance = (score + prior).softmax(0)
    pick = int(chance.argmax()) if around is None else int(torch.multinomial(chance, 1, generator=rng))
    state.put(i, records[pick], labels[pick], gradients[pick])
    return chance


def _narrow(state: _State, i: int, column: int, given: Mechanism, schema: Schema) -> None:
    """Refine a number of record i by a search that halves its step NARROWINGS times."""
    one, at = schema.columns[column], schema.slices[column]
    low, high = ((end - one.mean) / one.std for end in (one.low, one.high))  # type: ignore[union-attr]
    width = (high - low) / (GRID - 1)
    for _ in range(NARROWINGS):
        values = (state.records[i, at] + width * torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0])).clamp(low, high)
        records = state.records[i].repeat(len(values), 1)
        records[:, at] = values[:, None]
        score, gradients = _score(state, i, Sample(records, state.labels[i].repeat(len(values))), given)
        pick = int((score - (values.double() - one.guess[0]).square() / 2).argmax())
        state.put(i, records[pick], state.labels[i], gradients[pick])
        width /= 2


def _score(state: _State, i: int, tried: Sample, given: Mechanism) -> tuple[Tensor, Tensor]:
    gradients = given.gradients(tried)
    rest = state.gradients.sum(0) - state.gradients[i]
    return given.log_likelihood(rest + gradients, len(state.labels)), gradients


def _labels(state: _State, i: int, schema: Schema) -> tuple[Tensor, Tensor]:
    if schema.target is None:
        count = len(schema.classes)
        return torch.arange(count), torch.zeros(count, dtype=torch.float64)
    values = torch.cat([torch.linspace(-3, 3, GRID), state.labels[i][None].float()])
    return values, -values.double().square() / 2


def _values(column: Column, own: Tensor) -> tuple[Tensor, Tensor]:
    """Values of a field (k, inputs) and the logarithms of their prior (k,); a number's `own` value is among them."""
    if isinstance(column, Categorical):
        share = torch.tensor(column.frequencies, dtype=torch.float64).clamp_min(1e-9)
        return torch.eye(column.width), share.log()
    low, high = ((end - column.mean) / column.std for end in (column.low, column.high))
    values = torch.cat([torch.linspace(low, high, GRID), own.float()]).sort().values
    middles = (values[1:] + values[:-1]) / 2
    edges = torch.cat([values[:1], middles, values[-1:]]).double()
    apart = values.double() - column.guess[0]
    return values[:, None], (edges[1:] - edges[:-1]).clamp_min(1e-9).log() - apart.square() / 2


def _valid(schema: Schema, records: Tensor) -> Tensor:
    """The valid records of the schema nearest to `records` (n, width); values that are not finite become 0."""
    clean = records.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).clone()
    for column, at in zip(schema.columns, schema.slices, strict=True):
        if isinstance(column, Categorical):
            clean[:, at] = torch.nn.functional.one_hot(clean[:, at].argmax(1), column.width).float()
        else:
            clean[:, at] = clean[:, at].clamp(
                (column.low - column.mean) / column.std, (column.high - column.mean) / column.std
            )
    return clean
