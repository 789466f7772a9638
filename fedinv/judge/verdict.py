"""Judges claims of records against the truth, and a guess that saw no update by the same measures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from fedinv.attack import Claim
from fedinv.data.population import Population
from fedinv.judge.guess import Guess, Guesses, strongest
from fedinv.judge.images import MOST, SMALLEST, Quality, quality
from fedinv.judge.linking import Register
from fedinv.judge.matching import Match, match
from fedinv.judge.tally import Tally, tally
from fedinv.results.intervals import mean_interval, share_interval
from fedinv.results.run import Images, Interval, Mean, Rate
from fedinv.task.columns import PADDING

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
    clients: tuple[int, ...] = ()
    """Numbers of the clients whose update was observed; cases of the same clients are one cluster of intervals."""


@dataclass(frozen=True)
class Verdict:
    """A case judged against the truth, record by record."""

    case: Case
    """Claim and true records."""
    match: Match
    """Matching of claims with true records."""
    guessed: NDArray[np.float64]
    """Chance that the strongest guess has each field right, 0 to 1 (n, fields)."""
    link: "Link"
    """Whom the claims lead to in an outside register."""
    known: NDArray[np.bool_]
    """Whether each field was known and not filled in, bool (n, fields): a filled one is nothing true of the person."""
    quality: Quality | None = None
    """Similarity of images, that of the best guess for records without a claim; None for a table."""

    @property
    def filled(self) -> NDArray[np.float64]:
        """Right fields, 0 or 1 (n, fields); for records without a claim, the chance that the guess is right."""
        return np.where(self.match.claimed[:, None], self.match.right, self.guessed)

    @property
    def recovered(self) -> NDArray[np.bool_]:
        """Whether every known field of each record was claimed right, bool (n,)."""
        return np.asarray((self.match.right | ~self.known).all(1) & self.match.claimed)

    @property
    def shares(self) -> NDArray[np.float64]:
        """Share of right ones among the known fields of each record, as `filled` (n,); 0 without any."""
        return self._share(self.filled)

    @property
    def guessed_shares(self) -> NDArray[np.float64]:
        """Expected share of the known fields of each record that the strongest guess has right (n,)."""
        return self._share(self.guessed)

    def _share(self, right: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((right * self.known).sum(1) / np.maximum(1, self.known.sum(1)))


@dataclass(frozen=True)
class Link:
    """Whom the claims about n true records lead to in a register, and how surely."""

    person: NDArray[np.int64]
    """Row of the person nearest to each claim, the right one if several are as near, int64 (n,); -1 for nobody."""
    among: NDArray[np.int64]
    """Number of people who are as near as that one, int64 (n,); 0 for nobody."""
    right: NDArray[np.float64]
    """Chance that one of them, picked at random, is the right one, 0 to 1 (n,)."""


@dataclass(frozen=True)
class Rates:
    """Rates of one attack over all its cases."""

    field_accuracy: Rate
    """Share of right fields, the best guess standing in for records without a claim."""
    recovered: Rate
    """Share of people of whom every field was claimed right from any of their records."""
    exact: Rate
    """Share of people of whom every field was claimed right to `EXACT` standard deviations."""
    reidentified: Rate | None
    """Expected share of people whose claim leads to them in the outside register; None without one."""
    images: Images | None = None
    """Similarity of images; None for tables and without records."""


def judge(
    cases: Sequence[Case],
    people: Population,
    tolerance: float,
    rng: np.random.Generator,
    guesses: Guesses | None = None,
    outside: Register | None = None,
) -> tuple[tuple[Verdict, ...], Rates]:
    """Judge one attack's cases (at least one).

    Records without a claim are scored by the guess in `field_accuracy` and `images`: an attacker without claims is no
    worse than one without an update. The other rates count claims alone. A person whose records are behind several
    updates counts once. The prior is the strongest guess that needs no update; without `guesses` it is chosen here,
    from the data dictionary alone. `outside` is the register in which claims are looked up.
    """
    schema, sizes = people.table.schema, [len(case.rows) for case in cases]
    guesses = guesses or strongest(schema, sizes, tolerance, None, rng)
    tried = {one.name: one for one in (*guesses.fields, *guesses.records, *guesses.images)}
    against = Against(people, tolerance, outside)
    guessed = {name: _guessed(guess, cases, against, rng) for name, guess in tried.items()}

    def best(choices: Sequence[Guess], worth: Callable[[Sequence[Verdict]], float]) -> tuple[str, list[list[Verdict]]]:
        values = {one.name: float(np.mean([worth(draw) for draw in guessed[one.name]])) for one in choices}
        name = max(values, key=values.__getitem__)
        return name, guessed[name]

    counted = tally([(case.clients, people.person[case.rows]) for case in cases])
    if not counted.people:
        empty = Rate(value=None, count=0, ci95=None, prior=None)
        verdicts = tuple(_judge_one(case, against) for case in cases)
        return verdicts, Rates(empty, empty, empty, None if outside is None else empty)

    def fields(draw: Sequence[Verdict]) -> NDArray[np.float64]:
        return counted.mean(np.concatenate([v.shares for v in draw]))

    field_guess, by_field = best(guesses.fields, lambda draw: float(fields(draw).mean()))
    record_guess, whole = best(guesses.records, lambda draw: float(counted.ever(_outcome(draw, "recovered")).mean()))
    chances = [np.mean([draw[i].filled for draw in by_field], axis=0) for i in range(len(cases))]
    alike: Sequence[Sequence[Verdict]] = by_field
    if schema.image is not None:
        image_guess, alike = best(guesses.images, lambda draw: float(_measured(draw, "psnr").mean()))
    verdicts = tuple(
        _fill(_judge_one(case, against), chance, other)
        for case, chance, other in zip(cases, chances, alike[0], strict=True)
    )
    prior = float(np.mean([fields(draw).mean() for draw in by_field]))
    accuracy = Rate(
        value=min(1.0, float(fields(verdicts).mean())),
        count=round(float(counted.mean(np.concatenate([v.known.sum(1) for v in verdicts]).astype(float)).sum())),
        ci95=share_interval(fields(verdicts), counted.clusters, floor=prior),
        prior=min(1.0, prior),
        guess=field_guess,
    )

    def rate(name: str) -> Rate:
        outcome = counted.ever(_outcome(verdicts, name))
        return Rate(
            value=min(1.0, float(outcome.mean())),
            count=counted.people,
            ci95=share_interval(outcome, counted.clusters),
            prior=min(1.0, float(np.mean([counted.ever(_outcome(draw, name)).mean() for draw in whole]))),
            guess=record_guess,
        )

    images = None
    if schema.image is not None:
        large = min(schema.image.down, schema.image.across) >= SMALLEST
        given = (verdicts, alike, image_guess, counted)
        images = Images(
            called=schema.image.called,
            psnr=_mean("psnr", *given, bounds=(0.0, MOST)),
            ssim=_mean("ssim", *given, bounds=(-1.0, 1.0)) if large else None,
        )
    linked = None if outside is None else rate("linked")
    return verdicts, Rates(accuracy, rate("recovered"), rate("exact"), linked, images)


@dataclass(frozen=True)
class Against:
    """What claims are held against."""

    people: Population
    """All people of the scenario."""
    tolerance: float
    """Error in standard deviations up to which a number or a pixel counts as right."""
    outside: Register | None
    """Register in which claims are looked up; None for no linking."""


def _guessed(guess: Guess, cases: Sequence[Case], against: Against, rng: np.random.Generator) -> list[list[Verdict]]:
    """Verdicts on a guess of every case, once for a guess that is always the same, else for several draws."""
    total = max(1, sum(len(case.rows) for case in cases))
    draws = int(np.clip(_RECORDS // total, 3, _DRAWS)) if guess.random else 1
    found = []
    for _ in range(draws):
        claims = [Claim(guess.make(len(case.rows), rng), torch.zeros(len(case.rows))) for case in cases]
        judged = [_judge_one(Case(one, case.rows), against) for one, case in zip(claims, cases, strict=True)]
        found.append(judged)
    return found


def _judge_one(case: Case, against: Against) -> Verdict:
    people = against.people
    found = match(case.claim.records, people.table.take(case.rows).columns, people.table.schema, against.tolerance)
    link = _link(case, found, against)
    known = _known(case, people) if people.table.schema.image is None else np.ones_like(found.right)
    return Verdict(case, found, found.right.astype(float), link, known, _quality(case, found, people))


def _known(case: Case, people: Population) -> NDArray[np.bool_]:
    """Fields (n, fields) that say something of a person: none that was filled in, and no padding behind a text."""
    tokens = people.table.schema.tokens
    if tokens is not None:
        return np.asarray(people.table.columns[tokens.name][case.rows] != PADDING)
    return ~people.imputed[case.rows]


def _link(case: Case, found: Match, against: Against) -> Link:
    """Look the claims up in the register."""
    count, outside, schema = len(case.rows), against.outside, against.people.table.schema
    person, among, right = np.full(count, -1), np.zeros(count, np.int64), np.zeros(count)
    if outside is not None and found.claimed.any():
        # decoded and encoded again into a valid record, as one would look it up
        valid = schema.encode(schema.decode(case.claim.records[torch.from_numpy(found.claim[found.claimed])]))
        rows, who = case.rows[found.claimed], against.people.person
        nearest = [np.flatnonzero(one) for one in outside.nearest(valid)]
        different = np.array([len(np.unique(who[one])) for one in nearest])
        hit = np.array([who[row] in who[one] for row, one in zip(rows, nearest, strict=True)])
        person[found.claimed] = np.where(hit, rows, [one[0] for one in nearest])
        among[found.claimed], right[found.claimed] = different, hit / different
    return Link(person, among, right)


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
    counted: Tally,
    bounds: Interval,
) -> Mean:
    values = counted.mean(_measured(verdicts, name))
    prior = float(np.mean([counted.mean(_measured(draw, name)).mean() for draw in guessed]))
    interval = mean_interval(values, counted.clusters, bounds=bounds)
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


def _outcome(verdicts: Sequence[Verdict], rate: str) -> NDArray[np.float64]:
    """Outcome of every record for a rate, 0 to 1 (records,)."""
    if rate == "linked":
        return np.concatenate([v.link.right for v in verdicts])
    return np.concatenate([(v.recovered if rate == "recovered" else v.match.exact).astype(float) for v in verdicts])
