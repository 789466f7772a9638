"""Conclusions from a comparison: which stacks of defenses are dominated, and which one to use."""

import math
from collections.abc import Collection, Sequence

from fedinv.results.comparison import NONE, Domination, Row, Worst
from fedinv.results.wording import UNITS, epsilon_text, points, unfinished_text

WEAK = 10.0
"""Epsilon above which a guarantee is called weak: it lets odds of membership grow by a factor of exp(10) = 22,000."""
UNPROVEN = "a heuristic that guarantees nothing: an attack that was not run may break it"


def dominated(found: Sequence[Row]) -> list[Domination]:
    """Stacks to which another is preferable: no more leakage, no more utility lost, and measurably less of either.

    Leakage is the largest over all attacks that were run. A stack with a guarantee is not dominated by one without.
    """
    told = []
    for row in found:
        better = [other for other in found if other is not row and _dominates(other, row)]
        if better and row.worst is not None:
            best = min(better, key=lambda other: (other.worst.leakage if other.worst else 1.0, _lost(other)))
            assert best.worst is not None
            says = (
                f"{row.defenses} is dominated by {best.defenses} under the attacks that were run: "
                f"{100 * best.worst.leakage:.0f} against {100 * row.worst.leakage:.0f} % leaked at worst, "
                f"{points(_lost(best))} against {points(_lost(row))} lost"
            )
            told.append(Domination(defenses=row.defenses, by=best.defenses, says=says))
    return told


def recommendation(found: Sequence[Row], limit: float, metric: str, not_tried: Collection[str] = ()) -> str:
    """Recommend, in a few sentences, the stack that leaks least among those that lose at most `limit` of the metric.

    Among stacks whose leaks do not differ beyond the interval, one with a guarantee is preferred, then the cheapest.
    What has none is never said to leak nothing: it withstood the attacks that were run. `not_tried` are the kinds of
    attack that were not.
    """
    return _conclusion(found, limit, metric) + _left_open(not_tried)


def _conclusion(found: Sequence[Row], limit: float, metric: str) -> str:
    if found and all(row.lost.value is None for row in found):
        return f"{metric} is not measurable on the held-out records, so no defense's cost is: nothing is recommended."
    told = [row for row in found if row.worst is not None and row.lost.value is not None]
    if not told:
        return "No attack was strong enough to tell the defenses apart: nothing can be recommended."
    within = [row for row in told if _lost(row) <= limit and row.defenses != NONE]
    allowed = f"At most {points(limit)} of {metric}"
    if not within:
        cheapest = min((row for row in told if row.defenses != NONE), key=_lost, default=None)
        if cheapest is None:
            return "Only the scenario without defenses was run: there is nothing to recommend."
        return (
            f"{allowed}: none of the defenses keeps that; {cheapest.defenses} loses {points(_lost(cheapest))}."
            + _guarantee(told, cheapest)
        )
    plain = next((row.worst for row in told if row.defenses == NONE), None)
    least = min(within, key=_leaked)
    if least.worst is not None and plain is not None and not _leaks_less(least.worst, plain):
        names = ", ".join(row.defenses for row in within)
        return f"{allowed}: nothing that keeps it ({names}) leaks measurably less than no defense at all." + _instead(
            told
        )
    level = [row for row in within if least.worst and row.worst and not _leaks_less(least.worst, row.worst)]
    best = min(level, key=lambda row: (not row.guaranteed, _lost(row)))
    assert best.worst is not None
    return (
        f"{allowed}: {_taken(best, best.worst, limit)}."
        + _ended(found, best)
        + (_guarantee(told, best) if best.worst.verdict == "not measurable" else _instead(told))
    )


def _taken(best: Row, worst: Worst, limit: float) -> str:
    """What speaks for the best stack, what it costs, and what it does not promise."""
    low, high = best.lost.ci95 or (_lost(best), _lost(best))
    more = "" if high <= limit else f" (between {points(low)} and {points(high)}, so the limit may be broken)"
    cost = f"{points(_lost(best))} are lost{more}"
    if worst.verdict == "leaks":
        held = guaranteed(best) or "nothing is guaranteed"
        at_worst = "" if worst.client is None else f"; at the worst client {_client(worst)}"
        return (
            f"the least leaks with {best.defenses}, and that is {100 * worst.leakage:.0f} % of what a guesser gets "
            f"wrong ({worst.attack}, {worst.variant}{at_worst}), {cost}, and {held}"
        )
    tried = f"the {len(worst.attacks)} attacks run on it" if len(worst.attacks) > 1 else "the one attack run on it"
    gained = f"{tried} told nothing measurable beyond a guess ({', '.join(worst.attacks)})"
    if best.guaranteed:
        return f"take {best.defenses}: {guaranteed(best)}, {cost}, and {gained}"
    return f"{best.defenses} withstood: {gained}, and {cost}; but it is {UNPROVEN}"


