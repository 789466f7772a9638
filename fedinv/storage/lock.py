"""One command at a time on a folder: a lock that the system releases when its process ends, however it ends."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fedinv.errors import RequestError, RunError
from fedinv.storage import flock

NAME = ".lock"
"""Name of the lock's file in the folder. It stays there: only the lock on it counts, not that it exists."""
TRAINING = ".training-lock"
"""Name of a second one, held by the server that trains, which is another process where it runs on a SuperLink: killing
`fedinv run` does not end that."""
NAMES = (NAME, TRAINING)
"""Files that are no content of a folder."""


@contextmanager
def locked(folder: Path, wait: bool = False, name: str = NAME) -> Iterator[None]:
    """Hold the folder, which is made where it is missing, for this process until the block ends, by the file `name`.

    Where another process holds it: waits with `wait`, else raises RequestError naming that process. Raises RunError
    where the folder cannot be written. A disk without locks (some network disks), or a system without them
    (Windows), is used without one.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise RunError(f"{folder}: cannot be written ({error.strerror})") from error
    try:
        try:
            flock.lock(file, wait=wait)
            os.ftruncate(file, 0)
            os.write(file, str(os.getpid()).encode())
        except BlockingIOError:
            holder = os.read(file, 20).decode("ascii", "replace")
            raise RequestError(
                f"{folder}: is in use by another fedinv command{f' (process {holder})' if holder.isdigit() else ''}: "
                "wait until it ends, or name another folder"
            ) from None
        except OSError as error:
            _only_without_locks(folder, error)
        yield
    finally:
        with suppress(OSError):
            os.close(file)


def is_held(folder: Path, name: str = NAME) -> bool:
    """Whether a process holds the folder by the file `name`."""
    try:
        with (folder / name).open("rb") as file:
            flock.lock(file, shared=True, wait=False)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _only_without_locks(folder: Path, error: OSError) -> None:
    if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL):
        raise RunError(f"{folder}: cannot be written ({error.strerror})") from error
