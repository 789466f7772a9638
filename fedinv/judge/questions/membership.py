"""Membership inference: which candidates were trained on? ROC, AUC, and true positives at low false-positive rates."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedinv.attack import Answer, Observation, Question, Sample
from fedinv.data.partition import MOST_GROUPS, Drawn, Iid
from fedinv.federation.streams import stream
from fedinv.judge.questions import Heard, Inference, Setting
from fedinv.judge.truth import held_out, true_rows
from fedinv.results.intervals import clopper_pearson
from fedinv.results.run import Curve, Interval, Measure

PEOPLE = 1000
"""Largest number of members, and of others, that are asked about per observation."""
RARE = (0.01, 0.001)
"""False-positive rates at which true positives are reported."""
FEWEST = 10
"""Smallest number of false positives that a rate must allow: with n others no rate below FEWEST / n is reported."""
ENOUGH = 50
"""Records of a client that were not trained on, from which on they alone are the others."""
RARE_KIND = 0.05
"""Share of a client's records below which a kind of them may be missing among the others."""
POINTS = 400
"""Number of points of the ROC curve."""
RESAMPLES = 1000
"""Number of bootstrap resamples."""


def ask(setting: Setting, seen: Observation) -> Question | None:
    """Give members and others in random order."""
    rows, _ = _candidates(setting, seen)
    return Question(people=Sample(setting.people.inputs[rows], setting.people.labels[rows]))


def judge(setting: Setting, heard: Sequence[Heard], rng: np.random.Generator) -> Inference:
    """Compare the scores of all observations together with the truth; observations without an answer are left out."""
    scores, member, people = [], [], []
    for one in heard:
        if isinstance(one.answer, Answer) and len(one.answer.scores):
            rows, belong = _candidates(setting, one.seen)
            if belong.all() or not belong.any():
                continue  # nobody to tell members from
            scores.append(one.answer.scores[:, 0].double().numpy())
            member.append(belong)
            people.append(setting.people.person[rows])
    if not scores:
        return Inference("told nobody's membership", [])
    score, truth = np.concatenate(scores), np.concatenate(member)
    who = np.concatenate(people)
    inside, outside = score[truth], score[~truth]
    if not len(inside) or not len(outside):
        return Inference(f"told nobody's membership: there were no {'others' if len(inside) else 'members'}", [])
    # the same person may be scored in several observations: people are resampled, not scores
    drawn = list(zip(_redrawn(inside, who[truth], rng), _redrawn(outside, who[~truth], rng), strict=True))
    members, others = len(np.unique(who[truth])), len(np.unique(who[~truth]))
    wins = _auc(inside, outside)
    low, high = np.quantile([_auc(*pair) for pair in drawn], [0.025, 0.975])
    measures = [
        Measure(
            name="AUC of members against others",
            value=wins,
            count=members + others,
            ci95=(float(low), float(high)),
            prior=0.5,
            share=False,
        )
    ]
    left_out = []
    for rate in RARE:
        if rate * others < FEWEST:
            left_out.append(f"{100 * rate:g} %")
            continue
        hits = _found(inside, outside, rate)
        measures.append(
            Measure(
                name=f"members found at {100 * rate:g} % false positives",
                value=hits / len(inside),
                count=members,
                ci95=_interval(hits / len(inside), members, [_found(*pair, rate) / len(pair[0]) for pair in drawn]),
                prior=rate,
            )
        )
    said = f"told members from others with an AUC of {wins:.3f} (chance 0.5)"
    if len(measures) > 1:
        said += f" and found {measures[1].value:.1%} of them at {100 * RARE[0]:g} % false positives"
    if left_out:
        said += f"; {others} others are too few for {' and '.join(left_out)}"
    return Inference(said, measures, curve=_curve(inside, outside, members, others))


