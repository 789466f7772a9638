import doctest
import importlib
import inspect
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import fedinv
from fedinv import api, outcomes
from fedinv.attack import Attack, Claim
from fedinv.errors import RequestError, RunError, Stopped
from fedinv.runs import own_update

ROOT = Path(__file__).parents[2]
FLAGS = doctest.ELLIPSIS
MODEL = {"kind": "mlp", "hidden": [48]}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, shared_tiny):
    """A run of the tiny hospital that one attack reads."""
    out = tmp_path_factory.mktemp("api") / "one"
    return fedinv.run(fedinv.load(shared_tiny, attacks=["exact:fall_back=false"]), out=out, progress=False)


def test_the_import_is_quick_and_brings_nothing_along():
    code = (
        "import sys, time; begun = time.process_time(); import fedinv; took = time.process_time() - begun\n"
        "names = ('torch', 'flwr', 'numpy', 'pydantic', 'typer', 'rich')\n"
        "heavy = [m for m in sys.modules if m.split('.')[0] in names]\n"
        "assert not heavy, heavy\n"
        "assert set(fedinv.__all__) <= set(dir(fedinv))\n"
        "print(took)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    tries = []
    for _ in range(5):  # computing time, and the quickest of five: a busy machine is no failure
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        tries.append(float(done.stdout))
    assert min(tries) < 0.1


def test_every_public_name_is_there_and_explains_itself_with_an_example():
    for name in fedinv.__all__:
        found = getattr(fedinv, name)
        assert inspect.getdoc(found)
        if inspect.isfunction(found):
            assert ">>>" in found.__doc__, name
    assert {"load", "run", "open_run", "compare", "assess", "audit", "invert", "defend", "available"} <= {
        *fedinv.__all__
    }
    assert callable(fedinv.run)
    importlib.import_module("fedinv.runs.run")
    assert fedinv.run is api.run


def test_a_misspelled_name_is_answered_with_the_nearest():
    with pytest.raises(AttributeError, match="did you mean 'compare'"):
        _ = fedinv.compair
    assert not hasattr(fedinv, "__wrapped__")


def test_types_are_shipped():
    assert (ROOT / "fedinv/py.typed").is_file()


@pytest.mark.parametrize("name", [*api.__all__, "explain"])
def test_the_examples_of_the_functions_run(name, tmp_path, monkeypatch, same_process):
    monkeypatch.chdir(tmp_path)
    examples = doctest.DocTestFinder().find(getattr(api, name), name)
    assert examples[0].examples
    with same_process():
        for one in examples:
            _check(one)


def test_the_examples_of_the_outcomes_run(tmp_path, monkeypatch, same_process):
    monkeypatch.chdir(tmp_path)
    found = [one for one in doctest.DocTestFinder().find(outcomes) if one.examples]
    assert len(found) >= 8
    with same_process():
        for one in found:
            _check(one)


def _check(example):
    said = []
    runner = doctest.DocTestRunner(optionflags=FLAGS, verbose=False)
    runner.run(example, out=said.append)
    assert runner.failures == 0, "".join(said)


def test_load_takes_a_name_a_path_text_a_table_a_run_and_a_scenario(tmp_path, tiny, finished):
    path = tmp_path / "mine.toml"
    path.write_text(tiny)
    import tomllib

    for source in (path, str(path), tiny, tomllib.loads(tiny), fedinv.load(tiny)):
        assert fedinv.load(source) == fedinv.load(tiny)
        assert fedinv.load(source, seed=9).seed == 9
    assert fedinv.load(finished.folder).attacks[0].kind == "exact"
    assert fedinv.load("hospital").name == "hospital"
    document = tomllib.loads(tiny)
    fedinv.load(document, seed=9)
    assert document["seed"] == 3  # what is handed in is not changed


def test_changes_are_the_scenarios_keys(tiny):
    changed = fedinv.load(tiny, **{"training.lr": 0.5, "model.hidden": [8], "training.epochs": None})
    assert (changed.training.lr, changed.model.hidden, changed.training.epochs) == (0.5, (8,), 1)
    short = fedinv.load("hospital", defenses="dp-sgd:epsilon=8", attacks=["exact:seconds=9", {"kind": "labels"}])
    assert (short.defenses[0].kind, short.defenses[0].epsilon) == ("dp-sgd", 8)
    assert [(a.kind) for a in short.attacks] == ["exact", "labels"]
    assert short.attacks[0].seconds == 9
    two = fedinv.load(tiny, defenses=["top-k:keep=0.5+sign", "training.batch_size=2"])
    assert [d.kind for d in two.defenses] == ["top-k", "sign"]
    assert two.training.batch_size == 2
    assert fedinv.load(two, defenses="none").defenses == ()
    own = fedinv.load("hospital", attacks=["exact"], **{"attacks.0.rounds": 2})
    assert own.attacks[0].rounds == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sead": 1}, "did you mean 'seed'"),
        ({"training.learning_rate": 1}, "training.learning_rate: unknown key"),
        ({"seed.x": 1}, "seed is a value"),
        ({"defenses": "top-q"}, "did you mean 'top-k'"),
        ({"defenses": ["top-k:0.1"]}, "write top-k:key=value"),
        ({"defenses": 3}, "must be a list of tables or of texts"),
        ({"attacks": ["exakt"]}, "did you mean 'exact'"),
    ],
)
def test_a_wrong_change_names_the_nearest_right_one(tiny, changes, words):
    with pytest.raises(RequestError, match=words):
        fedinv.load(tiny, **changes)


