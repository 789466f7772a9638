"""Conclusions from a comparison: which stacks of defenses are dominated, and which one to use."""

import math
from collections.abc import Sequence

from fedinv.results.comparison import NONE, Domination, Row
from fedinv.results.wording import UNITS, epsilon_text, points


def dominated(found: Sequence[Row]) -> list[Domination]:
    """Stacks to which another is preferable: no more leakage, no more utility lost, and measurably less of either."""
    told = []
    for row in found:
        better = [other for other in found if other is not row and _dominates(other, row)]
        if better and row.worst is not None:
            best = min(better, key=lambda other: (other.worst.leakage if other.worst else 1.0, _lost(other)))
            assert best.worst is not None
            says = (
                f"{row.defenses} is dominated by {best.defenses}: {100 * best.worst.leakage:.0f} against "
                f"{100 * row.worst.leakage:.0f} % leaked at worst, {points(_lost(best))} against "
                f"{points(_lost(row))} lost"
            )
            told.append(Domination(defenses=row.defenses, by=best.defenses, says=says))
    return told


def recommendation(found: Sequence[Row], limit: float, metric: str) -> str:
    """Recommend, in a sentence or two, the stack that leaks least among those that lose at most `limit` of the metric.

    Among stacks whose leaks do not differ beyond the interval, one with a guarantee is preferred, then the cheapest.
    """
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
        return f"{allowed}: none of the defenses keeps that; {cheapest.defenses} loses {points(_lost(cheapest))}."
    least = min(within, key=lambda row: row.worst.leakage)  # type: ignore[union-attr]
    plain = next((row.worst for row in told if row.defenses == NONE), None)
    if least.worst is not None and plain is not None and least.worst.ci95[1] >= plain.ci95[0]:
        names = ", ".join(row.defenses for row in within)
        nothing = f"{allowed}: nothing that keeps it ({names}) leaks measurably less than no defense at all."
        return nothing + _instead(told)
    level = [row for row in within if row.worst.leakage <= least.worst.ci95[1]]  # type: ignore[union-attr]
    best = min(level, key=lambda row: (not row.guaranteed, _lost(row)))
    worst = best.worst
    assert worst is not None
    stopped = worst.verdict == "not measurable"
    share = f"{100 * worst.leakage:.0f} % of what a guesser gets wrong ({worst.attack}, {worst.variant})"
    leaked = f"the least leaks with {best.defenses}, and that is {share}"
    if stopped:
        leaked = f"take {best.defenses}; of what a guesser gets wrong nothing measurable leaks"
    held = UNPROVEN if stopped else "nothing is guaranteed"
    if best.guaranteed and best.epsilon is not None:
        held = f"guaranteed is epsilon {epsilon_text(best.epsilon)} per {UNITS[str(best.unit)]}"
    low, high = best.lost.ci95 or (_lost(best), _lost(best))
    more = "" if high <= limit else f" (between {points(low)} and {points(high)}, so the limit may be broken)"
    said = f"{allowed}: {leaked}, {points(_lost(best))} are lost{more}, and {held}."
    return said if stopped else said + _instead(told)


def _instead(told: Sequence[Row]) -> str:
    """A sentence on the cheapest stack that leaks nothing measurable, and its loss; empty where there is none."""
    holding = [row for row in told if row.worst is not None and row.worst.verdict == "not measurable"]
    if not holding:
        return ""
    cheapest = min(holding, key=_lost)
    return f" What leaks nothing measurable costs more: {cheapest.defenses}, {points(_lost(cheapest))}."


UNPROVEN = "nothing is guaranteed, as it is a heuristic that these attacks did not break"


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
    less = one.worst.ci95[1] < other.worst.ci95[0] or bool(cheaper)
    weaker = other.guaranteed and not one.guaranteed
    return no_more and less and not weaker
