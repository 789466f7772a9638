"""Attacks the recorded updates of an app of one's own, keeping the claims that verify themselves without the truth."""

import io
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fedinv import plugins, roles
from fedinv.attack import EXPLAINS, Claim, Exchange, Knowledge, Observation
from fedinv.errors import RequestError
from fedinv.recording import folder as recordings
from fedinv.results.app_verdict import AppVerdict, UpdateVerdict
from fedinv.results.leak_map import LeakMap
from fedinv.runs import own_update
from fedinv.runs.leak_map import Probed, leak_map, probe, update_of
from fedinv.scenario.reading import read
from fedinv.storage import files, observations
from fedinv.storage.run_folder import RunFolder
from fedinv.task.foreign.layers import MADE_UP
from fedinv.task.foreign.part import Part, last_part
from fedinv.task.models import build
from fedinv.task.schema import Schema

INPUTS = {
    "record": ("record", "records"),
    "affine of the record": ("record, up to an affine map,", "records, up to an affine map,"),
    "features": ("record's features", "records' features"),
}
"""What one verified claim and several are called, by what feeds the attacked layer."""


@dataclass(frozen=True)
class Target:
    """A recorded update as it is attacked."""

    exchange: Exchange
    """What was sent and how it changed, by the names on the wire; `records` is what the client reports, else 1."""
    client: int
    """Number of the client, or its node id."""
    claimed: int | None
    """Number of records that the client reports."""


@dataclass(frozen=True)
class Given:
    """What is known of the app beside its recording."""

    network: nn.Module
    """The network, at any weights."""
    example: Tensor | None = None
    """A batch of its inputs; made up where there is none."""
    seconds: float = 30.0
    """Computing time that the attacks on one update may take together; each ends when its share is used up."""
    limit: float | None = None
    """Share of an update's records, 0 to 1, above which the attacks on it end; None where they read all they can."""
    schema: Schema | None = None
    """What every record must fit, in the columns of the network's inputs; None where it is withheld."""


def targets(recording: recordings.Recording) -> tuple[list[Target], list[str]]:
    """The updates of a recording, and a line for each that cannot be attacked."""
    found, skipped = [], list(recording.skipped)
    for one in recording.updates:
        sent, returned = dict(one.sent), dict(one.received)
        who = f"round {one.round}, client {one.node if one.partition is None else one.partition}"
        try:
            update = update_of(sent, returned)
        except RequestError as error:
            skipped.append(f"{who}: {error}")
            continue
        if not all(bool(torch.isfinite(t).all()) for t in update.values() if t.is_floating_point()):
            skipped.append(f"{who}: values that are not finite came back")
            continue
        client = one.partition if isinstance(one.partition, int) else one.node
        exchange = Exchange(max(1, one.round), sent, update, max(1, one.claimed_records or 1))
        found.append(Target(exchange, client, one.claimed_records))
    return found, skipped


def attacked(
    given: Given, found: Sequence[Target], skipped: Sequence[str], progress: Callable[[float], None]
) -> tuple[AppVerdict, dict[int, Claim]]:
    """The verdict on updates, and the verified claims by the update's place. Raises RequestError as `leak_map`."""
    verdicts, claims, unknown = list[UpdateVerdict](), dict[int, Claim](), dict[str, None]()
    for place, target in enumerate(found):
        probed = probe(given.network, target.exchange, given.example)
        mapped = leak_map(probed, target.client, target.claimed)
        unknown |= dict.fromkeys(f"{one.name or mapped.network} ({one.kind})" for one in mapped.layers if one.unknown)
        verdict, claim = _read(given, target, probed, mapped)
        verdicts.append(verdict)
        if claim is not None:
            claims[place] = claim
        progress((place + 1) / len(found))
    name = type(given.network).__name__
    said = _headline(verdicts, list(unknown))
    return AppVerdict(
        network=name, updates=verdicts, skipped=list(skipped), not_attacked=list(unknown), headline=said
    ), claims


def _read(given: Given, target: Target, probed: Probed, mapped: LeakMap) -> tuple[UpdateVerdict, Claim | None]:
    """Attack one update by the attacks that apply to the first layer behind which all layers are linear."""
    begun = time.process_time()
    part = last_part(probed.layers, {name: tuple(tensor.shape) for name, tensor in probed.sent.items()})
    claim, kind, notes, cut_short = None, "", list[str](), False
    if part is None:
        notes.append("the network does not end with linear layers on the wire that have biases")
    else:
        named = dict(zip(("sent", "received"), part.rename(probed.sent, probed.update), strict=True))
        row = next(one for one in mapped.layers if one.name == part.layers[0].name)
        kinds, clock = (
            [one for one in row.applies if one in own_update.in_turn()],
            roles.load("server", "inversion.clock"),
        )
        notes += [f"not {other}: {why}" for other, why in row.why_not.items()]
        count = mapped.records or target.claimed or 1
        exchange = Exchange(target.exchange.round, records=count, **named)
        wanted = count if given.limit is None else min(count, math.floor(given.limit * count) + 1)
        for one in kinds:
            if claim is not None and len(claim.records) >= wanted:
                break
            with clock.limited(given.seconds / len(kinds)):
                found = _verified(given, part, exchange, one, wanted)
                cut_short |= clock.over()
            notes += [f"{one}: {note}" for note in found.notes]
            if len(found.records) > (0 if claim is None else len(claim.records)):
                claim, kind = found, one
    labels = Counter() if claim is None or claim.labels is None else Counter(map(str, claim.labels.tolist()))
    return UpdateVerdict(
        round=target.exchange.round,
        client=target.client,
        claimed=target.claimed,
        least=mapped.records,
        layer=part.layers[0].name if part else "",
        inputs=part.fed if part else "",
        attack=kind,
        verified=0 if claim is None else len(claim.records),
        labels=dict(sorted(labels.items())),
        mismatch=None if claim is None else claim.mismatch,
        cut_short=cut_short,
        seconds=time.process_time() - begun,
        notes=notes,
    ), claim


