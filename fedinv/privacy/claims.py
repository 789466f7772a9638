"""From the ledger to the epsilon that may be claimed: all rounds composed, by privacy loss distributions.

Koskela et al. 2020; Doroshenko et al. 2022 (the discretization is pessimistic, so epsilon is an upper bound).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from fedinv.privacy.events import PrivacyEvent
from fedinv.results.run import Privacy


def epsilon(events: Sequence[PrivacyEvent], delta: float) -> float:
    """Compose one client's events at a delta. Infinite when any of them adds no noise.

    By privacy loss distributions; by Renyi divergences where a sample of fixed size was drawn, for which no tighter
    account is known (Wang, Balle, Kasiviswanathan 2019). Raises ValueError for events whose neighboring relations or
    units differ: they cannot be composed.
    """
    if len({(event.neighbors, event.unit) for event in events}) != 1:
        raise ValueError(f"events of different kinds cannot be composed: {events}")
    from fedinv.privacy.accountants import composed

    return composed(tuple(replace(event, delta=0.0, mechanism="", budget=None) for event in events), delta)


def accountant(events: Iterable[PrivacyEvent]) -> Literal["PLD", "RDP"]:
    """How these events are composed."""
    return "RDP" if any(_fixed(event) for event in events) else "PLD"


def _fixed(event: PrivacyEvent) -> bool:
    return event.sampling == "fixed-size" and event.sampling_rate < 1


def calibrated(event: PrivacyEvent, noise_multiplier: float | None, rounds: int) -> PrivacyEvent:
    """An event of one round with the noise that was asked for, else that which keeps its budget over all rounds.

    Without either the noise multiplier is 1.
    """
    if noise_multiplier is not None:
        return replace(event, noise_multiplier=noise_multiplier)
    if event.budget is None:
        return replace(event, noise_multiplier=1.0)
    whole = replace(event, steps=event.steps * rounds, mechanism="", budget=None)
    from fedinv.privacy.accountants import noise_for

    return replace(event, noise_multiplier=noise_for(whole, event.budget))


def claim(ledger: Mapping[str, Iterable[Mapping[str, object]]], defenses: Sequence[str]) -> Privacy:
    """What may be claimed for every client: the epsilon of the one that spent most.

    With several mechanisms each gives a guarantee of its own: the smallest epsilon is claimed, the note tells all.
    """
    spent: dict[str, dict[tuple[PrivacyEvent, ...], None]] = {}
    for charges in ledger.values():
        by_mechanism: dict[str, list[PrivacyEvent]] = {}
        for fields in charges:
            event = PrivacyEvent(**fields)  # type: ignore[arg-type]
            by_mechanism.setdefault(event.mechanism, []).append(event)
        for mechanism, events in by_mechanism.items():
            spent.setdefault(mechanism, {})[tuple(events)] = None
    claims = {
        mechanism: max(((epsilon(e, e[0].delta), e) for e in distinct), key=lambda pair: pair[0])
        for mechanism, distinct in spent.items()
    }
    finite = {mechanism: pair for mechanism, pair in claims.items() if math.isfinite(pair[0])}
    if any(events[0].against_server for _, events in finite.values()):  # the one that counts here
        finite = {mechanism: pair for mechanism, pair in finite.items() if pair[1][0].against_server}
    if not finite:
        return Privacy(unit=None, epsilon=None, delta=None, accountant=None, note=_no_claim(defenses, bool(claims)))
    _, (value, charged) = min(finite.items(), key=lambda item: item[1][0])
    event = charged[0]
    return Privacy(
        unit=event.unit,
        epsilon=value,
        delta=event.delta,
        accountant=accountant(charged),
        neighbors=event.neighbors,
        against_server=event.against_server,
        note=("" if event.against_server else SEEN)
        + "of the client that spent most, over all rounds: "
        + "; ".join(f"{m} gives epsilon {e:.2f} per {events[0].unit}" for m, (e, events) in finite.items()),
    )


SEEN = "not against the server, which sees each update before the noise, but against those who see only its models: "


def _no_claim(defenses: Sequence[str], without_noise: bool) -> str:
    if without_noise:
        return "no guarantee: the noise multiplier is 0"
    if not defenses:
        return "no guarantee: no defense is on"
    return f"no differential-privacy guarantee: {', '.join(defenses)} claims none"
