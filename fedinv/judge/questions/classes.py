"""Class representatives: how similar are they to the people of their class?"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedinv.attack import Claim, Observation, Question, Sample
from fedinv.judge.images import MOST, quality
from fedinv.judge.questions import Heard, Inference, Setting
from fedinv.judge.questions.samples import samples
from fedinv.judge.recognition import recognizer
from fedinv.results.intervals import clopper_pearson, mean_interval, share_interval
from fedinv.results.run import Exhibit, Interval, Measure, Pair
from fedinv.task.columns import Categorical, Image
from fedinv.task.schema import Schema

SHOWN = 8
"""Number of pairs of images that are shown."""
RAREST = 0.05
"""Smallest standard deviation by which an input's difference is divided, so that rare values do not outweigh others."""


@dataclass(frozen=True)
class Portraits:
    """One claimed representative a class, beside the truth; all tensors have one row a class, in `labels`' order."""

    truth: Sample
    """The training records that the classes are judged by."""
    labels: Tensor
    """int64 (classes,): the classes that are judged."""
    records: Tensor
    """float32 (classes, width): what was claimed."""
    means: Tensor
    """float32 (classes, width): each class's true mean, or mode where a column has categories."""
    guesses: Tensor
    """float32 (classes, width): the mean of all classes together, which is what a guesser claims of each."""


def ask(setting: Setting, seen: Observation) -> Question | None:
    """Return None: the attacker needs nothing beyond the observation and its knowledge."""
    return None


def judge(setting: Setting, heard: Sequence[Heard], rng: np.random.Generator) -> Inference:
    """Compare representatives with the means of their class's training records; the prior is the mean of all classes.

    For images it also counts how many the judge's own classifier recognizes.
    """
    schema, people = setting.people.table.schema, setting.people
    if not schema.classes:
        return Inference("told no class: the label is a number", [])
    rows = np.concatenate(_held(setting, heard))
    truth = Sample(people.inputs[rows], people.labels[rows])
    claims = [one.answer for one in heard if isinstance(one.answer, Claim) and one.answer.labels is not None]
    records, labels = _of(claims, truth, schema)
    if not len(records):  # without a claim the guess is scored: the mean or mode of all classes
        labels = torch.from_numpy(np.unique(truth.labels.numpy()))
        records = _center(truth.records, schema).repeat(len(labels), 1)
    drawn = Sample(records, labels)
    several = len(labels) > len(set(labels.tolist()))
    if several:  # several records of a class are scored by their mean
        labels = torch.tensor(sorted(set(labels.tolist())))
        records = torch.stack([drawn.records[drawn.labels == c].mean(0) for c in labels])
    means = torch.stack([_center(truth.records[truth.labels == c], schema) for c in labels])
    guesses = _center(truth.records, schema).expand_as(means)
    portraits = Portraits(truth, labels, records, means, guesses)
    if schema.image is not None:
        return _images(setting, schema.image, portraits, rng)
    found = _table(setting, portraits, rng)
    if several:
        measures, shown = samples(drawn, truth, schema, setting.scenario.judge.tolerance, rng)
        found = replace(found, measures=[*found.measures, *measures], exhibits=[*found.exhibits, shown])
    return found


def _held(setting: Setting, heard: Sequence[Heard]) -> list[NDArray[np.int64]]:
    """Rows of each watched client; of every client where the trained model was attacked."""
    watched = {client for one in heard if one.seen.last.received for client in one.seen.clients}
    return [setting.people.shares[client] for client in sorted(watched)] or list(setting.people.shares)


def _of(claims: Sequence[Claim], truth: Sample, schema: Schema) -> tuple[Tensor, Tensor]:
    """Claimed records (n, width) and labels (n,) of classes that occur in the truth."""
    if not claims or not sum(len(claim.records) for claim in claims):
        return torch.zeros(0, schema.width), torch.zeros(0, dtype=torch.long)
    records = torch.cat([claim.records for claim in claims])
    labels = torch.cat([claim.labels for claim in claims if claim.labels is not None]).long()
    held = torch.isin(labels, truth.labels)
    return records[held].nan_to_num(), labels[held]


def _center(records: Tensor, schema: Schema) -> Tensor:
    """Center of records (n, width): means of numbers and pixels, the most frequent category one-hot; (width,)."""
    mean = records.mean(0)
    for column, at in zip(schema.columns, schema.slices, strict=True):
        if isinstance(column, Categorical):
            mean[at] = torch.eye(column.width)[int(mean[at].argmax())]
    return mean


