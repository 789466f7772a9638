"""Inverts an update by looking for the batch whose gradient points the same way."""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from fedinv.attack import Attack, Claim, Exchange, Knowledge, Observation, Progress

from ..inversion.chain import Chain, activation_of, directions
from ..inversion.labels import as_labels, label_hypotheses, step_length
from ..inversion.noise import noise_std, record_clip, rescaled
from ..inversion.objective import Dense, dense_layers
from ..inversion.optimize import Descent, Found, Problem, descend, part
from ..inversion.pooling import agreement, align, determined, pool, weights
from ..inversion.recompute import mismatch, recompute_update
from ..inversion.relaxation import Relaxation, relax

DRAWS = 512
"""Records drawn to estimate the network's mean answer."""
NULL = 4.0
"""Squared cosine that is claimed upon, in multiples of free numbers per parameter.

By chance p numbers explain about p / D of a random vector in D dimensions. Measured on Gaussian updates (batches of 1
to 32, hidden layers of 100 to 512, with and without a schema, 96 runs): 0.01 to 1.45 times that.
"""
BETTER = 0.8
"""The best restart is preferred to the pooled records where it leaves less than this share of their misfit."""
ENOUGH = 1e-4
"""One less the cosine at which a restart has arrived."""


class GradientMatching(Attack):
    """Gradient matching for mixed-type tables: cosine distance, signed Adam, restarts pooled.

    Geiping et al. 2020; Vero et al. 2023 (TabLeak). An update of several local steps is matched as one large batch's
    gradient halfway between the weights that were sent and those that came back. Told of dp-sgd, it cuts each record's
    gradient as the client did; told of noise, it takes that off before it judges what the update can tell.
    """

    kind: Literal["gradient-matching"] = "gradient-matching"
    adapts_to: ClassVar[frozenset[str]] = frozenset({"dp-sgd", "clip-noise"})
    restarts: int = Field(default=16, ge=1, le=256)
    iterations: int = Field(default=300, ge=1, le=20_000)
    lr: float = Field(default=0.35, gt=0, le=10)
    work: float = Field(default=45.0, gt=0)
    """Billions of floating-point operations to spend on one observation; fewer restarts, then fewer iterations, where
    the batch and the network are large."""
    seconds: float = Field(default=60.0, gt=0)
    """Wall clock after which the search ends wherever it is: a safety, as results then depend on the machine."""
    most_records: int = Field(default=128, ge=1)
    """Larger batches are not tried."""

    def run(self, seen: Observation, knows: Knowledge, rng: np.random.Generator, progress: Progress) -> Claim:
        """Claim as many records as the update covers, or none where the update does not tell them from noise."""
        last = seen.last
        try:
            return self._run(last, knows, rng, progress)
        except _NothingError as reason:
            progress(1.0)
            return _nothing(last, str(reason))

    def _run(self, last: Exchange, knows: Knowledge, rng: np.random.Generator, progress: Progress) -> Claim:
        sent, update = _check(last, knows, self.most_records)
        n, relaxation = last.records, relax(knows.schema, sent[0].weight.shape[1])
        parameters = sum(tensor.numel() for tensor in last.sent.values())
        chance = NULL * n * relaxation.freedom / parameters
        if chance >= 1:
            raise _NothingError(
                f"{n} records have {n * relaxation.freedom} unknowns, too many for an update of {parameters} numbers"
            )
        noise = noise_std(knows, n)
        truth = 1 - parameters * (noise / _norm(last.received)) ** 2
        if truth < chance:
            raise _NothingError(
                f"the known noise leaves {max(truth, 0.0):.1%} of the update to the truth, and {chance:.1%} is chance"
            )
        notes = []
        layers = sent
        if knows.algorithm != "fedsgd":
            layers = _halfway(sent, update)
            notes.append("the update of several local steps is matched as one gradient of all records, halfway along")
        length = step_length(knows, n)
        if length is None or rescaled(knows, _norm(last.received) * math.sqrt(truth)):
            length = None
            notes.append("the update's scale is not known: label counts are found by trial")

        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        activation = activation_of(knows.model)
        if activation is None:
            raise _NothingError("the network is no chain of linear layers")
        chain = Chain(layers, directions(update, generator), record_clip(knows), activation=activation)
        problem = Problem(chain, relaxation)
        drawn = chain.answers(_draw(knows, relaxation, DRAWS, rng))
        hypotheses = label_hypotheses(update[-1].bias, drawn, n, length, noise)
        restarts, how = self._scale(chain.flops(n))
        labels = torch.stack(
            [as_labels(hypotheses[i % len(hypotheses)]) for i in range(max(restarts, len(hypotheses)))]
        )
        start = _draw(knows, relaxation, labels.numel(), rng).reshape(*labels.shape, -1)
        hot = torch.nn.functional.one_hot(labels, layers[-1].bias.numel()).float()
        searched = descend(relaxation.free(start), hot, problem, how, part(progress, 0, 0.95), chain.held(n))
        found = searched.like_best()
        reached = max(0.0, 1 - float(found.misfits[0])) ** 2
        if reached < chance:
            raise _NothingError(f"the best batch explains {reached:.1%} of the update, up to {chance:.1%} is chance")
        records, sure = _best(found, chain, relaxation, max(0.0, 1 - reached / truth))
        progress(1.0)
        return Claim(
            records=records,
            confidence=sure,
            labels=found.labels[0].argmax(-1),
            mismatch=_mismatch(knows, last, records, found.labels[0].argmax(-1), rng),
            notes=(f"the best batch explains {reached:.1%} of the update", *notes),
        )

    def _scale(self, each: float) -> tuple[int, Descent]:
        """Restarts and iterations that the work allows: at least 4 restarts, then at least 50 iterations."""
        affordable = self.work * 1e9 / each
        restarts = min(self.restarts, max(4, int(affordable / self.iterations)))
        iterations = min(self.iterations, max(50, int(affordable / restarts)))
        return restarts, Descent(iterations, self.lr, ENOUGH, self.seconds)


