"""What a run takes in memory and time, reckoned before anything starts: what cannot be is refused in one line.

Lower bounds, not forecasts: a run may well take several times as much. They are there for a number with too many zeros.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fedinv.data.population import Population
from fedinv.errors import RequestError
from fedinv.scenario.scenario import Scenario
from fedinv.task.models import shapes

LONGEST_SECONDS = 30 * 86400.0
"""Seconds that a run may be reckoned to take at least."""
CLIENT_BYTES = 4000.0
"""Bytes that each client takes: its share, its node, its message of a round. Measured: 4 kB at 100,000 clients."""
CLIENT_SECONDS = 3e-4
"""Seconds that a message to a client and its reply take at least on one core."""
OPERATIONS_A_SECOND = 1e11
"""Multiplications a second that no single core exceeds."""


@dataclass(frozen=True)
class Needs:
    """What a run takes at least."""

    bytes: float
    """Bytes of memory."""
    seconds: float
    """Seconds on this machine."""


def refuse_endless(scenario: Scenario) -> None:
    """Raise RequestError where the federation alone, whatever it trains, takes more memory or time than there is."""
    federation = scenario.federation
    messages = 2.0 * federation.clients + float(federation.rounds) * federation.participants
    _refuse(
        Needs(CLIENT_BYTES * federation.clients, CLIENT_SECONDS * messages),
        ("federation.clients",),
        ("federation.rounds", "federation.clients_per_round"),
    )


def refuse_too_large(scenario: Scenario, people: Population) -> None:
    """Raise RequestError where the network, trained so often, takes more memory or time than there is.

    A round holds the global model, what it becomes, and each client's update as a message and as tensors.
    """
    federation, training, twice = scenario.federation, scenario.training, 2 if scenario.defenses else 1
    numbers = float(parameters(scenario, people))
    most = max((people.held(client) for client in range(min(federation.clients, 1000))), default=1)
    examples = training.batch_size if training.algorithm == "fedsgd" else float(training.epochs) * most
    steps = float(federation.rounds) * federation.participants * min(float(examples), 1e300) * twice
    needed = Needs(4 * numbers * (4 + 2 * federation.participants), 6 * numbers * steps / OPERATIONS_A_SECOND)
    size = "model.hidden" if scenario.model.widths else "[model]"
    _refuse(
        needed,
        (size, *(("federation.clients_per_round",) if federation.participants > 1 else ())),
        ("federation.rounds", "training.epochs", size),
    )


def parameters(scenario: Scenario, people: Population) -> int:
    """Number of the network's parameters; nothing of its size is made.

    Raises RequestError for a network of which one layer alone is beyond 2^63 numbers, or that does not fit the records.
    """
    try:
        found = shapes(scenario.model.fitted(people.schema), people.schema.shape, people.schema.outputs)
    except RuntimeError:
        key = "model.hidden" if scenario.model.widths else "[model]"
        raise RequestError(f"{key}: no machine has memory for a layer of this size: lower it") from None
    except ValueError as error:
        raise RequestError(str(error)) from None
    total = 0
    for shape in found.values():
        size = 1
        for side in shape:
            size *= side
        total += size
    return total


def memory() -> int:
    """Bytes of memory that this process may use: the machine's, or less where a container or a limit says so."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            found.append(int(Path("/sys/fs/cgroup", name).read_text(encoding="ascii")))
    return min(found)


def _refuse(needs: Needs, heavy: tuple[str, ...], long: tuple[str, ...]) -> None:
    there = memory()
    if needs.bytes > there:
        raise RequestError(
            f"{heavy[0]}: this would take at least {_size(needs.bytes)} of memory, and there are {_size(there)}: "
            f"lower {' or '.join(heavy)}"
        )
    if needs.seconds > LONGEST_SECONDS:
        raise RequestError(
            f"{long[0]}: this would take at least {_duration(needs.seconds)}, and more than a month is not begun: "
            f"lower {' or '.join(long)}"
        )


def _size(count: float) -> str:
    for unit in ("MiB", "GiB", "TiB"):
        count = count / 2**20 if unit == "MiB" else count / 1024
        if count < 1000:
            break
    return f"{count:.3g} {unit}"


def _duration(seconds: float) -> str:
    years = seconds / (365.25 * 86400)
    return f"{years:.3g} years" if years >= 1 else f"{seconds / 86400:.0f} days"
