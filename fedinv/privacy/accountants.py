"""The accountants, in a module of their own because importing them takes a second.

Each gives an upper bound on epsilon, and the smallest is taken: the Gaussian mechanism in closed form, which sampling
only improves; privacy loss distributions (Koskela et al. 2020; Doroshenko et al. 2022), whose discretization is
pessimistic; Renyi divergences (Mironov, Talwar, Zhang 2019; Wang, Balle, Kasiviswanathan 2019). The grid of privacy
losses adapts to their range, so that time and memory are bounded for any noise and any number of steps.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import dp_accounting
import numpy as np
from dp_accounting.pld import privacy_loss_distribution as pld
from dp_accounting.rdp import RdpAccountant
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import logsumexp

from fedinv.errors import RequestError
from fedinv.privacy.events import HIGHEST, PrivacyEvent
from fedinv.privacy.gaussian import gaussian_epsilon

POINTS, ROUGH_POINTS = 1_000_000, 40_000
"""Grid points of a composed distribution of privacy losses, which has at most twice as many, and ten times those of a
single step. The rough grid takes a tenth of a second, and never claims less."""
FINE, ROUGH = 1e-4, 1e-3
"""Distance of the grid's points in privacy loss where the losses' range allows it."""
COARSEST = 10.0
"""Distance of the grid's points above which losses are too large to be composed on a grid."""
AT_ONCE = 10_000
"""Steps that dp-accounting composes at once: it raises a number of points to the power of the number of steps."""
TAIL = 1e-15
"""Probability that dp-accounting leaves out of a composed distribution, and adds to delta."""
ROUNDING = 1e-13
"""Error of delta for each composed step, by the rounding of the Fourier transform."""
FAINTEST = 1e-4
"""Noise multiplier below which one release alone has an epsilon above 10^6, so that no grid is tried."""
ORDERS = (*range(2, 65), 128, 256, 512, 1024)
"""Orders of the Renyi divergences, whole numbers, for which the sum over a Poisson sample is finite and stable."""

Floats = NDArray[np.float64]
Accountant = Literal["Gaussian", "PLD", "RDP"]
"""The Gaussian mechanism in closed form, privacy loss distributions, or a bound by Renyi divergences."""

_NEIGHBORS = {
    "add-or-remove-one": dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE,
    "replace-one": dp_accounting.NeighboringRelation.REPLACE_ONE,
}


@dataclass(frozen=True)
class Spent:
    """What composed events cost."""

    epsilon: float
    """Upper bound on epsilon; infinite above 10^6, or where an event has no noise."""
    accountant: Accountant
    """The accountant whose bound it is."""


@lru_cache(maxsize=4096)
def composed(events: tuple[PrivacyEvent, ...], delta: float, points: int = POINTS) -> Spent:
    """The epsilon of composed events at a delta: the least bound of all accountants on a grid of at most `points`."""
    shift = _shift(events[0])
    apart = [math.sqrt(e.steps) * shift / e.noise_multiplier if e.noise_multiplier else math.inf for e in events]
    # joint convexity: a sample is never worse than all (Balle, Barthe, Gaboardi 2018)
    bounds = [Spent(gaussian_epsilon(math.hypot(*apart), delta), "Gaussian")]
    sampled = [event for event in events if event.sampling_rate < 1]
    fixed = any(event.sampling == "fixed-size" for event in sampled)
    if sampled and all(event.noise_multiplier >= FAINTEST for event in events):
        if fixed or shift == 1:
            bounds.append(Spent(_renyi(events, delta), "RDP"))
        interval = None if fixed else grid(events, delta, points)
        if interval is not None:
            bounds.append(Spent(_distribution(events, delta, interval), "PLD"))
    least = min(bounds, key=lambda one: one.epsilon)
    return least if least.epsilon <= HIGHEST else Spent(math.inf, least.accountant)


