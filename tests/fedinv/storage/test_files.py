import errno
from pathlib import Path

import pytest
import torch

from fedinv.errors import RunError
from fedinv.storage import files


def test_a_full_disk_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "model.json"
    files.write_json(path, {"round": 1})

    def full(self, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(RunError, match=r"model\.json: cannot be written \(No space left"):
        files.write_json(path, {"round": 2})
    assert files.read_json(path) == {"round": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["model.json"]


def test_damaged_and_missing_files_are_named(tmp_path):
    path = tmp_path / "round.safetensors"
    files.write_tensors(path, {"w": torch.ones(4)}, {"round": 1})
    assert files.read_tensors(path)[1] == {"round": 1}
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(RunError, match="round.safetensors: is damaged"):
        files.read_tensors(path)
    with pytest.raises(RunError, match="none.safetensors: cannot be read"):
        files.read_tensors(tmp_path / "none.safetensors")
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(RunError, match="x.json: is damaged"):
        files.read_json(tmp_path / "x.json")


def test_a_number_that_is_not_finite_never_enters_a_json(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "x.json", {"value": float("nan")})
