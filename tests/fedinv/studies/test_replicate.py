import html
import json
import math
from statistics import stdev

import pyarrow.parquet as pq
import pytest

import fedinv
from fedinv.errors import RequestError, RunError
from fedinv.report import replication_page
from fedinv.report.export import latex
from fedinv.report.frames import replicated
from fedinv.report.plots import canvas, replication_plot
from fedinv.results.replication import Replication, Spread
from fedinv.results.wording import spread_text
from fedinv.scenario.reading import loads
from fedinv.studies import replicate as replicating
from fedinv.studies.workers import Workers

ATTACKS = '[[attacks]]\nkind = "exact"\nfall_back = false\n[[attacks]]\nkind = "labels"\n'
DEFENSE = '[[defenses]]\nkind = "top-k"\nkeep = 0.2\n'


def quiet(*_):
    pass


@pytest.fixture(scope="module")
def twice(tiny, tmp_path_factory, same_process):
    folder = tmp_path_factory.mktemp("seeds")
    scenario = loads(tiny.replace("rounds = [1, 2]", "rounds = [1]") + DEFENSE + ATTACKS)
    with same_process():
        return scenario, folder, replicating.replicate(scenario, 2, folder, Workers(1), quiet)


@pytest.mark.slow
def test_each_seed_is_a_run_of_its_own_and_the_means_are_those_of_their_results(twice):
    scenario, folder, found = twice
    assert found.seeds == [scenario.seed, scenario.seed + 1] and not found.failed
    runs = [fedinv.open_run(folder / name).results for name in found.runs]
    assert [one.seed for one in runs] == found.seeds
    for one in found.measures:
        if one.attack != "exact" or one.measure != "recovered":
            continue
        judged = [next(a for a in run.attacks if a.variant == one.variant) for run in runs]
        assert one.value.values == [a.recovered.value for a in judged]
        assert one.guess.values == [a.recovered.prior for a in judged]
        assert one.undefended.values == [a.undefended.recovered.value for a in judged]
        assert one.count == sum(a.recovered.count for a in judged)
    assert {one.variant for one in found.measures if one.attack == "exact"} == {a.variant for a in runs[0].attacks}
    assert {"labels"} == {one.attack for one in found.measures} - {"exact"}
    lost = [one.utility.undefended.value - one.utility.value for one in runs]
    assert found.lost.values == pytest.approx(lost)
    assert found.lost.sd == pytest.approx(stdev(lost))


@pytest.mark.slow
def test_seeds_differ_in_people_and_weights(twice):
    _, folder, found = twice
    first, second = (fedinv.open_run(folder / name) for name in found.runs)
    assert first.results.utility.value != second.results.utility.value
    sent = [run.observations[0].last.sent["0.weight"] for run in (first, second)]
    assert not sent[0].equal(sent[1])


@pytest.mark.slow
def test_finished_seeds_are_not_run_again_and_more_are_added(twice, monkeypatch):
    scenario, folder, before = twice
    began = []
    run = replicating.run.run
    monkeypatch.setattr(replicating.run, "run", lambda *given: began.append(given[0].seed) or run(*given))
    for seed, results in (
        (seed, replicating._one(_toml(scenario, seed), folder / f"seed-{seed}")) for seed in before.seeds
    ):
        assert results.seed == seed
    assert began == []
    other = scenario.seed + 2
    assert replicating._one(_toml(scenario, other), folder / f"seed-{other}").seed == other
    assert began == [other]


def test_a_folder_of_another_scenario_is_refused(twice):
    scenario, folder, _ = twice
    changed = scenario.model_copy(update={"training": scenario.training.model_copy(update={"lr": 0.01})})
    with pytest.raises(RequestError, match="was made from another scenario"):
        replicating.replicate(changed, 2, folder, Workers(1), quiet)


def test_a_spread_is_the_mean_with_students_interval():
    found = Spread.over([0.2, None, 0.4, 0.6])
    assert (found.mean, found.low, found.high, found.values) == (pytest.approx(0.4), 0.2, 0.6, [0.2, None, 0.4, 0.6])
    assert found.sd == pytest.approx(0.2)
    half = 4.30265273 * 0.2 / math.sqrt(3)  # Student's t, 2 degrees of freedom, 97.5 %
    assert found.ci95 == pytest.approx((0.4 - half, 0.4 + half))
    alone = Spread.over([0.5])
    assert (alone.sd, alone.ci95) == (None, None)
    assert Spread.over([None, None]) is None


def test_failed_seeds_are_named_and_nothing_is_pooled_where_all_fail(twice, tmp_path, same_process):
    scenario, folder, found = twice
    results = {seed: fedinv.open_run(folder / name).results for seed, name in zip(found.seeds, found.runs, strict=True)}
    told = replicating.pooled(scenario, results, {9: "the disk is full"})
    assert told.failed == {9: "the disk is full"}
    page = replication_page.write(told, tmp_path).read_text()
    assert "seed 9 did not run: the disk is full" in page
    for seed in range(scenario.seed, scenario.seed + 2):
        (tmp_path / f"seed-{seed}").write_text("in the way")
    with same_process(), pytest.raises(RunError, match=f"no seed succeeded; seed {scenario.seed}: .*is a file"):
        replicating.replicate(scenario, 2, tmp_path, Workers(1), quiet)


def test_a_stop_leaves_no_outcome_without_its_page(twice, tmp_path, monkeypatch):
    monkeypatch.setattr(replication_page, "rendered", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        replication_page.write(twice[2], tmp_path)
    assert not (tmp_path / "replication.json").exists()


def test_the_files_hold_what_was_found(twice, tmp_path):
    _, _, found = twice
    page = replication_page.write(found, tmp_path)
    assert Replication.model_validate(json.loads((tmp_path / "replication.json").read_text())) == found
    text = html.unescape(page.read_text())
    assert found.says in text and all(f"{run}/report.html" in text for run in found.runs)
    assert "<script" not in text
    rows = pq.read_table(tmp_path / "replication.parquet").to_pylist()
    assert rows == list(replicated(found)) and len(rows) == len(found.seeds) * len(found.measures)
    assert len((tmp_path / "replication.csv").read_text().splitlines()) == 1 + len(rows)
    lines = [line for line in (tmp_path / "replication.tex").read_text().splitlines() if line.endswith(r"\\")]
    assert len(lines) == 1 + len(found.measures)
    spread = next(one for one in found.measures if one.measure == "recovered").value
    assert any(f"recovered & {latex.escaped(spread_text(spread, True))} & " in line for line in lines)


def test_the_outcome_is_a_frame_with_a_row_for_each_measure_and_seed(twice):
    _, folder, found = twice
    outcome = fedinv.outcomes.Replication(folder, found)
    table = outcome.to_frame()
    assert len(table) == 2 * len(found.measures)
    assert [run.results.seed for run in outcome.runs] == found.seeds
    assert "labels (static)" in outcome._repr_html_() and found.says in html.unescape(outcome._repr_html_())


def _toml(scenario, seed):
    return scenario.model_copy(update={"seed": seed}).to_toml()


def test_long_names_leave_the_plot_its_room(twice, drawn_plots):
    """Matplotlib warns where labels leave none, and a warning fails a test."""
    _, _, found = twice
    attack = "model-inversion:mode=attribute:access=confidences:column=diagnosis"
    measures = [one.model_copy(update={"attack": attack}) for one in found.measures if one.share]
    assert measures
    plot = replication_plot.dots(found.model_copy(update={"measures": measures}))
    assert canvas.drawn(plot, "png")
    assert plot.height > replication_plot.dots(found).height * len(measures) / len(found.measures)
