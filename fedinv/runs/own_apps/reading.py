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
from fedinv.attack import EXPLAINS, Attack, Claim, Exchange, Knowledge, Observation
from fedinv.defense_terms import secagg_plus
from fedinv.errors import RequestError
from fedinv.recording import folder as recordings
from fedinv.recording.secure_sums import SecureSum, secure_sums
from fedinv.results.app_verdict import AppVerdict, UpdateVerdict
from fedinv.results.leak_map import LeakMap
from fedinv.results.whose import Whose
from fedinv.runs import own_update
from fedinv.runs.own_apps.leak_map import UNREAD, Probed, leak_map, probe, update_of
from fedinv.scenario.reading import read
from fedinv.storage import files, observations
from fedinv.storage.run_folder import RunFolder
from fedinv.task.foreign.affine import Undo, undo
from fedinv.task.foreign.alignment import align
from fedinv.task.foreign.apart import single_records
from fedinv.task.foreign.layers import MADE_UP, Fed, made_up
from fedinv.task.foreign.part import Part, last_part
from fedinv.task.foreign.training.entry import Entry, entry
from fedinv.task.foreign.training.remainder import remainder
from fedinv.task.foreign.training.training import UNKNOWN, Repeatable, Training, fit
from fedinv.task.foreign.training.verification import Observed, Repeated, repeated
from fedinv.task.foreign.update import Origin
from fedinv.task.models import build
from fedinv.task.networks.perceptron import Mlp
from fedinv.task.optimizers.sgd import Sgd
from fedinv.task.schema import Schema
from fedinv.task.threads import one_thread

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
    client: Whose
    """Number of the client, or its node id; "sum" for several behind secure aggregation."""
    claimed: int | None
    """Number of records that the client, or all of a sum, report."""
    secure: SecureSum | None = None
    """The sum that it is of; None for a client's own update."""

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of records of each client that is part of it, as reported, else 1."""
        return (self.exchange.records,) if self.secure is None else self.secure.counts

    @property
    def noise(self) -> float:
        """Standard deviation of what the rounding of a secure aggregation added to each entry."""
        return 0.0 if self.secure is None else self.secure.rounding


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
    training: Training = UNKNOWN
    """How clients train, as far as it is known."""

    @property
    def batch(self) -> Tensor:
        """The example, or a made-up one. Raises RequestError where none fits the network."""
        return made_up(self.network) if self.example is None else self.example


def how_trained(given: Given) -> Repeatable | None:
    """How clients train, fitted to the network; None where nothing is known of it and the usual loss does not fit.

    Raises RequestError where what is known does not fit the network.
    """
    try:
        return fit(given.training, given.network, given.batch)
    except RequestError:
        if given.training == UNKNOWN:
            return None
        raise


def probed_target(network: nn.Module, example: Tensor | None, target: Target, how: Repeatable | None) -> Probed:
    """A recorded update matched to the network, without what known weight decay alone made of it. Raises as `probe`."""
    return probe(network, _without_decay(target, network, how), example, target.noise)


def _without_decay(target: Target, network: nn.Module, how: Repeatable | None) -> Exchange:
    """The exchange without the change that known weight decay alone makes of weights: it is no record's."""
    exchange, counts = target.exchange, target.counts
    shrunk = 0.0 if how is None else sum(count * how.shrunk(count) for count in counts) / sum(counts)
    if not shrunk:
        return exchange
    own = {
        wire for name, wire in align(exchange.sent, network).names.items() if name in dict(network.named_parameters())
    }
    pulled = {n: t - shrunk * exchange.sent[n].float() if n in own else t for n, t in exchange.received.items()}
    return replace(exchange, received=pulled)


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
    sums, lines = secure_sums(recording)
    found += [_of_sum(one) for one in sums]
    return found, [*skipped, *lines]


def _of_sum(one: SecureSum) -> Target:
    """The mean of the clients' updates that the server learns of one round."""
    update = {name: _moved(one.mean[name], tensor) for name, tensor in one.sent.items()}
    return Target(Exchange(max(1, one.round), one.sent, update, one.records), "sum", one.records, one)


def _moved(mean: Tensor, sent: Tensor) -> Tensor:
    moved = mean.double() - sent.double()
    return moved.float() if sent.is_floating_point() else moved.round().to(sent.dtype)


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


