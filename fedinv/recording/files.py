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

from fedinv.errors import RequestError, nearest, plain
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
PICKLE = b"\x80"
"""First byte of pickled objects."""
MOST_RECORDS = 2**31
"""Largest number of records that a client may be said to have."""


def load(path: str | Path) -> dict[str, Tensor]:
    """The arrays of a .safetensors, .npz or torch file by name, in the file's order; nothing in it is run.

    A list, and the arr_0, arr_1, ... of numpy.savez, get the names "0", "1", ... Raises RequestError naming the file:
    for one that is missing or damaged, that would run code or holds Python objects, or that holds no arrays.
    """
    file = paths.given(path)
    if file.is_dir():
        raise RequestError(f"{file}: is a folder, name a file of arrays: .safetensors, .npz, .pt or .pth")
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
    sent: str | Path,
    received: Sequence[str | Path],
    out: str | Path,
    round_: int = 1,
    records: int | None = None,
    names: Sequence[str] | None = None,
) -> Recording:
    """Write what a server sent and what each client returned as one round of a recording; returns the whole recording.

    Clients are numbered from 0 in the order of their files. `records` is the number of examples that each of them
    reports, `names` those of a client's arrays among the ones sent, where its file has none or others. Every file is
    read before anything is written; a folder that holds other rounds gets this one too. Raises
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
    returned = [_fitting(path, load(path), base, sent, names) for path in received]
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
        if "allow_pickle" in str(error) and (name is not None or file.read_bytes()[:1] == PICKLE):
            what = f"{plain(name)} holds" if name is not None else "it holds"
            raise RequestError(
                f"{file}: {what} Python objects, which could run code when they are read: save arrays of numbers alone"
            ) from None
        why = f" ({plain(error)})" if name is not None else ": save arrays by numpy.savez"
        raise RequestError(f"{file}: is damaged, or no npz file{why}") from None
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
    path: str | Path,
    found: Mapping[str, Tensor],
    base: Mapping[str, Tensor],
    sent: str | Path,
    names: Sequence[str] | None,
) -> dict[str, Tensor]:
    """A client's arrays, all or those of a part alone as of a head, under the names sent, in the order sent.

    Names may lack, or have, what a wrapper puts before them; a list without names fits by its shapes, or by `names`.
    Raises RequestError naming those that differ.
    """
    if names is not None:
        own = _by_list(path, found, base, sent, names)
    elif list(found) == [str(number) for number in range(len(found))]:
        own = _by_shapes(path, found, base, sent)
    else:
        own = _by_name(path, found, base, sent)
    for name, theirs in own.items():
        if found[theirs].shape != base[name].shape:
            shape, wanted = tuple(found[theirs].shape), tuple(base[name].shape)
            raise RequestError(f"{path}: {plain(theirs)} has shape {shape}, and {wanted} in {sent}")
    return {name: found[own[name]] for name in base if name in own}


def _by_list(
    path: str | Path, found: Mapping[str, Tensor], base: Mapping[str, Tensor], sent: str | Path, names: Sequence[str]
) -> dict[str, str]:
    """Name in the client's file by the name sent, as a list of names has it."""
    if unknown := [name for name in names if name not in base]:
        near = nearest(unknown[0], list(base))
        raise RequestError(f"--names: {plain(unknown[0])} is no array of {sent}{near}")
    if len(set(names)) != len(found) or len(names) != len(found):
        raise RequestError(
            f"--names: are {len(names)}, and {path} has {len(found)} arrays: name each once, in its order"
        )
    return dict(zip(names, found, strict=True))


def _by_shapes(
    path: str | Path, found: Mapping[str, Tensor], base: Mapping[str, Tensor], sent: str | Path
) -> dict[str, str]:
    """The same for a list without names: it is all arrays, or the only ones in a row that have its shapes."""
    order, shapes = list(base), [tensor.shape for tensor in found.values()]
    if len(order) == len(shapes):
        return dict(zip(order, found, strict=True))
    starts = [
        start
        for start in range(len(order) - len(shapes) + 1)
        if all(base[order[start + place]].shape == shape for place, shape in enumerate(shapes))
    ]
    if len(starts) == 1:
        return dict(zip(order[starts[0] :], found, strict=False))
    what = f"fit in {len(starts)} places of" if starts else "are no arrays in a row of"
    shown = f"{', '.join(str(tuple(one)) for one in shapes[:3])}{' and others' if len(shapes) > 3 else ''}"
    raise RequestError(
        f"{path}: a list of {len(shapes)} arrays without names, whose shapes {shown} {what} {sent}: say which they "
        f"are, as --names {','.join(plain(name, 60) for name in order[-min(2, len(order)) :])}"
    )


def _by_name(
    path: str | Path, found: Mapping[str, Tensor], base: Mapping[str, Tensor], sent: str | Path
) -> dict[str, str]:
    """The same by names, of which one may be the end of the other."""
    if not any(name in base for name in found):
        ends = {
            own: [name for name in base if f".{name}".endswith(f".{own}") or own.endswith(f".{name}")] for own in found
        }
        if all(len(one) == 1 for one in ends.values()) and len({one[0] for one in ends.values()}) == len(found):
            return {one[0]: own for own, one in ends.items()}
    if extra := [name for name in found if name not in base]:
        lacks = [name for name in base if name not in found]
        beside = f" lacks {_listed(lacks)} of {sent}, and" if lacks else ""
        raise RequestError(f"{path}:{beside} has {_listed(extra)}, which {sent} lacks: is it of another model?")
    return {name: name for name in found}


def _listed(names: Sequence[str]) -> str:
    """The first three of some names, and how many more there are."""
    shown = ", ".join(plain(name, 60) for name in names[:3])
    return shown + (f" and {len(names) - 3} more" if len(names) > 3 else "")