def _shift(event: PrivacyEvent) -> int:
    """Clipping norms by which one unit moves a sum: two where it is replaced."""
    return 2 if event.neighbors == "replace-one" else 1


def _renyi(events: Sequence[PrivacyEvent], delta: float) -> float:
    """Epsilon by Renyi divergences; for replaced units they expect the noise over the sensitivity, two norms."""
    spent = RdpAccountant(ORDERS, _NEIGHBORS[events[0].neighbors])
    for event in events:
        spent.compose(_sampled(event, event.noise_multiplier / _shift(event)), event.steps)
    return float(spent.get_epsilon(delta))


def _distribution(events: Sequence[PrivacyEvent], delta: float, interval: float) -> float:
    """Epsilon by privacy loss distributions whose points lie `interval` apart."""
    first, *others = (losses(event, interval) for event in events)
    for other in others:
        first = first.compose(other)
    with np.errstate(over="ignore"):
        found = float(first.get_epsilon_for_delta(delta))
    if math.isfinite(found):
        return found

    def excess(epsilon: float) -> float:
        return float(first.get_delta_for_epsilon(epsilon)) - delta

    # dp-accounting divides by e^-loss, which is all but 0 for losses of some 700: then the curve itself is searched
    if excess(HIGHEST) > 0:
        return math.inf
    return float(brentq(excess, 0.0, HIGHEST, xtol=interval)) + interval


def losses(event: PrivacyEvent, interval: float) -> pld.PrivacyLossDistribution:
    """The distribution of an event's privacy loss over all its steps, on a grid whose points lie `interval` apart."""
    event = _folded(event)
    step = pld.from_gaussian_mechanism(
        event.noise_multiplier,
        value_discretization_interval=interval,
        sampling_prob=min(1.0, event.sampling_rate),
        neighboring_relation=_NEIGHBORS[event.neighbors],
    )
    if event.steps <= AT_ONCE:
        return step.self_compose(event.steps)
    many, rest = divmod(event.steps, AT_ONCE)
    whole = step.self_compose(AT_ONCE).self_compose(many)
    return whole.compose(step.self_compose(rest)) if rest else whole


def _folded(event: PrivacyEvent) -> PrivacyEvent:
    """The event with all steps as one where nothing is sampled: Gaussian mechanisms compose to one of less noise."""
    if event.sampling_rate < 1:
        return event
    return replace(event, noise_multiplier=event.noise_multiplier / math.sqrt(event.steps), steps=1)


def _sampled(event: PrivacyEvent, noise: float) -> dp_accounting.DpEvent:
    gaussian = dp_accounting.GaussianDpEvent(noise)
    if event.sampling_rate >= 1:
        return gaussian
    if event.sampling == "poisson":
        return dp_accounting.PoissonSampledDpEvent(event.sampling_rate, gaussian)
    drawn = round(event.sampling_rate * event.population)
    return dp_accounting.SampledWithoutReplacementDpEvent(event.population, drawn, gaussian)


def grid(events: Sequence[PrivacyEvent], delta: float, points: int = POINTS) -> float | None:
    """Distance of the grid's points at which distributions have about `points`; None where rounding forbids any.

    Where few steps of little loss are composed the grid is finer than FINE, elsewhere coarser where it must be.
    """
    if sum(event.steps for event in events) * ROUNDING > delta:
        return None
    single, whole = (sum(widths) for widths in zip(*map(_widths, events), strict=True))
    finest = min(FINE if points == POINTS else ROUGH, single / 1000)
    interval = max(finest, 10 * single / points, whole / points)
    return interval if interval <= COARSEST else None


