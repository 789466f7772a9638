"""Errors that a user sees: one line that says what was wrong, where, and what to write instead."""

from collections.abc import Iterable
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path


class RequestError(Exception):
    """The request cannot be carried out as it was written (exit code 2)."""


class RunError(Exception):
    """The request was right but the run failed (exit code 1)."""

    folder: Path | None = None
    """The folder of the run that failed, where the same run can be gone on with; None where there is none."""


class EndedError(RunError):
    """A run that came to its end without a result: the same folder cannot be gone on with, only another scenario can.

    Raised where training ended with no client's update used.
    """


class Stopped(KeyboardInterrupt):
    """Ctrl-C during a run, whose folder can be given to `fedinv.run` to go on."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"stopped; go on from {folder}")
        self.folder = folder


LONGEST = 200
"""Characters that are shown of a text from outside, where nothing else is said."""


def plain(text: object, longest: int = LONGEST) -> str:
    """A text from outside as one safe line: white space as single spaces, control characters as "?", cut with "...".

    For all that a file, a client or the command line brought: it then can neither steer a terminal, nor break an
    encoding, nor fill a page.
    """
    said = text if isinstance(text, str) else str(text)
    said = " ".join(said[: 8 * longest].split())
    said = said if said.isprintable() else "".join(one if one.isprintable() else "?" for one in said)
    return said if len(said) <= longest else said[: longest - 3] + "..."


def nearest(word: str, words: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the nearest known word, or the words themselves when none is near."""
    known = sorted(set(words))
    close = get_close_matches(word[:LONGEST], known, n=1, cutoff=0.5)
    if close:
        return f" (did you mean {close[0]!r}?)"
    return f" (known: {', '.join(known)})" if known else ""


def require(module: str, extra: str, what: str) -> None:
    """Raise RequestError, which begins with `what` and names the extra to install, where a module is not installed."""
    if find_spec(module) is None:
        raise RequestError(f"{what}: {module} is not installed here: pip install 'fedinv[{extra}]'")
