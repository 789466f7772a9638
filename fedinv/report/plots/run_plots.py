"""The report's plots: color-blind safe (Okabe and Ito 2008), legible on a phone and on paper."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from fedinv.report import reading
from fedinv.report.plots import reliability, roc
from fedinv.report.plots.canvas import BLUE, GREEN, PALE, PURPLE, VERMILION, Plot
from fedinv.report.reading import Run
from fedinv.results.run import AttackResult, Calibration, Curve, Rate, Utility
from fedinv.results.wording import metric_text


def draw(run: Run) -> dict[str, Plot]:
    """Every plot for which the run has numbers, by name."""
    attacks, columns = run.results.attacks, reading.by_column(run)
    drawn = {} if run.results.utility.value is None else {"utility": utility(run.results.utility)}
    if any(attack.records for attack in attacks):
        drawn["leakage"] = leakage(attacks, reading.labels(attacks))
    if columns:
        drawn["columns"] = by_column(columns)
    calibrated = reading.calibrated(run)
    if calibrated:
        drawn["confidence"] = confidence(calibrated)
    curves = [
        (label, one.curve)
        for label, one in zip(reading.labels(run.results.inferences), run.results.inferences, strict=True)
        if one.curve is not None
    ]
    if curves:
        drawn["roc"] = characteristics(curves)
    return drawn


def characteristics(curves: Sequence[tuple[str, Curve]]) -> Plot:
    """ROC curves of membership attacks: true against false positive rates, by the attack's name."""

    def fill(figure: Any) -> None:
        roc.fill(
            figure.subplots(),
            [(in_lines(name, 40), one) for name, one in curves],
            (BLUE, GREEN, PURPLE),
            VERMILION,
        )
        _legend(figure, [("chance", "--", VERMILION)])

    return Plot(4.4, fill)


def leakage(attacks: Sequence[AttackResult], labels: Sequence[str]) -> Plot:
    """Each attack's rates with 95 % intervals beside the guess: fields right, records recovered, people traced."""
    field = next((a.element for a in attacks if a.images), "field")
    panels: list[tuple[str, list[Rate | None]]] = [
        (f"{field.capitalize()}s right", [a.field_accuracy for a in attacks]),
        (f"Records recovered (every {field} right)", [a.recovered for a in attacks]),
        ("Traced to the right person", [a.reidentified for a in attacks]),
    ]
    panels = [panel for panel in panels if any(rate and rate.count for rate in panel[1])]
    wrapped = [in_lines(label, 22) for label in labels]
    lines = sum(label.count("\n") + 1 for label in wrapped)

    def fill(figure: Any) -> None:
        axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for ax, (title, rates) in zip(axes, panels, strict=True):
            ax.set_title(title)
            for y, rate in enumerate(rates):
                if rate is not None and rate.numbers is not None:
                    value, interval, prior = rate.numbers
                    _interval(ax, value, interval, y)
                    ax.plot(prior, y, "|", color=VERMILION, markersize=17, markeredgewidth=2.4, zorder=4)
            ax.set_yticks(range(len(wrapped)), wrapped)
            ax.set_ylim(len(wrapped) - 0.4, -0.6)
            _shares(ax, "")
        axes[-1].set_xlabel("share")
        _legend(figure, [("attack, 95 % interval", "o", BLUE), ("guess without any update", "|", VERMILION)])

    return Plot(0.9 + len(panels) * (0.62 + 0.21 * max(lines, 1.6 * len(labels))), fill)


