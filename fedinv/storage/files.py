"""Writing to a run folder so that a crash, Ctrl-C or a full disk never leaves half a file behind."""

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
    """Write a file whole or not at all. Raises RunError naming the file when the disk refuses."""
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
    """Write a JSON document whole or not at all; a number that is not finite is an error."""
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
    """Make a folder of the same files as another, without copying where the disk can link; whole or not at all.

    Files are only ever replaced, never written into, so that neither folder changes with the other.
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
    """Write tensors by name in safetensors, with facts as a JSON string in its header."""
    header = {"fedinv": json.dumps(facts or {}), "names": json.dumps(list(tensors))}
    content = safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()}, header)
    write(path, content)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read tensors and facts. Raises RunError naming the file when it is missing, truncated or damaged."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            # safetensors sorts by name; the network's order is kept beside
            return {n: file.get_tensor(n) for n in json.loads(header["names"])}, json.loads(header["fedinv"])
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise RunError(f"{path}: is damaged ({error}): delete it and run again") from error
