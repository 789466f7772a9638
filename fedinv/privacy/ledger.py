"""A client's ledger: the charges of each mechanism over all rounds, kept in Flower's node state."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from pydantic import TypeAdapter

from fedinv.privacy.claims import rough_epsilon
from fedinv.privacy.events import PrivacyEvent

Ledger = tuple[PrivacyEvent, ...]


_LEDGER: TypeAdapter[Ledger] = TypeAdapter(Ledger)


def read(text: str) -> Ledger:
    """Read a ledger from its JSON text; empty text gives an empty ledger.

    Raises ValueError, or RecursionError, for what is no ledger.
    """
    return _LEDGER.validate_python(json.loads(text or "[]"))


def write(ledger: Ledger) -> str:
    """Write a ledger as JSON text."""
    return json.dumps([vars(event) for event in ledger])


def charge(ledger: Ledger, events: Iterable[PrivacyEvent]) -> Ledger:
    """Return the ledger with more events; events that differ in their steps alone are merged and their steps added."""
    steps = {replace(event, steps=0): event.steps for event in ledger}
    for event in events:
        key = replace(event, steps=0)
        steps[key] = steps.get(key, 0) + event.steps
    return tuple(replace(key, steps=count) for key, count in steps.items())


def recharged(ledger: Ledger, missing: Sequence[int]) -> Ledger:
    """The ledger of a client some of whose rounds lacked shares of noise: their charges with the noise that arrived.

    `missing` holds, for each round in which the client's update was summed, the number of clients that were asked and
    are not in the sum. Those that dropped out are taken to be ones whose noise was relied on.
    """
    lacking = [absent for absent in missing if absent]
    found = [event for event in ledger if not event.shares]
    for event in ledger:
        if event.shares:
            lowered = lacking[: event.steps]
            found += [replace(event, steps=event.steps - len(lowered))] if event.steps > len(lowered) else []
            for absent in lowered:
                left = max(0.0, event.shares - absent) / event.shares
                found.append(replace(event, steps=1, noise_multiplier=event.noise_multiplier * math.sqrt(left)))
    return charge((), found)


def of_rows(event: PrivacyEvent, rows: int) -> PrivacyEvent:
    """The charge for `rows` records at once, all of one person: they move a sum by as many clipping norms at most.

    A step has none of them with the probability that it misses each. Moves of all lengths between are charged as the
    longest, which dominates them (Choquette-Choo et al. 2024, Privacy amplification for matrix mechanisms, section 4).
    """
    rate = 1 - (1 - min(1.0, event.sampling_rate)) ** rows
    return replace(event, noise_multiplier=event.noise_multiplier / rows, sampling_rate=rate)


def overspent(ledger: Ledger, more: Sequence[PrivacyEvent]) -> str | None:
    """Return why a round charged with the events `more` would exceed a privacy budget; None if it would not.

    Priced by the rough grid, which never claims less, as it is asked before every round.
    """
    for event in more:
        if event.budget is None:
            continue
        mine = [one for one in ledger if one.mechanism == event.mechanism]
        after = [one for one in charge(ledger, more) if one.mechanism == event.mechanism]
        if len(after) == 1 and after[0].steps <= _affordable(after[0]):
            continue
        spent, then = rough_epsilon(mine) if mine else 0.0, rough_epsilon(after)
        if then > event.budget:
            return (
                f"{event.mechanism}'s budget of epsilon {event.budget:g} is spent: {spent:.3f} so far, "
                f"{then:.3f} with another round"
            )
    return None


def _affordable(event: PrivacyEvent) -> int:
    """Steps of this event that its budget pays for."""
    from fedinv.privacy.accountants import most_steps

    return most_steps(replace(event, steps=1, mechanism="", budget=None), event.budget or 0.0)
