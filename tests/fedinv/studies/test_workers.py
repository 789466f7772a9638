import os
import signal
import sys
from concurrent.futures.process import BrokenProcessPool

import pytest

from fedinv.errors import RunError
from fedinv.studies.workers import Workers, pool


def test_a_process_that_ends_is_named_with_both_of_its_causes():
    said = 'audit was killed: try fewer --jobs; .* below if __name__ == "__main__":'
    with pytest.raises(RunError, match=said), pool(Workers(1), 1, "audit"):
        raise BrokenProcessPool


STUDY = """
import signal
from fedinv.studies.workers import Workers, pool

if __name__ == "__main__":
    with pool(Workers(1), 1, "study") as work:
        work.submit("a", signal.pause)
        print("begun", flush=True)
        list(work.finished())
"""


def test_processes_end_with_the_command_that_started_them_however_it_was_killed(tmp_path, start, until):
    """A killed command's lock is gone: what still wrote into its folder would meet the next command's files."""
    (tmp_path / "study.py").write_text(STUDY)
    study = start([sys.executable, str(tmp_path / "study.py")])
    until(lambda: sum("spawn_main" in command for command in study.family().values()) >= 1, "a process works", by=study)
    os.kill(study.process.pid, signal.SIGKILL)
    study.process.wait()
    until(lambda: not any("spawn_main" in command for command in study.family().values()), "all have ended")