def _candidates(setting: Setting, seen: Observation) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Rows of the candidates (n,), up to PEOPLE members and PEOPLE others in random order, and who is a member (n,).

    Where clients are unlike, the others are records of the same clients that were not trained on, if there are any, or
    else held-out records drawn so that they are as like the client's as the held-out ones can be: whoever knows only
    what is typical of a client must not find its members.
    """
    people, rng = setting.people, stream(setting.scenario.seed, "membership", *seen.clients, seen.last.round)
    if seen.last.received:
        members = true_rows(setting.scenario, people, seen.clients, seen.last.round)
    else:
        members = np.concatenate(people.shares)
    _, others = held_out(setting.scenario, people)
    if seen.last.received and not isinstance(setting.scenario.data.partition, Iid | Drawn):
        others = _same_client(setting, seen, others, rng)
    members, others = rng.permutation(members)[:PEOPLE], rng.permutation(others)[:PEOPLE]
    rows = np.concatenate([members, others])
    order = rng.permutation(len(rows))
    return rows[order], (np.arange(len(rows)) < len(members))[order]


def _same_client(
    setting: Setting, seen: Observation, outside: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Records like those of the observed clients that none of the watched rounds used.

    First the clients' own; where those are fewer than ENOUGH, held-out records whose labels and partitioning column
    are distributed as the clients' are join them.
    """
    people, scenario = setting.people, setting.scenario
    own = np.concatenate([people.shares[client] for client in seen.clients])
    rounds = range(1, seen.last.round + 1)
    used = [true_rows(scenario, people, seen.clients, round_) for round_ in rounds]
    unused = np.setdiff1d(own, np.concatenate(used))
    if len(unused) >= ENOUGH:
        return unused
    partition = scenario.data.partition
    groups = people.labels.numpy() if people.schema.target is None else np.zeros(len(people.labels))
    column = str(getattr(partition, "column", ""))
    if column in people.table.columns:
        groups = people.table.columns[column]
    if groups.dtype.kind == "f" or len(np.unique(groups[own])) > MOST_GROUPS:  # a range of numbers
        groups = (groups >= groups[own].min()) & (groups <= groups[own].max())
    kinds, shares = np.unique(groups[own], return_counts=True)
    there = [rng.permutation(outside[groups[outside] == kind]) for kind in kinds]
    common = shares >= RARE_KIND * shares.sum()
    scale = min(
        1.0, *(len(rows) / share for rows, share, is_common in zip(there, shares, common, strict=True) if is_common)
    )
    return np.concatenate([unused, *(rows[: round(scale * share)] for rows, share in zip(there, shares, strict=True))])


def _auc(inside: NDArray[np.float64], outside: NDArray[np.float64]) -> float:
    """AUC by the Mann-Whitney statistic: how often a member scores above a non-member, ties counting half."""
    ordered = np.sort(outside)
    above = np.searchsorted(ordered, inside, "left") + np.searchsorted(ordered, inside, "right")
    return float(above.mean() / (2 * len(outside)))


def _found(inside: NDArray[np.float64], outside: NDArray[np.float64], rate: float) -> int:
    """Number of members above the threshold that a share `rate` of the others exceeds."""
    threshold = np.sort(outside)[::-1][int(rate * len(outside))]
    return int((inside > threshold).sum())


def _redrawn(
    scores: NDArray[np.float64], people: NDArray[np.int64], rng: np.random.Generator
) -> list[NDArray[np.float64]]:
    """Bootstrap resamples of the scores (n,) by person: a drawn person contributes all of their scores."""
    order = np.argsort(people, kind="stable")
    _, starts = np.unique(people[order], return_index=True)
    own = np.split(scores[order], starts[1:])
    if all(len(one) == 1 for one in own):
        return [rng.choice(scores, len(scores)) for _ in range(RESAMPLES)]
    return [np.concatenate([own[i] for i in rng.integers(len(own), size=len(own))]) for _ in range(RESAMPLES)]


def _interval(share: float, members: int, drawn: Sequence[float]) -> Interval:
    """Clopper-Pearson interval of the share of members found, widened to the bootstrap's, as few set the threshold."""
    low, high = clopper_pearson(round(share * members), members)
    least, most = np.quantile(drawn, [0.025, 0.975])
    return min(low, float(least)), max(high, float(most))


def _curve(inside: NDArray[np.float64], outside: NDArray[np.float64], members: int, others: int) -> Curve:
    """ROC curve from the lowest false-positive rate that the number of others supports up to 1."""
    least = min(1.0, FEWEST / others)
    rates = np.geomspace(least, 1, POINTS)
    descending = np.sort(outside)[::-1]
    allowed = np.minimum((rates * len(outside)).astype(int), len(outside) - 1)
    found = [(inside > descending[k]).mean() for k in allowed]
    return Curve(
        false_positives=rates.tolist(),
        true_positives=[*(float(f) for f in found[:-1]), 1.0],
        positives=members,
        negatives=others,
    )
