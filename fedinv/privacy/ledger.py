"""A client's ledger: what each mechanism was charged over all rounds, kept in Flower's node state."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace

from fedinv.privacy.claims import epsilon
from fedinv.privacy.events import PrivacyEvent

Ledger = tuple[PrivacyEvent, ...]


def read(text: str) -> Ledger:
    """The ledger from its JSON text; empty text is an empty ledger."""
    return tuple(PrivacyEvent(**event) for event in json.loads(text or "[]"))


def write(ledger: Ledger) -> str:
    """The ledger as JSON text."""
    return json.dumps([vars(event) for event in ledger])


def charge(ledger: Ledger, events: Iterable[PrivacyEvent]) -> Ledger:
    """The ledger with more events; those that differ in nothing but their steps are one entry."""
    steps = {replace(event, steps=0): event.steps for event in ledger}
    for event in events:
        key = replace(event, steps=0)
        steps[key] = steps.get(key, 0) + event.steps
    return tuple(replace(key, steps=count) for key, count in steps.items())


def overspent(ledger: Ledger, more: Sequence[PrivacyEvent]) -> str | None:
    """Say why a round that is charged these events would overdraw a budget; None where it would not."""
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
