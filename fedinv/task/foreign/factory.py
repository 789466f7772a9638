"""Loads a network, or an example batch, from the project that it belongs to."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from fedinv.errors import RequestError, nearest, plain
from fedinv.task.seeding import seeded


def load_network(spec: str, project: Path | None = None, option: str = "--network", seed: int | None = 0) -> nn.Module:
    """The network that a factory such as "app.task:Net" makes: a class or a function without arguments, or a module.

    `project` is the folder that is imported from; the working folder without one. Weights are the factory's own, drawn
    from torch's generator at this seed, which is put back; with None the generator goes on. Raises RequestError, which
    begins with the option, where the factory cannot be imported, called, or makes no network.
    """
    found = load_object(spec, project, option)
    if isinstance(found, nn.Module):
        return found
    if not callable(found):
        raise RequestError(f"{option}: {spec} is a {type(found).__name__}, name a class or a function that makes it")
    try:
        with _project(project), seeded(seed):
            made = found()
    except TypeError as error:
        raise RequestError(
            f"{option}: {spec} cannot be called without arguments ({plain(str(error), 200)}): name a function that "
            "makes the network without any"
        ) from None
    except Exception as error:
        raise RequestError(f"{option}: {spec} failed: {type(error).__name__}: {plain(str(error), 200)}") from None
    if not isinstance(made, nn.Module):
        raise RequestError(f"{option}: {spec} gives a {type(made).__name__}, not a torch.nn.Module")
    return made


def load_example(spec: str, project: Path | None = None, option: str = "--example") -> Tensor:
    """An example batch (n, ...) of a network's inputs, n at least 2, by a tensor or a function that gives one.

    Of a pair, as inputs and labels, the first is taken. Raises RequestError, which begins with the option, where it is
    none.
    """
    found = load_object(spec, project, option)
    try:
        with _project(project):
            made = found() if callable(found) and not isinstance(found, Tensor) else found
    except Exception as error:
        raise RequestError(f"{option}: {spec} failed: {type(error).__name__}: {plain(str(error), 200)}") from None
    batch = made[0] if isinstance(made, tuple | list) and len(made) else made
    if not isinstance(batch, Tensor):
        raise RequestError(f"{option}: {spec} gives a {type(made).__name__}, not a tensor of inputs")
    if batch.ndim < 1 or len(batch) < 2:
        raise RequestError(f"{option}: {spec} gives the shape {tuple(batch.shape)}, not a batch of two records or more")
    return batch.detach()


def load_object(spec: str, project: Path | None, option: str) -> Any:
    """The object that "module.name:attribute" names. Raises RequestError that begins with the option's name."""
    module, colon, name = spec.partition(":")
    if not colon or not module or not name:
        raise RequestError(f"{option}: {spec!r} names no object, write module:name, as app.task:Net")
    if project is not None and not project.is_dir():
        raise RequestError(f"{option}: {spec} cannot be imported: there is no folder {project}, name the app's own")
    try:
        with _project(project):
            found: Any = importlib.import_module(module)
    except ImportError as error:
        where = f" in {project}" if project else ""
        missing = getattr(error, "name", None)
        why = f"there is no module {missing!r}{where}" if missing else plain(str(error), 200)
        raise RequestError(f"{option}: {module} cannot be imported: {why}") from None
    except Exception as error:
        said = plain(str(error), 200)
        raise RequestError(f"{option}: {module} cannot be imported: {type(error).__name__}: {said}") from None
    for part in name.split("."):
        if not hasattr(found, part):
            near = nearest(part, [one for one in dir(found) if not one.startswith("_")])
            raise RequestError(f"{option}: {module} has no {part!r}{near}")
        found = getattr(found, part)
    return found


@contextmanager
def _project(folder: Path | None) -> Iterator[None]:
    """The project's folder first on the import path, within a block."""
    path = str((folder or Path.cwd()).resolve())
    sys.path.insert(0, path)
    try:
        yield
    finally:
        sys.path.remove(path)
