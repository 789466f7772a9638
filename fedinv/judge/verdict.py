"""Judges claims of records against the truth, and a guess that saw no update by the same measures."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fedinv.attack import Claim
from fedinv.data.population import Population
from fedinv.judge.images import SMALLEST, Quality, quality
from fedinv.judge.matching import Match, match
from fedinv.results.intervals import bootstrap_mean, clopper_pearson
from fedinv.results.run import Images, Mean, Rate

_DRAWS = 20
"""Number of times that the random guess is drawn; its rates are averaged over them."""


@dataclass(frozen=True)
class Case:
    """A claim about one observation, with the true records behind it."""

    claim: Claim
    """Claim of the attack."""
    rows: NDArray[np.int64]
    """Rows of the true records in the population, int64 (n,)."""


@dataclass(frozen=True)
class Verdict:
    """A case judged against the truth, record by record."""

    case: Case
    """Claim and true records."""
    match: Match
    """Matching of claims with true records."""
    filled: NDArray[np.bool_]
    """Whether each field is right, bool (n, fields); for records without a claim, whether the best guess is."""
    guessed: NDArray[np.bool_]
    """Whether the best guess has each field right, bool (n, fields)."""
    linked: NDArray[np.int64]
    """Row of the person nearest to the claim, int64 (n,); -1 without a claim."""
    quality: Quality | None = None
    """Similarity of images, that of the best guess for records without a claim; None for a table."""


@dataclass(frozen=True)
class Rates:
    """Rates of one attack over all its cases."""

    field_accuracy: Rate
    """Share of right fields, the best guess standing in for records without a claim."""
    recovered: Rate
    """Share of true records with every field right."""
    exact: Rate
    """Share of true records with every field right to `EXACT` standard deviations."""
    reidentified: Rate
    """Share of true records whose claim is nearest to the right person."""
    images: Images | None = None
    """Similarity of images; None for tables and without records."""


def judge(
    cases: Sequence[Case], people: Population, tolerance: float, rng: np.random.Generator
) -> tuple[tuple[Verdict, ...], Rates]:
    """Judge one attack's cases (at least one).

    Records without a claim are scored by the guess in `field_accuracy` and `images`: an attacker without claims is no
    worse than one without an update. The other rates count claims alone. The prior is the better of two guesses: the
    most frequent value of every column, or draws from the published marginals.
    """
    schema = people.table.schema
    guesses = _guesses(cases, people, rng)
    judged = [
        [_judge_one(Case(g, c.rows), people, tolerance) for g, c in zip(guess, cases, strict=True)] for guess in guesses
    ]
    constant, drawn = judged[0], judged[1:]
    by_draws = float(np.mean([_accuracy(d) for d in drawn]))
    filler = constant if _accuracy(constant) >= by_draws else drawn[0]
    verdicts = tuple(
        _fill(_judge_one(case, people, tolerance), guess, image_guess)
        for case, guess, image_guess in zip(cases, filler, _most_similar(constant, drawn), strict=True)
    )

    def prior(rate: str) -> float:
        of_draws = float(np.mean([_share(d, rate) for d in drawn]))
        return max(_share(constant, rate), of_draws)

    sizes = np.array([len(v.case.rows) for v in verdicts], dtype=float)
    seen = [v for v in verdicts if len(v.filled)]  # a Poisson-sampled batch may be empty
    if len(seen) == 1:  # one case alone: resample its records instead of cases
        interval = bootstrap_mean(seen[0].filled.mean(1), np.ones(len(seen[0].filled)), rng)
    else:
        interval = bootstrap_mean(np.array([v.filled.mean() for v in seen]), sizes[sizes > 0], rng)
    accuracy = Rate(
        value=_accuracy(verdicts),
        count=int(sizes.sum()) * schema.fields,
        ci95=interval,
        prior=max(_accuracy(constant), by_draws),
    )

    given = (verdicts, constant, drawn)

    def rate(name: str) -> Rate:
        hits, total = _hits(verdicts, name), int(sizes.sum())
        return Rate(
            value=hits / total if total else 0.0, count=total, ci95=clopper_pearson(hits, total), prior=prior(name)
        )

    images = None
    if seen and schema.image is not None:
        large = min(schema.image.down, schema.image.across) >= SMALLEST
        images = Images(psnr=_mean("psnr", *given, rng), ssim=_mean("ssim", *given, rng) if large else None)
    return verdicts, Rates(accuracy, rate("recovered"), rate("exact"), rate("reidentified"), images)


def _judge_one(case: Case, people: Population, tolerance: float) -> Verdict:
    truth = people.table.take(case.rows)
    found = match(case.claim.records, truth.columns, people.table.schema, tolerance)
    linked = np.full(len(case.rows), -1)
    if len(case.claim.records):
        # decoded and encoded again into a valid record, as one would look it up in a register of all people
        schema = people.table.schema
        claimed = schema.encode(schema.decode(case.claim.records))
        nearest = torch.cdist(claimed.double(), people.inputs.double()).argmin(1).numpy()
        linked[found.claimed] = nearest[found.claim[found.claimed]]
    return Verdict(case, found, found.right, found.right, linked, _quality(case, found, people))


def _quality(case: Case, found: Match, people: Population) -> Quality | None:
    """Similarity of the claimed images to the true ones; NaN without a claim, None for a table."""
    image = people.table.schema.image
    if image is None:
        return None
    claims = people.table.schema.decode(case.claim.records)[image.name][found.claim[found.claimed]]
    parts = quality(claims, people.table.columns[image.name][case.rows[found.claimed]], image)
    psnr, ssim = (np.full(len(case.rows), np.nan) for _ in range(2))
    psnr[found.claimed], ssim[found.claimed] = parts.psnr, parts.ssim
    return Quality(psnr, ssim)


def _mean(
    name: str,
    verdicts: Sequence[Verdict],
    constant: Sequence[Verdict],
    drawn: Sequence[Sequence[Verdict]],
    rng: np.random.Generator,
) -> Mean:
    values = _measured(verdicts, name)
    prior = max(float(_measured(constant, name).mean()), float(np.mean([_measured(d, name).mean() for d in drawn])))
    interval = bootstrap_mean(values, np.ones(len(values)), rng)
    return Mean(value=float(values.mean()), count=len(values), ci95=interval, prior=prior)


def _measured(verdicts: Sequence[Verdict], name: str) -> NDArray[np.float64]:
    return np.concatenate([getattr(v.quality, name) for v in verdicts])


def _most_similar(constant: list[Verdict], drawn: list[list[Verdict]]) -> list[Verdict]:
    """Verdicts of the guess whose images have the higher mean PSNR; those of the constant guess for tables."""
    if constant[0].quality is None or not any(len(v.filled) for v in constant):
        return constant
    of_draws = float(np.mean([_measured(d, "psnr").mean() for d in drawn]))
    return constant if float(_measured(constant, "psnr").mean()) >= of_draws else drawn[0]


def _fill(verdict: Verdict, guess: Verdict, image_guess: Verdict) -> Verdict:
    """Score records without a claim by the guesses: `guess` fills right fields, `image_guess` fills PSNR and SSIM."""
    filled = np.where(verdict.match.claimed[:, None], verdict.match.right, guess.match.right)
    found, other = verdict.quality, image_guess.quality
    if found is not None and other is not None:
        silent = ~verdict.match.claimed
        found = Quality(np.where(silent, other.psnr, found.psnr), np.where(silent, other.ssim, found.ssim))
    return Verdict(verdict.case, verdict.match, filled, guess.match.right, verdict.linked, found)


def _guesses(cases: Sequence[Case], people: Population, rng: np.random.Generator) -> list[list[Claim]]:
    """Claims of the constant guess, then `_DRAWS` times those of the random guess from the marginals."""
    schema, sizes = people.table.schema, [len(case.rows) for case in cases]
    constant = [Claim(schema.guess(n), torch.zeros(n)) for n in sizes]
    return [constant, *([Claim(schema.draw(n, rng), torch.zeros(n)) for n in sizes] for _ in range(_DRAWS))]


def _hits(verdicts: Sequence[Verdict], rate: str) -> int:
    if rate == "reidentified":
        return sum(int((v.linked == v.case.rows).sum()) for v in verdicts)
    return sum(int(getattr(v.match, rate).sum()) for v in verdicts)


def _share(verdicts: Sequence[Verdict], rate: str) -> float:
    total = sum(len(v.case.rows) for v in verdicts)
    return _hits(verdicts, rate) / total if total else 0.0


def _accuracy(verdicts: Sequence[Verdict]) -> float:
    fields = sum(v.filled.size for v in verdicts)
    return float(sum(v.filled.sum() for v in verdicts) / fields) if fields else 0.0