def utility(measured: Utility) -> Plot:
    """The model's AUC or R² with its interval, beside that without defenses and that of an uninformed model.

    A value that is not measurable has no row; one of them must be measurable.
    """
    chance, least = (0.5, 0.45) if measured.metric == "auc" else (0.0, -0.05)
    knows_nothing = "chance" if measured.metric == "auc" else "the mean"
    found = [("this run", measured.value, measured.ci95)]
    if measured.undefended:
        found.append(("without defenses", measured.undefended.value, measured.undefended.ci95))
    rows = [(name, value, interval) for name, value, interval in found if value is not None and interval is not None]

    def fill(figure: Any) -> None:
        ax = figure.subplots()
        for y, (_, value, interval) in enumerate(rows):
            _interval(ax, value, interval, y)
            ax.annotate(f"{value:.3f}", (value, y), (0, 9), textcoords="offset points", ha="center", color=BLUE)
        ax.axvline(chance, color=VERMILION, linewidth=1.6, linestyle="--")
        ax.set_yticks(range(len(rows)), [name for name, _, _ in rows])
        ax.set_ylim(len(rows) - 0.4, -0.7)
        ax.set_xlim(min(least, *(interval[0] - 0.02 for _, _, interval in rows)), 1.005)
        ax.set_xlabel(f"{metric_text(measured)} on held-out records")
        _legend(figure, [("model, 95 % interval", "o", BLUE), (knows_nothing, "--", VERMILION)])

    return Plot(1.25 + 0.5 * len(rows), fill)


def by_column(columns: Sequence[tuple[str, bool, float, float]]) -> Plot:
    """The worst attack's share right for each column beside that of the guess; * marks sensitive ones."""
    names = [_short(f"{name} *" if sensitive else name, 26) for name, sensitive, _, _ in columns]

    def fill(figure: Any) -> None:
        ax = figure.subplots()
        places = np.arange(len(columns))
        ax.barh(places, [right for _, _, right, _ in columns], height=0.62, color=PALE)
        ax.plot([guess for _, _, _, guess in columns], places, "|", color=VERMILION, markersize=11, markeredgewidth=2.4)
        ax.set_yticks(places, names, fontsize=9)
        ax.set_ylim(len(columns) - 0.4, -0.6)
        _shares(ax, "share of records with this field right")
        _legend(figure, [("attack", "s", PALE), ("guess", "|", VERMILION)])

    return Plot(1.3 + 0.23 * len(columns), fill)


def confidence(calibrated: Sequence[tuple[str, Calibration]]) -> Plot:
    """Reliability diagrams: confidence against the share of claims recovered, by the attack's name."""
    rows = -(-len(calibrated) // reliability.ACROSS)
    named = [(in_lines(label, 24), found) for label, found in calibrated]
    lines = max(label.count("\n") + 2 for label, _ in named)

    def fill(figure: Any) -> None:
        axes = figure.subplots(rows, reliability.ACROSS, squeeze=False).ravel()
        for ax in axes[len(named) :]:
            ax.set_axis_off()
        reliability.fill(axes[: len(named)], named, BLUE, VERMILION)
        _legend(figure, [("claims, 95 % interval", "o", BLUE), ("honest confidence", "--", VERMILION)])

    return Plot(0.4 + rows * (2.15 + 0.17 * lines), fill)


def _interval(ax: Any, value: float, interval: tuple[float, float], y: float) -> None:
    ax.plot(interval, [y, y], color=BLUE, linewidth=2.2, solid_capstyle="butt", zorder=2)
    ax.plot(value, y, "o", color=BLUE, markersize=7.5, zorder=3)


def _shares(ax: Any, label: str, limit: bool = True) -> None:
    ticks = [0, 0.25, 0.5, 0.75, 1]
    if limit:
        ax.set_xlim(-0.02, 1.02)
    ax.set_xticks(ticks, [f"{tick:.0%}" for tick in ticks])
    ax.set_xlabel(label)


def _legend(figure: Any, entries: Sequence[tuple[str, str, str]]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D(
            [],
            [],
            color=color,
            label=label,
            linestyle="--" if mark == "--" else "none",
            marker="" if mark == "--" else mark,
            markersize=11 if mark == "|" else 8,
            markeredgewidth=2.4 if mark == "|" else 1,
        )
        for label, mark, color in entries
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=2, frameon=False, fontsize=9, handletextpad=0.4)


def in_lines(text: str, width: int) -> str:
    """The text, cut after 80 letters, in lines of at most `width` letters."""
    return "\n".join(textwrap.wrap(_short(text, 80), width, break_on_hyphens=True))


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
