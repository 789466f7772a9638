"""The accountants themselves, apart from what is claimed by them: importing them takes a second.

Koskela et al. 2020; Doroshenko et al. 2022 (the discretization is pessimistic, so epsilon is an upper bound).
"""

import math
from dataclasses import replace
from functools import lru_cache

import dp_accounting
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from scipy.optimize import brentq

from fedinv.privacy.events import PrivacyEvent

FINE, COARSE = 1e-4, 1e-3
"""Steps in which privacy loss is counted, rounded up: the coarse ones are ten times as quick and never claim less."""

_NEIGHBORS = {
    "add-or-remove-one": dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE,
    "replace-one": dp_accounting.NeighboringRelation.REPLACE_ONE,
}


@lru_cache(maxsize=1024)
def composed(events: tuple[PrivacyEvent, ...], delta: float, step: float = FINE) -> float:
    """Epsilon of events at a delta; infinite when any of them adds no noise."""
    if any(event.noise_multiplier == 0 for event in events):
        return math.inf
    neighbors = _NEIGHBORS[events[0].neighbors]
    if any(event.sampling == "fixed-size" and event.sampling_rate < 1 for event in events):
        # of replaced units RDP takes the noise over what one replacement moves, two clipping norms; PLD over one norm
        shift = 2 if events[0].neighbors == "replace-one" else 1
        spent, scale = RdpAccountant(neighboring_relation=neighbors), 1 / shift
    else:
        spent, scale = PLDAccountant(neighbors, value_discretization_interval=step), 1.0
    for event in events:
        sampled = _sampled(event, dp_accounting.GaussianDpEvent(event.noise_multiplier * scale))
        spent.compose(dp_accounting.SelfComposedDpEvent(sampled, event.steps))
    return float(spent.get_epsilon(delta))


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
        return math.log(max(composed((priced,), event.delta, COARSE), 1e-12) / epsilon)

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