def _images(setting: Setting, image: Image, portraits: Portraits, rng: np.random.Generator) -> Inference:
    schema, people = setting.people.table.schema, setting.people
    others = Sample(people.inputs[people.holdout], people.labels[people.holdout])
    labels = portraits.labels
    eye = recognizer(schema, portraits.truth, others, setting.scenario.seed + 1)
    named = eye.classes(portraits.records) == labels.numpy()
    hits, total, chance = int(named.sum()), len(named), 1 / len(schema.classes)
    sides = portraits.records, portraits.means, portraits.guesses
    claimed, true, guessed = (image.decode(side.double().numpy()) for side in sides)
    ours, prior = quality(claimed, true, image), quality(guessed, true, image)
    measures = [
        Measure(
            name="taken for the right class by a network of the judge's own",
            value=hits / total,
            count=total,
            ci95=clopper_pearson(hits, total),
            prior=chance,
        ),
        _mean("PSNR to the class's mean image (dB)", ours.psnr, prior.psnr, (0.0, MOST)),
    ]
    if not np.isnan(ours.ssim).any():
        measures.append(_mean("SSIM to the class's mean image", ours.ssim, prior.ssim, (-1.0, 1.0)))
    says = (
        f"drew {hits} of {total} classes so that a network of the judge's own, right on {eye.right} of {eye.asked} "
        f"held-out images, takes the picture for the right one ({hits / total:.1%}, chance {chance:.1%})"
    )
    span = image.high - image.low
    pairs = [
        Pair(
            caption=f"{schema.classes[int(labels[i])]}: {'recognized' if named[i] else 'not recognized'}, "
            f"{ours.psnr[i]:.1f} dB",
            shape=(image.channels, image.down, image.across),
            true=((true[i] - image.low) / span).round(3).tolist(),
            claimed=((claimed[i] - image.low) / span).round(3).tolist(),
        )
        for i in range(min(SHOWN, total))
    ]
    shown = Exhibit(title="Mean image of a class, and what was drawn", images=pairs)
    return Inference(says, measures, exhibits=[shown])


def _table(setting: Setting, portraits: Portraits, rng: np.random.Generator) -> Inference:
    schema, tolerance = setting.people.table.schema, setting.scenario.judge.tolerance
    sides = portraits.records, portraits.guesses
    right, guessed = (_fields(side, portraits.means, schema, tolerance) for side in sides)
    total, hits = right.size, int(right.sum())
    measures = [
        Measure(
            name="fields of the class's mean or mode right",
            value=hits / total,
            count=total,
            ci95=share_interval(right.astype(float).ravel(), np.tile(np.arange(right.shape[1]), len(right))),
            prior=float(guessed.mean()),
        )
    ]
    direction = _direction(portraits, rng)
    if direction is not None:
        measures.insert(0, direction)
    says = (
        f"told {hits} of {total} fields of what is typical of a class ({right.mean():.1%}, guess {guessed.mean():.1%})"
    )
    if direction is not None:
        says += f"; how the classes differ correlates with the truth by {direction.value or 0.0:.2f}"
    return Inference(says, measures, exhibits=[_exhibit(schema, portraits, right)])


def _fields(claimed: Tensor, true: Tensor, schema: Schema, tolerance: float) -> NDArray[np.bool_]:
    """Whether each field is the mode, or within `tolerance` of the mean for a number: bool (n, columns)."""
    parts = [
        claimed[:, at].argmax(1) == true[:, at].argmax(1)
        if isinstance(column, Categorical)
        else (claimed[:, at] - true[:, at]).abs()[:, 0] <= tolerance
        for column, at in zip(schema.columns, schema.slices, strict=True)
    ]
    return torch.stack(parts, 1).numpy()


def _direction(portraits: Portraits, rng: np.random.Generator) -> Measure | None:
    """Correlation, over inputs, of the two representatives' difference with that of their classes' means.

    None unless the classes are exactly 0 and 1.
    """
    labels, records, truth = portraits.labels, portraits.records, portraits.truth
    if sorted(labels.tolist()) != [0, 1]:
        return None
    spread = truth.records.std(0).clamp_min(RAREST)
    order = labels.argsort()
    told = (records[order][1] - records[order][0]).double().numpy()
    differ = truth.records[truth.labels == 1].mean(0) - truth.records[truth.labels == 0].mean(0)
    told, true = told / spread.numpy(), (differ / spread).double().numpy()
    draws = rng.integers(len(true), size=(2000, len(true)))
    samples = [_correlation(told[at], true[at]) for at in draws]
    low, high = np.quantile(samples, [0.025, 0.975]).tolist()
    return Measure(
        name="correlation of the classes' difference with the truth",
        value=_correlation(told, true),
        count=len(true),
        ci95=(low, high),
        prior=0.0,
        share=False,
    )


def _correlation(left: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    if left.std() == 0 or right.std() == 0:
        return 0.0
    return float(np.corrcoef(left, right)[0, 1])


def _mean(name: str, ours: NDArray[np.float64], prior: NDArray[np.float64], bounds: Interval) -> Measure:
    ci95 = mean_interval(ours, bounds=bounds)
    value, guess = float(ours.mean()), float(prior.mean())
    return Measure(name=name, value=value, count=len(ours), ci95=ci95, prior=guess, share=False)


def _exhibit(schema: Schema, portraits: Portraits, right: NDArray[np.bool_]) -> Exhibit:
    told, true = (schema.decode(side) for side in (portraits.records, portraits.means))
    rows, marks = [], []
    for i, label in enumerate(portraits.labels.tolist()):
        for j, column in enumerate(schema.columns):
            rows.append([schema.classes[label], column.name, *(_text(side[column.name][i]) for side in (true, told))])
            marks.append(bool(right[i, j]))
    return Exhibit(
        title="What is typical of a class, and what the model says is",
        columns=[schema.label, "column", "mean or mode", "told"],
        rows=rows[:60],
        right=list(marks[:60]),
    )


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