@dataclass(frozen=True)
class _Attacked:
    """A part of a network as it is attacked."""

    part: Part
    exchange: Exchange
    """The part's weights and their changes by the names of the part's model, and the number of records looked for."""
    knows: Knowledge
    """What attacks know at least: the part and the rounding of a secure aggregation."""
    how: Repeatable | None
    """How clients train; None where it is not known at all."""
    entry: Entry
    seen: Observed


def _read(
    given: Given, how: Repeatable | None, target: Target, probed: Probed, mapped: LeakMap
) -> tuple[UpdateVerdict, Claim | None]:
    """Attack one update by the attacks that apply to the first layer behind which all layers are linear."""
    begun = time.process_time()
    part = last_part(probed.layers, {name: tuple(tensor.shape) for name, tensor in probed.update.items()})
    claim, kind, notes, cut_short = None, "", list[str](), False
    fed: Fed | None = None if part is None else part.fed
    if how is not None and not how.steps.linear and not any(one.applies for one in mapped.layers):
        notes.append(UNREAD.format(how.steps.kind))
    if part is None:
        notes.append("the network does not end with linear layers on the wire that have biases")
    else:
        count = mapped.records or target.claimed or 1
        attacked = _attacked(given, how, target, probed, part, count)
        row = next(one for one in mapped.layers if one.name == part.layers[0].name)
        kinds = [one for one in row.applies if one in own_update.in_turn()]
        if reason := _unverifiable(target, how):
            notes.append(reason)
            kinds = []
        clock = roles.load("server", "inversion.clock")
        notes += [f"not {other}: {why}" for other, why in row.why_not.items()]
        wanted = count if given.limit is None else min(count, math.floor(given.limit * count) + 1)
        for one in kinds:
            with clock.limited(given.seconds / len(kinds)):
                found, whole = _verified(given, attacked, one, wanted)
                cut_short |= clock.over()
            notes += [f"{one}: {note}" for note in found.notes]
            if len(found.records) > (0 if claim is None else len(claim.records)):
                claim, kind = found, one
            if whole or (claim is not None and len(claim.records) >= wanted):
                break
        if claim is not None:
            claim, reason = _once(claim, target.claimed)
            notes += [reason] if reason else []
        if claim is not None and given.limit is None:  # a gate refuses the mean of several as well
            claim, reason = _single(claim, attacked, target.claimed)
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
        labels=_labels(claim),
        mismatch=None if claim is None else claim.mismatch,
        cut_short=cut_short,
        seconds=time.process_time() - begun,
        notes=notes,
    ), claim


def _once(claim: Claim, reported: int | None) -> tuple[Claim, str]:
    """The claim with each record once where weights of classes, of which nothing was said, count some as several.

    So it is where records of a label all count alike, two of one at least or as many as are reported. The second is a
    line on it; empty where nothing is changed.
    """
    if claim.labels is None or claim.labels.is_floating_point() or not len(claim.records):
        return claim, ""
    rows = torch.cat([claim.records, claim.labels[:, None]], 1)
    different, times = torch.unique(rows, dim=0, return_counts=True)
    labels = different[:, -1].long()
    by_label = {int(label): times[labels == label] for label in labels.unique()}
    many = [label for label, counts in by_label.items() if int(counts.max()) > 1]
    alike = all(int(counts.min()) == int(counts.max()) for counts in by_label.values())
    if not many or not alike or not (len(different) == reported or max(len(by_label[one]) for one in many) > 1):
        return claim, ""
    said = " and ".join(f"records of label {label} count {int(by_label[label][0])} times" for label in many)
    once = Claim(different[:, :-1], torch.ones(len(different)), labels, claim.mismatch, claim.notes)
    return once, f"{said} as much as others, as weights of classes make it: each record is claimed once"


def _single(claim: Claim, attacked: _Attacked, reported: int | None) -> tuple[Claim, str]:
    """The claim without what may be the mean of several records, and a line on it; empty where nothing is left out.

    A claim of as many different records as the client reports, two at least, leaves no room for others.
    """
    model, different = attacked.part.model, len(torch.unique(claim.records, dim=0))
    if not isinstance(model, Mlp) or model.activation != "relu" or (different == reported and different > 1):
        return claim, ""
    good = single_records(attacked.exchange.sent, claim.records)
    out = int((~good).sum())
    if not out:
        return claim, ""
    kept = replace(
        claim,
        records=claim.records[good],
        confidence=claim.confidence[good],
        labels=None if claim.labels is None else claim.labels[good],
    )
    return kept, (
        f"{out} claim{'s are' if out > 1 else ' is'} withheld: which units are active hardly depends on half of the "
        "inputs, as where one is far larger than others, so that the mean of several records leaves the same update"
    )


