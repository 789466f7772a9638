"""From the ledger to the epsilon that may be claimed: all rounds composed, by privacy loss distributions.

Koskela et al. 2020; Doroshenko et al. 2022 (the discretization is pessimistic, so epsilon is an upper bound).
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import dp_accounting
from dp_accounting.pld import PLDAccountant

from fedinv.defense import PrivacyEvent
from fedinv.results import Privacy

_NEIGHBORS = {
    "add-or-remove-one": dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE,
    "replace-one": dp_accounting.NeighboringRelation.REPLACE_ONE,
}


def epsilon(events: Sequence[PrivacyEvent], delta: float) -> float:
    """Compose one client's events at a delta. Infinite when any of them adds no noise.

    Raises ValueError for events whose neighboring relations or units differ: they cannot be composed.
    """
    if len({(event.neighbors, event.unit) for event in events}) != 1:
        raise ValueError(f"events of different kinds cannot be composed: {events}")
    if any(event.noise_multiplier == 0 for event in events):
        return math.inf
    accountant = PLDAccountant(_NEIGHBORS[events[0].neighbors])
    for event in events:
        gaussian = dp_accounting.GaussianDpEvent(event.noise_multiplier)
        sampled = (
            gaussian if event.sampling_rate >= 1 else dp_accounting.PoissonSampledDpEvent(event.sampling_rate, gaussian)
        )
        accountant.compose(dp_accounting.SelfComposedDpEvent(sampled, event.steps))
    return float(accountant.get_epsilon(delta))


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
        mechanism: max(((epsilon(e, e[0].delta), e[0]) for e in distinct), key=lambda pair: pair[0])
        for mechanism, distinct in spent.items()
    }
    finite = {mechanism: pair for mechanism, pair in claims.items() if math.isfinite(pair[0])}
    if not finite:
        return Privacy(unit=None, epsilon=None, delta=None, accountant=None, note=_no_claim(defenses, bool(claims)))
    mechanism, (value, event) = min(finite.items(), key=lambda item: item[1][0])
    return Privacy(
        unit=event.unit,
        epsilon=value,
        delta=event.delta,
        accountant="PLD",
        neighbors=event.neighbors,
        note="of the client that spent most, over all rounds: "
        + "; ".join(f"{m} gives epsilon {e:.2f} per {charged.unit}" for m, (e, charged) in finite.items()),
    )


def _no_claim(defenses: Sequence[str], without_noise: bool) -> str:
    if without_noise:
        return "no guarantee: the noise multiplier is 0"
    if not defenses:
        return "no guarantee: no defense is on"
    return f"no differential-privacy guarantee: {', '.join(defenses)} claims none"