def guaranteed(row: Row) -> str:
    """What is guaranteed against the server, such as "guaranteed is epsilon 3.0 per record"; empty without that."""
    if not row.guaranteed or row.epsilon is None:
        return ""
    weak = f" (weak: above {WEAK:.0f} it bounds little)" if row.epsilon > WEAK else ""
    return f"guaranteed is epsilon {epsilon_text(row.epsilon)} per {UNITS[str(row.unit)]}{weak}"


def _client(worst: Worst) -> str:
    assert worst.client is not None
    return f"{worst.client.recovered} of {worst.client.records} records in full"


def _instead(told: Sequence[Row]) -> str:
    """Sentences on the cheapest stacks, with a guarantee and without, that withstood all attacks, and their loss."""
    holding = [row for row in told if row.worst is not None and row.worst.verdict == "not measurable"]
    safe = [row for row in holding if row.guaranteed]
    if safe:
        cheapest = min(safe, key=_lost)
        return (
            f" What leaks nothing measurable and guarantees something costs more: {cheapest.defenses} loses "
            f"{points(_lost(cheapest))}, {guaranteed(cheapest)}.{_ended(told, cheapest)}"
        )
    if not holding:
        return ""
    cheapest = min(holding, key=_lost)
    return (
        f" What withstood the attacks that were run costs more: {cheapest.defenses} loses {points(_lost(cheapest))}, "
        f"and is {UNPROVEN}.{_ended(told, cheapest)}"
    )


def _guarantee(told: Sequence[Row], chosen: Row) -> str:
    """A sentence on the cheapest stack with a guarantee where the chosen one has none; empty where there is none."""
    safe = [row for row in told if row.guaranteed]
    if chosen.guaranteed or not safe:
        return ""
    cheapest = min(safe, key=_lost)
    return f" With a guarantee: {cheapest.defenses} loses {points(_lost(cheapest))}, {guaranteed(cheapest)}."


def _ended(found: Sequence[Row], chosen: Row) -> str:
    """A sentence on the attacks that limits of their own ended on the chosen stack, but not without defenses."""
    before = next((row.unfinished for row in found if row.defenses == NONE), {})
    told = {name: limits for name, limits in chosen.unfinished.items() if name not in before}
    return f" Not tried to the end on {chosen.defenses}: {unfinished_text(told)}." if told else ""


def _left_open(not_tried: Collection[str]) -> str:
    return f" Not tried, so nothing is known of them: {', '.join(not_tried)}." if not_tried else ""


def _leaked(row: Row) -> float:
    return math.inf if row.worst is None else row.worst.leakage


def _leaks_less(one: Worst, other: Worst) -> bool:
    """Whether one leaks measurably less: the 95 % interval of the difference lies above 0.

    Its lower end is the difference less the two intervals' distances squared and added (Newcombe 1998, method 10).
    """
    apart = math.hypot(one.ci95[1] - one.leakage, other.leakage - other.ci95[0])
    return other.leakage - one.leakage > apart


def _lost(row: Row) -> float:
    """Loss of the metric; infinite where it cannot be measured, so that such a row is never preferred."""
    return math.inf if row.lost.value is None else row.lost.value


def _dominates(one: Row, other: Row) -> bool:
    if one.worst is None or other.worst is None or NONE in (one.defenses, other.defenses):
        return False
    if one.lost.value is None or other.lost.value is None:
        return False
    no_more = one.worst.leakage <= other.worst.leakage and one.lost.value <= other.lost.value
    cheaper = one.lost.ci95 and other.lost.ci95 and one.lost.ci95[1] < other.lost.ci95[0]
    less = _leaks_less(one.worst, other.worst) or bool(cheaper)
    weaker = other.guaranteed and not one.guaranteed
    return no_more and less and not weaker
