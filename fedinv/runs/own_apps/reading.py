"""Attacks the recorded updates of an app of one's own, keeping the claims that verify themselves without the truth."""

import io
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from fedinv import roles
from fedinv.attack import Claim
from fedinv.results.app_verdict import AppVerdict, UpdateVerdict
from fedinv.results.leak_map import LeakMap
from fedinv.runs import own_update
from fedinv.runs.own_apps.leak_map import UNREAD, Probed, leak_map
from fedinv.runs.own_apps.targets import Given, Target, how_trained, probed_target
from fedinv.runs.own_apps.verifying import as_attacked, once, single, unverifiable, verified
from fedinv.storage import files
from fedinv.task.foreign.affine import Undo, undo
from fedinv.task.foreign.layers import Fed
from fedinv.task.foreign.part import Part, last_part
from fedinv.task.foreign.training.training import Repeatable
from fedinv.task.threads import one_thread

INPUTS = {
    "record": ("record", "records"),
    "affine of the record": ("record, up to an affine map,", "records, up to an affine map,"),
    "features": ("record's features", "records' features"),
}
"""What one verified claim and several are called, by what feeds the attacked layer."""


@one_thread()
def attacked(
    given: Given, found: Sequence[Target], skipped: Sequence[str], progress: Callable[[float], None]
) -> tuple[AppVerdict, dict[int, Claim]]:
    """The verdict on updates, and the verified claims by the update's place. Raises RequestError as `leak_map`."""
    verdicts, claims, unknown = list[UpdateVerdict](), dict[int, Claim](), dict[str, None]()
    how = how_trained(given)
    for place, target in enumerate(found):
        probed = probed_target(given.network, given.example, target, how)
        mapped = leak_map(probed, target.client, target.claimed, how)
        unknown |= dict.fromkeys(f"{one.name or mapped.network} ({one.kind})" for one in mapped.layers if one.unknown)
        verdict, claim = _read(given, _together(how, target), target, probed, mapped)
        verdicts.append(verdict)
        if claim is not None:
            claims[place] = claim
        progress((place + 1) / len(found))
    name = type(given.network).__name__
    said = _headline(verdicts, list(unknown))
    return AppVerdict(
        network=name, updates=verdicts, skipped=list(skipped), not_attacked=list(unknown), headline=said
    ), claims


def _together(how: Repeatable | None, target: Target) -> Repeatable | None:
    """How clients train; where each client of a sum takes one step, as one step on the records of all of them."""
    if target.secure is None or how is None or how.any_length or not all(map(how.single, target.counts)):
        return how
    return replace(how, training=replace(how.training, batch=None))


def _read(
    given: Given, how: Repeatable | None, target: Target, probed: Probed, mapped: LeakMap
) -> tuple[UpdateVerdict, Claim | None]:
    """Attack one update by the attacks that apply to the first layer behind which all layers are linear."""
    begun = time.process_time()
    part = last_part(probed.layers, {name: tuple(tensor.shape) for name, tensor in probed.update.items()})
    claim, kind, notes, cut_short, told, kinds, unread = None, "", list[str](), False, 0, list[str](), ""
    fed: Fed | None = None if part is None else part.fed
    unfinished, whole = dict[str, None](), False
    if how is not None and not how.steps.linear and not any(one.applies for one in mapped.layers):
        notes.append(UNREAD.format(how.steps.kind))
    if part is None:
        notes.append("the network does not end with linear layers on the wire that have biases")
    else:
        count = mapped.records or target.claimed or 1
        attacked = as_attacked(given, how, target, probed, part, count)
        row = next(one for one in mapped.layers if one.name == part.layers[0].name)
        kinds = [one for one in row.applies if one in own_update.in_turn()]
        if unread := unverifiable(target, how):
            notes.append(unread)
            kinds = []
        clock = roles.load("server", "inversion.clock")
        notes += [f"not {other}: {why}" for other, why in row.why_not.items()]
        wanted = count if given.limit is None else min(count, math.floor(given.limit * count) + 1)
        left = given.seconds
        for place, one in enumerate(kinds):
            since = clock.seconds()
            with clock.limited(left / (len(kinds) - place)):
                found = verified(given, attacked, one, wanted)
                cut_short |= clock.over()
            unfinished |= dict.fromkeys(found.unfinished)
            left -= clock.seconds() - since
            notes += [f"{one}: {note}" for note in found.claim.notes]
            told = max(told, found.told)
            if len(found.claim.records) > (0 if claim is None else len(claim.records)):
                claim, kind = found.claim, one
            enough, whole = 0 if claim is None else len(claim.records), found.whole
            if whole or (enough if given.limit is None else max(enough, told)) >= wanted:
                break
        if claim is not None:
            claim, reason = once(claim, target.claimed)
            notes += [reason] if reason else []
            told = max(told, len(claim.records))
            claim, reason = single(claim, attacked, target.claimed)
            notes += [reason] if reason else []
        back = undone(given, probed, part, max(count, 0 if claim is None else len(claim.records)))
        if back is not None:
            own = None if claim is None else back.records(claim.records)
            if claim is None or own is not None:
                fed, claim = "record", None if claim is None or own is None else replace(claim, records=own)
    return UpdateVerdict(
        round=target.exchange.round,
        client=target.client,
        members=len(target.counts),
        claimed=target.claimed,
        least=mapped.records,
        layer=part.layers[0].name if part else "",
        inputs=fed or "",
        attack=kind,
        verified=0 if claim is None else len(claim.records),
        told=told,
        unread="" if kinds else unread or _unread(how, probed, part),
        labels=_labels(claim),
        mismatch=None if claim is None else claim.mismatch,
        cut_short=cut_short,
        unfinished=[] if whole else list(unfinished),
        seconds=time.process_time() - begun,
        notes=notes,
    ), claim


def _unread(how: Repeatable | None, probed: Probed, part: Part | None) -> str:
    """Why no attack applies to such an update; empty where noise or a full rank is in its way."""
    if part is None:
        return "no attack applies to the network"
    first = next(one for one in probed.measured if one.layer.name == part.layers[0].name)
    if first.rescaled or (how is not None and not how.steps.linear):
        return "no attack applies behind Adam or its like, with which the client seems to train"
    return ""


def undone(given: Given, probed: Probed, part: Part, records: int) -> Undo | None:
    """What takes claims of a part's inputs back to records in the app's own units; None for records and features.

    So many records are taken to be in the batch, by which a batch normalization divided.
    """
    if part.fed != "affine of the record":
        return None
    return undo(given.network, probed.forward(records), part.layers[0].name, given.batch)


def _labels(claim: Claim | None) -> dict[str, int]:
    """Number of records by label; empty where labels are numbers or were not read."""
    if claim is None or claim.labels is None or claim.labels.is_floating_point():
        return {}
    return dict(sorted(Counter(map(str, claim.labels.tolist())).items()))


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
    if sums := sorted({one.members for one in verdicts if one.client == "sum"}):
        said += f"; the server sees sums of {' or '.join(map(str, sums))} clients alone, and not whose a record is"
    if unknown:
        said += f"; nothing is known of {', '.join(unknown)}, which no attack here applies to"
    return f"{said}."


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
