import json

import pytest
from markupsafe import escape

from fedinv.errors import RequestError
from fedinv.report import render
from fedinv.runs import run
from fedinv.scenario.reading import loads

LABELS = '[[attacks]]\nkind = "labels"\n'
PROPERTY = '[[attacks]]\nkind = "property"\ncolumn = "smoking"\n'
WIDE = ("hidden = [32, 16]", "hidden = [128, 64]")


def inferred(text, folder):
    scenario = loads(text)
    return run.run(scenario, run.open_folder(scenario, folder))


def test_what_is_told_beside_records_is_judged_and_shown(tiny, tmp_path):
    results = inferred(tiny.replace(*WIDE) + LABELS + PROPERTY, tmp_path)
    assert results.attacks == []
    labels, share = results.inferences
    assert (labels.kind, labels.asks, labels.observations, labels.answered) == ("labels", "labels", 4, 4)
    counted = labels.measures[0]
    assert counted.value >= 0.9
    assert counted.ci95[0] <= counted.value <= counted.ci95[1]
    error = share.measures[0]
    assert error.lower_leaks
    assert error.value < error.prior
    assert share.says in results.headline
    page = (tmp_path / "report.html").read_text()
    assert "What else the server can tell" in page
    assert all(escape(one.exhibits[0].title) in page for one in results.inferences)


def test_what_came_of_an_attack_is_there_while_the_next_one_runs(tiny, tmp_path):
    moved = []
    attacks = '[[attacks]]\nkind = "exact"\nfall_back = false\n[[attacks]]\nkind = "labels"\n'
    scenario = loads(tiny + attacks)

    def bars(name):
        return lambda share, now="": moved.append((name, share, now))

    results = run.run(scenario, run.open_folder(scenario, tmp_path / "run"), bars=bars)
    said = [(name, now) for name, _, now in moved if now]
    (found,) = results.attacks
    count = found.recovered.count
    assert said[0] == ("attack exact (static)", f"{round(found.recovered.value * count)} of {count} records")
    assert said[1][0] == "attack labels (static)"
    assert said[1][1].startswith(f"{results.inferences[0].measures[0].name} ")
    begun = [name for name, *_ in moved]
    assert moved.index((said[0][0], 1.0, said[0][1])) < begun.index("attack labels (static)")


def test_an_attack_without_an_answer_is_worth_a_guess(tiny, tmp_path):
    text = tiny.replace("[attacker]\n", '[attacker]\nknows = ["architecture", "lr"]\n') + LABELS + PROPERTY
    results = inferred(text, tmp_path)
    for one in results.inferences:
        assert one.answered == 0
        assert one.measures[0].value == pytest.approx(one.measures[0].prior)
        assert "withheld" in one.notes[0]
        assert one.says not in results.headline


def test_a_defense_is_measured_beside_the_undefended_run(tiny, tmp_path):
    noise = '[[defenses]]\nkind = "clip-noise"\nclip = 0.1\nnoise_multiplier = 5.0\n'
    results = inferred(tiny.replace(*WIDE) + noise + LABELS, tmp_path)
    [one] = [found for found in results.inferences if found.variant == "static"]
    assert one.undefended[0].value >= 0.9
    assert one.measures[0].value < one.undefended[0].value


def test_a_second_attack_keeps_the_first_ones_verdict(tiny, tmp_path):
    first = inferred(tiny + LABELS, tmp_path).inferences[0]
    both = run.again(tmp_path, "property", {"column": "sex", "value": "male"})
    assert [one.kind for one in both.inferences] == ["labels", "property"]
    assert both.inferences[0] == first
    assert json.loads((tmp_path / "results.json").read_text())["inferences"][1]["parameters"]["value"] == "male"
    assert render(tmp_path).is_file()


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"column": "smokin"}, "did you mean 'smoking'"), ({"column": "sex", "value": "mal"}, "did you mean 'male'")],
)
def test_a_wrong_column_or_value_is_named_with_the_nearest(tiny, tmp_path, settings, said):
    inferred(tiny + LABELS, tmp_path)
    with pytest.raises(RequestError, match=said):
        run.again(tmp_path, "property", settings)


def test_more_auxiliary_records_than_are_held_out_is_an_error_before_anything_is_written(tiny):
    scenario = loads(tiny.replace("[attacker]\n", "[attacker]\nauxiliary = 5000\n"))
    with pytest.raises(RequestError, match=r"attacker.auxiliary: 5000 records are promised, and only 40"):
        run.check(scenario, "inline")
