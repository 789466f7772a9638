"""Vetting at a client: the weights that it was sent are looked at before it answers, and what was found is kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Context
from torch import Tensor, nn

from fedinv.blame import blamed
from fedinv.data.batches import local_batches
from fedinv.data.population import Population
from fedinv.detector import NOTHING, Detector, Finding, Look, Weights, examine
from fedinv.errors import plain
from fedinv.federation import wire
from fedinv.federation.training import Update
from fedinv.scenario.scenario import Scenario
from fedinv.task.models import AnyModel, build
from fedinv.task.networks.architecture import Shape

from .received import Order
from .vetting._layers import firing

STATE = "vetting"
"""Record of the node's state with what was found so far, round by round."""
SENT, STEP = "vetting-sent", "vetting-step"
"""Records of the node's state with the weights of earlier rounds, numbered from the last, and with the last update."""


@dataclass(frozen=True)
class Vetted:
    """What a client does in a round, by its detectors' findings."""

    refusal: str | None = None
    """Reason why the client refuses the round, a clause without a subject; None where it answers."""
    clip: float | None = None
    """Norm to which each record's gradient is clipped; None for no clipping."""
    few: int | None = None
    """Records that a unit may fire on for its row to be sent as zeros; None where all rows are sent."""


def findings(
    scenario: Scenario, people: Population, client: int, asked: Order, received: Weights, context: Context
) -> tuple[tuple[Finding, ...], Look]:
    """What the scenario's detectors find of the weights received, and what they had to look at."""
    before = kept(context)
    inputs, labels = _batch(scenario, people, client, asked.round)
    look = Look(
        network=_architecture(scenario.model.fitted(people.schema), people.schema.shape, people.schema.outputs),
        inputs=inputs,
        labels=labels,
        earlier=earlier(context),
        rounds=max(1, asked.round - int(cast(int, before.get("answered", 0)))),
        step=step(context),
        digests=asked.digests,
    )
    found: list[Finding] = []
    for one in scenario.vetting:
        with blamed(f"detector {one.kind!r}", type(one)):
            found += examine([one], received, look)
    return tuple(found), look


def decided(found: Sequence[Finding]) -> Vetted:
    """What follows from the findings: a refusal before all else, the smallest clip, the most rows dropped."""
    flagged = [one for one in found if one.flagged]
    refusing = [one for one in flagged if one.detector.action == "refuse"]
    clips = [one.detector.clip for one in flagged if one.detector.action == "clip"]
    few = [one.detector.few for one in flagged if one.detector.action == "drop-rows"]
    return Vetted(reason(refusing[0]) if refusing else None, min(clips) if clips else None, max(few) if few else None)


def reason(finding: Finding) -> str:
    """Why a finding makes a client refuse, as a clause without a subject."""
    one = finding.detector
    return plain(f"refused the weights it was sent: {one.kind} is {finding.score:.3g}, above {one.threshold:g}")


def rows_dropped(update: Update, received: Weights, look: Look, few: int) -> Update:
    """The update with zeros in the rows, and biases, of units that fire on at most `few` of the client's records.

    Only layers followed by a ReLU have such units. What is read off a row is the sum over the records that fire its
    unit: a row that few fire gives them away.
    """
    changed = dict(update)
    for one in firing(received, look):
        silent = one.counts <= few
        for name in (one.name, one.name.removesuffix("weight") + "bias"):
            if name in changed:
                changed[name] = changed[name].clone()
                changed[name][silent] = 0.0
    return changed


def note(context: Context, round_: int, found: Sequence[Finding]) -> None:
    """Keep what was found in a round in the node's state."""
    state = dict(kept(context))
    looked = [(at, one) for at, one in enumerate(found) if one.score != NOTHING]
    lists: Mapping[str, list[int] | list[float]] = {
        "rounds": [round_ for _ in looked],
        "detectors": [at for at, _ in looked],
        "scores": [one.score for _, one in looked],
        "flags": [int(one.flagged) for _, one in looked],
    }
    for key, values in lists.items():
        state[key] = [*cast(list[float], state.get(key, [])), *values]
    context.state[STATE] = ConfigRecord(state)


def remember(context: Context, round_: int, detectors: Sequence[Detector], received: Weights, taken: Update) -> None:
    """Keep the weights of a round that was answered, and the step taken on them, for detectors that look back."""
    most = max((one.remembers for one in detectors), default=0)
    if not most:
        return
    for at, weights in reversed(list(enumerate([received, *earlier(context)][:most]))):
        context.state[f"{SENT}-{at}"] = wire.pack(weights)
    context.state[STEP] = wire.pack(taken)
    context.state[STATE] = ConfigRecord({**kept(context), "answered": round_})


def reports(context: Context) -> ConfigRecord:
    """All that was found so far: lists of equal length of rounds, places among the detectors, scores and flags."""
    state = kept(context)
    return ConfigRecord({key: state.get(key, []) for key in ("rounds", "detectors", "scores", "flags")})


def kept(context: Context) -> ConfigRecord:
    """The node's record of what was found so far, and of the last round that was answered; empty before the first."""
    return wire.record(context.state, STATE, ConfigRecord) if STATE in context.state else ConfigRecord()


def step(context: Context) -> Weights | None:
    """The client's own update in the last round that it answered; None before the first."""
    return wire.unpack(wire.record(context.state, STEP, ArrayRecord)) if STEP in context.state else None


def earlier(context: Context) -> tuple[Weights, ...]:
    """Weights of the rounds that the client answered, the last first."""
    found: list[Weights] = []
    while (name := f"{SENT}-{len(found)}") in context.state:
        found.append(wire.unpack(wire.record(context.state, name, ArrayRecord)))
    return tuple(found)


@lru_cache(maxsize=2)
def _architecture(model: AnyModel, shape: Shape, outputs: int) -> nn.Sequential:
    """A network of the agreed architecture, whose own weights are not used."""
    return build(model, shape, outputs, 0)


def _batch(scenario: Scenario, people: Population, client: int, round_: int) -> tuple[Tensor, Tensor]:
    """The records that the client trains on in a round, each once."""
    inputs, labels = people.records(client)
    batches = local_batches(
        scenario.local_training(round_), len(inputs), scenario.sampling, scenario.seed, client, round_
    )
    rows = torch.from_numpy(np.unique(np.concatenate(batches))) if batches else torch.arange(len(inputs))
    return inputs[rows], labels[rows]
