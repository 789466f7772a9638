"""Numbers of results as readers see them: percentages, counts, epsilons and units."""

import math
from collections.abc import Mapping, Sequence

from fedinv.results.comparison import Worst
from fedinv.results.ranking import worst_of_several
from fedinv.results.replication import Spread
from fedinv.results.run import AttackResult, InferenceResult, Measure, Privacy, Rate, Utility, VettedRound

NOT_MEASURABLE = "not measurable"
"""Words for a value that is None: there was nothing to judge."""
VETTED = 4
"""Findings of clients' detectors that are written out in one line."""


def hits(rate: Rate) -> int:
    """Number of hits behind a rate: its value times its count; 0 where nothing was judged."""
    return 0 if rate.value is None else round(rate.value * rate.count)


def headline(said: str) -> tuple[str, str]:
    """The first of some sentences, and the others."""
    first, stop, others = said.partition(". ")
    return (f"{first}.", others) if stop else (said, "")


def weak_text(attacks: Sequence[str]) -> str:
    """A sentence on attacks that gain nothing without defenses either; empty without one."""
    if not attacks:
        return ""
    return f"Too weak to tell of any defense, as without one a guess does as well: {', '.join(attacks)}."


def outcome_text(found: AttackResult | InferenceResult) -> str:
    """An attack's result in a few words, as "64 of 64 records"; its measure and value where it asks something else."""
    if isinstance(found, AttackResult):
        return f"{hits(found.recovered)} of {found.recovered.count} records"
    if not found.measures:
        return NOT_MEASURABLE
    value, prior, _ = measure_text(found.measures[0])
    return f"{found.measures[0].name} {value}, guess {prior}"


def worst_text(found: AttackResult) -> str:
    """The client that an attack hits worst, as "client 3: 19 of 19"; empty for one client, and for a sum that held."""
    one = worst_of_several(found)
    return "" if one is None else f"client {one.client}: {one.recovered} of {one.records}"


def counted_text(attacks: Sequence[AttackResult]) -> str:
    """What rates count where several records are one person's, as one sentence; empty where none are."""
    again = next((one for one in attacks if 0 < one.recovered.count < one.records), None)
    if again is None:
        return ""
    return (
        f"Behind {again.records} records, of several rounds or rows, are {again.recovered.count} people, and each "
        "counts once: as recovered where any of the records is, as right by the mean over them."
    )


def leaked_text(worst: Worst | None) -> str:
    """A row's largest leakage with its interval, as "86 % [62-100]"; in words where no attack could tell."""
    if worst is None:
        return "no attack strong enough"
    return f"{100 * worst.leakage:.0f} % [{100 * worst.ci95[0]:.0f}-{100 * worst.ci95[1]:.0f}]"


def shown_leakage(leakage: float) -> float:
    """A leakage as readers see it: 0 where it lies below a guess, which reveals nothing."""
    return max(0.0, leakage)


def by_reason(reasons: Mapping[str, str]) -> list[str]:
    """Names with the same reason together, a phrase for each reason, as "labels, property: not named"."""
    found: dict[str, list[str]] = {}
    for name, why in reasons.items():
        found.setdefault(why, []).append(name)
    return [f"{', '.join(names)}: {why}" for why, names in found.items()]


def unfinished_text(unfinished: Mapping[str, Sequence[str]]) -> str:
    """Attacks that a limit of their own ended before they were done, each with its limits, as one phrase."""
    return ", ".join(f"{name} ({'; '.join(limits)})" for name, limits in unfinished.items())


