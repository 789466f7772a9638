import pytest

from fedinv.engines.deployment import processes, rehearsal
from fedinv.errors import RequestError


def test_a_rehearsal_is_refused_where_processes_cannot_be_watched(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "PROC", tmp_path / "proc")  # as on macOS
    with pytest.raises(RequestError, match="needs /proc.*--superlink"):
        rehearsal.up(tmp_path / "up", 2, False, lambda line: None)
    assert not (tmp_path / "up").exists()


def test_it_is_not_where_they_can(tmp_path):
    processes.require_proc()
