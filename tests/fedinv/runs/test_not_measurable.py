"""A held-out part of one class: what cannot be measured is null in every file, and said in words to every reader."""

import json

import numpy as np
import pytest

import fedinv
from fedinv.report import terminal

SCENARIO = """
name = "rare"
seed = 1
model = { kind = "mlp", hidden = [32] }
data = { source = "csv", path = "rare.csv", label = "died" }
federation = { clients = 2, rounds = 1 }
training = { algorithm = "fedsgd", batch_size = 4 }
[[attacks]]
kind = "exact"
fall_back = false
"""


@pytest.fixture(scope="module")
def rare(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("rare"), np.random.default_rng(0)
    lines = [f"{rng.normal(50, 9):.2f},{rng.choice(['a', 'b'])},{'yes' if i == 7 else 'no'}" for i in range(60)]
    (folder / "rare.csv").write_text("\n".join(["age,ward,died", *lines]))
    (folder / "rare.toml").write_text(SCENARIO)
    return folder


def test_a_model_without_both_classes_to_judge_it_on_has_no_auc(rare, capsys):
    run = fedinv.run(fedinv.load(rare / "rare.toml"), out=rare / "run", progress=False)
    written = json.loads((run.folder / "results.json").read_text())
    assert (written["utility"]["value"], written["utility"]["ci95"]) == (None, None)
    assert "AUC is not measurable" in " ".join(written["notes"])
    page = run.report.read_text()
    assert "not measurable" in page
    assert "NaN" not in page
    assert "None" not in page
    terminal.show_run(run.results, "report.html")
    assert "AUC is not measurable" in " ".join(capsys.readouterr().out.split())


def test_nothing_is_recommended_from_it(rare, capsys, same_process):
    scenario = fedinv.load(rare / "rare.toml")
    with same_process():
        compared = fedinv.compare(
            scenario, defenses=["sign"], attacks=["exact"], only=True, out=rare / "compared", jobs=1, progress=False
        )
    assert compared.results.recommendation.startswith("AUC is not measurable on the held-out records")
    assert "take" not in compared.results.recommendation
    terminal.show_comparison(compared.results)
    assert "measurable" in capsys.readouterr().out
    assert "not measurable" in compared.report.read_text()
    assert "not measurable" in compared._repr_html_()
