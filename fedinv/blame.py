"""Says whose fault a failure is: the file and line of the plugin that raised or returned something wrong."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import extract_tb

from fedinv.errors import RunError


class PluginError(RunError):
    """A plugin raised, or returned something that it must not: one line that names its kind, its file and its line."""


def one_line(error: BaseException) -> str:
    """The error's type and message with every line break made a space, e.g. ``KeyError: 'age'``."""
    message = (
        error.msg if isinstance(error, SyntaxError) else error
    )  # the file and line of a SyntaxError are said apart
    return " ".join(f"{type(error).__name__}: {message}".split()).removesuffix(":")


def file_of(plugin: type) -> Path | None:
    """The file that defines a plugin's class; None for a class that was made without a file."""
    file = getattr(sys.modules.get(plugin.__module__), "__file__", None)
    return None if file is None else Path(file)


def place(file: Path | None, error: BaseException | None = None, otherwise: str = "no file") -> str:
    """``file:line`` of the deepest frame in the plugin's own file that the error passed through.

    The file alone where the error passed through none of its lines or there is no error; `otherwise` without a file. A
    path below the working directory is given from there.
    """
    if file is None:
        return otherwise
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{_short(Path(error.filename))}:{error.lineno}"
    frames = [] if error is None else [f for f in extract_tb(error.__traceback__) if _same(f.filename, file)]
    return f"{_short(file)}:{frames[-1].lineno}" if frames else _short(file)


@contextmanager
def blamed(what: str, plugin: type, *passing: type[Exception]) -> Iterator[None]:
    """Turn what is raised in the block into a PluginError that begins with `what` and names the plugin's file and line.

    A PluginError passes as it is, as it names the plugin further inside, and so do the errors of the types `passing`.
    """
    try:
        yield
    except PluginError:
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, passing):
            raise
        where = place(file_of(plugin), error, plugin.__module__)
        raise PluginError(f"{what} failed at {where}: {one_line(error)}") from error


def returned(what: str, plugin: type, wrong: str) -> PluginError:
    """The error for a plugin whose `what`, e.g. ``attack 'exact'``, gave back something wrong."""
    return PluginError(f"{what} ({place(file_of(plugin), otherwise=plugin.__module__)}): {wrong}")


def _same(name: str, file: Path) -> bool:
    return name == str(file) or Path(name).resolve() == file.resolve()


def _short(path: Path) -> str:
    """The path as the user would type it from here."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)
