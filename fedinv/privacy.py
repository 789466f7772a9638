"""From the ledger to the epsilon that may be claimed: all rounds composed, by privacy loss distributions.

Koskela et al. 2020; Doroshenko et al. 2022 (the discretization is pessimistic, so epsilon is an upper bound).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Literal

import dp_accounting
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from scipy.optimize import brentq

from fedinv.defense import PrivacyEvent
from fedinv.results import Privacy

_NEIGHBORS = {
    "add-or-remove-one": dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE,
    "replace-one": dp_accounting.NeighboringRelation.REPLACE_ONE,
}


def epsilon(events: Sequence[PrivacyEvent], delta: float) -> float:
    """Compose one client's events at a delta. Infinite when any of them adds no noise.

    By privacy loss distributions; by Renyi divergences where a sample of fixed size was drawn, for which no tighter
    account is known (Wang, Balle, Kasiviswanathan 2019). Raises ValueError for events whose neighboring relations or
    units differ: they cannot be composed.
    """
    if len({(event.neighbors, event.unit) for event in events}) != 1:
        raise ValueError(f"events of different kinds cannot be composed: {events}")
    return _epsilon(tuple(replace(event, delta=0.0, mechanism="", budget=None) for event in events), delta, FINE)


def accountant(events: Iterable[PrivacyEvent]) -> Literal["PLD", "RDP"]:
    """How these events are composed."""
    return "RDP" if any(_fixed(event) for event in events) else "PLD"


FINE, COARSE = 1e-4, 1e-3
"""Steps in which privacy loss is counted, rounded up: the coarse ones are ten times as quick and never claim less."""


@lru_cache(maxsize=1024)
def _epsilon(events: tuple[PrivacyEvent, ...], delta: float, step: float) -> float:
    if any(event.noise_multiplier == 0 for event in events):
        return math.inf
    neighbors = _NEIGHBORS[events[0].neighbors]
    if accountant(events) == "RDP":
        # of replaced units RDP takes the noise over what one replacement moves, two clipping norms; PLD over one norm
        shift = 2 if events[0].neighbors == "replace-one" else 1
        spent, scale = RdpAccountant(neighboring_relation=neighbors), 1 / shift
    else:
        spent, scale = PLDAccountant(neighbors, value_discretization_interval=step), 1.0
    for event in events:
        sampled = _sampled(event, dp_accounting.GaussianDpEvent(event.noise_multiplier * scale))
        spent.compose(dp_accounting.SelfComposedDpEvent(sampled, event.steps))
    return float(spent.get_epsilon(delta))


def _fixed(event: PrivacyEvent) -> bool:
    return event.sampling == "fixed-size" and event.sampling_rate < 1


def _sampled(event: PrivacyEvent, gaussian: dp_accounting.DpEvent) -> dp_accounting.DpEvent:
    if event.sampling_rate >= 1:
        return gaussian
    if event.sampling == "poisson":
        return dp_accounting.PoissonSampledDpEvent(event.sampling_rate, gaussian)
    drawn = round(event.sampling_rate * event.population)
    return dp_accounting.SampledWithoutReplacementDpEvent(event.population, drawn, gaussian)


@lru_cache(maxsize=256)
def noise_for(event: PrivacyEvent, epsilon: float) -> float:
    """The least noise multiplier at which an event, all its steps, costs at most epsilon at its delta.

    To 0.1 %, on the safe side. Raises ValueError where even a noise of 10,000 is not enough.
    """

    def above(log_noise: float) -> float:
        priced = replace(event, noise_multiplier=math.exp(log_noise), delta=0.0, mechanism="", budget=None)
        return math.log(max(_epsilon((priced,), event.delta, COARSE), 1e-12) / epsilon)

    low, high = 0.0, 0.0
    while above(high) > 0:
        if high > math.log(1e4):
            raise ValueError(f"epsilon = {epsilon:g} cannot be kept over {event.steps} steps at any noise up to 10,000")
        low, high = high, high + math.log(2)
    while low == high or above(low) <= 0:
        low, high = low - math.log(2), low
        if low < math.log(1e-2):
            return math.exp(high)
    root = float(brentq(above, low, high, xtol=5e-4))
    return math.exp(root + 5e-4)


def calibrated(event: PrivacyEvent, noise_multiplier: float | None, rounds: int) -> PrivacyEvent:
    """An event of one round with the noise that was asked for, else that which keeps its budget over all rounds.

    Without either the noise multiplier is 1.
    """
    if noise_multiplier is not None:
        return replace(event, noise_multiplier=noise_multiplier)
    if event.budget is None:
        return replace(event, noise_multiplier=1.0)
    whole = replace(event, steps=event.steps * rounds, mechanism="", budget=None)
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