def _verified(given: Given, part: Part, exchange: Exchange, kind: str, wanted: int) -> Claim:
    """What an attack claims and verifies, taking the update for one step of plain SGD of any length.

    A claim of all records is verified whole or not at all, by whether it explains the update, others record by record.
    How many steps a client took is not known: an update of several is read as far as it looks like one of them.
    """
    knows = Knowledge(model=part.model, loss="cross-entropy", algorithm="fedsgd", momentum=0.0, weight_decay=0.0)
    if part.fed == "record":
        knows = replace(knows, schema=given.schema)
    attack = plugins.loaded("attacks")[kind](kind=kind)
    fields = type(attack).model_fields
    limits = {"seconds": given.seconds, "fall_back": False, "enough": wanted if wanted < exchange.records else None}
    attack = attack.model_copy(update={name: value for name, value in limits.items() if name in fields})
    claim = own_update.invert(Observation((0,), (exchange,)), knows, attack, 0, lambda _: None)
    left, good = _unexplained(claim, exchange, knows), claim.verified
    if left is not None and len(claim.records) >= exchange.records:
        good = torch.full_like(good, left <= EXPLAINS)
    labels = None if claim.labels is None else claim.labels[good]
    return Claim(claim.records[good], claim.confidence[good], labels, left, claim.notes)


def _unexplained(claim: Claim, exchange: Exchange, knows: Knowledge) -> float | None:
    """Relative distance of an update from a step of any length along the claim's gradient; None without labels."""
    if claim.labels is None or not len(claim.records):
        return None
    again = roles.load("server", "inversion.recompute").recompute_update
    step = again(replace(knows, lr=1.0), exchange.sent, claim.records, claim.labels, np.random.default_rng(0))
    one, other = (torch.cat([t.flatten().double() for t in parts.values()]) for parts in (step, exchange.received))
    along = (one @ other) / one.square().sum().clamp_min(1e-30)
    return float((other - along.clamp_min(0) * one).norm() / other.norm().clamp_min(1e-30))


def _headline(verdicts: Sequence[UpdateVerdict], unknown: Sequence[str]) -> str:
    total, open_ = sum(one.verified for one in verdicts), [one for one in verdicts if one.verified]
    if not verdicts:
        return "Nothing was attacked, as the recording holds no update."
    if total:
        what = INPUTS[open_[0].inputs][total > 1]
        said = (
            f"The server can read {total} {what} off {len(open_)} of {len(verdicts)} updates, and verify each of them"
        )
    else:
        said = f"Nothing was read off {len(verdicts)} update{'s' if len(verdicts) > 1 else ''} that verifies itself"
    if unknown:
        said += f"; nothing is known of {', '.join(unknown)}, which no attack here applies to"
    return f"{said}."


def map_of_run(folder: Path, place: int) -> LeakMap:
    """The map of one of a run's observations. Raises RequestError where it is no run or has no such observation."""
    scenario = read(str(folder))
    schema, seen = files.read_model(Schema, RunFolder(folder).schema), observations.read(RunFolder(folder).observations)
    if not 0 <= place < len(seen):
        raise RequestError(f"{folder}: holds {len(seen)} observations, there is no number {place}")
    network = build(scenario.model, schema.shape, schema.outputs, scenario.seed)
    example = schema.draw(MADE_UP, np.random.default_rng(0))
    one = seen[place]
    return leak_map(probe(network, one.last, example), one.clients[0], one.last.records)


def write(folder: Path, verdict: AppVerdict, claims: Mapping[int, Claim]) -> None:
    """Write claims.npz, then verdict.json, each whole or not at all."""
    out = io.BytesIO()
    np.savez(out, **_arrays(claims))  # type: ignore[arg-type]
    files.write(folder / "claims.npz", out.getvalue())
    files.write(folder / "verdict.json", verdict.model_dump_json(indent=2) + "\n")


def _arrays(claims: Mapping[int, Claim]) -> dict[str, np.ndarray]:
    """Verified records (k, inputs) and labels (k,) as arrays by name, "update-3-records" and so on."""
    found: dict[str, np.ndarray] = {}
    for place, claim in claims.items():
        found[f"update-{place}-records"] = claim.records.numpy()
        if claim.labels is not None:
            found[f"update-{place}-labels"] = claim.labels.numpy()
    return found
