"""Reading and atomically writing files, so that a crash, Ctrl-C or a full disk never leaves a partial one."""

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import safetensors
import safetensors.torch
from pydantic import BaseModel, ValidationError
from torch import Tensor

from fedinv.errors import RunError, plain
from fedinv.storage import lock

Kind = TypeVar("Kind", bound=BaseModel)


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
    """Read a JSON document. Raises RunError naming the file when it is missing or damaged.

    What `write_json` never writes is damage: numbers that are not finite, half characters, anything but an object.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise damaged(path, error) from None
    return _object(path, text)


def _object(path: Path, text: str) -> dict[str, Any]:
    """The JSON object of a file's text. Raises RunError naming the file."""
    try:
        found = json.loads(text, parse_constant=_not_finite)
        if "\\u" in text:
            json.dumps(found, ensure_ascii=False).encode()  # half of a pair that stands for one character
    except (ValueError, RecursionError) as error:
        raise damaged(path, error) from None
    if not isinstance(found, dict):
        raise damaged(path, ValueError("it holds no object"))
    return found


def _not_finite(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


def read_model(model: type[Kind], path: Path) -> Kind:
    """Read a JSON document as a pydantic model. Raises RunError naming the file and the first key that does not fit."""
    content = read_json(path)
    try:
        return model.model_validate(content)
    except (ValidationError, RecursionError) as error:
        raise damaged(path, error) from None


def damaged(path: Path, error: BaseException) -> RunError:
    """The error for a file whose content is not what fedinv writes there; cells of it are not repeated."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        told = f"{place}: {first['msg']}" if place else first["msg"]
    else:
        told = type(error).__name__ if isinstance(error, RecursionError) else str(error)
    return RunError(f"{path}: is damaged or of another version ({plain(told)}): run again in another folder")


def link_tree(source: Path, target: Path) -> None:
    """Make a folder with the same files as another, as hard links where the disk allows, else as copies; atomically.

    fedinv replaces files and never writes into one, so a change in one folder does not show in the other. Raises
    RunError naming the target.
    """
    partial = target.with_name(f".{target.name}.part")
    try:
        if partial.exists():
            shutil.rmtree(partial)
        shutil.copytree(source, partial, copy_function=_link, ignore=shutil.ignore_patterns(*lock.NAMES))
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
            header, held = file.metadata() or {}, set(file.keys())
            # safetensors sorts by name; the header's list restores the network's order
            names = json.loads(header["names"])
            if not isinstance(names, list) or sorted(map(str, names)) != sorted(held):
                raise ValueError("its list of tensors is not that of those it holds")
            return {n: file.get_tensor(n) for n in names}, _object(path, header["fedinv"])
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror or error})") from error
    except KeyError as error:
        raise damaged(path, ValueError(f"{error} is missing in its header")) from error
    except (safetensors.SafetensorError, ValueError, TypeError, RecursionError) as error:
        raise damaged(path, error) from error


def read_checked(path: Path, facts: type[Kind]) -> tuple[dict[str, Tensor], Kind]:
    """Read tensors by name, in the order written, all of whose numbers are finite, and the facts as a pydantic model.

    Raises RunError naming the file when it is missing or damaged.
    """
    tensors, told = read_tensors(path)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise damaged(path, ValueError(f"{name} holds numbers that are not finite"))
    try:
        return tensors, facts.model_validate(told)
    except ValidationError as error:
        raise damaged(path, error) from None
