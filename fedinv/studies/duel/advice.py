"""A duel's recommendation: which detectors to switch on, and plainly what they do not hold off."""

from collections.abc import Sequence

from fedinv.results.duel import COMBINED, Duel, Evasion, Opponent
from fedinv.results.wording import hits, percent
from fedinv.studies.duel.detection import TRAININGS

PUSHED = 0.2
"""Share of the records of a deviation that evades nothing below which an adaptive one counts as held off."""
WANTED = 0.99
"""Share of messages of a deviation that must be flagged for it to count as seen."""


def advice(found: Duel) -> str:
    """Recommend the best combination in a paragraph, with its false alarms, what it misses, and who gets past it."""
    if not found.deviations:
        return "No deviation fits this scenario: nothing is known of detectors."
    if not found.combinations:
        needed = f"{found.honest[0]} honest messages set no threshold at 1 % false alarms, 100 are needed: more --seeds"
        return f"{needed}."
    return " ".join([_taken(found), _missed(found), _past(found)]).strip()


def _taken(found: Duel) -> str:
    best = found.combinations[-1]
    names = " + ".join(f"{one.detector} above {one.threshold:.3g}" for one in best.members)
    alarms = next(one for one in found.alarms if one.detector == COMBINED)
    real = alarms.at_01 if best.rate < 0.01 else alarms.at_1
    said = f"Switch on {names}"
    if real is not None:
        said += (
            f": set for {100 * best.rate:g} % false alarms, it had {percent(real.value)} on {real.count} honest "
            f"messages of other seeds ({found.models[1]} models)"
        )
    if len(found.threshold_seeds) < TRAININGS:
        said += (
            f"; {len(found.threshold_seeds)} trainings say nothing of how trainings differ, so that it holds for these "
            f"alone: --seeds {TRAININGS} or more"
        )
    return said + "."


def _missed(found: Duel) -> str:
    """Sentences on the deviations that are flagged in at least 99 % of their messages, and on those that are not."""
    rate = found.combinations[-1].rate
    shares = {one.deviation: one.at_01 if rate < 0.01 else one.at_1 for one in found.seen if one.detector == COMBINED}
    known = {name: one for name, one in shares.items() if one is not None}
    missed = [f"{name} ({percent(one.value)})" for name, one in known.items() if one.value < WANTED]
    said = (
        f"At that rate it flags at least 99 % of the messages of {len(known) - len(missed)} of {len(known)} deviations"
    )
    return f"{said}; less of {', '.join(missed)}." if missed else f"{said}."


def _past(found: Duel) -> str:
    """Sentences on adaptive deviations: who gets 20 % or more of its records past clients that refuse."""
    readers = [one for one in found.opponents if one.recovered is not None and hits(one.recovered)]
    if not readers:
        return "No deviation recovered a record here, so nothing is said of adaptive ones."
    tried = {one.deviation: [e for e in found.evasions if e.deviation == one.deviation] for one in readers}
    tried = {name: evasions for name, evasions in tried.items() if any(not e.plain for e in evasions)}
    if not tried:
        return "Adaptive deviations were not tried: nothing is known of what they get."
    best = {name: _best(evasions) for name, evasions in tried.items()}
    through = [
        (one, past)
        for one in readers
        if (past := best.get(one.deviation)) is not None and _relative(one, past) >= PUSHED
    ]
    said = (
        f"Deviations that know these detectors, at 1 % false alarms: {len(tried) - len(through)} of {len(tried)} are "
        "held below 20 % of their records where clients refuse what they flag"
    )
    if through:
        named = ", ".join(
            f"{one.deviation} ({past.how or 'as it is'}: {percent(past.past)} of all records, flagged in "
            f"{percent(past.flagged.value)} of messages)"
            for one, past in through
        )
        said += f"; NOT held off: {named}."
    else:
        said += ", by the evasions that were tried; others may do better."
    models = [one for evasions in tried.values() for one in evasions if one.honest]
    most = max(models, key=lambda one: one.recovered.value or 0.0, default=None)
    if most is not None and hits(most.recovered):
        said += (
            f" The model itself, read as {most.deviation} is, gives {percent(most.recovered.value)} of the records, "
            "which no vetting holds off."
        )
    return said


def _best(evasions: Sequence[Evasion]) -> Evasion | None:
    """The evasion, or the plain deviation, that gets most records past refusing clients; the model itself is none."""
    return max((one for one in evasions if not one.honest), key=lambda one: one.past, default=None)


def _relative(one: Opponent, best: Evasion) -> float:
    """Records past refusing clients over those that the plain deviation gets from clients that do not vet."""
    whole = one.recovered.value if one.recovered is not None else None
    return best.past / whole if whole else 0.0
