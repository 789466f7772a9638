"""Pools a comparison's cells over seeds: each stack's leakage under each attack, and its cost."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from statistics import fmean
from typing import Literal

import numpy as np

from fedinv.attack import Attack
from fedinv.results.comparison import NONE, Cells, Cost, DefenseLeak, Row, Variant, Worst
from fedinv.results.intervals import share_interval
from fedinv.results.ranking import worst_client
from fedinv.results.replication import Spread
from fedinv.results.run import AttackResult, InferenceResult, Interval, Privacy, Rate, Results
from fedinv.results.wording import hits
from fedinv.studies.maximum import counts, of_maximum, widened


def rows(cells: Cells, folders: Mapping[tuple[str, int], str], attacks: Sequence[Attack]) -> list[Row]:
    """One row for each stack of which any seed ran, pooled over its seeds; the one without defenses comes first."""
    stacks, seeds = list(dict.fromkeys(name for name, _ in cells)), sorted({seed for _, seed in cells})
    plain = {seed: cells[NONE, seed] for seed in seeds}
    named = labels(attacks)
    base: list[Row] = []
    for stack in sorted(stacks, key=lambda name: name != NONE):
        ran = {seed: one for seed in seeds if isinstance(one := cells[stack, seed], Results)}
        if not ran:
            continue
        pairs = [(one, other) for seed, one in ran.items() if isinstance(other := plain[seed], Results)]
        lost = _cost([difference(other.utility.value, one.utility.value) for one, other in pairs])
        spent = [one.privacy for one in ran.values()]
        control = {leak.attack: leak for leak in base[0].leaks} if base else None
        judged = _judged(list(ran.values()), attacks, named)
        leaks = list(_leaks(list(ran.values()), judged, attacks, named, control))
        base.append(
            Row(
                defenses=stack,
                runs=[folders[stack, seed] for seed in ran],
                leaks=leaks,
                worst=_worst(leaks, judged),
                utility=_cost([one.utility.value for one in ran.values()]),
                lost=lost,
                epsilon=largest_epsilon(spent),
                exceeds=next((one.exceeds for one in spent if one.exceeds is not None), None),
                unit=spent[0].unit,
                against_server=all(one.against_server for one in spent),
                bytes_up=_mean(one.federation.bytes_up for one in ran.values()),
                bytes_ratio=_ratio((one.federation.bytes_up, other.federation.bytes_up) for one, other in pairs),
                seconds=_mean(one.federation.seconds for one in ran.values()),
                seconds_ratio=_ratio((one.federation.seconds, other.federation.seconds) for one, other in pairs),
                failed=[str(cells[stack, seed]) for seed in seeds if seed not in ran],
            )
        )
    return base


def labels(attacks: Sequence[Attack]) -> list[str]:
    """A name for each attack: its kind, with the settings that are not defaults where there are several of a kind."""
    kinds = [attack.kind for attack in attacks]
    found = []
    for attack in attacks:
        changed = attack.model_dump(mode="json", exclude_defaults=True, exclude={"kind"})
        settings = [f"{key}={value}" for key, value in changed.items()] if kinds.count(attack.kind) > 1 else []
        found.append(":".join([attack.kind, *settings]))
    return found


def label_of(found: AttackResult | InferenceResult, attacks: Sequence[Attack]) -> str:
    """The name, among those of `attacks`, of the one that gave a result; its kind where it is none of them."""
    named = zip(attacks, labels(attacks), strict=True)
    return next((name for attack, name in named if attack.model_dump(mode="json") == found.parameters), found.kind)


def _judged(
    ran: Sequence[Results], attacks: Sequence[Attack], labels: Sequence[str]
) -> dict[tuple[str, Variant], list[AttackResult]]:
    """Results, one a seed, of each attack on records by its label and variant."""
    named = [(attack.model_dump(mode="json"), name) for attack, name in zip(attacks, labels, strict=True)]
    found: dict[tuple[str, Variant], list[AttackResult]] = {}
    for one in (a for results in ran for a in results.attacks):
        for parameters, name in named:
            if one.parameters == parameters:
                found.setdefault((name, one.variant), []).append(one)
    return found


def _worst(leaks: Sequence[DefenseLeak], judged: Mapping[tuple[str, Variant], Sequence[AttackResult]]) -> Worst | None:
    """The largest leakage over the attacks that are not too weak, its interval corrected for their number."""
    strong = [leak for leak in leaks if leak.verdict != "attack too weak"]
    if not strong:
        return None
    largest = max(strong, key=lambda leak: leak.leakage)
    own = [(leak, counts(judged.get((leak.attack, leak.variant), ()))) for leak in strong]
    counted = [one for _, one in own if one is not None]
    others = [leak for leak, one in own if one is None]
    parts = bool(counted) + bool(others)
    together = of_maximum(counted, 1 - 0.05 / parts) if counted else None
    if counted and together is None:  # a single cluster: each attack's own interval, over its records
        others, parts = strong, 1
    bounds = [widened(leak.leakage, leak.ci95, parts * len(others)) for leak in others]
    bounds += [] if together is None else [together]
    low, high = max(low for low, _ in bounds), max(high for _, high in bounds)
    hit = [one.worst for one in judged.get((largest.attack, largest.variant), ()) if one.worst is not None]
    return Worst(
        attack=largest.attack,
        variant=largest.variant,
        leakage=max(0.0, largest.leakage),
        ci95=(max(0.0, low), max(0.0, high)),
        verdict="leaks" if low > 0 else "not measurable",
        attacks=[f"{leak.attack} ({leak.variant})" for leak in strong],
        client=worst_client(hit),
    )


def _leaks(
    ran: Sequence[Results],
    judged: Mapping[tuple[str, Variant], Sequence[AttackResult]],
    attacks: Sequence[Attack],
    labels: Sequence[str],
    control: Mapping[str, DefenseLeak] | None,
) -> Iterable[DefenseLeak]:
    variants: tuple[Variant, ...] = ("static", "adaptive")
    for (attack, name), variant in product(zip(attacks, labels, strict=True), variants):
        parameters = attack.model_dump(mode="json")
        records = [one for one in judged.get((name, variant), ()) if one.records]
        others = [i for one in ran for i in one.inferences if i.parameters == parameters and i.variant == variant]
        others = [one for one in others if one.measures and one.measures[0].count]
        if records:
            yield _of_records(name, variant, records, control)
        elif others:
            yield _of_measures(name, variant, others, control)


def _of_records(
    name: str, variant: Variant, found: Sequence[AttackResult], control: Mapping[str, DefenseLeak] | None
) -> DefenseLeak:
    fields, recovered = _pooled([a.field_accuracy for a in found]), recovered_over_seeds(found)
    assert fields.numbers is not None  # there are records
    leakage, interval = above_guess(*fields.numbers)
    return DefenseLeak(
        attack=name,
        variant=variant,
        leakage=leakage,
        ci95=interval,
        recovered=recovered,
        fields=fields,
        seconds=fmean(a.seconds for a in found),
        unfinished=list(dict.fromkeys(limit for a in found for limit in a.unfinished)),
        verdict="leaks" if _whole(recovered) else _verdict(interval, name, control),
    )


def _whole(recovered: Rate) -> bool:
    """Whether more records are rebuilt in full than a guess would: few clients say nothing of the rate, but that it is.

    A single record is not enough, as a guess that rebuilds one in thousands shows none in the draws it is judged by.
    """
    if recovered.numbers is None:
        return False
    _, interval, prior = recovered.numbers
    return hits(recovered) > 1 and interval[0] > prior


def _of_measures(
    name: str, variant: Variant, found: Sequence[InferenceResult], control: Mapping[str, DefenseLeak] | None
) -> DefenseLeak:
    first = [one.measures[0] for one in found]
    known = [m.numbers for m in first if m.numbers is not None]
    mean = fmean(value for value, _, _ in known)
    half = math.sqrt(sum(((ci95[1] - ci95[0]) / 2) ** 2 for _, ci95, _ in known)) / len(known)
    prior = fmean(guess for _, _, guess in known)
    pooled = first[0].model_copy(
        update={"value": mean, "prior": prior, "ci95": (mean - half, mean + half), "count": sum(m.count for m in first)}
    )
    if pooled.lower_leaks:
        leakage, interval = (prior - mean) / prior, ((prior - mean - half) / prior, (prior - mean + half) / prior)
    else:
        leakage, interval = above_guess(mean, (mean - half, mean + half), prior)
    return DefenseLeak(
        attack=name,
        variant=variant,
        leakage=leakage,
        ci95=interval,
        recovered=None,
        fields=None,
        measure=pooled,
        seconds=fmean(one.seconds for one in found),
        verdict=_verdict(interval, name, control),
    )


def above_guess(value: float, interval: Interval, prior: float) -> tuple[float, Interval]:
    """The share of what a guess gets wrong that an attack gets right, and its interval; 0 where a guess is perfect."""
    room = 1 - prior
    if room <= 0:
        return 0.0, (0.0, 0.0)
    return (value - prior) / room, ((interval[0] - prior) / room, (interval[1] - prior) / room)


def _verdict(
    interval: Interval, name: str, control: Mapping[str, DefenseLeak] | None
) -> Literal["leaks", "not measurable", "attack too weak"]:
    if interval[0] > 0:
        return "leaks"
    if control is not None and (name not in control or control[name].verdict != "leaks"):
        return "attack too weak"
    return "not measurable" if control is not None else "attack too weak"


def recovered_over_seeds(found: Sequence[AttackResult]) -> Rate:
    """Share of records rebuilt in full over several seeds, whose interval takes each seed's clients for independent.

    Sums of clients, which have no counts by client, are clusters by themselves.
    """
    pooled = _pooled([one.recovered for one in found])
    each = [
        [(one.recovered.count, round((one.recovered.value or 0.0) * one.recovered.count))]
        if not one.clients
        else [(client.records, client.recovered) for client in one.clients]
        for one in found
    ]
    counted = [pair for pairs in each for pair in pairs if pair[0]]
    if pooled.numbers is None or not counted:
        return pooled
    values = np.concatenate([np.arange(records) < hit for records, hit in counted]).astype(float)
    clusters = np.repeat(np.arange(len(counted)), [records for records, _ in counted])
    low, high = share_interval(values, clusters)
    value = pooled.numbers[0]
    return pooled.model_copy(update={"ci95": (min(low, value), max(high, value))})


def _pooled(rates: Sequence[Rate]) -> Rate:
    """One rate over several seeds, weighted by count, with an interval combined from theirs."""
    count = sum(rate.count for rate in rates)
    known = [(rate.count / count, *rate.numbers) for rate in rates if rate.numbers is not None]
    if not known:
        return rates[0]
    value = sum(share * mean for share, mean, _, _ in known)
    prior = sum(share * guess for share, _, _, guess in known)
    low = math.sqrt(sum((share * (mean - ci95[0])) ** 2 for share, mean, ci95, _ in known))
    high = math.sqrt(sum((share * (ci95[1] - mean)) ** 2 for share, mean, ci95, _ in known))
    return Rate(value=min(1.0, value), count=count, ci95=(value - low, value + high), prior=min(1.0, prior))


def difference(one: float | None, other: float | None) -> float | None:
    """One value less the other; None where either was not measurable."""
    return None if one is None or other is None else one - other


def largest_epsilon(spent: Sequence[Privacy]) -> float | None:
    """The largest epsilon of several runs; None where any of them has no guarantee."""
    claimed = [one.epsilon for one in spent if one.epsilon is not None]
    return max(claimed) if claimed and len(claimed) == len(spent) else None


def _cost(found: Sequence[float | None]) -> Cost:
    spread = None if None in found else Spread.over(found)
    return Cost(value=None, ci95=None) if spread is None else Cost(value=spread.mean, ci95=spread.ci95)


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return fmean(listed) if listed else 0.0


def _ratio(pairs: Iterable[tuple[float, float]]) -> float:
    listed = [one / other for one, other in pairs if other]
    return fmean(listed) if listed else 0.0
