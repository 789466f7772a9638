"""Deviations against detectors in a federation that trains in a moment: 100 honest messages a training."""

import csv
import json
import os
import re
import signal
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from fedinv import cli
from fedinv.deviation import Dial
from fedinv.errors import RequestError
from fedinv.report.duel import page as duel_page
from fedinv.report.duel import text as duel_text
from fedinv.results.duel import COMBINED
from fedinv.runs import provenance
from fedinv.scenario.reading import loads
from fedinv.storage.checkpoints import ClientScores
from fedinv.storage.lock import locked
from fedinv.studies.duel import cells, conclusion, detection, search
from fedinv.studies.duel import duel as dueling
from fedinv.studies.duel.advice import advice
from fedinv.studies.duel.cells import Found
from fedinv.studies.duel.contestants import contestants, detectors
from fedinv.studies.workers import Workers

SMALL = """
name = "small"
seed = 3
secret = "00112233445566778899aabbccddeeff"
data = { source = "hospital", records = 300 }
model = { kind = "mlp", hidden = [64, 48] }
federation = { clients = 20, rounds = 5 }
training = { algorithm = "fedsgd", batch_size = 6, records_per_client = 6, lr = 0.1 }
attacker = { watch = { rounds = [1], clients = 2 } }
"""
STEPS = 2
DEVIATIONS = ("qbi", "overflow")
DETECTORS = ("bias-size", "row-cosines", "jump")


