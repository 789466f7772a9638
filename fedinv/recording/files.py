"""Recordings from files: the arrays that a server sent and those that clients returned, saved by any framework."""

import json
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from uuid import uuid4

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fedinv.errors import RequestError, plain
from fedinv.recording import content
from fedinv.recording import folder as reading
from fedinv.recording.folder import Recording
from fedinv.recording.lines import Content, Received, Sent
from fedinv.recording.writer import Writer
from fedinv.storage import paths

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "module")
"""Keys under which checkpoints hold a model's arrays beside other things."""
TORCH = (".pt", ".pth", ".bin", ".ckpt")
"""Endings of files that torch.save writes."""
ARRAYS = "arrays"
"""Name of the record of arrays in an imported message, as in Flower's strategies."""
MOST_RECORDS = 2**31
"""Largest number of records that a client may be said to have."""


def load(path: str | Path) -> dict[str, Tensor]:
    """The arrays of a .safetensors, .npz or torch file by name, in the file's order; nothing in it is run.

    A list, and the arr_0, arr_1, ... of numpy.savez, get the names "0", "1", ... Raises RequestError naming the file:
    for one that is missing or damaged, that would run code or holds Python objects, or that holds no arrays.
    """
    file = paths.given(path)
    if not file.is_file():
        raise RequestError(f"{file}: there is no such file")
    try:
        found = _read(file)
    except OSError as error:
        raise RequestError(f"{file}: cannot be read ({error.strerror or plain(error)})") from None
    if not found:
        raise RequestError(f"{file}: holds no arrays")
    if list(found) == [f"arr_{number}" for number in range(len(found))]:
        found = {str(number): tensor for number, tensor in enumerate(found.values())}
    for name, tensor in found.items():
        if str(tensor.dtype).removeprefix("torch.") not in content.NUMBERS:
            raise RequestError(f"{file}: {plain(name)} is of type {tensor.dtype}, which is not read")
    return found


def record(
    sent: str | Path, received: Sequence[str | Path], out: str | Path, round_: int = 1, records: int | None = None
) -> Recording:
    """Write what a server sent and what each client returned as one round of a recording; returns the whole recording.

    Clients are numbered from 0 in the order of their files. `records` is the number of examples that each of them
    reports. Every file is read before anything is written; a folder that holds other rounds gets this one too. Raises
    RequestError for a file that cannot be used, or whose arrays are not those that were sent.
    """
    if not received:
        raise RequestError("name the files that clients sent back, after that of what they were sent")
    if round_ < 1:
        raise RequestError(f"--round: must be 1 or more, not {round_}")
    if records is not None and not 1 <= records <= MOST_RECORDS:
        raise RequestError(f"--records: must be a whole number from 1, not {records}")
    folder = paths.folder(out).absolute()
    base = load(sent)
    returned = [_fitting(path, load(path), base, sent) for path in received]
    writer = Writer(folder)
    if reading.holds(folder):
        writer.check("files")
        if any(one.round == round_ for one in reading.read(folder).exchanges):
            raise RequestError(f"{folder}: holds round {round_} already: name another by --round, or another folder")
    elif folder.is_dir() and any(folder.iterdir()):
        raise RequestError(f"{folder}: is not empty and holds no recording; name another folder")
    writer.open("files")
    asked = Content(arrays={ARRAYS: writer.keep(content.of_tensors(base))})
    for node, tensors in enumerate(returned):
        metrics = {} if records is None else {"metrics": {"num-examples": records}}
        answer = Content(arrays={ARRAYS: writer.keep(content.of_tensors(tensors))}, metrics=metrics)
        key = uuid4().hex
        writer.append(Sent(key=key, run=0, round=round_, node=node, kind="train", content=asked))
        writer.append(Received(key=key, content=answer))
    return reading.read(folder)


def _read(file: Path) -> dict[str, Tensor]:
    if file.suffix == ".safetensors":
        return _safetensors(file)
    if file.suffix == ".npz":
        return _npz(file)
    if file.suffix in TORCH:
        return _torch(file)
    raise RequestError(f"{file}: files end in .safetensors, .npz, .pt or .pth, and others are not read")


