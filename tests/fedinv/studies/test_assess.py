import json

import pytest
from markupsafe import escape

from fedinv.report.assessment_page import render
from fedinv.results.assessment import VariationLeak, change
from fedinv.results.intervals import clopper_pearson
from fedinv.results.run import AttackResult, Measure, Rate, Utility
from fedinv.scenario.reading import loads, read
from fedinv.storage.run_folder import RunFolder
from fedinv.studies.assess import _records, _strongest, _unfinished, assess, most_helpful, variations, varied
from fedinv.studies.attack_choice import choice
from fedinv.studies.findings import _as_it_is, _complexity, _help, assessment


def rate(hits, count=64):
    share = hits / count
    return Rate(value=share, count=count, ci95=(max(0, share - 0.05), min(1, share + 0.05)), prior=0)


def leak(hits, complexity=0, auc=0.8, change="a change"):
    utility = Utility(metric="auc", value=auc, ci95=(auc, auc), count=10)
    return VariationLeak(
        axis="model",
        change=change,
        complexity=complexity,
        run="00",
        records=rate(hits),
        attribute=None,
        membership=None,
        utility=utility,
        gap=0.1,
    )


def test_each_variation_changes_one_thing_and_holds():
    scenario = read("hospital")
    found = list(variations(scenario))
    assert {one.axis for one in found} == {"as it is", "model", "training", "data", "attacker", "defense"}
    plain = scenario.model_dump(mode="json")
    for one in found:
        other = varied(scenario, one, scenario.attacks).model_dump(mode="json")
        tables = {key.split(".")[0] for key in one.changes}
        assert {key for key in plain if plain[key] != other[key]} <= tables | {"attacks"}
        assert all(plain[table] != other[table] for table in tables)


@pytest.mark.parametrize("name", ["bank-dp", "digits", "own-table-regression", "hospital-secure-aggregation"])
def test_scenarios_of_any_kind_can_be_varied(name):
    scenario = read(name)
    assert len([varied(scenario, one, scenario.attacks) for one in variations(scenario)]) >= 3


def test_a_change_has_an_interval_that_covers_the_difference():
    apart, (low, high) = change(rate(64), rate(0))
    assert apart == -1
    assert low <= -1 <= high < -0.9
    assert change(rate(30), rate(30))[1][0] < 0 < change(rate(30), rate(30))[1][1]


@pytest.mark.parametrize(("low", "says"), [(0.55, ", tells from"), (0.47, ", does not measurably tell from")])
def test_an_auc_whose_interval_holds_chance_tells_of_nobody(low, says):
    measure = Measure(name="AUC", value=0.6, count=200, ci95=(low, 0.65), prior=0.5)
    assert says in _as_it_is(leak(64).model_copy(update={"membership": measure}))


def judged(kind, got, fields):
    return AttackResult(
        kind=kind,
        variant="static",
        target="client",
        parameters={},
        observations=1,
        records=16,
        claimed=got,
        seconds=1,
        field_accuracy=Rate(value=fields, count=160, ci95=(fields, fields), prior=0.4),
        recovered=rate(got, 16),
        exact=rate(0, 16),
    )


def test_a_change_is_worth_what_the_strongest_of_all_attacks_leaves():
    found = [judged("exact", 0, 0.4), judged("gradient-matching", 12, 0.9)]
    records = _records(found)
    assert (records.value, _strongest(found)) == (12 / 16, "gradient-matching, static")
    assert records.ci95[0] < clopper_pearson(12, 16)[0]  # of the larger of two
    assert _records([]) is None
    assert _strongest([judged("exact", 0, 0.4)]) is None


def test_what_is_recommended_says_what_it_leaves_and_that_it_guarantees_nothing():
    silent, telling = (
        leak(0, change=change).model_copy(
            update={"fields": Rate(value=right, count=160, ci95=(right - 0.05, right + 0.05), prior=0.4)}
        )
        for change, right in (("silent", 0.4), ("telling", 0.8))
    )
    assert most_helpful([leak(64), telling, silent]).change == "silent"
    said = _help([leak(64), telling])
    assert "telling, 64 of 64 to 0 of 64 records" in said
    assert "but 80.0 % of the fields are still told (guess 40.0 %); it guarantees nothing" in said
    assert "nothing beyond a guess" in _help([leak(64), silent])
    assert "guaranteed is epsilon 8" in _help(
        [leak(64), silent.model_copy(update={"guarantee": "guaranteed is epsilon 8"})]
    )


