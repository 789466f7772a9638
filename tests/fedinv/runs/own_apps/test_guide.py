"""The guide's five minutes, word by word: its commands, and what it says they find."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from fedinv.cli import app

ROOT = Path(__file__).parents[4]
GUIDE = (ROOT / "docs/own-app.md").read_text(encoding="utf-8")
FIVE_MINUTES = GUIDE.split("## In five minutes")[1].split("\n## ")[0]
ADAM = "torch.optim.Adam(model.parameters(), lr=0.001)"


@pytest.fixture
def apps(tmp_path, monkeypatch):
    """The two apps that the guide speaks of, in the folder that its commands are run in."""
    (sgd,) = re.findall(r"`(torch\.optim\.SGD\(.*?\))`", FIVE_MINUTES)
    for name in ("my-app", "my-sgd"):
        shutil.copytree(ROOT / "tests/apps/tabular", tmp_path / name)
    task = tmp_path / "my-sgd/tabular/task.py"
    assert ADAM in task.read_text()
    task.write_text(task.read_text().replace(ADAM, sgd))
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
def test_its_commands_run_and_find_what_it_says(apps):
    said = {}
    torch.manual_seed(1)  # the app draws its first weights with it
    for line in [line for block in re.findall(r"```\n(.*?)```", FIVE_MINUTES, re.S) for line in block.splitlines()]:
        done = CliRunner().invoke(app, shlex.split(line.replace("--nodes 4", "--nodes 2"))[1:])  # half the time
        assert done.exit_code == (1 if line.startswith("fedinv gate") else 0), done.output
        said[line.split()[1], line.split()[2].removeprefix("./")] = " ".join(done.output.split())
    assert len(said) == 7
    assert "4 updates of 2 clients in 2 rounds" in said["record", "my-app"]
    assert re.search(r"of layer1, .*? layer1.*?: .*?unknown, not safe", said["map", "runs/mine"])
    assert "Nothing was read off 4 updates" in said["read", "runs/mine"]
    claim = r"The server can read (\d+) records off (\d) of [24] updates, and verify each of them"
    assert re.search(claim, " ".join(FIVE_MINUTES.split()))
    records, updates = re.search(claim, said["read", "runs/sgd"]).groups()
    assert int(records) >= 32 * int(updates) >= 32
    assert re.search(r"FAIL: \d of 2 updates may leave", said["gate", "runs/sgd"])
