"""The matrices of comparisons and duels as LaTeX tables in the style of booktabs."""

from collections.abc import Sequence

from fedinv.report.comparison_page import epsilon, lost
from fedinv.results.comparison import Comparison, DefenseLeak, Row
from fedinv.results.duel import COMBINED, Duel, Share
from fedinv.results.wording import metric_value, shown_leakage

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


def _share(found: Share | None) -> str:
    if found is None:
        return "--"
    return f"{100 * found.value:.0f} [{100 * found.ci95[0]:.0f}, {100 * found.ci95[1]:.0f}]"
