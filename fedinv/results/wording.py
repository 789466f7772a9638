"""Numbers of results as readers see them: percentages, counts, epsilons and units."""

import math

from fedinv.results.run import Measure, Privacy, Rate, Utility


def hits(rate: Rate) -> int:
    """How many of a rate's count are right."""
    return round(rate.value * rate.count)


def percent(share: float) -> str:
    """A share as "41.0 %"; what is neither nothing nor all never reads as if it were."""
    if 0 < share < 0.0005:
        return "<0.1 %"
    if 0.9995 <= share < 1:
        return ">99.9 %"
    return f"{100 * share:.1f} %"


def measure_text(measure: Measure, at: float | None = None) -> tuple[str, str, str | None]:
    """A measure's value (or another of its scale, `at`), the guess, and the bound where there is one."""

    def text(value: float) -> str:
        return percent(value).replace(" ", "") if measure.share else f"{value:.3g}"

    bound = None if measure.bound is None else text(measure.bound)
    return text(measure.value if at is None else at), text(measure.prior), bound


def epsilon_text(epsilon: float) -> str:
    """An epsilon rounded up, as it is an upper bound: one decimal, two below 1."""
    digits = 1 if epsilon >= 1 else 2
    return f"{math.ceil(round(epsilon * 10**digits, 6)) / 10**digits:.{digits}f}"


def unit_text(privacy: Privacy) -> str:
    """What an epsilon protects: one record, or all of a client."""
    return "record" if privacy.unit == "example" else "client"


def metric_text(utility: Utility) -> str:
    """What the model's use is measured by."""
    return "AUC" if utility.metric == "auc" else "R\u00b2"


UNITS = {"example": "record", "client": "client"}


def points(value: float) -> str:
    """A difference of a metric in points, of which 1 has 100."""
    return f"{100 * value:.1f} points"