def _safetensors(file: Path) -> dict[str, Tensor]:
    try:
        with safe_open(file, "pt") as opened:
            # the format sorts by name; files of fedinv's say in which order the network has them
            ordered = json.loads((opened.metadata() or {}).get("names", "null"))
            held = list(opened.keys())
            names = ordered if isinstance(ordered, list) and set(ordered) == set(held) else held
            return {name: opened.get_tensor(name) for name in names}
    except (SafetensorError, ValueError, TypeError) as error:
        raise RequestError(f"{file}: is damaged, or no safetensors file ({plain(error)})") from None


def _npz(file: Path) -> dict[str, Tensor]:
    name = None
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
            found = {}
            for name in archive.files:
                found[name] = torch.from_numpy(
                    np.ascontiguousarray(_native(archive[name])).reshape(archive[name].shape)
                )
            return found
    except ValueError as error:
        if "allow_pickle" in str(error):
            what = f"{plain(name)} holds" if name is not None else "it holds"
            raise RequestError(
                f"{file}: {what} Python objects, which could run code when they are read: save arrays of numbers alone"
            ) from None
        raise RequestError(f"{file}: is damaged, or no npz file ({plain(error)})") from None
    except (TypeError, AttributeError, EOFError, zipfile.BadZipFile, KeyError, NotImplementedError) as error:
        is_text = isinstance(error, TypeError | AttributeError) and name is not None
        what = f"{plain(name)} is no array of numbers" if is_text else "is damaged, or no npz file"
        raise RequestError(f"{file}: {what} ({plain(error)})") from None


def _native(values: np.ndarray[Any, np.dtype[Any]]) -> np.ndarray[Any, np.dtype[Any]]:
    """A copy in C order and this machine's order of bytes."""
    return values.astype(values.dtype.newbyteorder("="), order="C")


def _torch(file: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of pickles that it does not know, and refuses them below
            found: Any = torch.load(file, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"refers to {named[1]}" if named else "holds more than arrays"
        raise RequestError(
            f"{file}: {what}, and reading that could run code: save model.state_dict() alone, or a safetensors file"
        ) from None
    except (RuntimeError, EOFError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise RequestError(f"{file}: is damaged, or not written by torch.save ({plain(error)})") from None
    while isinstance(found, Mapping) and not any(isinstance(value, Tensor) for value in found.values()):
        inner = next((found[key] for key in WRAPPERS if isinstance(found.get(key), Mapping | list | tuple)), None)
        if inner is None:
            break
        found = inner
    if isinstance(found, list | tuple):
        found = dict(enumerate(found))
    if not isinstance(found, Mapping):
        raise RequestError(f"{file}: holds {type(found).__name__} in place of a state_dict or a list of arrays")
    return {str(name): _dense(value) for name, value in found.items() if isinstance(value, Tensor)}


def _dense(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    return tensor.to_dense() if tensor.layout != torch.strided else tensor


def _fitting(
    path: str | Path, found: dict[str, Tensor], base: Mapping[str, Tensor], sent: str | Path
) -> dict[str, Tensor]:
    """A client's arrays under the names sent. Raises RequestError naming those that differ."""
    nameless = list(found) == [str(number) for number in range(len(found))]
    if nameless and [t.shape for t in found.values()] == [t.shape for t in base.values()]:
        return dict(zip(base, found.values(), strict=True))
    if lacks := [name for name in base if name not in found]:
        extra = [name for name in found if name not in base]
        beside = f", and has {_listed(extra)}" if extra else ""
        raise RequestError(f"{path}: lacks {_listed(lacks)} of {sent}{beside}: is it of another model?")
    if extra := [name for name in found if name not in base]:
        raise RequestError(f"{path}: has {_listed(extra)}, which {sent} lacks: is it of another model?")
    for name, tensor in base.items():
        if found[name].shape != tensor.shape:
            raise RequestError(
                f"{path}: {plain(name)} has shape {tuple(found[name].shape)}, and {tuple(tensor.shape)} in {sent}"
            )
    return {name: found[name] for name in base}


def _listed(names: Sequence[str]) -> str:
    """The first three of some names, and how many more there are."""
    shown = ", ".join(plain(name, 60) for name in names[:3])
    return shown + (f" and {len(names) - 3} more" if len(names) > 3 else "")
