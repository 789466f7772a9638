"""Shared code names no defense: what is special about one stands in a file of its own."""

import ast
from pathlib import Path

import pytest

from fedinv import plugins

ROOT = Path(__file__).parents[2]
OWN = (
    "clients/defenses",
    "server/aggregation",
    "server/countermeasures",
    "server/malicious",
    "fedinv/defense_terms",
    "fedinv/data/sources",
)
"""Folders with one file a plugin or a deviation."""
SHARED = sorted(
    path.relative_to(ROOT).as_posix()
    for role in ("clients", "server", "fedinv")
    for path in (ROOT / role).rglob("*.py")
    if not path.relative_to(ROOT).as_posix().startswith(OWN)
)
KINDS = frozenset(plugins.available("defenses"))


def kinds_named(source: str) -> set[tuple[int, str]]:
    """Lines and kinds of the string literals that are a defense's kind, docstrings left out."""
    tree = ast.parse(source)
    bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    literals = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in bare)
    return {(node.lineno, node.value) for node in literals if isinstance(node.value, str) and node.value in KINDS}


def test_the_search_finds_a_kind_and_passes_docstrings_over():
    assert kinds_named('"""dp-sgd"""\nx = {"dp-sgd": 1}\ny = "clips as dp-sgd does"\n') == {(2, "dp-sgd")}
    assert any("server/attacks" in path for path in SHARED) and any("fedinv/scenario" in path for path in SHARED)


@pytest.mark.parametrize("path", SHARED)
def test_shared_code_names_no_defense(path):
    assert kinds_named((ROOT / path).read_text(encoding="utf-8")) == set()
