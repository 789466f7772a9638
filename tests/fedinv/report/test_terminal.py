"""What is printed at 80 columns: whole names, whole words."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from fedinv.report import terminal
from fedinv.report.terminal import Remaining, bars
from fedinv.results.assessment import Assessment, VariationLeak
from fedinv.results.audit import Audit
from fedinv.results.comparison import Comparison, Cost, DefenseLeak, Row
from fedinv.results.replication import ReplicatedMeasure, Replication, Spread
from fedinv.results.run import InferenceResult, Measure, Rate, Results, Utility
from fedinv.results.wording import headline, not_to_the_end
from fedinv.storage import files

ATTACKS = ["gradient-matching", "generative-prior", "model-inversion"]
STACK = "dp-sgd:epsilon=8:clip=0.5+top-k:keep=0.25+secagg-plus"
RATE = Rate(value=0.921, count=64, ci95=(0.842, 1.0), prior=0.441)


@pytest.fixture
def printed(monkeypatch, capsys):
    """The lines that a function prints on a terminal of 80 columns; none of them is cut."""
    monkeypatch.setenv("COLUMNS", "80")

    def call(show, *arguments):
        show(*arguments)
        out = capsys.readouterr().out
        lines = out.splitlines()
        assert "\u2026" not in out
        assert max(map(len, lines)) <= 80
        return lines

    return call


def words(lines):
    return " ".join(" ".join(lines).split())


def test_a_run_of_long_names(printed, fabricate):
    folder = fabricate(*[(kind, variant, 0.1, 1.0) for kind in ATTACKS for variant in ("static", "adaptive")])
    results = Results.model_validate(files.read_json(folder / "results.json"))
    told = InferenceResult(
        kind="model-inversion",
        variant="adaptive",
        target="client",
        asks="attribute",
        parameters={"column": "psychiatric_history"},
        observations=4,
        answered=4,
        seconds=1.0,
        says="inferred",
        measures=[Measure(name="right value", value=0.5, count=64, ci95=(0.4, 0.6), prior=0.4, bound=0.9)],
    )
    results = results.model_copy(update={"inferences": [told]})
    lines = printed(terminal.show_run, results, "runs/a/report.html")
    assert sum(line.startswith("gradient-matching ") for line in lines) == 2
    assert sum(line.startswith("generative-prior ") for line in lines) == 2
    said = words(lines)
    for word in ("traced to", "fields right", "recovered", "variant", "theory:", "guess", "records"):
        assert word in said
    for found in results.attacks:
        assert f"{found.recovered.value:.1%}" in said
        assert f"[{100 * found.recovered.ci95[0]:.1f}-{100 * found.recovered.ci95[1]:.1f}]" in said


def test_unverified_claims_are_shown_apart(printed, fabricate):
    folder = fabricate(("exact", "static", 0.0, 1.0))
    results = Results.model_validate(files.read_json(folder / "results.json"))
    apart = "claimed records are unverified"
    assert apart not in words(printed(terminal.show_run, results, "x"))
    (found,) = results.attacks
    results = results.model_copy(update={"attacks": [found.model_copy(update={"verified": found.claimed - 3})]})
    assert f"exact (static): 3 of {found.claimed} {apart}" in words(printed(terminal.show_run, results, "x"))


def test_people_of_several_records_are_said_to_count_once(printed, fabricate):
    folder = fabricate(("exact", "static", 0.0, 1.0))
    results = Results.model_validate(files.read_json(folder / "results.json"))
    (found,) = results.attacks
    assert "counts once" not in words(printed(terminal.show_run, results, "x"))
    several = found.model_copy(update={"records": 3 * found.recovered.count})
    said = words(printed(terminal.show_run, results.model_copy(update={"attacks": [several]}), "x"))
    assert f"Behind {several.records} records, of several rounds or rows, are {found.recovered.count} people" in said


def test_markup_in_a_headline_is_printed_as_it_is(printed, fabricate):
    folder = fabricate(("exact", "static", 0.0, 1.0))
    results = Results.model_validate(files.read_json(folder / "results.json"))
    results = results.model_copy(update={"headline": "It has [bold] and [/] in it."})
    assert "It has [bold] and [/] in it." in words(printed(terminal.show_run, results, "x"))


def row(name, attacks):
    leaks = [
        DefenseLeak(
            attack=attack,
            variant=variant,
            leakage=0.731,
            ci95=(0.6, 0.8),
            recovered=RATE,
            fields=RATE,
            seconds=1.0,
            verdict="leaks",
        )
        for attack in attacks
        for variant in ("static", "adaptive")
    ]
    return Row(
        defenses=name,
        runs=["a"],
        leaks=leaks,
        utility=Cost(value=0.8, ci95=None),
        lost=Cost(value=0.1234, ci95=(0.1, 0.15)),
        epsilon=8.0,
        unit="example",
        against_server=False,
        bytes_up=1.0,
        bytes_ratio=0.53,
        seconds=1.0,
        seconds_ratio=24.3,
        failed=[],
    )


def comparison(attacks):
    return Comparison(
        scenario="a",
        seeds=[1],
        metric="AUC",
        attacks=attacks,
        rows=[row("none", attacks), row(STACK, attacks), row("adversarial-training", attacks)],
        failed={},
        dominated=[],
        limit=0.02,
        recommendation="Take none.",
    )


@pytest.mark.parametrize("attacks", [["exact"], ["exact", "row-space"], ATTACKS, [*ATTACKS, "exact", "membership"]])
def test_a_comparison_keeps_the_names_of_attacks_and_defenses(printed, attacks):
    lines = printed(terminal.show_comparison, comparison(attacks))
    said = "\n".join(lines)
    assert all(attack in said for attack in attacks)
    assert said.count("73%|73%") == 3 * len(attacks)
    for word in ("adversarial-training", "dp-sgd", ":epsilon=8", "secagg-plus", ":keep=0.25", "bytes/time"):
        assert word in said


def test_attacks_that_are_too_weak_everywhere_have_no_lines_and_are_named_below(printed):
    found = comparison(["exact", "row-space"])
    weak = [
        one.model_copy(
            update={
                "leaks": [
                    leak.model_copy(update={"verdict": "attack too weak"}) if leak.attack == "exact" else leak
                    for leak in one.leaks
                ]
            }
        )
        for one in found.rows
    ]
    found = found.model_copy(update={"rows": weak})
    assert (found.telling, found.weak) == (["row-space"], ["exact"])
    lines = printed(terminal.show_comparison, found)
    assert [line for line in lines if "exact" in line] == [
        "- Too weak to tell of any defense, as without one a guess does as well: exact."
    ]
    assert found.model_copy(update={"attacks": ["exact"]}).telling == ["exact"]


def test_a_recommendation_s_first_sentence_stands_alone():
    assert headline("Take a. It loses 1.5 points. More is open.") == ("Take a.", "It loses 1.5 points. More is open.")
    assert headline("Take none.") == ("Take none.", "")


def test_few_attacks_stand_beside_one_another_and_many_below():
    def heads(attacks):
        return [str(column.header) for column in terminal.comparison_table(comparison(attacks), 80).columns]

    assert heads(["exact"])[:2] == ["defenses", "exact"]
    assert heads(ATTACKS)[:3] == ["defenses", "attack", "leaks"]


def test_an_assessment(printed):
    utility = Utility(metric="auc", value=0.812, ci95=(0.8, 0.9), count=400)
    changes = [("as it is", "the scenario as it is"), ("attacker", "the training's settings are withheld")]
    leaks = [
        VariationLeak(
            axis=axis,
            change=change,
            complexity=0,
            run="00",
            records=RATE,
            attribute=RATE,
            membership=RATE,
            utility=utility,
            gap=0.1,
            unfinished={"zeros": ["its 30 seconds were over"]} if axis == "attacker" else {},
        )
        for axis, change in changes
    ]
    found = Assessment(scenario="a", seed=1, findings=["It leaks."], unusual=None, leaks=leaks)
    said = words(printed(terminal.show_assessment, found))
    for _, change in changes:
        assert change.split()[-1] in said
    assert "59 of 64" in said
    assert "member" in said
    assert "not tried to the end: zeros, at the training's settings are withheld: its 30 seconds were over" in said


def test_seeds_of_an_attack_with_many_settings(printed):
    spread, attacks = Spread.over([0.9, 1.0]), ("model-inversion", f"model-inversion:{STACK}")
    measures = [
        ReplicatedMeasure(
            attack=attack,
            variant="static",
            target="model",
            measure=measure,
            share=True,
            value=spread,
            guess=spread,
            undefended=spread,
            count=20,
        )
        for attack in attacks
        for measure in ("taken for the right class by a network of the judge's own", "recovered")
    ]
    found = Replication(
        scenario="a",
        seeds=[1, 2],
        runs=["1", "2"],
        metric="AUC",
        utility=spread,
        undefended=spread,
        lost=spread,
        epsilon=None,
        unit=None,
        measures=measures,
        failed={},
        says="It leaks.",
    )
    lines = printed(terminal.show_replication, found)
    assert [line for line in lines if line.startswith("model-inversion")] == [f"{one} (static)" for one in attacks]
    assert sum("95.0 \u00b1 7.1 %" in line for line in lines) == 4
    assert words(lines).count("network of the judge's own") == 2


def test_an_audit(printed):
    found = Audit(
        scenario="a",
        unit="client",
        claimed=1.0,
        quoted=True,
        ledger=2.0,
        delta=1e-5,
        canaries=200,
        lower_bounds={"one run, assumption-free": 3.0, "one run, Gaussian": 4.0},
        right={"one run, assumption-free": (90, 100), "one run, Gaussian": (95, 100)},
        verdict="FAIL",
        says="FAIL: it is [4].",
    )
    said = words(printed(terminal.show_audit, found))
    for word in ("FAIL: it is [4].", "claimed by the scenario", "90 of 100 right, 200 canaries", ">= 4.000"):
        assert word in said


@pytest.mark.parametrize(
    ("elapsed", "completed", "said"),
    [
        (9.0, 0.5, ""),
        (9.0, 0.0, ""),
        (11.0, 0.0, "estimating the time left"),
        (30.0, 0.25, "25 %, 1:30 left"),
        (3600.0, 0.5, "50 %, 1:00:00 left"),
        (None, 0.5, ""),
    ],
)
def test_a_long_bar_says_how_much_is_done_and_left(elapsed, completed, said):
    task = SimpleNamespace(finished=False, elapsed=elapsed, completed=completed)
    assert str(Remaining().render(task)) == said


def test_a_bar_names_what_is_under_way(monkeypatch):
    written = io.StringIO()
    monkeypatch.setattr(terminal, "Console", lambda **_: Console(file=written, width=120))
    with bars(True) as steps:
        move = steps("cells")
        move(0.5, "top-k, seed 8")
    assert "cells: top-k, seed 8" in written.getvalue()
    with bars(False) as steps:
        steps("cells")(0.5)


def test_limits_that_ended_attacks_are_told_once_with_their_places():
    many = {"zeros": ["too many"]}
    assert not_to_the_end({"a": many, "b": many, "c": many, "d": {}}) == ["zeros, everywhere but at d: too many"]
    assert not_to_the_end({"a": many, "b": many}) == ["zeros, everywhere: too many"]
    assert not_to_the_end({"a": many, "b": {}, "c": {}}) == ["zeros, at a: too many"]
    assert not_to_the_end({"a": {}}) == []