def _unverifiable(target: Target, how: Repeatable | None) -> str:
    """Why no claim on a sum could be verified; empty where one could, and for a client's own update."""
    if target.secure is None or (how is not None and (how.any_length or how.single(sum(target.counts)))):
        return ""
    if how is None:
        return "without a known loss no claim on a sum can be verified: name it by --loss"
    return (
        "each client of the sum takes several steps, and which records were in one is hidden: no claim can be verified"
    )


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


def _attacked(
    given: Given, how: Repeatable | None, target: Target, probed: Probed, part: Part, count: int
) -> _Attacked:
    """A part of the network as it is attacked, with so many records looked for."""
    renamed = dict(zip(("sent", "received"), part.rename(probed.sent, probed.update), strict=True))
    names = [name for layer in part.layers for name in (layer.weight, layer.bias) if name is not None]
    layer = None if part.fed == "record" else part.layers[0].name
    seen = Observed(probed.sent, probed.aligned.take(target.exchange.received), probed.update, target.noise)
    exchange = Exchange(target.exchange.round, renamed["sent"], renamed["received"], count)
    knows = known_to(target, part, count)
    return _Attacked(part, exchange, knows, how, entry(given.network, given.batch, layer, names), seen)


def known_to(target: Target, part: Part, records: int) -> Knowledge:
    """What is known of an update of so many records, whose client takes one step unless more is said."""
    knows = Knowledge(model=part.model, loss="cross-entropy", algorithm="fedsgd", momentum=0.0, weight_decay=0.0)
    one = target.secure
    if one is None:
        return knows
    rounded = secagg_plus.known(one.clipping_range, one.levels, records / one.weight, len(one.counts))
    return replace(knows, defenses=(rounded,))


def _verified(given: Given, attacked: _Attacked, kind: str, wanted: int) -> tuple[Claim, bool]:
    """What an attack claims and is verified, and whether that is a whole batch.

    Claims are trained on again as the app would; of a claim that is not verified so, records count that pass the
    attack's own checks, unless it holds all records, whose training refutes it, or leaves more of the update than the
    missing ones can make. Where nothing is known of the training, an update is taken for one step of plain SGD of
    any length: one of several is read as far as it looks like one.
    """
    attack = plugins.loaded("attacks")[kind](kind=kind)
    fields = type(attack).model_fields
    enough = wanted if wanted < attacked.exchange.records else None
    limits = {"seconds": given.seconds, "fall_back": False, "enough": enough}
    attack = attack.model_copy(update={name: value for name, value in limits.items() if name in fields})
    best = Claim(torch.zeros(0, 1), torch.zeros(0))
    for knows in _knowledge(given, attacked):
        claim = own_update.invert(Observation((0,), (attacked.exchange,)), knows, attack, 0, lambda _: None)
        notes = tuple(dict.fromkeys((*best.notes, *claim.notes)))
        again = None
        if attacked.how is not None and len(claim.records):
            again = repeated(attacked.entry, attacked.how, attacked.seen, claim.records, attacked.exchange.records)
            notes = (*notes, again.note) if again.note else notes
        if again is not None and again.verified:
            good, whole = again.good, bool(again.good.all())
            labels = None if again.labels is None else again.labels[good]
            return Claim(again.records[good], torch.ones(int(good.sum())), labels, again.mismatch, notes), whole
        if attacked.seen.noise:  # of a part of the records rounding hides what a wrong one leaves
            best = replace(best, notes=notes)
            continue
        kept = _by_record(claim, again, attacked, knows)
        if 0 < len(kept.records) < wanted:
            kept, whole = _completed(kept, attack, attacked, knows)
            if whole:
                return replace(kept, notes=notes), True
        else:
            kept = replace(kept, labels=None)
        best = replace(kept if len(kept.records) > len(best.records) else best, notes=notes)
        if len(best.records) >= wanted:
            break
    return best, False


def _knowledge(given: Given, attacked: _Attacked) -> list[Knowledge]:
    """What attacks know: the network and the training, and then not the network, where they might misjudge by it."""
    how, records, knows = attacked.how, attacked.exchange.records, attacked.knows
    if attacked.part.fed == "record":
        knows = replace(knows, schema=given.schema)
    if how is not None and not how.any_length and not how.single(records):
        knows = replace(
            knows,
            algorithm="fedavg",
            lr=how.lr,
            epochs=max(1, how.steps.count),
            batch_size=how.training.batch or records,
            momentum=how.steps.number("momentum"),
            optimizer=Sgd(nesterov=bool(how.steps.settings.get("nesterov"))),
        )
    # without the network an attack compares nothing with it: neither other losses' slopes nor another order of batches
    return [knows] if how is None or (how.like_chances and knows.lr is None) else [knows, replace(knows, model=None)]


