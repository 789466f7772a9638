import csv
import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from markupsafe import escape
from matplotlib.figure import Figure

import fedinv
from fedinv import plugins
from fedinv.errors import RequestError
from fedinv.report import comparison_page as report
from fedinv.report.plots import sweep_plot
from fedinv.results.wording import headline
from fedinv.scenario.reading import loads, read
from fedinv.studies import compare as comparing
from fedinv.studies import workers
from fedinv.studies.attack_choice import choice
from fedinv.studies.defense_sets import stacks, usual
from fedinv.studies.workers import Workers

EXACT = '[[attacks]]\nkind = "exact"\nfall_back = false\n'
WIDE = ("hidden = [32, 16]", "hidden = [128]")


def test_stacks_are_read_with_their_settings():
    one, two, knob = stacks(["dp-sgd:epsilon=8:clip=0.5+top-k", "masking", "masking", "none", "training.batch_size=2"])
    assert (knob.defenses, knob.knobs) == ((), ("training.batch_size=2",))
    assert one.defenses == ({"kind": "dp-sgd", "epsilon": 8, "clip": 0.5}, {"kind": "top-k"})
    assert two.defenses == ({"kind": "masking"},)


@pytest.mark.parametrize(
    ("text", "said"),
    [("top-q", "did you mean 'top-k'"), ("top-k:0.1", "write top-k:key=value")],
)
def test_a_stack_that_cannot_be_read_is_named(text, said):
    with pytest.raises(RequestError, match=said):
        stacks([text])


@pytest.mark.parametrize(
    ("text", "said"), [("masking+top-k", "must be the last"), ("top-k:kep=0.1", "did you mean 'keep'")]
)
def test_a_stack_that_cannot_be_had_is_refused_before_anything_runs(tiny, tmp_path, text, said):
    plan = comparing.Plan(loads(tiny + EXACT), stacks([text]), [])
    with pytest.raises(RequestError, match=said):
        comparing.compare(plan, 0.02, tmp_path / "c", Workers(1), lambda *_: None)
    assert not list(tmp_path.iterdir())


def test_a_knob_of_the_training_is_a_stack_too(tiny):
    (knob,) = stacks(["training.batch_size=2+dp-sgd"])
    changed = knob.on(loads(tiny))
    assert (changed.training.batch_size, changed.defenses[0].kind) == (2, "dp-sgd")


def test_attacks_default_to_the_scenarios_and_row_space(tiny):
    found = choice(loads(tiny + EXACT))
    kinds = [attack.kind for attack in found.attacks]
    assert kinds[0] == "exact"
    assert {"gradient-matching", "row-space", "membership", "model-inversion"} <= set(kinds)
    assert set(kinds).isdisjoint(found.not_tried)
    assert {*kinds, *found.not_tried} == set(plugins.loaded("attacks"))
    beside = choice(loads(tiny + EXACT), ["gradient-matching:restarts=3"]).attacks
    assert (beside[0].restarts, {"exact", "row-space"} <= {attack.kind for attack in beside}) == (3, True)
    with pytest.raises(RequestError, match="did you mean 'exact'"):
        choice(loads(tiny), ["exakt"])


def test_only_what_is_named_or_all_there_is(tiny):
    only = choice(loads(tiny + EXACT), ["gradient-matching:restarts=3"], only=True)
    assert [attack.kind for attack in only.attacks] == ["gradient-matching"]
    assert "left out" in only.not_tried["exact"]
    every = choice(loads(tiny), ["all"])
    unfit = {kind for kind, attack in plugins.loaded("attacks").items() if not attack.suits(loads(tiny).model)}
    assert {attack.kind for attack in every.attacks} == set(plugins.loaded("attacks")) - unfit
    assert every.not_tried == dict.fromkeys(unfit, "do not suit this network")
    assert next(a for a in every.attacks if a.kind == "gradient-matching").restarts is None
    quick = choice(loads(tiny + '[[attacks]]\nkind = "gradient-matching"\n'), quick=True)
    assert quick.attacks[0].restarts is not None


