"""Silences all records of a batch but a few."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from fedinv.attack import Claim, Exchange, Knowledge, Observation, Progress, nothing
from fedinv.deviation import Deviation, Turn, Weights
from fedinv.task.models import AnyModel

from ..attacks.exact import Exact
from ..crafting.quantiles import direction, quantiles, samples
from .grid import two_layers

GATES = 4
"""Units of layer 1 that open and close the window: two at each end."""
BLUR = 0.005
"""Width of each end of the window, along the direction, in which a record's outputs are neither whole nor 0."""
ENOUGH = 5_000
"""People by whom the largest pre-activation behind the window is estimated, which is then taken three times."""
SILENT = 40.0
"""Logit by which the class that is fished for is made unlikely at every record."""
OPEN = 1e3
"""End of a window that is open on that side."""
NOISE = 1e-5
"""Singular values of an update below this share of the largest are rounding errors."""


class Fishing(Deviation):
    """All records of a batch are silenced but a few, whose gradients alone are left for `exact`.

    Threat model: a malicious server that sends all clients of a round the same weights. It needs the schema and a
    perceptron with two hidden layers and ReLU; auxiliary records place the window better. The batch may be of any size,
    or a secure sum of many, as nothing of a silenced record is left in it.

    Claims: what `exact` reads off the update of the records in the window, with the whole batch's silenced. In the next
    watched rounds the window is narrowed where it held more records than `most`, and is moved on below it where it did
    not, so that each round isolates others; FedSGD on all of a client's records, or FedAvg with `freeze` listed behind.

    Paper: Wen et al. (2022), Fishing for user data in large-batch federated learning via gradient magnification.
    By class: the last layer knows that class alone and holds it for unlikely, so that others' errors are
    0. By feature: a threshold, found by bisection over rounds. Theirs is in the last layer, where it
    silences a single class; here it is one layer before, where ReLU silences both of two.
    """

    kind: Literal["fishing"] = "fishing"
    """Selects this deviation: all records but a few are silenced."""
    by: Literal["feature", "class", "both"] = "feature"
    """Which records are left: those in a window along a direction, those of a class, or those that are both."""
    label: int = Field(default=1, ge=0)
    """Class that is fished for, where it is by class."""
    most: int = Field(default=4, ge=1, le=64)
    """Records that may be left in a window, 1 to 64: `exact` separates some."""
    alike: ClassVar[bool] = True
    looks_back: ClassVar[bool] = True

    def misfit(self, model: AnyModel) -> str | None:
        """Why the network is none with two hidden layers and ReLU; None where it is."""
        return two_layers(model)

    def craft(self, sent: Weights, knows: Knowledge, turn: Turn, rng: np.random.Generator) -> Weights:
        """The network with a window, and a last layer of one class. Raises ValueError where they do not fit it."""
        made = dict(sent)
        if self.by != "class":
            made = self._windowed(made, knows, turn, rng)
        if self.by != "feature":
            weight, bias = list(sent)[-2:]
            if self.label >= len(sent[bias]):
                raise ValueError(f"there is no class {self.label}, the network has {len(sent[bias])} outputs")
            made[weight], made[bias] = torch.zeros_like(sent[weight]), sent[bias].clone()
            made[weight][self.label] = sent[weight][self.label]
            made[bias][self.label] -= SILENT
        return made

    def _windowed(
        self, made: dict[str, Tensor], knows: Knowledge, turn: Turn, rng: np.random.Generator
    ) -> dict[str, Tensor]:
        schema, shapes = knows.schema, [tensor.shape for tensor in made.values()]
        if schema is None:
            raise ValueError("the schema is withheld, by which the window is placed")
        if len(shapes) != 6 or schema.width != shapes[0][-1] or len(made[next(iter(made))]) <= GATES:
            raise ValueError("the network is no perceptron with two hidden layers over the schema's columns")
        drawn = samples(schema, knows, rng)
        before = [(one, window_of(one.sent)) for one in turn.seen]
        past = [(window, left_in(one)) for one, window in before if window is not None]
        along = past[0][0].along if past else direction(schema, rng)
        count = turn.seen[0].records if turn.seen else (knows.batch_size or 1) * len(turn.cohort)
        low, high = self._next(past, count, drawn @ along)
        return window_weights(made, Window(along, low, high), drawn)

    def _next(self, past: list[tuple["Window", int]], count: int, seen: Tensor) -> tuple[float, float]:
        """The window after earlier ones, each with the records left in it: narrower, or below the settled ones."""
        high = min((window.low for window, left in past if left <= self.most), default=OPEN)
        crowded = [(window.low, left) for window, left in past if left > self.most and window.low < high]
        top = 1.0 if high == OPEN else float((seen < high).double().mean())
        share = self.most / count
        if crowded:  # as many lie between as the narrowest window that was too wide held
            low, left = max(crowded)
            bottom = float((seen < low).double().mean())
            share = max(top - bottom, 1 / count) * max(1, self.most // 2) / left
            place = float(quantiles(seen, np.array([max(0.0, top - share)]))[0])
            return (place, high) if low < place < high else ((low + min(high, float(seen.max()))) / 2, high)
        place = float(quantiles(seen, np.array([max(0.0, top - share)]))[0])
        return (min(place, high - 2 * BLUR), high)

    def claim(self, seen: Observation, knows: Knowledge, rng: np.random.Generator, progress: Progress) -> Claim:
        """The records in the windows of all watched rounds, each once."""
        width = next(iter(seen.last.sent.values())).shape[-1]
        found = list[Claim]()
        for done, one in enumerate(seen.exchanges):
            left = left_in(one)
            if 0 < left <= 4 * self.most:
                alone = replace(knows.at(one.round), defenses=None, batch_size=left)
                claim = Exact(seconds=SECONDS, fall_back=False).run(
                    Observation(seen.clients, (fished(one, left),)), alone, rng, _quiet
                )
                found.append(claim)
            progress((done + 1) / len(seen.exchanges))
        return distinct(found, width)


SECONDS = 2.0
"""Seconds after which the search for the records of one window begins no further round."""


def _quiet(_: float) -> None:
    pass


@dataclass(frozen=True)
class Window:
    """The records that are not silenced."""

    along: Tensor
    """Direction, float64 (width,)."""
    low: float
    """Position along the direction above which a record is in the window."""
    high: float
    """Position above which it no longer is."""


def window_weights(like: Weights, window: Window, people: Tensor) -> dict[str, Tensor]:
    """The network as it is at records in the window, and with a silent second layer elsewhere.

    A pair of units rises by BLUR behind each end; M times their difference less 1 is added to all units of layer 2,
    with M beyond the largest pre-activation at such people (n, width).
    """
    made = {name: tensor.clone() for name, tensor in like.items()}
    w1, b1, w2, b2, *_ = made.values()
    outputs = torch.relu(people[:ENOUGH].float() @ w1.T + b1)
    wall = 3 * float((outputs[:, GATES:] @ w2[:, GATES:].T + b2).abs().max())
    for unit, knot in enumerate((window.low, window.low + BLUR, window.high, window.high + BLUR)):
        w1[unit], b1[unit] = window.along.float(), -knot
    steep = wall / BLUR
    for unit, sign in enumerate((steep, -steep, -steep, steep)):
        w2[:, unit] = sign
    b2 -= wall
    return made


def window_of(sent: Weights) -> Window | None:
    """The window that weights hold; None where they hold none."""
    first, bias = list(sent.values())[:2]
    if len(first) <= GATES or not bool((first[:GATES] == first[0]).all()) or not bool(first[0].any()):
        return None
    scale = float(first[0].double().norm())
    return Window(first[0].double() / scale, -float(bias[0]) / scale, -float(bias[2]) / scale)


def left_in(one: Exchange) -> int:
    """Number of records that are not silenced: the rank of the first layer's update beside the window's units."""
    first = next(iter(one.received.values())).double()
    rows = first[GATES:] if window_of(one.sent) is not None else first
    if not bool(rows.isfinite().all()) or not bool(rows.any()):
        return 0
    values = torch.linalg.svdvals(rows)
    return int((values > NOISE * values[0]).sum())


def fished(one: Exchange, left: int) -> Exchange:
    """The exchange as if the records in the window had been the whole batch of a network without the window."""
    sent = {name: tensor.clone() for name, tensor in one.sent.items()}
    received = {name: tensor * (one.records / left) for name, tensor in one.received.items()}
    if window_of(sent) is not None:
        _, b1, w2, b2, *_ = sent.values()
        b2 += w2[:, 0] * (b1[0] - b1[1])
        w2[:, :GATES] = 0
        for tensor in list(received.values())[:2]:
            tensor[:GATES] = 0
        list(received.values())[2][:, :GATES] = 0
    return Exchange(one.round, sent, received, left)


def distinct(claims: list[Claim], width: int) -> Claim:
    """The records of several claims, each once."""
    some = [claim for claim in claims if len(claim.records)]
    if not some:
        return nothing("no window left a record that could be read", width)
    records = torch.cat([claim.records for claim in some])
    first = [i for i in range(len(records)) if not bool(((records[:i] - records[i]).abs().amax(1) < 1e-3).any())]
    labels = [claim.labels for claim in some if claim.labels is not None]
    return Claim(
        records[first],
        torch.cat([claim.confidence for claim in some])[first],
        torch.cat(labels)[first] if len(labels) == len(some) else None,
        None,
        tuple(dict.fromkeys(note for claim in claims for note in claim.notes))[:3],
        checked=torch.cat([claim.verified for claim in some])[first],
    )
