"""Errors that a user sees: one line that says what was wrong, where, and what to write instead."""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


class RequestError(Exception):
    """The request cannot be carried out as it was written (exit code 2)."""


class RunError(Exception):
    """The request was right but the run failed (exit code 1)."""

    folder: Path | None = None
    """The folder of the run that failed, where the same run can be gone on with; None where there is none."""
    final: bool = False
    """True: the scenario itself made the run fail, so that going on with it would end the same."""


class Stopped(KeyboardInterrupt):
    """Ctrl-C during a run, whose folder can be given to `fedinv.run` to go on."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"stopped; go on from {folder}")
        self.folder = folder


def nearest(word: str, words: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the nearest known word, or the words themselves when none is near."""
    known = sorted(set(words))
    close = get_close_matches(word, known, n=1, cutoff=0.5)
    if close:
        return f" (did you mean {close[0]!r}?)"
    return f" (known: {', '.join(known)})" if known else ""
