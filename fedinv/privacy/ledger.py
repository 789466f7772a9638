"""A client's ledger: the charges of each mechanism over all rounds, kept in Flower's node state."""

import json
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
