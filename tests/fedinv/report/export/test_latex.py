from fedinv.report.export import latex
from fedinv.results.comparison import Comparison, Cost, DefenseLeak, Row

LEAK = DefenseLeak(
    attack="gradient_matching", variant="static", leakage=0.4, ci95=(0.2, 0.61), recovered=None, fields=None,
    seconds=1.0, verdict="leaks",
)  # fmt: skip
WEAK = LEAK.model_copy(update={"variant": "adaptive", "verdict": "attack too weak"})


def row(name, leaks, epsilon=None):
    return Row(
        defenses=name, runs=[], leaks=leaks, utility=Cost(value=0.8, ci95=None),
        lost=Cost(value=0.01, ci95=(0.0, 0.02)),
        epsilon=epsilon, unit="example" if epsilon else None, against_server=True, bytes_up=1, bytes_ratio=1, seconds=1,
        seconds_ratio=1, failed=[],
    )  # fmt: skip


def comparison(rows):
    return Comparison(
        scenario="s", seeds=[1], metric="AUC", attacks=["gradient_matching"], rows=rows, failed={}, dominated=[],
        limit=0.02, recommendation="",
    )  # fmt: skip


def test_the_table_has_a_line_a_row_and_a_column_a_variant():
    text = latex.table(comparison([row("none", [LEAK]), row("dp-sgd:clip=1 & 50%_x", [LEAK, WEAK], 8.0)]))
    lines = [line for line in text.splitlines() if line.endswith(r"\\")]
    head, none, noisy = (line.removesuffix(r"\\").split(" & ") for line in lines)
    assert head[1].strip() == r"gradient\_matching (static)"
    assert none[1:3] == ["40 [20, 61]", "--"]
    assert none[4].strip() == r"+1.0 $\pm$ 1.0"
    assert " & ".join(noisy).startswith(r"dp-sgd:clip=1 \& 50\%\_x & 40 [20, 61] & weak & 0.800")
    assert text.index(r"\toprule") < text.index(r"\midrule") < text.index(r"\bottomrule")
    assert r"\begin{tabular}{lrrrrl}" in text


def test_what_latex_would_read_otherwise_is_escaped():
    assert latex.escaped(r"\input{x}$^~#") == r"\textbackslash{}input\{x\}\$\textasciicircum{}\textasciitilde{}\#"
