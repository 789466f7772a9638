"""Pages of the lessons: a list of all, and one of each with its text as prose and its code as code."""

import ast
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

FOLDER = Path(__file__).parents[2] / "lessons"
TABLE = re.compile(r"^\|.*\n(?:\|.*\n)+", re.M)
"""Pattern of a table in Markdown; the first one of the lessons' README lists them."""


@dataclass(frozen=True)
class Lesson:
    """A notebook, as it says of itself what it is."""

    name: str
    """Name of its file, without the ending."""
    title: str
    """Its heading, with its number."""
    knows: str
    """What one knows afterwards."""
    takes: str
    """How long it takes a reader, in words."""
    cells: Sequence[str]
    """Its cells in their order, as Markdown: prose, or a block of code."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the list of lessons and a page for each."""
    for uri, text in pages().items():
        files.append(File.generated(config, uri, content=text))
    return files


def pages() -> Mapping[str, str]:
    """The text of each page by its place on the site."""
    found = [read(path) for path in sorted(FOLDER.glob("[0-9]*.py"))]
    rows = [f"| [{one.title}]({one.name}.py) | {one.knows} | {one.takes} |" for one in found]
    listed = "\n".join(["| lesson | what one knows afterwards | for a reader |", "|---|---|---|", *rows, ""])
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    return {
        "lessons/index.md": TABLE.sub(lambda _: listed, readme, count=1),
        **{f"lessons/{one.name}.md": page(one) for one in found},
    }


def read(path: Path) -> Lesson:
    """Read a lesson's file. Its docstring is a line on what one knows afterwards, and one on how long it takes."""
    module = ast.parse(path.read_text(encoding="utf-8"))
    knows, takes = (ast.get_docstring(module) or "").split("\n")
    made = next(
        node for node in ast.walk(module) if isinstance(node, ast.Call) and ast.unparse(node.func) == "marimo.App"
    )
    title = next(ast.literal_eval(given.value) for given in made.keywords if given.arg == "app_title")
    return Lesson(path.stem, title, knows.removesuffix("."), takes.removesuffix("."), [*cells(path)])


def cells(path: Path) -> Iterator[str]:
    """The cells of a notebook as Markdown; what a cell hands to others is left out."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    for node in ast.parse(text).body:
        if not isinstance(node, ast.FunctionDef):
            continue
        body = node.body[:-1] if isinstance(node.body[-1], ast.Return) else node.body
        if not body:
            continue
        said = prose(body)
        start = node.body[0].lineno - 1
        while not lines[start - 1].startswith("def "):  # comments that come first
            start -= 1
        code = inspect.cleandoc("\n".join(["", *lines[start : body[-1].end_lineno]]))
        yield said if said is not None else f"```python\n{code}\n```"


def prose(body: Sequence[ast.stmt]) -> str | None:
    """The text of a cell that is nothing but text; None for any other."""
    if len(body) != 1 or not isinstance(body[0], ast.Expr) or not isinstance(body[0].value, ast.Call):
        return None
    call = body[0].value
    if ast.unparse(call.func) != "mo.md" or not isinstance(call.args[0], ast.Constant):
        return None
    return inspect.cleandoc(str(call.args[0].value))


def page(lesson: Lesson) -> str:
    """A lesson to be read, its heading first; the figures are computed where it is run."""
    at = next(place for place, cell in enumerate(lesson.cells) if cell.startswith("# "))
    command = f"```\nmarimo edit lessons/{lesson.name}.py\n```"
    how = f"*{lesson.takes}. Afterwards one knows: {lesson.knows}.* Figures are computed where it is run"
    parts = [
        lesson.cells[at],
        f"{how} ([all lessons](README.md)):",
        command,
        *lesson.cells[:at],
        *lesson.cells[at + 1 :],
    ]
    return "\n\n".join(parts) + "\n"
