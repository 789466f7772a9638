"""Docstrings are phrases that a reader understands without the name above them, in the field's words."""

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

HOME = Path(__file__).parents[1]

DONE = ("clients", "fedinv", "server")
"""Files and folders whose docstrings are held to the rules below."""

FRAGMENTS = (
    "That",
    "Of",
    "There",
    "Their",
    "Theirs",
    "Its",
    "Them",
    "They",
    "Likewise",
    "As",
    "At",
    "Beside",
    "By",
    "For",
    "From",
    "In",
    "On",
    "To",
    "With",
)
"""First words of a phrase whose subject is the name above it; "Whether" is not one, unless a pronoun follows it."""

PRONOUN = re.compile(r"(Whether|What|Why|How|Where|Which) (it|its|they|their|them|that|there)\b")
SAME = re.compile(r"The same\b(?! \w)|The same[,.;:]|The same for\b")
DIALECT = re.compile(r"\b(?:told|telling|peeled|alike|surest|likest|(?:is|are|be) cut(?! off))\b")
"""Words of our own for what the field calls revealed, informative, extracted, equal, most confident, clipped."""

LOWER = re.compile(r"`|\(|[a-z] |(?:bool|u?int|float|complex)\d*\b|[a-z]+[._\d]|\w[\w ,-]* (?:->|=) ")
"""What a phrase may begin with although it has no capital: code, shapes and types, file names, formulas."""


def docstrings(text: str) -> Iterator[tuple[int, str]]:
    """Line and text of each docstring below a public constant, attribute, class or function."""
    yield from _in(ast.parse(text))


def _in(owner: ast.Module | ast.ClassDef) -> Iterator[tuple[int, str]]:
    for statement, following in pairwise(owner.body):
        name = _assigned(statement)
        match following:
            case ast.Expr(value=ast.Constant(value=str(said))) if name and not name.startswith("_"):
                yield following.lineno, said
    for statement in owner.body:
        if isinstance(statement, ast.ClassDef | ast.FunctionDef) and not statement.name.startswith("_"):
            said = ast.get_docstring(statement)
            if said:
                yield statement.lineno, said
            if isinstance(statement, ast.ClassDef):
                yield from _in(statement)


def _assigned(statement: ast.stmt) -> str | None:
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return statement.target.id
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
        return statement.targets[0].id
    return None


def fault(said: str) -> str | None:
    """What is wrong with a docstring; None for nothing."""
    phrase = " ".join(said.split())
    words = re.findall(r"[\w'-]+", phrase)
    if len(words) < 3:
        return "a fragment of one or two words"
    if words[0] in FRAGMENTS and phrase.startswith(words[0]):
        return f"begins with {words[0]!r}, which needs the name above it as its subject"
    if PRONOUN.match(phrase):
        return "begins with a pronoun that stands for the name above it"
    if SAME.match(phrase):
        return "refers to the docstring above it"
    if phrase[0].islower() and not LOWER.match(phrase):
        return "begins with a small letter"
    if found := DIALECT.search(phrase):
        return f"says {found.group()!r}, which is not the field's word"
    return None


def _files(place: str) -> list[Path]:
    path = HOME / place
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


@pytest.mark.parametrize("place", DONE)
def test_docstrings_are_whole_phrases_in_the_field_s_words(place):
    files = _files(place)
    assert files
    found = [
        f"{path.relative_to(HOME)}:{line}: {wrong}: {said.splitlines()[0]}"
        for path in files
        for line, said in docstrings(path.read_text(encoding="utf-8"))
        if (wrong := fault(said))
    ]
    assert found == []


@pytest.mark.parametrize(
    "said",
    [
        "That it holds.",
        "There are.",
        "Of stacked weights that are trained at once.",
        "The same, for clients that are trained as one.",
        "Whether it needs each record's own gradient.",
        "whether signals are unlike the weights",
        "Records.",
        "Norm to which the update is cut.",
        "Values told of the first sensitive column.",
        "By method; both hold together.",
    ],
)
def test_a_fragment_or_a_private_word_is_found(said):
    source = f'LIMIT = 3\n"""{said}"""\n'
    assert [fault(text) for _, text in docstrings(source)] != [None]


@pytest.mark.parametrize(
    "said",
    [
        "Whether a network's layers are all linear.",
        "float32 (n, width): encoded records.",
        "update -> clipped update + noise.",
        "records.parquet: one row for each record.",
        "`keys` of a table in order.",
        "Norm to which each update is clipped, in units of the model's weights.",
    ],
)
def test_a_whole_phrase_passes(said):
    assert fault(said) is None


def test_attributes_classes_and_functions_are_read_and_private_ones_are_not():
    source = (
        'A = 1\n"""One."""\n_B = 2\n"""Two."""\nclass C:\n    """Three."""\n    d: int\n    """Four."""\n'
        '    def e(self):\n        """Five."""\n    def _f(self):\n        """Six."""\n'
    )
    assert sorted(text for _, text in docstrings(source)) == ["Five.", "Four.", "One.", "Three."]
