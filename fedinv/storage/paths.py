"""Paths that a user gave, checked before anything is read or written: whatever is wrong with one is a single line."""

import os
from pathlib import Path

from fedinv.errors import RequestError, plain


def given(text: str | Path) -> Path:
    """A path as the user gave it, with ~ resolved.

    Raises RequestError for one that no file can have: of an unknown user, with a name that is too long, in a circle of
    links, or with characters that file names cannot hold.
    """
    try:
        path = Path(text).expanduser()
        str(path).encode()
        path.resolve()
        with_status(path)
    except UnicodeEncodeError:
        raise RequestError(f"{plain(text)}: its name is not in UTF-8: rename it, or give its path without it") from None
    except (OSError, RuntimeError, ValueError) as error:
        told = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise RequestError(f"{plain(text)}: cannot be used as a path ({plain(told)})") from None
    return path


def with_status(path: Path) -> os.stat_result | None:
    """What is at a path, without following a link; None where nothing is. Raises OSError for an impossible path."""
    try:
        return path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def folder(text: str | Path) -> Path:
    """A path at which a folder is, or can be made. Raises RequestError where a file is in the way, see `given` too."""
    path = given(text)
    for place in (path, *path.parents):
        if place.is_dir():
            return path
        if with_status(place) is not None:
            what = "a link to nothing" if place.is_symlink() else "a file"
            raise RequestError(f"{plain(place)}: is {what}, name a folder")
    return path


def numbered(name: str) -> Path:
    """The path runs/<name>-<n> with the first n, from 1, that does not exist; the folder is not created."""
    number = 1
    while (found := Path("runs") / f"{name}-{number}").exists():
        number += 1
    return found
