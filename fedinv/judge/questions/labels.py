"""Label inference: how many of a batch's labels does the inferred count of each class get right?"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedinv.attack import Answer, Observation, Question
from fedinv.judge.questions import Heard, Inference, Setting
from fedinv.judge.truth import true_rows
from fedinv.results.intervals import share_interval
from fedinv.results.run import Exhibit, Measure


def ask(setting: Setting, seen: Observation) -> Question | None:
    """Return None: the attacker needs nothing beyond the observation and its knowledge."""
    return None


def judge(setting: Setting, heard: Sequence[Heard], rng: np.random.Generator) -> Inference:
    """Measure the share of labels that the counts get right; the prior is that of counts in the population's shares."""
    people, classes = setting.people, setting.people.table.schema.classes
    if not classes:
        return Inference("counted no labels: the label is a number, which has no counts", [])
    shares = np.bincount(people.labels.numpy(), minlength=len(classes)) / len(people.labels)
    right, guessed, sizes, rows = [], [], [], []
    for one in heard:
        at = true_rows(setting.scenario, people, one.seen.clients, one.seen.last.round)
        truth = np.bincount(people.labels.numpy()[at], minlength=len(classes))
        n, guess = len(at), _rounded(shares * len(at), len(at))
        if not n:  # a Poisson-sampled batch may be empty
            continue
        said = one.answer.scores[0].numpy() if isinstance(one.answer, Answer) and len(one.answer.scores) else guess
        right.append(np.minimum(truth, said).sum() / n)
        guessed.append(np.minimum(truth, guess).sum() / n)
        sizes.append(n)
        rows.append([str(one.seen.clients[0]), str(one.seen.last.round), _listed(truth), _listed(said)])
    weights, total = np.array(sizes, float), sum(sizes)
    if not total:
        return Inference("counted no labels: no record was behind the updates", [])
    value, prior = (float(np.average(v, weights=weights)) for v in (right, guessed))
    measure = Measure(
        name="labels right",
        value=value,
        count=total,
        ci95=share_interval(np.array(right), np.array([one.seen.clients[0] for one in heard]), weights),
        prior=prior,
    )
    says = f"counted {value:.1%} of {total} labels right (guess {prior:.1%})"
    shown = Exhibit(
        title=f"Labels in the batch: {', '.join(classes)}",
        columns=["client", "round", "true", "counted"],
        rows=rows[:8],
        right=[bool(r == 1) for r in right[:8]],
    )
    return Inference(says, [measure], exhibits=[shown])


def _rounded(counts: NDArray[np.float64], total: int) -> NDArray[np.int64]:
    """Round counts to whole numbers that sum to `total`, by largest remainders."""
    whole: NDArray[np.int64] = np.floor(counts).astype(np.int64)
    for at in np.argsort(whole - counts)[: total - whole.sum()]:
        whole[at] += 1
    return whole


def _listed(counts: NDArray[np.int64]) -> str:
    return ", ".join(str(int(c)) for c in counts)
