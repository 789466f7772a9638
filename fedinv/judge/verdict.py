"""Judges claims of records against the truth, and a guess that saw no update by the same measures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from fedinv.attack import Claim
from fedinv.data.population import Population
from fedinv.judge.guess import Guess, Guesses, strongest
from fedinv.judge.images import SMALLEST, Quality, quality
from fedinv.judge.matching import Match, match
from fedinv.results.intervals import bootstrap_mean, clopper_pearson
from fedinv.results.run import Images, Mean, Rate

_DRAWS = 20
"""Largest number of times that a random guess is drawn; its rates are averaged over them."""
_RECORDS = 4000
"""Records that a random guess is drawn for altogether: fewer draws for large batches, at least three."""


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
    guessed: NDArray[np.float64]
    """Chance that the strongest guess has each field right, 0 to 1 (n, fields)."""
    linked: NDArray[np.int64]
    """Row of the person nearest to the claim, int64 (n,); -1 without a claim."""
    quality: Quality | None = None
    """Similarity of images, that of the best guess for records without a claim; None for a table."""

    @property
    def filled(self) -> NDArray[np.float64]:
        """Right fields, 0 or 1 (n, fields); for records without a claim, the chance that the guess is right."""
        return np.where(self.match.claimed[:, None], self.match.right, self.guessed)


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
    cases: Sequence[Case],
    people: Population,
    tolerance: float,
    rng: np.random.Generator,
    guesses: Guesses | None = None,
) -> tuple[tuple[Verdict, ...], Rates]:
    """Judge one attack's cases (at least one).

    Records without a claim are scored by the guess in `field_accuracy` and `images`: an attacker without claims is no
    worse than one without an update. The other rates count claims alone. The prior is the strongest guess that needs
    no update; without `guesses` it is chosen here, from the data dictionary alone.
    """
    schema, sizes = people.table.schema, [len(case.rows) for case in cases]
    guesses = guesses or strongest(schema, sizes, tolerance, None, rng)
    tried = {one.name: one for one in (*guesses.fields, *guesses.records, *guesses.images)}
    guessed = {name: _guessed(guess, cases, people, tolerance, rng) for name, guess in tried.items()}

    def best(choices: Sequence[Guess], worth: Callable[[Sequence[Verdict]], float]) -> tuple[str, list[list[Verdict]]]:
        values = {one.name: float(np.mean([worth(draw) for draw in guessed[one.name]])) for one in choices}
        name = max(values, key=values.__getitem__)
        return name, guessed[name]

    field_guess, by_field = best(guesses.fields, lambda draw: _mean_of([v.filled for v in draw]))
    record_guess, whole = best(guesses.records, lambda draw: _hits(draw, "recovered"))
    chances = [np.mean([draw[i].filled for draw in by_field], axis=0) for i in range(len(cases))]
    alike: Sequence[Sequence[Verdict]] = by_field
    if schema.image is not None and any(sizes):
        image_guess, alike = best(guesses.images, lambda draw: float(_measured(draw, "psnr").mean()))
    verdicts = tuple(
        _fill(_judge_one(case, people, tolerance), chance, other)
        for case, chance, other in zip(cases, chances, alike[0], strict=True)
    )
    total = sum(sizes)
    seen = [v for v in verdicts if len(v.filled)]  # a Poisson-sampled batch may be empty
    if len(seen) == 1:  # one case alone: resample its records instead of cases
        interval = bootstrap_mean(seen[0].filled.mean(1), np.ones(len(seen[0].filled)), rng)
    else:
        weights = np.array([len(v.filled) for v in seen], dtype=float)
        interval = bootstrap_mean(np.array([v.filled.mean() for v in seen]), weights, rng)
    accuracy = Rate(
        value=_mean_of([v.filled for v in verdicts]),
        count=total * schema.fields,
        ci95=interval,
        prior=_mean_of(chances),
        guess=field_guess,
    )

    def rate(name: str) -> Rate:
        hits = _hits(verdicts, name)
        return Rate(
            value=hits / total if total else 0.0,
            count=total,
            ci95=clopper_pearson(hits, total),
            prior=float(np.mean([_hits(draw, name) for draw in whole])) / total if total else 0.0,
            guess=record_guess,
        )

    images = None
    if seen and schema.image is not None:
        large = min(schema.image.down, schema.image.across) >= SMALLEST
        given = (verdicts, alike, image_guess, rng)
        images = Images(psnr=_mean("psnr", *given), ssim=_mean("ssim", *given) if large else None)
    return verdicts, Rates(accuracy, rate("recovered"), rate("exact"), rate("reidentified"), images)


def _guessed(
    guess: Guess, cases: Sequence[Case], people: Population, tolerance: float, rng: np.random.Generator
) -> list[list[Verdict]]:
    """Verdicts on a guess of every case, once for a guess that is always the same, else for several draws."""
    total = max(1, sum(len(case.rows) for case in cases))
    draws = int(np.clip(_RECORDS // total, 3, _DRAWS)) if guess.random else 1
    found = []
    for _ in range(draws):
        claims = [Claim(guess.make(len(case.rows), rng), torch.zeros(len(case.rows))) for case in cases]
        judged = [_judge_one(Case(one, case.rows), people, tolerance) for one, case in zip(claims, cases, strict=True)]
        found.append(judged)
    return found


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
    return Verdict(case, found, found.right.astype(float), linked, _quality(case, found, people))


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
    guessed: Sequence[Sequence[Verdict]],
    guess: str,
    rng: np.random.Generator,
) -> Mean:
    values = _measured(verdicts, name)
    prior = float(np.mean([_measured(draw, name).mean() for draw in guessed]))
    interval = bootstrap_mean(values, np.ones(len(values)), rng)
    return Mean(value=float(values.mean()), count=len(values), ci95=interval, prior=prior, guess=guess)


def _measured(verdicts: Sequence[Verdict], name: str) -> NDArray[np.float64]:
    return np.concatenate([getattr(v.quality, name) for v in verdicts])


def _fill(verdict: Verdict, chance: NDArray[np.float64], guess: Verdict) -> Verdict:
    """Add the guess's chances (n, fields), and its PSNR and SSIM where nothing was claimed."""
    found, other = verdict.quality, guess.quality
    if found is not None and other is not None:
        silent = ~verdict.match.claimed
        found = Quality(np.where(silent, other.psnr, found.psnr), np.where(silent, other.ssim, found.ssim))
    return replace(verdict, guessed=chance, quality=found)


def _hits(verdicts: Sequence[Verdict], rate: str) -> int:
    if rate == "reidentified":
        return sum(int((v.linked == v.case.rows).sum()) for v in verdicts)
    return sum(int(getattr(v.match, rate).sum()) for v in verdicts)


def _mean_of(shares: Sequence[NDArray[np.float64]]) -> float:
    """Mean over all fields of several cases, each (n, fields); 0 without any."""
    fields = sum(one.size for one in shares)
    return float(sum(one.sum() for one in shares) / fields) if fields else 0.0
