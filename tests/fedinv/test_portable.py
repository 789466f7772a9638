"""What POSIX alone has is no condition for training, attacking and judging: nothing fails for want of it."""

import json
import os
import subprocess
import sys

import pytest

HIDE = """
import os, signal, sys
sys.modules.update(fcntl=None, resource=None, pwd=None, grp=None, termios=None)
for module, names in (
    (os, ("O_CLOEXEC", "pread", "killpg", "getuid", "sched_getaffinity", "statvfs", "fork")),
    (signal, ("pthread_sigmask", "SIGKILL", "SIGHUP")),
):
    for name in names:
        module.__dict__.pop(name, None)
"""
"""A sitecustomize module, which every Python process imports as it starts, those of a study too."""
TINY = ["--set", "federation.rounds=1", "--set", "attacker.watch.clients=1"]


@pytest.fixture
def bare(tmp_path):
    """Runs Python without what Windows lacks."""
    (tmp_path / "sitecustomize.py").write_text(HIDE)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}

    def python(*arguments):
        command = [sys.executable, *map(str, arguments)]
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)

    assert "ModuleNotFoundError" in python("-c", "import fcntl").stderr
    return python


def test_a_run_trains_attacks_judges_and_is_attacked_again(bare, tmp_path):
    ran = bare(
        "-m", "fedinv.cli", "run", "breast-cancer", "--attack", "exact", *TINY, "--out", tmp_path / "run", "--json"
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["attacks"][0]["recovered"]["value"] == 1
    again = bare("-m", "fedinv.cli", "attack", tmp_path / "run", "--attack", "labels", "--json")
    assert again.returncode == 0, again.stderr


@pytest.mark.slow
def test_a_study_has_its_processes(bare, tmp_path):
    compared = bare(
        "-m", "fedinv.cli", "compare", "breast-cancer", *TINY, "--defenses", "none,sign", "--attacks", "exact",
        "--only", "--jobs", 2, "--out", tmp_path / "compared", "--json",
    )  # fmt: skip
    assert compared.returncode == 0, compared.stderr
    assert [row["defenses"] for row in json.loads(compared.stdout)["rows"]] == ["none", "sign"]


APPEND = """
from pathlib import Path
from fedinv.recording.writer import Writer
from fedinv.recording.lines import Opened
writer = Writer(Path("recorded").absolute())
writer.open("files")
lines = writer.wire / "messages.jsonl"
lines.write_bytes(lines.read_bytes() + b"{torn")
writer.append(Opened(side="files", fedinv="1", process=1))
print([line[:6] for line in lines.read_bytes().split(b"\\n")])
"""


def test_lines_of_a_recording_are_appended_whole(bare):
    assert bare("-c", APPEND).stdout.strip() == str([b'{"even', b"{torn", b'{"even', b""])
