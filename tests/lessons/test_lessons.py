"""Each lesson is run from top to bottom: what it says holds, and its solutions solve its exercises."""

import ast
import importlib.util
import re
from pathlib import Path

import pytest

pytest.importorskip("marimo", reason="marimo is not installed: pip install 'fedinv[lab]'")

LESSONS = sorted((Path(__file__).parents[2] / "lessons").glob("[0-9]*.py"))


def app_of(path):
    spec = importlib.util.spec_from_file_location(f"lesson_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.app


def test_lessons_are_numbered_from_one():
    assert [int(path.name[:2]) for path in LESSONS] == list(range(1, len(LESSONS) + 1))
    assert len(LESSONS) >= 6


def test_each_lesson_says_in_its_file_what_the_list_says_of_it():
    readme = (LESSONS[0].parent / "README.md").read_text(encoding="utf-8")
    listed = [tuple(row) for row in re.findall(r"^\| (\d\. .+?) \| (.+?) \|$", readme, re.MULTILINE)]
    said = []
    for path in LESSONS:
        text = path.read_text(encoding="utf-8")
        knows, takes = ast.get_docstring(ast.parse(text)).split("\n")
        assert re.fullmatch(r"About \d+ minutes\.", takes)
        title = re.search(r'app_title="(.+?)"', text)[1]
        said.append((title, knows[0].lower() + knows[1:].removesuffix(".")))
    assert listed == said


@pytest.mark.slow
@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem[:2])
def test_a_lesson_runs_its_claims_hold_and_its_solutions_solve(path):
    _, names = app_of(path).run()
    if "room" in names:
        names["room"].cleanup()
    exercises = len(re.findall(r"^ *## Exercise", path.read_text(encoding="utf-8"), re.MULTILINE))
    assert exercises >= 1
    assert names["solved"] == [True] * exercises
    for number in range(1, exercises + 1):
        assert names[f"right_{number}"](None) is False
        assert f"solution_{number}" in names


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem[:2])
def test_a_lesson_has_a_story_a_prediction_exercises_behind_a_fold_and_checks_itself(path):
    text = path.read_text(encoding="utf-8")
    for part in ("mo.ui.radio", "Before you run anything", "## Exercise 1", "mo.accordion", "Solution 1", "assert "):
        assert part in text, part
    assert "import fedinv" in text


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem[:2])
def test_a_lesson_states_no_measured_share_by_hand(path):
    prose = re.findall(r'"""(.*?)"""', path.read_text(encoding="utf-8"), re.DOTALL)
    by_hand = [found for text in prose for found in re.findall(r"(?<![{\w.:])\d+(?:\.\d+)? ?%", text)]
    assert by_hand == []