def _best(found: Found, chain: Chain, relaxation: Relaxation, misfit: float) -> tuple[Tensor, Tensor]:
    """The pooled records, or the best restart's where those explain the update better, and how sure they are.

    `misfit` is the share of the update that neither they nor known noise explain.
    """
    aligned, share = align(found.inputs, found.labels.argmax(-1)), weights(found.misfits)
    candidates = relaxation.harden(torch.stack([pool(aligned, share, relaxation), aligned[0]]))
    pooled, single = chain(candidates, found.labels[:1].expand(2, -1, -1))[0].tolist()
    records = candidates[int(single < BETTER * pooled)]
    sure = agreement(aligned, share, records, relaxation) * determined(
        chain.influence(records, found.labels[0]), misfit
    )
    return records, sure


class _NothingError(Exception):
    """Why nothing is claimed."""


def _nothing(last: Exchange, reason: str) -> Claim:
    width = next((tensor.shape[1] for tensor in last.sent.values() if tensor.ndim == 2), 0)
    return Claim(
        records=torch.zeros(0, width),
        confidence=torch.zeros(0),
        labels=torch.zeros(0, dtype=torch.int64),
        notes=(f"nothing claimed: {reason}",),
    )


def _check(last: Exchange, knows: Knowledge, most: int) -> tuple[tuple[Dense, ...], tuple[Dense, ...]]:
    if knows.model is None:
        raise _NothingError("the architecture is withheld")
    if not 1 <= last.records <= most:
        raise _NothingError(f"{last.records} records, the attack tries 1 to {most}")
    try:
        sent, update = dense_layers(last.sent), dense_layers(last.received)
    except ValueError as error:
        raise _NothingError(str(error)) from None
    if [u.weight.shape for u in update] != [s.weight.shape for s in sent]:
        raise _NothingError("the update does not fit the network")
    if knows.schema is not None and knows.schema.width != sent[0].weight.shape[1]:
        raise _NothingError("the schema does not fit the network")
    if not all(bool(torch.isfinite(t).all()) for t in (*last.sent.values(), *last.received.values())):
        raise _NothingError("values are not finite")
    size = _norm(last.received)
    if not size > 0:
        raise _NothingError("the update is zero")
    if size > 100 * max(1.0, _norm(last.sent)):
        raise _NothingError("the update is far larger than the model, as if it were masked")
    return sent, update


def _norm(tensors: Mapping[str, Tensor]) -> float:
    return math.sqrt(sum(float(t.double().square().sum()) for t in tensors.values()))


def _halfway(sent: tuple[Dense, ...], update: tuple[Dense, ...]) -> tuple[Dense, ...]:
    return tuple(Dense(s.weight + u.weight / 2, s.bias + u.bias / 2) for s, u in zip(sent, update, strict=True))


def _draw(knows: Knowledge, relaxation: Relaxation, count: int, rng: np.random.Generator) -> Tensor:
    """Records from the schema's marginals, standard normal ones where the schema is withheld."""
    if knows.schema is not None:
        return knows.schema.draw(count, rng)
    return torch.from_numpy(rng.standard_normal((count, relaxation.width))).float()


def _mismatch(
    knows: Knowledge, last: Exchange, records: Tensor, labels: Tensor, rng: np.random.Generator
) -> float | None:
    try:
        again = recompute_update(knows, last.sent, records, labels, rng)
    except ValueError:
        return None
    return mismatch(again, last.received)
