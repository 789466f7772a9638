"""The outcomes of runs, replications, comparisons and duels as LaTeX tables in the style of booktabs."""

from collections.abc import Sequence

from fedinv.report.comparison_page import epsilon, lost
from fedinv.report.frames import measured
from fedinv.results.comparison import Comparison, DefenseLeak, Row
from fedinv.results.duel import COMBINED, Duel, Share
from fedinv.results.replication import Replication
from fedinv.results.run import Results
from fedinv.results.wording import metric_value, shown_leakage, spread_text

ESCAPED = {
    "\\": r"\textbackslash{}",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\u00b1": r"$\pm$",
    "\u03b5": r"$\varepsilon$",
    "<": r"$<$",
    ">": r"$>$",
}
"""LaTeX of each character that means something else in LaTeX, or that its fonts lack."""

WORDS = {"field_accuracy": "fields right", "reidentified": "traced to a person", "psnr": "PSNR", "ssim": "SSIM"}
"""Words for a run's measures, by name, where they are not the name itself."""


def run_table(found: Results) -> str:
    """A run's measures as such a file: a line each, shares in percent, with the interval, the guess and the count."""
    heads = ["Attack", "Variant", "Target", "Measure", "Value", "Guess", "Count"]
    rows = []
    for one in measured(found):
        value, low, high, guess = (_number(one[key], one["share"]) for key in ("value", "low", "high", "guess"))
        cell = value if one["low"] is None else f"{value} [{low}, {high}]"
        named = [str(one[key]) for key in ("attack", "variant", "target")]
        rows.append([*named, WORDS.get(one["measure"], one["measure"]), cell, guess, str(one["count"])])
    return _tabular("shares in percent, [95 % interval]", "llllrrr", [heads, *rows])


def replication_table(found: Replication) -> str:
    """A replication's measures as such a file: a line each, mean and standard deviation over the seeds."""
    heads = ["Attack", "Variant", "Target", "Measure", "Value", "Guess", "Count"]
    rows = [
        [one.attack, one.variant, one.target, one.measure, *spreads, str(one.count)]
        for one in found.measures
        for spreads in [[spread_text(spread, one.share) for spread in (one.value, one.guess)]]
    ]
    said = f"mean \u00b1 standard deviation over {len(found.seeds)} seeds"
    return _tabular(said, "llllrrr", [heads, *rows])


def table(found: Comparison) -> str:
    """The table as a file for LaTeX's input command: leakage with its interval, percent; utility, its loss, epsilon."""
    variants = [(attack, variant) for attack in found.attacks for variant in ("static", "adaptive")]
    variants = [one for one in variants if any(_leak(row, *one) for row in found.rows)]
    heads = ["Defenses", *(f"{a} ({v})" for a, v in variants), found.metric, "lost", "epsilon"]
    rows = []
    for row in found.rows:
        leaks = [_cell(_leak(row, *one)) for one in variants]
        rows.append([row.defenses, *leaks, metric_value(row.utility.value), lost(row), epsilon(row)])
    return _tabular("leakage in percent above a guess, [95 % interval]", f"l{'r' * len(variants)}rrl", [heads, *rows])


def duel_table(found: Duel) -> str:
    """A duel's matrix as such a file: percent of messages flagged at 1 % false alarms with the interval.

    The last row are honest messages. "--" where too few of them set a threshold.
    """
    columns = [*found.detectors, COMBINED]
    shares = {(one.deviation, one.detector): one.at_1 for one in found.seen}
    rows = [[name, *(_share(shares.get((name, kind))) for kind in columns)] for name in found.deviations]
    alarms = {one.detector: one.at_1 for one in found.alarms}
    rows.append(["honest", *(_share(alarms.get(kind)) for kind in columns)])
    said = "percent of messages flagged at 1 % false alarms, [95 % interval]"
    return _tabular(said, f"l{'r' * len(columns)}", [["Deviation", *columns], *rows])


def _tabular(says: str, columns: str, rows: Sequence[Sequence[str]]) -> str:
    """A table whose first row are its heads, with a comment on what it holds."""
    heads, *lines = (rf"{' & '.join(map(escaped, row))} \\" for row in rows)
    begin = [f"% \\usepackage{{booktabs}}; {says}", rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    return "\n".join([*begin, heads, r"\midrule", *lines, r"\bottomrule", r"\end{tabular}", ""])


def escaped(text: str) -> str:
    """A text as LaTeX shows it."""
    return "".join(ESCAPED.get(letter, letter) for letter in text)


def _leak(row: Row, attack: str, variant: str) -> DefenseLeak | None:
    return next((leak for leak in row.leaks if (leak.attack, leak.variant) == (attack, variant)), None)


def _cell(leak: DefenseLeak | None) -> str:
    if leak is None:
        return "--"
    if leak.verdict == "attack too weak":
        return "weak"
    value, low, high = (f"{100 * shown_leakage(one):.0f}" for one in (leak.leakage, *leak.ci95))
    return f"{value} [{low}, {high}]"


def _number(value: float | None, share: bool) -> str:
    """A share in percent with one decimal, another number with three digits; "--" for None."""
    if value is None:
        return "--"
    return f"{100 * value:.1f}" if share else f"{value:.3g}"


def _share(found: Share | None) -> str:
    if found is None:
        return "--"
    return f"{100 * found.value:.0f} [{100 * found.ci95[0]:.0f}, {100 * found.ci95[1]:.0f}]"