def test_a_change_at_which_an_attack_was_ended_by_a_limit_of_its_own_says_so():
    ended = {"zeros": ["its 30 seconds were over"]}
    base, longer = leak(64), leak(0, change="longer").model_copy(update={"unfinished": ended})
    said = "and so may one that a limit of its own ended: zeros (its 30 seconds were over)"
    assert said in _help([base, longer])
    assert said not in _help([base.model_copy(update={"unfinished": ended}), longer])
    results = [judged("zeros", 0, 0.4).model_copy(update={"unfinished": ended["zeros"]}) for _ in range(2)]
    assert _unfinished([judged("exact", 0, 0.4), *results]) == ended


def test_what_a_limit_ended_says_nothing_of_how_complex_models_leak():
    cut = leak(0, complexity=1).model_copy(update={"unfinished": {"zeros": ["its 30 seconds were over"]}})
    said = _complexity([leak(64), leak(0, complexity=-1), cut])
    assert "records: more leaks in 1, less in 0, no measurable difference in 0 of 1 (1 left out, where" in said
    assert "records" not in _complexity([leak(64), cut])


def test_what_helps_most_is_measurable_and_costs_least():
    base, small, large, dear = leak(64), leak(62), leak(0, change="cheap"), leak(0, auc=0.6)
    assert most_helpful([base, small, dear, large]).change == "cheap"
    assert most_helpful([base, small]) is None
    # what no federation can change, and what was tried less, comes after what costs more
    blind = large.model_copy(update={"axis": "attacker"})
    cut = large.model_copy(update={"unfinished": {"zeros": ["its 30 seconds were over"]}})
    assert most_helpful([base, blind]) is None
    assert most_helpful([base, blind, cut, dear]) is dear
    assert most_helpful([base.model_copy(update={"unfinished": cut.unfinished}), cut, dear]) is cut


@pytest.mark.slow
def test_a_scenario_is_assessed_and_its_card_written(tiny, tmp_path, monkeypatch, same_process):
    small = tiny.replace("hidden = [32, 16]", "hidden = [128]").replace("rounds = 3", "rounds = 1")
    small = small.replace('"fedavg"\nepochs = 2', '"fedsgd"').replace("[1, 2], clients = 2", "[1], clients = 2")
    scenario = loads(small)
    some = [one for one in variations(scenario) if one.axis in ("as it is", "data", "defense")]
    monkeypatch.setattr("fedinv.studies.assess.variations", lambda _: some)
    shares = []
    tried = choice(scenario, ["exact", "membership:method=loss"], only=True)
    with same_process():
        leaks = assess(scenario, tmp_path, 1, shares.append, tried.attacks)
        again = assess(scenario, tmp_path, 1, lambda _: None, tried.attacks)  # what is done is read, not run again
    assert leaks[0].axis == "as it is"
    assert leaks[0].records.value > 0.9
    assert shares[-1] == 1.0
    found = assessment(scenario, tmp_path, leaks, tried)
    assert any("DP-SGD" in said for said in found.findings)
    page = render(found, tmp_path).read_text()
    assert all(escape(one.change) in page for one in leaks)
    assert (tmp_path / leaks[1].run / "report.html").is_file()
    assert again == leaks
    # the defended ones are held against the scenario as it is, which is not run once more
    base = RunFolder(tmp_path / leaks[0].run).results
    defended = [one for one in leaks if one.axis == "defense"]
    assert defended
    assert all(RunFolder(tmp_path / one.run).undefended.results.samefile(base) for one in defended)
    assert json.loads(found.model_dump_json())["scenario"] == "tiny"


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("hospital", ["exact", "gradient-matching", "dp-aware", "membership", "model-inversion", "row-space", "zeros"]),
        ("digits", ["gradient-matching", "dp-aware", "feature-inversion", "membership"]),
    ],
)
def test_the_quick_attacks_that_suit_the_model_are_run(name, kinds):
    scenario = read(name)
    whole, *_, other = variations(scenario)
    tried = choice(scenario, quick=True).attacks
    assert list(dict.fromkeys(attack.kind for attack in varied(scenario, whole, tried).attacks)) == kinds
    columns = [attack.column for attack in varied(scenario, other, tried).attacks if attack.asks == "attribute"]
    assert len(columns) == kinds.count("model-inversion")


def test_defenses_are_tried_in_the_settings_that_they_name(tiny):
    scenario = loads(tiny)
    tried = [one for one in variations(scenario) if one.axis == "defense"]
    assert [one.change for one in tried] == ["DP-SGD, noise 1, clip 1", "secure aggregation (masking)"]
    (noisy,) = varied(scenario, tried[0], ()).defenses
    known = noisy.known(scenario.participation(6))
    assert (known["noise_multiplier"], known["clip"]) == (1.0, 1.0)
    alone = loads(tiny.replace("clients = 4", "clients = 1").replace("clients = 2", "clients = 1"))
    assert [one.change for one in variations(alone) if one.axis == "defense"] == ["DP-SGD, noise 1, clip 1"]