@pytest.mark.slow
def test_the_matrix_is_run_once_and_written_for_eyes_and_programs(tiny, tmp_path, request, same_process):
    scenario = loads(tiny.replace(*WIDE).replace("rounds = [1, 2]", "rounds = [1]") + EXACT)
    folder, chosen = tmp_path / "one", stacks(["clip-noise", "dropout:rate=0.0", "soteria:layer=7"])

    def compare(defenses, attacks, seeds, where, jobs):
        chosen = choice(scenario, attacks, only=True)
        plan = comparing.Plan(scenario, defenses, chosen.attacks, chosen.not_tried, seeds)
        return comparing.compare(plan, 0.02, where, Workers(jobs), lambda *now: under_way.append(now))

    under_way = []
    with same_process():
        found = compare(chosen, ["exact"], 2, folder, 1)
    assert under_way[0] == (0.0, "0 of 8 done; none, seed 3")
    assert under_way[-1] == (1.0, "8 of 8 done")
    assert {name.partition("; ")[2] for _, name in under_way} & {"clip-noise, seed 3", "clip-noise, seed 4"}
    assert [row.defenses for row in found.rows] == ["none", "clip-noise", "dropout:rate=0.0"]
    assert "none of the 2 linear layers" in found.failed["soteria:layer=7"]  # the others are not the worse for it
    plain, noisy, idle = found.rows
    assert plain.worst.verdict == "leaks"
    assert plain.worst.leakage > 0.9
    assert noisy.worst.verdict == "not measurable"
    assert noisy.epsilon > 1
    assert noisy.lost.value > 0
    assert idle.worst.leakage > 0.9
    assert idle.lost.value == 0
    assert idle.bytes_ratio == 1
    assert {one.defenses for one in found.dominated} <= {"dropout:rate=0.0", "clip-noise"}

    assert (noisy.not_adapted, plain.not_adapted, plain.worst.client.recovered) == ({}, {}, 6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "rendered", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            report.write(found, folder)
    assert not (folder / "comparison.json").exists()
    request.getfixturevalue("drawn_plots")
    page = report.write(found, folder).read_text()
    assert re.search(f">[^<:]*\\brow-space\\b[^<:]*: {found.not_tried['row-space']}", " ".join(page.split()))
    first, others = headline(found.recommendation)
    assert f"<h1>{escape(first)}</h1>".replace(" %", "\u00a0%") in page
    assert str(escape(others)).replace(" %", "\u00a0%") in page
    assert json.loads((folder / "comparison.json").read_text())["seeds"] == [3, 4]
    rows = list(csv.DictReader((folder / "comparison.csv").read_text().splitlines()))
    assert {(row["defenses"], row["variant"]) for row in rows} >= {("clip-noise", "static"), ("clip-noise", "adaptive")}
    assert pq.read_table(folder / "comparison.parquet").num_rows == len(rows)
    assert (folder / plain.runs[0] / "report.html").is_file()
    assert {path.name for path in (folder / "plots").iterdir()} == {
        f"{name}.{form}" for name in ("heat", "front") for form in ("png", "svg", "pdf")
    }
    assert "clip-noise & " in (folder / "comparison.tex").read_text()

    cells = sorted((tmp_path / ".cells").iterdir())
    trained = {cell: (cell / "ledger.json").stat().st_mtime_ns for cell in cells if (cell / "ledger.json").is_file()}
    assert len(trained) == 6
    with same_process():
        again = compare([chosen[0], *stacks(["top-k"])], ["exact", "labels"], 1, tmp_path / "two", 2)
    assert len(list((tmp_path / ".cells").iterdir())) == len(cells) + 1
    assert all((cell / "ledger.json").stat().st_mtime_ns == when for cell, when in trained.items())
    assert again.rows[0].worst.leakage > 0.9  # of one seed, not of two
    labels = next(one for one in again.rows[0].leaks if one.attack == "labels")
    assert labels.measure is not None
    assert labels.recovered is None


@pytest.mark.slow
def test_a_sweep_is_plotted_its_keys_are_columns_and_a_second_one_starts_nothing(
    tiny, tmp_path, same_process, monkeypatch
):
    scenario = loads(tiny.replace("rounds = [1, 2]", "rounds = [1]") + EXACT)
    quick = {"attacks": ["exact"], "only": True, "jobs": 1, "progress": False}
    with same_process():
        found = fedinv.compare(
            scenario, sweep=["clip-noise.noise_multiplier=0.5:2:log2"], out=tmp_path / "swept", **quick
        )
    low, high = "clip-noise:noise_multiplier=0.5", "clip-noise:noise_multiplier=2.0"
    assert [row.defenses for row in found.results.rows] == ["none", low, high]
    assert found.results.rows[1].epsilon > found.results.rows[2].epsilon
    table = (
        pa.table(found.to_frame()) if isinstance(found.to_frame(), pa.Table) else pa.Table.from_pandas(found.to_frame())
    )
    assert {(row["clip-noise.noise_multiplier"], row["defenses"]) for row in table.to_pylist()} >= {
        (0.5, low),
        (2.0, high),
    }
    heads = (found.folder / "comparison.csv").read_text().splitlines()[0]
    assert heads.startswith("clip-noise.noise_multiplier,defenses,")
    assert {f"sweep.{form}" for form in ("png", "svg", "pdf")} <= {
        path.name for path in (found.folder / "plots").iterdir()
    }
    page = found.report.read_text()
    assert "What was swept" in page
    panels = re.search(r'<div class="panels">.*?</div>', page, re.S)[0]
    assert panels.count("<img ") == len(sweep_plot.panels(found.results)) > 1
    panels = Figure()
    sweep_plot.curves(found.results).fill(panels)
    assert [ax.get_xlabel() for ax in panels.axes] == ["clip-noise.noise_multiplier", "epsilon", "AUC"]
    assert [round(x) for x in panels.axes[1].lines[0].get_xdata()] == sorted(
        round(row.epsilon) for row in found.results.rows[1:]
    )
    monkeypatch.setattr(workers.Pool, "submit", lambda *_: pytest.fail("a cell that is there is run again"))
    sweep = ["clip-noise.noise_multiplier=0.5:2:log2"]
    again = fedinv.compare(scenario, sweep=sweep, out=tmp_path / "again", **quick)
    assert again.results.model_dump() == found.results.model_dump()


def test_the_usual_stacks_are_the_trials_of_all_defenses_in_their_order():
    assert usual() == [
        "dp-sgd",
        "dp-sgd:epsilon=8",
        "clip-noise",
        "masking",
        "top-k",
        "small-model",
        "dropout",
        "label-smoothing",
    ]
    assert all(stack.defenses for stack in stacks(usual()))


def test_what_needs_plain_averaging_is_left_out_where_the_server_does_more():
    other = read("hospital", ["federation.strategy=fedadam"])
    assert set(usual()) - set(usual(other)) == {"small-model"}
    assert usual(read("hospital")) == usual()


def test_attacks_run_unasked_only_on_models_that_they_suit(tiny):
    logistic = tiny.replace('kind = "mlp"\nhidden = [32, 16]', 'kind = "logistic"')
    found = choice(loads(logistic))
    assert "exact" in {attack.kind for attack in found.attacks}
    assert found.not_tried["row-space"] == "do not suit this network"
    with pytest.raises(RequestError, match="none of them"):
        choice(loads(logistic), only=True)


def test_exact_falls_back_on_nothing_that_is_run_beside_it_unless_asked_to(tiny):
    for texts, falls_back in (
        (["exact"], True),
        (["exact", "row-space"], False),
        (["exact:fall_back=true", "row-space"], True),
    ):
        assert choice(loads(tiny), texts, only=True).attacks[0].fall_back is falls_back
