import os
import re
import signal
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from fedinv.errors import RunError
from fedinv.studies.workers import Workers, pool


def test_a_process_that_ends_is_named_with_both_of_its_causes():
    said = 'audit was killed: try fewer --jobs; .* below if __name__ == "__main__":'
    with pytest.raises(RunError, match=said), pool(Workers(1), 1, "audit"):
        raise BrokenProcessPool


STUDY = """
import signal, sys
from fedinv.studies.workers import Workers, pool

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pool(Workers(1), 1, "study") as work:
            work.submit("a", signal.pause)
            list(work.finished())
    except KeyboardInterrupt:
        sys.exit("stopped")
"""


def test_processes_end_with_the_command_that_started_them_however_it_was_killed(tmp_path, start, until):
    """A killed command's lock is gone: what still wrote into its folder would meet the next command's files."""
    (tmp_path / "study.py").write_text(STUDY)
    study = start([sys.executable, str(tmp_path / "study.py")])
    until(lambda: sum("spawn_main" in command for command in study.family().values()) >= 1, "a process works", by=study)
    os.kill(study.process.pid, signal.SIGKILL)
    study.process.wait()
    until(lambda: not any("spawn_main" in command for command in study.family().values()), "all have ended")


def test_ctrl_c_ends_what_works_and_what_is_only_starting_without_a_word(tmp_path, start, until):
    """Ctrl-C reaches every process of a terminal's command; one that is importing would print where it was."""
    (tmp_path / "study.py").write_text(STUDY)
    study = start([sys.executable, str(tmp_path / "study.py")])
    until(lambda: any("spawn_main" in command for command in study.family().values()), "a process starts", by=study)
    workers = [pid for pid, command in study.family().items() if "spawn_main" in command]
    blocked = [re.search(r"SigBlk:\t(\w+)", Path(f"/proc/{pid}/status").read_text())[1] for pid in workers]
    assert all(int(signals, 16) >> (signal.SIGINT - 1) & 1 for signals in blocked)
    os.killpg(study.process.pid, signal.SIGINT)
    said = study.ended()
    assert (said.returncode, said.stderr) == (1, "stopped\n")
