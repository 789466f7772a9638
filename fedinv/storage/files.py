"""Reading and atomically writing files, so that a crash, Ctrl-C or a full disk never leaves a partial one."""

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from fedinv.errors import RunError


def write(path: Path, content: bytes | str) -> None:
    """Write a file atomically: on failure a former one stays as it was. Raises RunError naming the file."""
    partial = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise RunError(f"{path}: cannot be written ({error.strerror})") from error


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON document atomically. Raises ValueError for a number that is not finite, RunError as `write`."""
    write(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON document. Raises RunError naming the file when it is missing or damaged."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise RunError(f"{path}: is damaged ({error}): delete it and run again") from error
    return found


def link_tree(source: Path, target: Path) -> None:
    """Make a folder with the same files as another, as hard links where the disk allows, else as copies; atomically.

    fedinv replaces files and never writes into one, so a change in one folder does not show in the other. Raises
    RunError naming the target.
    """
    partial = target.with_name(f".{target.name}.part")
    try:
        if partial.exists():
            shutil.rmtree(partial)
        shutil.copytree(source, partial, copy_function=_link)
        partial.replace(target)
    except (OSError, shutil.Error) as error:
        raise RunError(f"{target}: cannot be written ({error})") from error


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any] | None = None) -> None:
    """Write tensors by name as safetensors, atomically, with `facts` as a JSON string in the header.

    Raises RunError as `write`.
    """
    header = {"fedinv": json.dumps(facts or {}), "names": json.dumps(list(tensors))}
    content = safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()}, header)
    write(path, content)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read tensors by name, in the order written, and the facts.

    Raises RunError naming the file when it is missing, truncated or damaged.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            # safetensors sorts by name; the header's list restores the network's order
            return {n: file.get_tensor(n) for n in json.loads(header["names"])}, json.loads(header["fedinv"])
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise RunError(f"{path}: is damaged ({error}): delete it and run again") from error
