"""The means that a server sees behind SecAgg+: masks hide each client's arrays, and the next model is their mean.

Bell, Bonawitz, Gascon, Lepoint, Raykova 2020, as in Flower's workflow: each client sends its arrays times its number of
examples over max_weight, rounded at random to a grid over the clipping range, and the server divides their sum.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flwr.common.secure_aggregation.secaggplus_constants import Key, Stage
from torch import Tensor

from fedinv.recording.folder import Exchange, Recording
from fedinv.recording.lines import Value

ON_GRID = 0.1
"""Largest root mean square distance of a mean's entries from the grid that their rounding leaves them on, in its steps;
entries anywhere have 0.29."""


@dataclass(frozen=True)
class SecureSum:
    """What a server learns of one round behind SecAgg+: its model, and the mean of the clients' models."""

    round: int
    """Round, from 1."""
    sent: Mapping[str, Tensor]
    """Model that the clients were sent, by name."""
    mean: Mapping[str, Tensor]
    """Mean of their models by their numbers of examples, by the same names: the model that was sent next."""
    counts: tuple[int, ...]
    """Number of examples that each client of the sum reports, which is its weight."""
    clipping_range: float
    """Largest absolute value of a client's weighted entry."""
    levels: float
    """Number of levels over the clipping range that such an entry is rounded to."""
    max_weight: float
    """Number of examples that has a weight of 1."""

    @property
    def weight(self) -> float:
        """Weight of all clients together, each rounded to a level as they do it."""
        return sum(round(count / self.max_weight * self.levels) for count in self.counts) / self.levels

    @property
    def step(self) -> float:
        """Distance of two levels."""
        return 2 * self.clipping_range / self.levels

    @property
    def records(self) -> int:
        """Number of examples that all clients report together."""
        return sum(self.counts)

    @property
    def rounding(self) -> float:
        """Standard deviation that rounding has in each entry of the mean, at most.

        A value anywhere between two levels has a mean square error of 1/6 of their squared distance.
        """
        return self.step * math.sqrt(len(self.counts) / 6) / self.weight

    @property
    def off_grid(self) -> float:
        """Root mean square distance of the mean's entries from the nearest sum of rounded ones, in steps, 0 to 0.5."""
        levels = [
            (tensor.double().flatten() * self.weight + len(self.counts) * self.clipping_range) / self.step
            for tensor in self.mean.values()
            if tensor.is_floating_point()
        ]
        count = sum(map(len, levels))
        return math.sqrt(sum(float((one - one.round()).square().sum()) for one in levels) / max(count, 1))


def secure_sums(recording: Recording) -> tuple[list[SecureSum], list[str]]:
    """The sums that a recording shows, and a line for each round of masked replies of which none can be had.

    The mean is known from the next model that is sent. That this is the mean itself, and nothing that a server's
    optimizer made of it, is seen by its entries, which lie on the grid of the rounding.
    """
    rounds: dict[tuple[int, int], list[int]] = {}
    for place, one in enumerate(recording.exchanges):
        asked = _stage(one) == Stage.COLLECT_MASKED_VECTORS and one.asked.arrays and one.error is None
        # a client's own end may have recorded arrays before they were masked: those are an update like any other
        if asked and not one.received:
            rounds.setdefault((one.run, one.round), []).append(place)
    found, lines = list[SecureSum](), list[str]()
    for (run, round_), places in rounds.items():
        made = _sum(recording.exchanges, run, round_, places)
        if isinstance(made, str):
            lines.append(f"round {round_}: {len(places)} replies are masked by SecAgg+, and {made}")
        else:
            found.append(made)
    return found, lines


def _sum(exchanges: Sequence[Exchange], run: int, round_: int, places: Sequence[int]) -> SecureSum | str:
    """The sum of the replies at these places, or why it cannot be had."""
    masked = [exchanges[place] for place in places]
    terms = next(
        (_config(one) for one in exchanges if (one.run, one.round, _stage(one)) == (run, round_, Stage.SETUP)), {}
    )
    clipping, levels, heaviest, cohort = (
        _number(terms.get(key)) for key in (Key.CLIPPING_RANGE, Key.TARGET_RANGE, Key.MAX_WEIGHT, Key.SAMPLE_NUMBER)
    )
    if not clipping or not levels or not heaviest or not cohort:
        return "the message with the terms of their rounding was not recorded"
    asked = {one.node for one in exchanges if (one.run, one.round) == (run, round_)}
    if len(asked) < cohort:
        return f"{len(asked)} of {cohort:g} clients were recorded: record all of a round, at the server"
    counts = tuple(one.claimed_records or 0 for one in masked)
    if not all(counts):
        return "not every client reports its number of examples, which is its weight in their mean"
    sent = masked[0].sent
    later = (one.sent for one in exchanges[places[-1] + 1 :] if one.run == run and one.asked.arrays)
    mean = next((arrays for arrays in later if _shapes(arrays) == _shapes(sent)), None)
    if mean is None:
        return "no later message shows the model that was made of their sum: record an evaluation, or one round more"
    if all(bool((mean[name] == tensor).all()) for name, tensor in sent.items()):
        return "the model that was sent next is the same: the protocol came to no sum"
    made = SecureSum(round_, sent, mean, counts, clipping, levels, heaviest)
    if made.off_grid > ON_GRID:
        return (
            "the model that was sent next is no mean of rounded replies: an optimizer of the server's, as FedAvgM or "
            "FedAdam, noise or other weights stand between, which is not undone"
        )
    return made


def _config(one: Exchange) -> Mapping[str, Value]:
    """The record of a message's configurations that names a stage of the protocol; empty where none does."""
    return next((record for record in one.asked.configs.values() if record.get(Key.STAGE) in Stage.all()), {})


def _stage(one: Exchange) -> Value | None:
    return _config(one).get(Key.STAGE) if one.is_training else None


def _number(value: Value | None) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _shapes(arrays: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in arrays.items()}
