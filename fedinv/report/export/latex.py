"""A comparison's matrix as a LaTeX table in the style of booktabs."""

from fedinv.report.comparison_page import epsilon, lost
from fedinv.results.comparison import Comparison, DefenseLeak, Row
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
    heads = " & ".join(
        ["Defenses", *(rf"{escaped(a)} ({v})" for a, v in variants), escaped(found.metric), "lost", "epsilon"]
    )
    lines = [
        "% \\usepackage{booktabs}; leakage in percent above a guess, [95 % interval]",
        rf"\begin{{tabular}}{{l{'r' * len(variants)}rrl}}",
        r"\toprule",
        rf"{heads} \\",
        r"\midrule",
    ]
    for row in found.rows:
        cells = [escaped(row.defenses), *(_cell(_leak(row, *one)) for one in variants)]
        cells += [escaped(metric_value(row.utility.value)), escaped(lost(row)), escaped(epsilon(row))]
        lines.append(rf"{' & '.join(cells)} \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


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
