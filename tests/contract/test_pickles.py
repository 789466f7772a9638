"""Nothing of a plugin's is ever pickled: what a run stores is numbers and text, which nobody can hide code in."""

import ast
import pickle
from pathlib import Path

import pytest
import torch

from fedinv import roles
from fedinv.attack import Answer, Attack, Claim, Observation
from fedinv.data.dataset import Dataset
from fedinv.data.table import Table
from fedinv.defense import Defense
from fedinv.runs import run
from fedinv.scenario.reading import loads

ROOT = Path(run.__file__).parents[1]
PICKLING = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}


def sources():
    """Every file of the package and of the two roles."""
    for folder in (ROOT, roles.folder("clients"), roles.folder("server")):
        yield from folder.rglob("*.py")


def test_no_file_imports_what_pickles_or_saves_by_it():
    found = []
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and [one.name for one in node.names] != ["UnpicklingError"]:
                names.append(node.module or "")
            found += [(path.name, name) for name in names if name.split(".")[0] in PICKLING]
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.save", "torch.load", "np.load"):
                settings = {f"{one.arg}={ast.unparse(one.value)}" for one in node.keywords}
                if not settings & {"weights_only=True", "allow_pickle=False"}:  # which read no pickle
                    found.append((path.name, ast.unparse(node.func)))
    assert found == []


def refuse(*_):
    raise AssertionError("something is pickled")


class Refused:
    """In the place of what reads pickles: a class, as others derive from it."""

    def __init__(self, *_, **__):
        refuse()


def test_a_run_with_a_defense_and_attacks_pickles_none_of_them_and_reads_no_pickle(
    tiny, tmp_path, monkeypatch, drawn_plots
):
    attacks = '[[attacks]]\nkind = "exact"\nfall_back = false\n[[attacks]]\nkind = "labels"\n'
    tiny = tiny.replace("rounds = [1, 2], clients = 2", "rounds = [1], clients = 1")
    scenario = loads(tiny + '[[defenses]]\nkind = "top-k"\n' + attacks)
    for plugin in (Attack, Defense, Dataset, Claim, Answer, Observation, Table):
        monkeypatch.setattr(plugin, "__reduce_ex__", refuse)
    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, Refused)
    monkeypatch.setattr(torch, "save", Refused)
    monkeypatch.setattr(torch, "load", Refused)
    with pytest.raises(AssertionError, match="pickled"):
        pickle.dumps(scenario.defenses[0])
    results = run.run(scenario, run.open_folder(scenario, tmp_path / "run"))
    assert {one.kind for one in (*results.attacks, *results.inferences)} == {"exact", "labels"}
    files = (path for path in (tmp_path / "run").rglob("*") if path.is_file() and path.name[0] != ".")  # locks
    written = {path.suffix for path in files}
    texts, tables = {".toml", ".json", ".jsonl", ".html"}, {".csv", ".tex", ".parquet", ".sqlite", ".safetensors"}
    assert written <= texts | tables | {".png", ".svg"}
