"""The epsilon that a ledger supports, composed over all rounds; the accountants are imported when first needed."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from fedinv.privacy.events import HIGHEST, PrivacyEvent
from fedinv.results.run import Privacy


def epsilon(events: Sequence[PrivacyEvent], delta: float) -> float:
    """Epsilon of one client's composed events at a delta; infinite above 10^6, or when any of them adds no noise.

    The least of three upper bounds: in closed form, by privacy loss distributions, by Renyi divergences. Raises
    ValueError for events whose neighboring relations or units differ: they cannot be composed.
    """
    return _spent(events, delta)[0]


def rough_epsilon(events: Sequence[PrivacyEvent]) -> float:
    """An upper bound on the epsilon of one client's composed events at their delta, in a tenth of a second."""
    return _spent(events, events[0].delta, rough=True)[0]


def _spent(events: Sequence[PrivacyEvent], delta: float, rough: bool = False) -> tuple[float, str]:
    """Epsilon and the accountant whose bound it is; `rough` on a grid that is quicker and never claims less."""
    if len({(event.neighbors, event.unit) for event in events}) != 1:
        raise ValueError(f"events of different kinds cannot be composed: {events}")
    from fedinv.privacy import accountants

    bare = tuple(replace(event, delta=0.0, mechanism="", budget=None) for event in events)
    found = accountants.composed(bare, delta, accountants.ROUGH_POINTS if rough else accountants.POINTS)
    return found.epsilon, found.accountant


def calibrated(event: PrivacyEvent, noise_multiplier: float | None, rounds: int) -> PrivacyEvent:
    """Return one round's event with this noise multiplier, else the least one that keeps its budget over all rounds.

    Without a noise multiplier and a budget the noise multiplier is 1.
    """
    if noise_multiplier is not None:
        return replace(event, noise_multiplier=noise_multiplier)
    if event.budget is None:
        return replace(event, noise_multiplier=1.0)
    whole = replace(event, steps=event.steps * rounds, mechanism="", budget=None)
    from fedinv.privacy.accountants import noise_for

    return replace(event, noise_multiplier=noise_for(whole, event.budget))


def claim(ledger: Mapping[str, Iterable[Mapping[str, object]]], defenses: Sequence[str]) -> Privacy:
    """The guarantee that holds for every client: the epsilon of the client that spent most.

    `ledger` holds each client's charges, by client. Several mechanisms give a guarantee each: the smallest epsilon is
    claimed, and the note lists all of them.
    """
    spent: dict[str, dict[tuple[PrivacyEvent, ...], None]] = {}
    for charges in ledger.values():
        by_mechanism: dict[str, list[PrivacyEvent]] = {}
        for fields in charges:
            event = PrivacyEvent(**fields)  # type: ignore[arg-type]
            by_mechanism.setdefault(event.mechanism, []).append(event)
        for mechanism, events in by_mechanism.items():
            spent.setdefault(mechanism, {})[tuple(events)] = None
    claims = {mechanism: _most(list(distinct)) for mechanism, distinct in spent.items()}
    finite = {mechanism: one for mechanism, one in claims.items() if math.isfinite(one.epsilon)}
    if any(one.events[0].against_server for one in finite.values()):  # only these count where any holds
        finite = {mechanism: one for mechanism, one in finite.items() if one.events[0].against_server}
    if not finite:
        return _no_claim(defenses, claims)
    least = min(finite.values(), key=lambda one: one.epsilon)
    event = least.events[0]
    return Privacy(
        unit=event.unit,
        epsilon=least.epsilon,
        delta=event.delta,
        accountant=least.accountant,
        neighbors=event.neighbors,
        against_server=event.against_server,
        note=("" if event.against_server else SEEN)
        + "of the client that spent most, over all rounds: "
        + "; ".join(f"{m} gives epsilon {one.epsilon:.2f} per {one.events[0].unit}" for m, one in finite.items())
        + (f"; {RENYI}" if least.accountant == "RDP" else ""),
    )


@dataclass(frozen=True)
class _Spent:
    epsilon: float
    accountant: str
    events: tuple[PrivacyEvent, ...]


def _most(ledgers: Sequence[tuple[PrivacyEvent, ...]]) -> _Spent:
    """The ledger that spent most. A rough bound of each decides the order, so that few need the fine grid."""
    rough = {events: rough_epsilon(events) for events in ledgers} if len(ledgers) > 1 else {}
    found: list[_Spent] = []
    for events in sorted(ledgers, key=lambda one: rough.get(one, 0.0), reverse=True):
        if found and rough[events] <= max(one.epsilon for one in found):
            break
        found.append(_Spent(*_spent(events, events[0].delta), events))
    return max(found, key=lambda one: one.epsilon)


RENYI = "a bound by Renyi divergences, which may be well above what a tighter account would give"
SEEN = "not against the server, which sees each update before the noise, but against those who see only its models: "


def _no_claim(defenses: Sequence[str], claims: Mapping[str, _Spent]) -> Privacy:
    """Nothing is guaranteed, and why."""
    weak = [mechanism for mechanism, one in claims.items() if all(event.noise_multiplier for event in one.events)]
    if weak:
        why = f"no guarantee worth the name: epsilon is above 10^6 by {' and by '.join(weak)}, whose noise is too weak"
    elif claims:
        why = "no guarantee: the noise multiplier is 0"
    elif not defenses:
        why = "no guarantee: no defense is on"
    else:
        why = f"no differential-privacy guarantee: {', '.join(defenses)} claims none"
    exceeds = HIGHEST if weak else None
    return Privacy(unit=None, epsilon=None, delta=None, accountant=None, exceeds=exceeds, note=why)