def test_a_source_that_is_none_is_refused():
    with pytest.raises(RequestError, match="is a int"):
        fedinv.load(3)
    with pytest.raises(RequestError, match="did you mean 'hospital'"):
        fedinv.load("hospitl")


def test_a_run_is_opened_read_and_attacked_again(finished):
    again = fedinv.open_run(finished.folder)
    assert again == finished
    assert again.scenario.name == "tiny"
    assert again.records.num_rows == 24 if hasattr(again.records, "num_rows") else len(again.records) == 24
    assert [o.last.round for o in again.observations] == [1, 1, 2, 2]
    assert again.report.is_file()
    assert "recovered" in repr(again) or "rebuilt" in repr(again)
    with pytest.raises(RequestError, match="did you mean 'exact'"):
        again.attack("exakt")
    with pytest.raises(RequestError, match="did you mean 'seconds'"):
        again.attack("exact", secnds=1)
    (finished.folder / "report.html").unlink()
    assert again.report.is_file()


def test_tables_are_pyarrows_without_pandas_and_pandas_with_it(finished, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    table = finished.to_frame()
    assert type(table).__module__.startswith("pyarrow")
    recovered = next(row for row in table.to_pylist() if row["measure"] == "recovered")
    rate = finished.results.attacks[0].recovered
    assert (recovered["value"], recovered["count"], recovered["guess"]) == (rate.value, rate.count, rate.prior)
    assert (recovered["low"], recovered["high"]) == tuple(rate.ci95)
    assert finished.records.num_rows == 24
    monkeypatch.undo()
    pandas = pytest.importorskip("pandas")
    frame = finished.to_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns) == table.column_names
    assert isinstance(finished.records, pandas.DataFrame)


def test_what_stops_a_run_names_its_folder(tiny, tmp_path, monkeypatch):
    from fedinv.engines import inline

    def stop(*_):
        raise KeyboardInterrupt

    def fail(*_):
        raise RunError("the disk is full")

    monkeypatch.setattr(inline, "train", stop)
    with pytest.raises(Stopped) as stopped:
        fedinv.run(tiny, out=tmp_path / "a", progress=False)
    assert stopped.value.folder == tmp_path / "a"
    monkeypatch.setattr(inline, "train", fail)
    with pytest.raises(RunError, match="the disk is full") as failed:
        fedinv.run(tiny, out=tmp_path / "b", progress=False)
    assert failed.value.folder == tmp_path / "b"


def test_a_run_gives_the_caller_its_threads_back(tiny, tmp_path):
    torch.set_num_threads(2)
    fedinv.run(tiny, out=tmp_path / "a", progress=False)
    assert torch.get_num_threads() == 2


def test_an_engine_is_told_its_options_by_name(tiny, tmp_path):
    with pytest.raises(RequestError, match="options.ray_adress.*did you mean 'ray_address'"):
        fedinv.run(tiny, engine="ray", options={"ray_adress": "here:1"}, out=tmp_path / "a")
    with pytest.raises(RequestError, match="did you mean 'inline'"):
        fedinv.run(tiny, engine="in-line", out=tmp_path / "a")
    assert not (tmp_path / "a").exists()


def victim(records=4, width=12, hidden=(48,), lr=0.1, activation=nn.ReLU):
    """A network's weights, its update after one step on these records, and the records."""
    torch.manual_seed(5)
    widths = [width, *hidden]
    layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), activation())]
    network = nn.Sequential(*layers, nn.Linear(widths[-1], 3))
    inputs, labels = torch.randn(records, width), torch.arange(records) % 3
    nn.functional.cross_entropy(network(inputs), labels).backward()
    sent = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    update = {name: -lr * weight.grad for name, weight in network.named_parameters()}
    return update, sent, inputs