def not_to_the_end(unfinished: Mapping[str, Mapping[str, Sequence[str]]]) -> list[str]:
    """Limits that ended attacks, by place and attack, as "zeros, at the last round: its 30 seconds were over".

    The places of the same attack and limit stand together; where they are most of all, the others are named.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for place, ended in unfinished.items():
        for name, limits in ended.items():
            for limit in limits:
                found.setdefault((name, limit), []).append(place)

    def where(places: Sequence[str]) -> str:
        others = [place for place in unfinished if place not in places]
        if len(others) >= len(places):
            return f"at {', '.join(places)}"
        return f"everywhere but at {', '.join(others)}" if others else "everywhere"

    return [f"{name}, {where(places)}: {limit}" for (name, limit), places in found.items()]


def vetting_text(found: Sequence[VettedRound]) -> str | None:
    """What the clients' detectors found, as one line: each that flagged weights, and how many flagged none.

    None where no detector looked.
    """
    if not found:
        return None
    kinds = dict.fromkeys(one.detector for one in found)
    flagged = [one for one in found if one.flagged]
    said = [
        f"{one.detector} flagged the weights sent to {one.flagged} of {one.looked} clients in round {one.round} "
        f"({one.action})"
        for one in flagged[:VETTED]
    ]
    if len(flagged) > VETTED:
        said.append(f"{len(flagged) - VETTED} more, see results.json")
    quiet = len(kinds) - len({one.detector for one in flagged})
    if quiet:
        others = (
            f"{quiet} other{'' if quiet == 1 else 's'}" if flagged else f"{quiet} detector{'' if quiet == 1 else 's'}"
        )
        said.append(f"{others} flagged nothing")
    return "; ".join(said)


def percent(share: float | None) -> str:
    """A share as "41.0 %"; only 0 reads "0.0 %", only 1 reads "100.0 %", and None reads "not measurable"."""
    if share is None:
        return NOT_MEASURABLE
    if 0 < share < 0.0005:
        return "<0.1 %"
    if 0.9995 <= share < 1:
        return ">99.9 %"
    return f"{100 * share:.1f} %"


def measure_text(measure: Measure, at: float | None = None) -> tuple[str, str, str | None]:
    """A measure's value (or `at` instead), its prior and its bound in its unit, as texts; None for no bound."""

    def text(value: float | None) -> str:
        if value is None:
            return NOT_MEASURABLE
        return percent(value).replace(" ", "") if measure.share else f"{value:.3g}"

    bound = None if measure.bound is None else text(measure.bound)
    return text(measure.value if at is None else at), text(measure.prior), bound


def epsilon_text(epsilon: float) -> str:
    """An epsilon rounded up, as it is an upper bound: one decimal, two below 1."""
    digits = 1 if epsilon >= 1 else 2
    return f"{math.ceil(round(epsilon * 10**digits, 6)) / 10**digits:.{digits}f}"


def no_epsilon_text(exceeds: float | None) -> str:
    """What stands for an epsilon where there is no guarantee: "none", or "> 10^6: none" where noise is too weak."""
    return "none" if exceeds is None else f"> 10^{math.log10(exceeds):.0f}: none"


def unit_text(privacy: Privacy) -> str:
    """Unit that an epsilon protects: "record" or "client"."""
    return "record" if privacy.unit == "example" else "client"


def metric_text(utility: Utility) -> str:
    """Name of the utility metric: AUC or R²."""
    return "AUC" if utility.metric == "auc" else "R\u00b2"


def unlearned(utility: Utility) -> str:
    """Warning that a model trained without defenses is not measurably better than chance; empty where it is."""
    plain = utility.undefended or utility
    chance = 0.5 if utility.metric == "auc" else 0.0
    if plain.value is None or plain.ci95 is None or plain.ci95[0] > chance:
        return ""
    where = " even without defenses" if utility.undefended else ""
    return (
        f"the model is not measurably better than {'chance' if utility.metric == 'auc' else 'the mean'}{where} "
        f"({metric_text(utility)} {metric_value(plain.value)}), so what a defense costs cannot be told: "
        "train longer, or change training.lr"
    )


UNITS = {"example": "record", "client": "client"}
"""Words for the units that epsilon protects, by the name of the unit in results."""


def metric_value(value: float | None) -> str:
    """A utility metric as "0.912"; None reads "not measurable"."""
    return NOT_MEASURABLE if value is None else f"{value:.3f}"


def points(value: float) -> str:
    """A difference of a metric in points (hundredths), as "1.5 points"."""
    return f"{100 * value:.1f} points"


def spread_text(spread: Spread, share: bool) -> str:
    """A mean and its standard deviation, as "43.1 ± 2.0 %" of a share and "0.813 ± 0.012" of another number."""
    if share:
        deviation = "" if spread.sd is None else f" ± {100 * spread.sd:.1f}"
        return f"{100 * spread.mean:.1f}{deviation} %"
    return f"{spread.mean:.3f}" + ("" if spread.sd is None else f" ± {spread.sd:.3f}")