def _by_record(claim: Claim, again: Repeated | None, attacked: _Attacked, knows: Knowledge) -> Claim:
    """The records of a claim that pass the attack's own checks; none of a whole batch that explains nothing."""
    whole, good, labels = len(claim.records) >= attacked.exchange.records, claim.verified, claim.labels
    left = None if again is None or math.isinf(again.mismatch) else again.mismatch
    if again is None:
        left = _unexplained(claim, attacked.exchange, knows)
        if left is not None and whole:
            good = torch.full_like(good, left <= EXPLAINS)
    elif again.reordered:
        good = torch.zeros_like(good) if claim.checked is None else claim.checked
    else:
        # of a part of a batch only checks against the network tell, which an attack without it does not make
        # the steps of a training of which nothing is said may be others than the one that was repeated
        refuted = whole and not (attacked.how is not None and attacked.how.any_length and again.mismatch <= EXPLAINS)
        unchecked = refuted or knows.model is None or claim.checked is None
        good = torch.zeros_like(good) if unchecked or claim.checked is None else claim.checked
        if attacked.how is not None and attacked.how.loss is not None and not attacked.how.like_chances:
            labels = None
    kept = None if labels is None else labels[good]
    return Claim(claim.records[good], claim.confidence[good], kept, left, claim.notes)


def _completed(claim: Claim, attack: Attack, attacked: _Attacked, knows: Knowledge) -> tuple[Claim, bool]:
    """A claim of a part of a batch with the others, where they can be read, and whether it is then whole.

    What right records with right labels leave of one step is the step of the missing ones, few as they are: where more
    is left nothing is claimed. Labels are kept only where this can be found out.
    """
    how, total = attacked.how, attacked.exchange.records
    bare, missing = replace(claim, labels=None), total - len(claim.records)
    if how is None or claim.labels is None or not missing or not how.single(total):
        return bare, False
    left = remainder(attacked.entry, how, attacked.seen, claim.records, claim.labels, missing)
    if left is None:
        return bare, False
    if not left.holds:
        return Claim(torch.zeros(0, 1), torch.zeros(0)), False
    sent, update = attacked.part.rename(attacked.seen.sent, left.update)
    seen = Observation((0,), (Exchange(attacked.exchange.round, sent, update, missing),))
    rest = own_update.invert(seen, knows, attack, 0, lambda _: None)
    if len(rest.records):
        records = torch.cat([claim.records, rest.records])
        again = repeated(attacked.entry, how, attacked.seen, records, total)
        if again.whole and len(again.records) == total:
            return Claim(again.records, torch.ones(total), again.labels, again.mismatch), True
    return replace(claim, labels=left.labels), False


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
    if sums := sorted({one.members for one in verdicts if one.client == "sum"}):
        said += f"; the server sees sums of {' or '.join(map(str, sums))} clients alone, and not whose a record is"
    if unknown:
        said += f"; nothing is known of {', '.join(unknown)}, which no attack here applies to"
    return f"{said}."


def map_of_run(folder: Path, place: int) -> LeakMap:
    """The map of one of a run's observations. Raises RequestError where it is no run or has no such observation."""
    if not RunFolder(folder).scenario.is_file():
        raise RequestError(f"{folder}: is neither a recording, as fedinv record makes, nor a run of fedinv's")
    scenario = read(str(folder))
    schema, seen = files.read_model(Schema, RunFolder(folder).schema), observations.read(RunFolder(folder).observations)
    if not 0 <= place < len(seen):
        raise RequestError(f"{folder}: holds {len(seen)} observations, there is no number {place}")
    model = scenario.model.fitted(schema)
    network = build(model, schema.shape, schema.outputs, scenario.seed)
    example = schema.draw(MADE_UP, np.random.default_rng(0))
    one, settings = seen[place], scenario.training.settings
    steps = 1 if settings.algorithm == "fedsgd" else settings.epochs * math.ceil(one.last.records / settings.batch_size)
    origin = Origin(model, settings.optimizer.linear, steps == 1, schema.width)
    known = None if scenario.model.sources else origin
    return leak_map(probe(network, one.last, example), one.clients[0], one.last.records, origin=known)


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