def rebuilt(claim, inputs):
    """How many of the records a claim has to within a thousandth."""
    return int((torch.cdist(inputs, claim.records).min(1).values < 1e-3).sum()) if len(claim.records) else 0


KNOWS = {"algorithm": "fedsgd", "lr": 0.1}


@pytest.mark.parametrize("form", ["by name", "list", "numpy", "names of their own", "with a count of batches"])
def test_an_update_of_ones_own_is_inverted(form):
    update, sent, inputs = victim()
    match form:
        case "list":
            update, sent = list(update.values()), list(sent.values())
        case "numpy":
            update, sent = ({k: v.numpy() for k, v in side.items()} for side in (update, sent))
        case "names of their own":
            update, sent = ({f"body.{k}": v for k, v in side.items()} for side in (update, sent))
            update = dict(reversed(update.items()))
        case "with a count of batches":
            update, sent = ({**side, "count": torch.tensor(3)} for side in (update, sent))
    claim = fedinv.invert(update, sent=sent, model=MODEL, records=4, **KNOWS)
    assert isinstance(claim, Claim)
    assert rebuilt(claim, inputs) == 4
    assert claim.mismatch < 1e-3
    assert claim.notes[0] == "found by exact"


def test_auto_goes_on_to_the_attack_that_can():
    update, sent, inputs = victim(activation=nn.Tanh, hidden=(64, 64))
    model = {"kind": "mlp", "hidden": [64, 64], "activation": "tanh"}
    claim = fedinv.invert(update, sent=sent, model=model, records=4, **KNOWS)
    assert claim.notes[0] == "found by row-space"
    assert rebuilt(claim, inputs) == 4
    assert any(note.startswith("exact: ") for note in claim.notes)


def test_one_attack_with_settings_and_what_it_cannot_do_is_said():
    update, sent, inputs = victim()
    claim = fedinv.invert(update, sent=sent, model=MODEL, records=4, attack="exact:seconds=20", **KNOWS)
    assert rebuilt(claim, inputs) == 4
    with pytest.raises(RequestError, match="did you mean 'exact'"):
        fedinv.invert(update, sent=sent, model=MODEL, records=4, attack="exakt", **KNOWS)
    with pytest.raises(RequestError, match="'membership': does not rebuild records"):
        fedinv.invert(update, sent=sent, model=MODEL, records=4, attack="membership", **KNOWS)


def test_the_same_call_gives_the_same_claim_and_leaves_what_it_was_given():
    update, sent, _ = victim()
    before = {name: tensor.clone() for name, tensor in (update | {f"s{k}": v for k, v in sent.items()}).items()}
    one, two = (fedinv.invert(update, sent=sent, model=MODEL, records=4, seed=1, **KNOWS) for _ in range(2))
    assert torch.equal(one.records, two.records)
    assert all(torch.equal(before[name], tensor) for name, tensor in update.items())
    assert all(torch.equal(before[f"s{name}"], tensor) for name, tensor in sent.items())


def _without(mapping, key):
    return {name: value for name, value in mapping.items() if name != key}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda u, s: {"model": {"kind": "mpl"}}, "did you mean 'mlp'"),
        (lambda u, s: {"model": {"kind": "mlp", "hiden": [4]}}, "did you mean 'hidden'"),
        (lambda u, s: {"model": "mlp"}, "model: is a str, write a table"),
        (lambda u, s: {"model": {"kind": "lenet"}}, "schema: is needed for the model 'lenet'"),
        (lambda u, s: {"model": {"kind": "mlp", "hidden": [9]}}, r"0.weight' has the shape \(48, 12\)"),
        (lambda u, s: {"model": {"kind": "mlp", "hidden": [48, 48]}}, "4 arrays where the model has 6"),
        (lambda u, s: {"records": 0}, "records: 0 is not"),
        (lambda u, s: {"schema": {"colums": []}}, "schema: "),
        (lambda u, s: {"learning_rate": 0.1}, "learning_rate: an attack cannot know that"),
        (lambda u, s: {"batchsize": 4}, "did you mean 'batch_size'"),
        (lambda u, s: {"lr": -1}, "lr: is -1, must be a learning rate above 0"),
        (lambda u, s: {"algorithm": "sgd"}, "algorithm: is 'sgd', must be 'fedsgd'"),
        (lambda u, s: {"question": 1}, "left out"),
        (lambda u, s: {"defenses": ["top-q"]}, "did you mean 'top-k'"),
        (lambda u, s: {"update": _without(u, "0.bias")}, "update: the parameter '0.bias' is missing"),
        (lambda u, s: {"update": {**_without(u, "0.bias"), "0.bais": u["0.bias"]}}, "did you mean '0.bias'"),
        (lambda u, s: {"update": 3}, "update: is a int, give arrays"),
        (lambda u, s: {"sent": {**s, "0.bias": "somebody's name"}}, "sent: '0.bias' is a str, not an array"),
    ],
)
def test_a_mistake_in_an_inversion_is_one_line_that_names_it(change, words):
    update, sent, _ = victim()
    arguments = {"update": update, "sent": sent, "model": MODEL, "records": 4, **KNOWS} | change(update, sent)
    with pytest.raises(RequestError, match=words) as error:
        fedinv.invert(arguments.pop("update"), **arguments)
    assert "\n" not in str(error.value)
    assert "somebody" not in str(error.value)