def planned(scenario=SMALL, deviations=DEVIATIONS, looking=DETECTORS, **options):
    declared = loads(scenario)
    return dueling.Plan(
        declared, contestants(declared, deviations), detectors(declared, looking), repetitions=1, **options
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("duels")


@pytest.fixture(scope="module")
def under_way():
    return []


@pytest.fixture(scope="module")
def found(home, same_process, under_way):
    with same_process(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "STEPS", STEPS)
        patch.setattr(dueling, "STEPS", STEPS)
        return dueling.duel(planned(), home / "one", Workers(1), lambda *now: under_way.append(now))


@pytest.mark.slow
def test_thresholds_come_from_other_seeds_than_what_is_reported(found):
    assert (found.seeds, found.threshold_seeds) == ([3], [4])
    assert (found.honest, found.models) == ((100, 100), (5, 5))
    assert all(one.seeds == [3] for one in found.opponents)


def test_what_each_detector_sees_is_a_share_of_messages_with_its_interval(found):
    at = {(one.deviation, one.detector): one for one in found.seen}
    assert set(at) == {(name, kind) for name in DEVIATIONS for kind in (*DETECTORS, COMBINED)}
    crafted = at["qbi", "bias-size"]
    assert (crafted.at_1.value, crafted.at_1.count, crafted.auc) == (1, 20, 1)
    assert crafted.at_1.ci95[0] == pytest.approx(0.83, abs=0.01)
    assert all(one.at_01 is None for one in found.seen), "100 honest messages state no rate of 0.1 %"
    assert at["overflow", COMBINED].at_1.value == 1
    assert [one.rate for one in found.combinations] == [0.01]


def test_records_are_judged_beside_a_guess(found):
    qbi, overflow = found.opponents
    assert qbi.recovered.value > 0.5
    assert qbi.recovered.prior < 0.1
    assert overflow.recovered.value == 0
    assert qbi.recovered.count == overflow.recovered.count == 4 * 6


def test_adaptive_deviations_are_tried_of_those_alone_that_read_records(found):
    assert {one.deviation for one in found.evasions} == {"qbi"}
    hows = [one.how for one in found.evasions]
    assert hows[0] == ""
    assert {"strength=0.0", "own_rows=True", dueling.FIRST} <= {*hows}
    honest = next(one for one in found.evasions if one.honest)
    assert honest.flagged.value <= 0.2, "the model itself is no crafted message"
    assert all(one.past == pytest.approx(one.recovered.value * (1 - one.flagged.value)) for one in found.evasions)


def test_what_a_server_that_knows_the_thresholds_finds_is_tried_on_a_seed_that_is_reported(found):
    searched = [one.how for one in found.evasions if one.how.endswith("round 1 (searched)")]
    assert [one.split("=")[0] for one in searched] == ["own_rows", "strength", "units"]
    assert "own_rows=True, units=" in searched[0]


def test_the_best_combination_sees_in_the_first_round_too_what_it_sees_later():
    plan = planned(deviations=("qbi",))
    nothing = float("-inf")

    def of(*scores, clients=20):
        each = [ClientScores(client=client, round=1, scores=scores) for client in range(clients)]
        return Found.model_construct(scores=tuple(each), records=None)

    honest = of(0.0, 0.0, 0.0, clients=100)
    later = {dueling.Key("", "", 4): honest, dueling.Key("qbi", "", 4): of(0.0, 0.0, 9.0)}
    assert conclusion.panels(plan, later)[0].members == (2,), "`jump` alone flags it later"
    early = {**later, dueling.Key("qbi", dueling.FIRST, 4): of(0.0, 9.0, nothing)}
    assert conclusion.panels(plan, early)[0].members == (1, 2)
    others = {**later, dueling.Key("qbi", "strength=0.5", 3): of(0.0, 9.0, nothing)}
    assert conclusion.panels(plan, others)[0].members == (2,), "what is reported on sets nothing"


def test_a_dial_is_turned_down_until_it_passes_and_up_again_to_just_below_the_threshold(found):
    panel = detection.Panel((0,), (0.5,))
    read = next(one for one in found.opponents if one.recovered.value).recovered
    (tried,) = contestants(loads(SMALL), ["grid"])
    for limit in (0.02, 0.3, 0.9):
        one = search.Search(tried, Dial("units", 0.01, 1.0))
        while not one.done:
            value = one.value
            scores = (ClientScores(client=0, round=1, scores=(float(value > limit),)),)
            records = SimpleNamespace(recovered=read.model_copy(update={"value": value}))
            one = one.after(Found.model_construct(scores=scores, records=records), panel)
        assert one.value <= limit < 2.2 * one.value
    assert search.Search(tried, Dial("units", 0.01, 1.0)).after(None, panel).value == 0.032, "what fails is refused"


def test_it_is_written_for_eyes_and_programs_at_80_columns(found, tmp_path, capsys, monkeypatch, request):
    request.getfixturevalue("drawn_plots")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duel_page, "rendered", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            duel_page.write(found, tmp_path)
    assert not (tmp_path / "duel.json").exists(), "no outcome without its page"
    page = duel_page.write(found, tmp_path).read_text()
    assert "Records recovered over detection probability" in page
    assert found.recommendation.split(":")[0] in page
    matrix = re.search(r'<table class="heat seen">.*?</table>', page, re.S)[0]
    assert matrix.count("<td") == len(DEVIATIONS) * (len(found.detectors) + 1)
    rows = list(csv.DictReader((tmp_path / "duel.csv").read_text().splitlines()))
    assert pq.read_table(tmp_path / "duel.parquet").num_rows == len(rows)
    assert {row["deviation"] for row in rows} == {"", *DEVIATIONS}
    assert json.loads((tmp_path / "duel.json").read_text())["honest"] == [100, 100]
    lines = [line.split(" & ") for line in (tmp_path / "duel.tex").read_text().splitlines() if line.endswith(r"\\")]
    assert [line[0] for line in lines] == ["Deviation", *DEVIATIONS, "honest"]
    assert {len(line) for line in lines} == {len(found.detectors) + 2}
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {
        f"{name}.{form}" for name in ("matrix", "curve") for form in ("png", "svg", "pdf")
    }
    monkeypatch.setenv("COLUMNS", "80")
    duel_text.show_duel(found)
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    assert "100 [83-100]" in printed
    assert "At 0.1 %: -, as 100 honest messages set no such threshold" in printed


def test_a_second_duel_runs_only_what_is_new(found, home, same_process):
    cells = home / ".cells"
    before = {path: path.stat().st_mtime_ns for path in cells.glob("*/found.json")}
    rehearsed = 3 * STEPS  # for each of the deviation's dials
    early = 2  # with the seed that sets thresholds, in round 1
    assert len(before) == 2 + 2 * 2 + early + len(found.evasions) - 1 + rehearsed
    plan = planned(deviations=(*DEVIATIONS, "repeat"), adaptive=False)
    with same_process():
        again = dueling.duel(plan, home / "two", Workers(1), lambda *_: None)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len([*cells.glob("*/found.json")]) == len(before) + 2
    assert again.seen[0] == found.seen[0]
    assert not list(cells.glob("*/run")), "observations of finished runs are not kept"


def test_progress_names_what_runs_and_ends_at_one(found, under_way):
    shares = [share for share, _ in under_way]
    assert under_way[0][1] == "qbi seed 3"
    assert shares[-1] == 1
    assert shares == sorted(shares)
    assert all(name.endswith(("seed 3", "seed 4")) for _, name in under_way[:-1] if name)
    assert max(share for share, name in under_way if name) < 1


def test_what_does_not_fit_is_named_with_its_reason_and_not_tried(home, same_process):
    one = SMALL.replace("hidden = [64, 48]", "hidden = [64]")
    plan = planned(one, ("grid",), adaptive=True)
    with same_process():
        found = dueling.duel(plan, home / "three", Workers(1), lambda *_: None)
    assert found.not_tried == {"grid": "the network has 1 hidden layers, and two are needed"}
    assert not found.failed, "its evasions are not listed again"
    assert found.recommendation == "No deviation fits this scenario: nothing is known of detectors."


@pytest.mark.parametrize(
    ("deviation", "detector", "said"),
    [
        ("gird", "jump", "did you mean 'grid'"),
        ("grid:tabels=2", "jump", "did you mean 'tables'"),
        ("grid", "jumps", "did you mean 'jump'"),
    ],
)
def test_what_there_is_not_is_refused_with_the_nearest(deviation, detector, said):
    with pytest.raises(RequestError, match=said):
        planned(deviations=[deviation], looking=[detector])


def test_a_kind_has_the_scenarios_settings_and_those_that_suit_local_steps():
    local = SMALL.replace('"fedsgd"', '"fedavg"')
    imprint = next(one for one in contestants(loads(local)) if one.name == "imprint")
    assert imprint.tables[0]["sparse"] is True
    own = 'server = { kind = "malicious", deviations = [{ kind = "grid", tables = 2, rounds = [1] }] }\n'
    (grid,) = contestants(loads(own + SMALL), ["grid"])
    assert (grid.tables[0]["tables"], "rounds" in grid.tables[0]) == (2, False)
    (kept,) = detectors(loads('vetting = [{ kind = "jump", threshold = 9.0 }]\n' + SMALL), ["jump"])
    assert kept.threshold == 9


def evading(found, past, flagged):
    """The outcome with one evasion that recovers this much, and is flagged so often."""
    plain = next(one for one in found.evasions if one.plain)
    flags = plain.flagged.model_copy(update={"value": flagged})
    rate = plain.recovered.model_copy(update={"value": past})
    changed = plain.model_copy(
        update={"how": "units=0.5", "plain": False, "recovered": rate, "flagged": flags, "past": past * (1 - flagged)}
    )
    return found.model_copy(update={"evasions": [plain, changed]})


def test_the_recommendation_says_plainly_who_is_not_held_off(found):
    through = advice(evading(found, 0.6, 0.1))
    assert "0 of 1 are held below 20 %" in through
    assert "NOT held off: qbi (units=0.5: 54.0 % of all records, flagged in 10.0 % of messages)" in through
    held = advice(evading(found, 0.6, 1.0))
    assert "1 of 1 are held below 20 %" in held
    assert "NOT held off" not in held
    assert "others may do better" in held
    assert "Adaptive deviations were not tried" in advice(found.model_copy(update={"evasions": []}))


def test_the_command_prints_it(home, tmp_path, same_process):
    (home / "small.toml").write_text(SMALL)
    arguments = ["duel", str(home / "small.toml"), "--deviations", "overflow", "--detectors", ",".join(DETECTORS)]
    with same_process():
        done = CliRunner().invoke(cli.app, [*arguments, "--seeds", "1", "--jobs", "1", "--out", str(home / "four")])
    assert done.exit_code == 0, done.output
    assert "overflow" in done.output
    assert "duel.html" in done.output


def test_scores_are_kept_by_client(found, home):
    kept = [json.loads(path.read_text()) for path in (home / ".cells").glob("*/found.json")]
    assert all(Found.model_validate(one).scores for one in kept)
    honest = next(one for one in kept if len(one["scores"]) == 100)
    assert {(one["client"], one["round"]) for one in honest["scores"]} == {
        (c, r) for c in range(20) for r in range(1, 6)
    }
    assert all(one["scores"][2] is None for one in honest["scores"] if one["round"] == 1), "jump, in a first round"


@pytest.mark.slow
def test_ctrl_c_loses_no_finished_run_and_the_same_command_goes_on(
    tmp_path, start, until, interruptible, same_process, monkeypatch
):
    (tmp_path / "small.toml").write_text(SMALL)
    chosen = ["--deviations", "overflow", "--detectors", "bias-size"]
    arguments = ["duel", "small.toml", *chosen, "--seeds", "1", "--jobs", "1", "--out", "study"]
    looking = detectors(loads(SMALL), ["bias-size"])
    (attack,) = cells.crafted(loads(SMALL), looking, 3, [{"kind": "overflow"}], 2).scenario.attacks
    made = provenance.of(loads(SMALL), [attack])
    last = cells.honest(loads(SMALL), looking, 4).folder(tmp_path / ".cells", made)
    with locked(last):  # its last run waits for this, so that it cannot end before Ctrl-C
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])}
        running = start([*interruptible, *arguments], cwd=tmp_path, env=environment)
        found = lambda: {path: path.stat().st_mtime_ns for path in tmp_path.glob(".cells/*/found.json")}  # noqa: E731
        until(lambda: len(found()) == 3, "all runs but the last", by=running)
        before = found()
        os.killpg(running.process.pid, signal.SIGINT)
        stopped = running.ended()
    said = [line for line in stopped.stderr.splitlines() if "fedinv:" in line]
    assert (stopped.returncode, stopped.stdout) == (1, "")
    assert said == ["fedinv: stopped; the same command goes on where it was"]
    assert "Traceback" not in stopped.stderr
    assert not (tmp_path / "study/duel.json").exists(), "half a duel is no outcome"
    monkeypatch.chdir(tmp_path)
    with same_process():
        again = CliRunner().invoke(cli.app, arguments)
    assert again.exit_code == 0, again.output
    assert {path: path.stat().st_mtime_ns for path in before} == before, "what had finished is not run again"
    assert json.loads((tmp_path / "study/duel.json").read_text())["honest"] == [100, 100]
