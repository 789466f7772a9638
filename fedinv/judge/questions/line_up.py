"""Line-up: how often is the one candidate identified who was in the batch, and how often does theory allow it?"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedinv.attack import Answer, Observation, Question, Sample
from fedinv.federation.agreement import round_senders
from fedinv.federation.streams import stream
from fedinv.judge.questions import Heard, Inference, Setting
from fedinv.judge.truth import held_out, true_rows
from fedinv.privacy.reconstruction_bound import reconstruction_bound
from fedinv.results.intervals import share_interval
from fedinv.results.run import Exhibit, Measure

CANDIDATES = 10
"""Number of candidates where the attack sets none."""
SHOWN = 8
"""Number of line-ups in the table of examples."""


def ask(setting: Setting, seen: Observation) -> Question | None:
    """Give one record of the batch, shuffled among records that no client holds, and the rest of the batch.

    The choice and the order depend on the seed, the client and the round alone. None for an empty batch, for sums of
    clients, and where too few records are held out.
    """
    drawn = _drawn(setting, seen)
    if drawn is None:
        return None
    rows, others, _ = drawn
    people = setting.people
    return Question(
        people=Sample(people.inputs[rows], people.labels[rows]),
        others=Sample(people.inputs[others], people.labels[others]),
    )


def judge(setting: Setting, heard: Sequence[Heard], rng: np.random.Generator) -> Inference:
    """Measure the share of line-ups, one per observation, with the right answer; the prior is 1 / candidates.

    Line-ups of one client over a growing set of rounds share their noise: where every step uses all records, only each
    client's last one counts. The measure's bound follows from differential privacy.
    """
    tried, named, bounds, rows = 0, 0, list[float | None](), list[list[str]]()
    right, client = list[bool](), list[int]()
    size = int(getattr(setting.attack, "candidates", CANDIDATES))
    for one in _independent(setting, heard):
        drawn = _drawn(setting, one.seen)
        if drawn is None:
            continue
        answered = isinstance(one.answer, Answer) and len(one.answer.scores) > 0
        # without an answer the guess is scored: the first in a shuffled row
        told = int(one.answer.scores[0].argmax()) if isinstance(one.answer, Answer) and answered else 0
        tried += 1
        named += told == drawn[2]
        right.append(told == drawn[2])
        client.append(one.seen.clients[0])
        bounds.append(_bound(setting, one.seen, size))
        rows.append([str(one.seen.clients[0]), str(one.seen.last.round), str(drawn[2] + 1), str(told + 1)])
    if tried == 0:
        return Inference("named nobody: there was no line-up to answer", [])
    known = [b for b in bounds if b is not None]
    bound = float(np.mean(known)) if len(known) == len(bounds) else None
    measure = Measure(
        name=f"the one of {size} who was in the batch",
        value=named / tried,
        count=tried,
        ci95=share_interval(np.array(right, float), np.array(client)),
        prior=1 / size,
        bound=bound,
    )
    theory = "" if bound is None else f"; theory says at most {bound:.1%}"
    says = (
        f"named the one of {size} who was in the batch {named} of {tried} times "
        f"({named / tried:.1%}, guess {1 / size:.1%}{theory})"
    )
    shown = Exhibit(
        title=f"Line-ups of {size}: who was in the batch, told by one who knows the rest of it",
        columns=["client", "round", "true place", "named"],
        rows=rows[:SHOWN],
        right=right[:SHOWN],
    )
    return Inference(says, [measure], exhibits=[shown])


def _drawn(setting: Setting, seen: Observation) -> tuple[NDArray[np.int64], NDArray[np.int64], int] | None:
    """Rows of the candidates and of the rest of the batch, and the true candidate's place; None for no line-up."""
    if len(seen.clients) != 1 or not seen.last.received:
        return None
    batch = true_rows(setting.scenario, setting.people, seen.clients, seen.last.round)
    _, outside = held_out(setting.scenario, setting.people)
    size = int(getattr(setting.attack, "candidates", CANDIDATES))
    if not len(batch) or len(outside) < size - 1:
        return None
    rng = stream(setting.scenario.seed, "line-up", *seen.clients, seen.last.round)
    target = int(rng.integers(len(batch)))
    rows = np.append(rng.choice(outside, size - 1, replace=False), batch[target])
    order = rng.permutation(size)
    return rows[order], np.delete(batch, target), int(np.flatnonzero(order == size - 1)[0])


def _independent(setting: Setting, heard: Sequence[Heard]) -> list[Heard]:
    """Answers that share no noise: each client's last where fedsgd's batches hold all its records, else all."""
    latest: dict[tuple[int, ...], Heard] = {}
    for one in heard:
        known = latest.get(one.seen.clients)
        if known is None or one.seen.last.round > known.seen.last.round:
            latest[one.seen.clients] = one
    whole = all(_rate(setting, one.seen) == 1 for one in heard if len(one.seen.clients) == 1)
    return list(latest.values()) if whole and setting.scenario.training.algorithm == "fedsgd" else list(heard)


def _rate(setting: Setting, seen: Observation) -> float:
    records = setting.people.held(seen.clients[0])
    return min(1.0, setting.scenario.training.batch_size / records)


def _bound(setting: Setting, seen: Observation, size: int) -> float | None:
    """The bound under all that was seen up to this observation; the smallest, where several defenses give one.

    None where no defense bounds what is seen of a single record.
    """
    scenario, client = setting.scenario, seen.clients[0]
    federation = scenario.federation
    cohorts = (round_senders(federation, scenario.seed, r) for r in range(1, seen.last.round + 1))
    taken, rounds = scenario.participation(setting.people.held(client)), sum(client in cohort for cohort in cohorts)
    found = []
    for defense in scenario.defenses:
        exposed = defense.exposure(taken, rounds)
        if exposed is not None and exposed.noise_multiplier > 0:
            (rate, steps), *more = exposed.releases
            found.append(reconstruction_bound(1 / size, exposed.noise_multiplier, rate, steps, more=more))
    return min(found) if found else None
