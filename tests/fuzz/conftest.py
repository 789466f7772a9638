"""The law that all fuzz tests hold fedinv to: a result, or one short line that names what is wrong; in time and memory.

In CI the same few examples are drawn in every run. `make fuzz` draws new ones, FUZZ times as many, and ends with the
seed that draws the same again: `make fuzz FUZZ=10 SEED=...`.
"""

import functools
import os
import resource
import secrets
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager, suppress

import pytest
from hypothesis import seed, settings

from fedinv.errors import RequestError, RunError

FACTOR = int(os.environ.get("FUZZ", "0"))
"""How many times as many examples are drawn as in CI, and new ones; 0: those of CI."""
SEED = int(os.environ.get("SEED") or secrets.randbits(32))
"""Of the new examples; without effect on those of CI."""
SECONDS = 20 if FACTOR else 300
"""Bound on each example; generous in CI, where the machine may be busy with other things."""
MOST_BYTES = 4 << 30
"""Bound on the memory of the process."""

TALLY = Counter[str]()
"""Examples that ended in a result, those that were refused, and those that each test drew, by its name."""

settings.register_profile("fuzz", settings.get_profile("fedinv"), derandomize=not FACTOR, database=None)


@contextmanager
def bounded():
    """Fail for what takes too long or too much memory."""

    def late(*_):
        raise AssertionError(f"no end after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 < MOST_BYTES


def lawful(command: Callable[[], object]) -> object | None:
    """The result of a command; None where it was refused, in one line that can be printed."""
    with bounded(), suppress(RequestError, RunError):
        try:
            result = command()
            TALLY["ended in a result"] += 1
            return result
        except (RequestError, RunError) as error:
            TALLY["were refused in one line"] += 1
            said = str(error)
            assert 10 < len(said) < 2000, said[:3000]
            assert "Traceback" not in said
            said.encode()
            raise
    return None


def pytest_terminal_summary(terminalreporter):
    """Say how many examples were held to the law and what draws them again, where new ones are drawn."""
    if FACTOR:
        for how, count in TALLY.items():
            terminalreporter.write_line(f"{count} {how}")
        terminalreporter.write_line(f"the same again: make fuzz FUZZ={FACTOR} SEED={SEED}")


@pytest.fixture(scope="session")
def law() -> Callable[[Callable[[], object]], object | None]:
    return lawful


@pytest.fixture
def examples(request) -> Callable[[int], Callable]:
    """Decorates the body of a fuzz test that draws so many examples in CI."""

    def drawn(count: int):
        chosen = settings(settings.get_profile("fuzz"), max_examples=count * max(1, FACTOR))

        def decorate(test):
            inner = test.hypothesis.inner_test

            @functools.wraps(inner)
            def counted(*arguments, **keywords):
                TALLY[f"drawn by {request.node.name}"] += 1
                return inner(*arguments, **keywords)

            test.hypothesis.inner_test = counted
            return seed(SEED)(chosen(test)) if FACTOR else chosen(test)

        return decorate

    return drawn
