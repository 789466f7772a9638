"""Of two commands on one folder the second is refused, and a dead one holds nothing."""

import os
import sys

import pytest

from fedinv.errors import RequestError
from fedinv.storage.lock import NAME, locked
from fedinv.storage.run_folder import RunFolder

HOLD = """
import sys, time
from pathlib import Path
from fedinv.storage.lock import locked
with locked(Path(sys.argv[1])):
    Path(sys.argv[1], "held").touch()
    while True: time.sleep(1)
"""


def test_a_folder_in_use_is_refused_until_its_holder_is_dead(tmp_path, start, until):
    holder = start([sys.executable, "-c", HOLD, tmp_path / "run"])
    until((tmp_path / "run" / "held").exists, "the lock is held", holder)
    with (
        pytest.raises(
            RequestError, match=rf"run: is in use by another fedinv command \(process {holder.process.pid}\)"
        ),
        locked(tmp_path / "run"),
    ):
        pass
    holder.kill()
    with locked(tmp_path / "run"):
        assert (tmp_path / "run" / NAME).read_text() == str(os.getpid())


def test_a_lock_that_was_waited_for_is_had_in_the_end(tmp_path, start, until):
    wait = HOLD.replace("[1])):", "[1]), wait=True):")
    with locked(tmp_path):
        waiting = start([sys.executable, "-c", f"print('imported', flush=True)\n{wait}", tmp_path])
        until(lambda: waiting.output.read_text(), "it has begun", waiting)
        assert not (tmp_path / "held").exists()
    until((tmp_path / "held").exists, "the lock is had", waiting)


def test_an_emptied_folder_keeps_its_lock(tmp_path):
    with locked(tmp_path):
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "b").write_text("x")
        (tmp_path / "link").symlink_to("a")
        RunFolder(tmp_path).clear()
        assert [path.name for path in tmp_path.iterdir()] == [NAME]
