"""Locks on open files, which the system releases when their process ends, however it ends.

Where Python has no `fcntl`, as on Windows, there are none: files are used as on a disk without locks.
"""

import errno
from typing import IO

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]


def lock(file: int | IO[bytes], *, shared: bool = False, wait: bool = True) -> None:
    """Lock an open file, or a descriptor of one, until it is closed: for this process alone, or `shared` with readers.

    Raises BlockingIOError where another process holds it, without `wait`; OSError with ENOSYS, ENOTSUP or ENOLCK where
    the system, or the file's disk, has no locks.
    """
    if fcntl is None:
        raise OSError(errno.ENOSYS, "this system has no locks on files")
    fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
