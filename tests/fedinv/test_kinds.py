"""Shared code names no plugin: what is special about a kind is said in the plugin's own file."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

import fedinv
from fedinv import plugins, roles
from fedinv.task.models import AnyModel

ORDINARY = {
    *("csv", "decoder", "digits", "dropout", "encoder", "exact", "labels", "line-up", "membership", "module"),
    *("property", "sign", "tabular"),
}
"""Kinds that are words of their own, too: names of questions, of rates, of file endings, of keys."""
PLUGINS = {
    kind
    for group in ("attacks", "defenses", "datasets")
    for kind, plugin in plugins.available(group).items()
    if isinstance(plugin.origin, Path)
}
MODELS = {model.model_fields["kind"].default for model in get_args(AnyModel)}
FEDINV = Path(fedinv.__file__).parent
CLIENTS = roles.folder("clients")
SHARED = [
    path
    for path in sorted([*FEDINV.rglob("*.py"), *CLIENTS.rglob("*.py")])
    if CLIENTS / "defenses" not in path.parents and "_roles/server" not in path.as_posix()
]


def named(source: str, kinds: set[str]) -> Iterator[tuple[int, str]]:
    """Line and kind of every literal that names a kind: as a word, or an ordinary word where a kind is meant."""
    tree = ast.parse(source)
    prose = {id(part) for text in _texts_for_readers(tree) for part in ast.walk(text)}
    meant = {id(node) for node in _meant_as_kinds(tree)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or id(node) in prose:
            continue
        if node.value.startswith("fedinv "):
            continue  # an example of a command
        for kind in kinds:
            if kind in ORDINARY:
                found = node.value == kind and id(node) in meant
            else:
                found = re.search(rf"(?<![\w-]){re.escape(kind)}(?![\w-])", node.value) is not None
            if found:
                yield node.lineno, kind


def _texts_for_readers(tree: ast.AST) -> Iterator[ast.AST]:
    """Docstrings, and what the command line's help shows as examples."""
    for node in ast.walk(tree):
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if is_docstring or (isinstance(node, ast.keyword) and node.arg in ("help", "epilog")):
            yield node.value


def _meant_as_kinds(tree: ast.AST) -> Iterator[ast.AST]:
    """What is compared with a kind or a source, or handed over as one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            names = {getattr(side, "attr", getattr(side, "id", None)) for side in sides}
            if names & {"kind", "source"}:
                yield from (part for side in sides for part in ast.walk(side))
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value in ("kind", "source"):
                    yield value
        elif isinstance(node, ast.keyword) and node.arg in ("kind", "source"):
            yield node.value
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", None) in ("defense", "load", "startswith"):
            yield from node.args


def own(path: Path) -> set[str]:
    """The kind that a file is about, where it is a defense's terms or a source's."""
    return {path.stem.replace("_", "-")} if path.parent.name in ("defense_terms", "sources") else set()


@pytest.mark.parametrize("path", SHARED, ids=lambda path: path.relative_to(FEDINV.parent).as_posix())
def test_shared_code_names_no_plugin(path):
    assert list(named(path.read_text(encoding="utf-8"), PLUGINS - own(path))) == []


def test_no_model_is_named_but_where_models_are_defined():
    found = {
        path.relative_to(FEDINV.parent): kinds
        for path in SHARED
        if "task" not in path.relative_to(FEDINV.parent).parts
        and (kinds := list(named(path.read_text(encoding="utf-8"), MODELS)))
    }
    assert found == {}


def test_every_group_and_folder_is_looked_at():
    assert {"dp-sgd", "row-space", "hospital"} <= PLUGINS
    assert {"mlp", "convnet"} <= MODELS
    assert ORDINARY <= PLUGINS | MODELS
    assert {"defense.py", "assess.py", "cohort.py", "inline.py"} <= {path.name for path in SHARED}


@pytest.mark.parametrize(
    "source",
    [
        'if defense.kind == "masking": pass',
        'text = "use clip-noise instead"',
        'text = f"{name}: list masking after it"',
        'usual = ("mixup",)',
        'if kind == "exact": pass',
        'if attack.kind in ("labels", "x"): pass',
        'asked = {"kind": "membership"}',
        'agreement.defense("sign")',
        'Attack(kind="property")',
    ],
)
def test_a_kind_is_found_wherever_it_stands(source):
    assert len(list(named(source, PLUGINS))) == 1


@pytest.mark.parametrize(
    "source",
    [
        '"""What dp-sgd does."""',
        'example = "fedinv run hospital --defense dp-sgd"',
        'rates = ("recovered", "exact")',
        'if asks == "membership": pass',
        'text = "unmasking"  # not masking',
        'text = "a-bank-of"',
    ],
)
def test_prose_examples_and_ordinary_words_are_left_alone(source):
    assert list(named(source, PLUGINS)) == []