@lru_cache(maxsize=4096)
def _widths(event: PrivacyEvent) -> tuple[float, float]:
    """Range of the privacy loss of one step of an event, and of all its steps as dp-accounting truncates it.

    The second is the Chernoff bound at the orders that dp-accounting takes: 1 to 20 over the range of one step.
    """
    event = _folded(event)
    noise, rate, steps = event.noise_multiplier, min(event.sampling_rate, 1 - 1e-12), event.steps
    # a release is Gaussian around 0 without the unit, around 1 with it, around -1 with what replaces it
    other = -1.0 if _shift(event) == 2 else 0.0
    spread = np.linspace(-10, 10, 401)
    at = np.array([-1.0, 0.0, 1.0])[:, None] + noise * spread

    def logs(center: float) -> Floats:
        """Logarithm of the density of a release at `at`, over that of a release without the unit."""
        found: Floats = np.logaddexp(math.log1p(-rate), math.log(rate) + center * (2 * at - center) / (2 * noise**2))
        return found

    loss = logs(1.0) - logs(other)
    single, bell = float(np.ptp(loss)), np.exp(-(spread**2) / 2)
    bell, widest = bell / bell.sum(), 0.0
    for sign, center in ((1.0, 1.0), (-1.0, other)):
        shares = np.array([rate * (center == c) + (1 - rate) * (c == 0) for c in (-1.0, 0.0, 1.0)])
        mass, shifted = shares[:, None] * bell, sign * loss - (sign * loss).min()
        low, high = 0.0, steps * single
        for order in range(1, 21):
            tilt = order / single
            high = min(high, (steps * float(logsumexp(tilt * shifted, b=mass)) + math.log(2 / TAIL)) / tilt)
            low = max(low, -(steps * float(logsumexp(-tilt * shifted, b=mass)) + math.log(2 / TAIL)) / tilt)
        widest = max(widest, high - low)
    return single, widest


@lru_cache(maxsize=1024)
def most_steps(event: PrivacyEvent, budget: float) -> int:
    """The largest number of an event's steps, whatever its own is, that cost at most `budget` by the rough grid."""

    def kept(steps: int) -> bool:
        return composed((replace(event, steps=steps, delta=0.0),), event.delta, ROUGH_POINTS).epsilon <= budget

    if not kept(1):
        return 0
    low, high = 1, 2
    while kept(high):
        low, high = high, 2 * high
        if high > 1e12:
            return low
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if kept(middle) else (low, middle)
    return low


@lru_cache(maxsize=1024)
def noise_for(event: PrivacyEvent, epsilon: float) -> float:
    """The least noise multiplier at which all steps of an event cost at most epsilon at its delta.

    Exact to 0.1 % for epsilons up to 1,000, rounded up. Raises RequestError where even a noise of 10,000 is not enough.
    """

    def above(log_noise: float) -> float:
        priced = replace(event, noise_multiplier=math.exp(log_noise), delta=0.0, mechanism="", budget=None)
        cost = composed((priced,), event.delta, ROUGH_POINTS).epsilon
        return math.log(min(max(cost, 1e-12), 1e12) / epsilon)

    def unsampled(log_noise: float) -> float:
        apart = math.sqrt(event.steps) * _shift(event) / math.exp(log_noise)
        return math.log(min(max(gaussian_epsilon(apart, event.delta), 1e-12), 1e12) / epsilon)

    largest, smallest = math.log(1e4), math.log(FAINTEST)
    high = largest
    if unsampled(largest) < 0:  # without sampling it costs more, so that its noise is enough
        high = float(brentq(unsampled, smallest, largest, xtol=1e-6)) + 1e-6 if unsampled(smallest) > 0 else smallest
    if above(high) > 0:
        raise RequestError(
            f"epsilon = {epsilon:g} cannot be kept over {event.steps} steps at any noise up to 10,000: write a larger "
            "budget, or fewer rounds or epochs"
        )
    low = high
    while above(low) <= 0:
        low, high = low - math.log(2), low
        if low < smallest:
            return math.exp(high)
    root = float(brentq(above, low, high, xtol=5e-4)) if low < high else high
    return math.exp(min(root + 5e-4, largest))