def test_a_defense_that_is_known_of_is_answered():
    update, sent, _ = victim(hidden=(64,))
    model = {"kind": "mlp", "hidden": [64]}
    signs = {name: 0.01 * tensor.sign() for name, tensor in update.items()}
    known = own_update.knowledge(own_update.model_of(MODEL), None, 4, {**KNOWS, "defenses": ["top-k:keep=0.7"]})
    assert known.defense("top-k")["keep"] == 0.7
    assert known.loss == "cross-entropy"
    asked = {"sent": sent, "model": model, "records": 4, "attack": "gradient-matching", **KNOWS}
    blind = fedinv.invert(signs, **asked)
    told = fedinv.invert(signs, defenses=["sign"], **asked)
    explained = [float(re.search(r"explains ([\d.]+)%", one.notes[0])[1]) for one in (blind, told)]
    assert explained[0] < 60 < 90 < explained[1]


class Peeking(Attack):
    """Reaches for what it must not see."""

    kind: str = "peeking"
    reach: str

    def run(self, seen, knows, rng, progress):
        exec(self.reach)
        return Claim(torch.zeros(0, 1), torch.zeros(0))


@pytest.mark.parametrize(
    "reach",
    [
        "import fedinv.data.population",
        "import fedinv; fedinv.run",
        "import fedinv; fedinv.load('hospital')",
        "from fedinv.runs import own_update",
    ],
)
def test_an_inversion_runs_behind_the_wall(reach):
    update, sent, _ = victim()
    with pytest.raises(RunError, match="attack peeking failed: WallError"):
        fedinv.invert(update, sent=sent, model=MODEL, records=4, attack=Peeking(reach=reach), **KNOWS)


def test_groups_are_listed_and_a_wrong_one_named():
    assert set(fedinv.available("datasets")) >= {"hospital", "bank", "csv"}
    assert "hospital" in fedinv.available("scenarios")
    with pytest.raises(RequestError, match="did you mean 'attacks'"):
        fedinv.available("attakcs")


def test_a_notebook_shows_the_verdict_people_and_a_heat_map(finished):
    shown = finished._repr_html_()
    assert finished.results.headline in shown
    assert shown.count('class="fedinv-person"') == 3
    assert "background:rgb(" in shown
    assert "reconstructed" in shown
    assert "<script" not in shown


def test_what_a_notebook_shows_is_escaped(finished):
    from dataclasses import replace

    nasty = finished.results.model_copy(update={"headline": "<script>alert(1)</script>"})
    shown = replace(finished, results=nasty)._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown


def test_a_run_whose_folder_is_gone_still_shows_its_verdict(finished, tmp_path):
    from dataclasses import replace

    shown = replace(finished, folder=tmp_path / "gone")._repr_html_()
    assert finished.results.headline in shown
    assert "fedinv-person" not in shown


def test_images_are_shown_beside_their_reconstructions(tmp_path):
    tiny = {"federation.rounds": 1, "attacker.watch.clients": 1, "model": {"kind": "mlp", "hidden": [256]}}
    run = fedinv.run(fedinv.load("digits", attacks=["exact"], **tiny), out=tmp_path / "run", progress=False)
    shown = run._repr_html_()
    assert run.results.attacks[0].claimed
    assert shown.count("data:image/png;base64,") == 2 * min(3, run.results.attacks[0].claimed)


def test_an_audit_passes_or_fails_and_shows_it(tmp_path):
    small = fedinv.load("redteam-half-noise", **{"federation.clients": 10, "audit.clients": 100})
    found = fedinv.audit(small, out=tmp_path / "audit", progress=False)
    assert not found.passed
    assert found.results.says.replace("&", "&amp;") in found._repr_html_()
    rows = found.to_frame()
    assert len(rows) == 2
    np.testing.assert_allclose(max(rows["lower_bound"].to_numpy()), max(found.results.lower_bounds.values()))
