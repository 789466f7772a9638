"""Inverts an update by looking for the batch whose gradient points the same way."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from fedinv.attack import Attack, Claim, Exchange, Knowledge, Observation, Progress

from ..inversion.labels import as_labels, label_hypotheses, softmax, step_length
from ..inversion.objective import Dense, Direction, cosine, dense_layers, directions, flops
from ..inversion.optimize import Descent, Found, descend, part
from ..inversion.pooling import align, confidence, pool, weights
from ..inversion.recompute import mismatch, recompute_update
from ..inversion.relaxation import Relaxation, relax

DRAWS = 512
"""Records drawn to estimate the network's mean answer."""
NULL = 4.0
"""Squared cosine that is claimed upon, in multiples of what free numbers reach against noise."""


class GradientMatching(Attack):
    """Gradient matching for mixed-type tables: cosine distance, signed Adam, restarts pooled.

    Geiping et al. 2020; Vero et al. 2023 (TabLeak). An update of several local steps is matched as one large batch's
    gradient halfway between the weights that were sent and those that came back.
    """

    kind: Literal["gradient-matching"] = "gradient-matching"
    adapts_to: ClassVar[frozenset[str]] = frozenset({"dp-sgd", "clip-noise"})
    restarts: int = Field(default=16, ge=1, le=256)
    iterations: int = Field(default=500, ge=1, le=20_000)
    lr: float = Field(default=0.5, gt=0, le=10)
    work: float = Field(default=60.0, gt=0)
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
        width, n = sent[0].weight.shape[1], last.records
        relaxation = relax(knows.schema, width)
        parameters = sum(tensor.numel() for tensor in last.sent.values())
        threshold = NULL * n * relaxation.freedom / parameters
        _refuse_noise(last, knows, parameters, threshold)

        notes = []
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        target = directions(update, generator)
        single = knows.algorithm == "fedsgd"
        layers = sent if single else _halfway(sent, update)
        if not single:
            notes.append("the update of several local steps is matched as one gradient of all records, halfway along")
        length = step_length(knows, n)
        if length is None:
            notes.append("the step length is withheld: label counts are found by trial")

        how = Descent(self.iterations, self.lr, 1e-4, self.seconds)
        restarts, how = self._scale(how, flops(layers, target, n))
        chances = softmax(layers, _draw(knows, relaxation, DRAWS, rng))
        hypotheses = label_hypotheses(update[-1].bias, chances, n, length)

        counts = [hypotheses[i % len(hypotheses)] for i in range(max(restarts, len(hypotheses)))]
        labels = torch.stack([as_labels(c) for c in counts])
        start = _draw(knows, relaxation, labels.numel(), rng).reshape(*labels.shape, width)
        found = descend(relaxation.free(start), labels, relaxation, layers, target, how, part(progress, 0, 0.95))
        found = found.like_best()
        claim = self._claim(found, relaxation, layers, target, threshold, last, knows, rng, notes)
        progress(1.0)
        return claim

    def _scale(self, how: Descent, each: float) -> tuple[int, Descent]:
        """Restarts and iterations that the work allows: at least 4 restarts, then at least 50 iterations."""
        affordable = self.work * 1e9 / each
        restarts = min(self.restarts, max(4, int(affordable / how.iterations)))
        iterations = min(how.iterations, max(50, int(affordable / restarts)))
        return restarts, Descent(iterations, how.lr, how.enough, how.seconds)

    def _claim(
        self,
        found: Found,
        relaxation: Relaxation,
        layers: tuple[Dense, ...],
        target: tuple[Direction, ...],
        threshold: float,
        last: Exchange,
        knows: Knowledge,
        rng: np.random.Generator,
        notes: list[str],
    ) -> Claim:
        reached = max(0.0, float(found.cosines[0])) ** 2
        if reached < threshold:
            raise _NothingError(
                f"the best batch explains {reached:.1%} of the update, noise would give {threshold:.1%}"
            )
        aligned, share = align(found.inputs, found.labels), weights(found.cosines)
        labels = found.labels[0]
        candidates = torch.stack([relaxation.harden(aligned[0]), relaxation.harden(pool(aligned, share, relaxation))])
        hot = torch.nn.functional.one_hot(labels, layers[-1].bias.numel()).float().expand(2, -1, -1)
        records = candidates[int(cosine(candidates, hot, layers, target)[0].argmax())]
        sure = confidence(aligned, share, records, relaxation)
        return Claim(
            records=records,
            confidence=sure,
            labels=labels,
            mismatch=_mismatch(knows, last, records, labels, rng),
            notes=(f"the best batch explains {reached:.1%} of the update", *notes),
        )


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


def _refuse_noise(last: Exchange, knows: Knowledge, parameters: int, threshold: float) -> None:
    """Compare the noise that is known to be in the update with the update's length."""
    noise = _noise_square(knows, last.records, parameters)
    truth = 1 - noise / _norm(last.received) ** 2
    if noise > 0 and truth < threshold:
        raise _NothingError(
            f"known noise leaves the truth {max(truth, 0.0):.1%} of the update, {threshold:.1%} is reached by chance"
        )


def _noise_square(knows: Knowledge, records: int, parameters: int) -> float:
    """Expected squared length of the noise that the known defenses add."""
    square = 0.0
    if (clip_noise := knows.defense("clip-noise")) is not None:
        square += parameters * (_number(clip_noise, "clip") * _number(clip_noise, "noise_multiplier")) ** 2
    length = step_length(knows, records)
    if (dp_sgd := knows.defense("dp-sgd")) is not None and knows.lr is not None and length is not None:
        batch = min(knows.batch_size or records, records)
        std = knows.lr * _number(dp_sgd, "noise_multiplier") * _number(dp_sgd, "clip") / batch
        square += parameters * std**2 * length / knows.lr
    return square


def _number(defense: Mapping[str, Any], key: str) -> float:
    value = defense.get(key)
    return float(value) if isinstance(value, int | float) else 0.0


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
    except (ValueError, TypeError):
        return None
    return mismatch(again, last.received)
