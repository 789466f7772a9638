"""Exports the lessons with their outputs as static pages, with marimo's front end beside them: `make lessons`.

The pages ask nobody for anything, and are read from a folder that is served: `python -m http.server -d lessons/static`.
Where nbformat is installed, there is an .ipynb of each as well.
"""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
STATIC = HERE / "static"
ELSEWHERE = re.compile(r"https://cdn\.jsdelivr\.net/npm/@marimo-team/frontend@[^/]+/dist")
"""Where marimo's exported pages fetch its front end from."""


def export(lesson: Path, kind: str, *options: str) -> Path:
    """Run a lesson and write it, with its outputs, in another form."""
    made = STATIC / f"{lesson.stem}.{kind}"
    marimo = [sys.executable, "-m", "marimo", "-q", "-y", "export", kind, str(lesson), "-o", str(made), "-f", *options]
    subprocess.run(marimo, check=True)
    return made


def with_own_front_end(page: str) -> str:
    """An exported page that takes marimo's front end from the folder beside it."""
    return ELSEWHERE.sub("./marimo", page)


def main() -> None:
    """Export all lessons."""
    STATIC.mkdir(exist_ok=True)
    found = importlib.util.find_spec("marimo")
    assert found is not None and found.origin is not None
    shutil.copytree(Path(found.origin).parent / "_static", STATIC / "marimo", dirs_exist_ok=True)
    notebooks = importlib.util.find_spec("nbformat") is not None
    for lesson in sorted(HERE.glob("[0-9]*.py")):
        page = export(lesson, "html")
        page.write_text(with_own_front_end(page.read_text(encoding="utf-8")), encoding="utf-8")
        if notebooks:
            export(lesson, "ipynb", "--include-outputs")
    if not notebooks:
        print("no .ipynb: pip install nbformat", file=sys.stderr)


if __name__ == "__main__":
    main()
