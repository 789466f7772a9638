"""A client's ledger: the charges of each mechanism over all rounds, kept in Flower's node state."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace

from pydantic import TypeAdapter

from fedinv.privacy.claims import epsilon
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
    """Return why a round charged with the events `more` would exceed a privacy budget; None if it would not."""
    for event in more:
        if event.budget is None:
            continue
        mine = [one for one in ledger if one.mechanism == event.mechanism]
        spent = epsilon(mine, event.delta) if mine else 0.0
        after = epsilon([one for one in charge(ledger, more) if one.mechanism == event.mechanism], event.delta)
        if after > event.budget:
            return (
                f"{event.mechanism}'s budget of epsilon {event.budget:g} is spent: {spent:.3f} so far, "
                f"{after:.3f} with another round"
            )
    return None
