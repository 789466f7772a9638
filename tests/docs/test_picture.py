"""The picture of the report in the README is drawn by a command."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no chromium on the path to draw the page with")
def test_the_reports_picture_is_drawn_anew(tmp_path):
    command = [sys.executable, ROOT / "docs/picture.py", "--out", tmp_path / "report.png"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    readme = " ".join((ROOT / "README.md").read_text().replace("\n>", "\n").split())
    assert said.stdout.strip() in readme  # the verdict that the README quotes
    with Image.open(tmp_path / "report.png") as drawn, Image.open(ROOT / "docs/report.png") as kept:
        assert drawn.size == kept.size
        assert len(set(drawn.convert("L").tobytes())) > 50
