"""Claims on an update of an app of one's own that verify themselves without the truth, and no other."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from fedinv import roles
from fedinv.attack import EXPLAINS, Attack, Claim, Exchange, Knowledge, Observation
from fedinv.defense_terms import secagg_plus
from fedinv.runs import own_update
from fedinv.runs.own_apps.leak_map import Probed
from fedinv.runs.own_apps.targets import Given, Target
from fedinv.runs.run import parse_attack
from fedinv.task.foreign.apart import single_records
from fedinv.task.foreign.part import Part
from fedinv.task.foreign.training.entry import Entry, entry
from fedinv.task.foreign.training.remainder import remainder
from fedinv.task.foreign.training.training import Repeatable
from fedinv.task.foreign.training.verification import Observed, Repeated, repeated
from fedinv.task.networks.perceptron import Mlp
from fedinv.task.optimizers.sgd import Sgd


@dataclass(frozen=True)
class Attacked:
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


@dataclass(frozen=True)
class Reading:
    """What one attack read off an update."""

    claim: Claim
    """The claim, as far as it is verified."""
    whole: bool
    """Whether the claim is a whole batch."""
    told: int
    """Number of records that the attack holds for right by checks of its own, verified or not."""
    unfinished: tuple[str, ...] = ()
    """Limits of the attack's own that ended it before it was done, in words."""


def as_attacked(
    given: Given, how: Repeatable | None, target: Target, probed: Probed, part: Part, count: int
) -> Attacked:
    """A part of the network as it is attacked, with so many records looked for."""
    renamed = dict(zip(("sent", "received"), part.rename(probed.sent, probed.update), strict=True))
    names = [name for layer in part.layers for name in (layer.weight, layer.bias) if name is not None]
    layer = None if part.fed == "record" else part.layers[0].name
    seen = Observed(probed.sent, probed.aligned.take(target.exchange.received), probed.update, target.noise)
    exchange = Exchange(target.exchange.round, renamed["sent"], renamed["received"], count)
    knows = known_to(target, part, count)
    return Attacked(part, exchange, knows, how, entry(given.network, given.batch, layer, names), seen)


def known_to(target: Target, part: Part, records: int) -> Knowledge:
    """What is known of an update of so many records, whose client takes one step unless more is said."""
    knows = Knowledge(model=part.model, loss="cross-entropy", algorithm="fedsgd", momentum=0.0, weight_decay=0.0)
    one = target.secure
    if one is None:
        return knows
    rounded = secagg_plus.known(one.clipping_range, one.levels, records / one.weight, len(one.counts))
    return replace(knows, defenses=(rounded,))


def verified(given: Given, attacked: Attacked, kind: str, wanted: int) -> Reading:
    """What an attack claims and is verified.

    Claims are trained on again as the app would; of a claim that is not verified so, records count that pass the
    attack's own checks, unless it holds all records, whose training refutes it, or leaves more of the update than the
    missing ones can make. Where nothing is known of the training, an update is taken for one step of plain SGD of
    any length: one of several is read as far as it looks like one.
    """
    attack = parse_attack({"kind": kind})
    fields = type(attack).model_fields
    enough = wanted if wanted < attacked.exchange.records else None
    limits = {"seconds": given.seconds, "fall_back": False, "enough": enough}
    attack = attack.model_copy(update={name: value for name, value in limits.items() if name in fields})
    best, told, ended = Claim(torch.zeros(0, 1), torch.zeros(0)), 0, dict[str, None]()
    for knows in _knowledge(given, attacked):
        claim = own_update.invert(Observation((0,), (attacked.exchange,)), knows, attack, 0, lambda _: None)
        notes = tuple(dict.fromkeys((*best.notes, *claim.notes)))
        told = max(told, int(claim.verified.sum()))
        ended |= dict.fromkeys(claim.unfinished)
        again = None
        if attacked.how is not None and len(claim.records):
            again = repeated(attacked.entry, attacked.how, attacked.seen, claim.records, attacked.exchange.records)
            notes = (*notes, again.note) if again.note else notes
        if again is not None and again.verified:
            good, whole = again.good, bool(again.good.all())
            labels = None if again.labels is None else again.labels[good]
            sure = Claim(again.records[good], torch.ones(int(good.sum())), labels, again.mismatch, notes)
            return Reading(sure, whole, max(told, len(sure.records)))
        if attacked.seen.noise:  # of a part of the records rounding hides what a wrong one leaves
            best = replace(best, notes=notes)
            continue
        kept = _by_record(claim, again, attacked, knows)
        if 0 < len(kept.records) < wanted:
            kept, whole = _completed(kept, attack, attacked, knows)
            if whole:
                return Reading(replace(kept, notes=notes), True, max(told, len(kept.records)))
        else:
            kept = replace(kept, labels=None)
        best = replace(kept if len(kept.records) > len(best.records) else best, notes=notes)
        if (len(best.records) if given.limit is None else max(told, len(best.records))) >= wanted:
            break
    return Reading(best, False, max(told, len(best.records)), tuple(ended))


def _knowledge(given: Given, attacked: Attacked) -> list[Knowledge]:
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
    alone = how is None or (how.like_chances and knows.lr is None)
    found = [knows] if alone else [knows, replace(knows, model=None)]
    # a record may be of no category, or beyond the range, that the known ones have
    return found if knows.schema is None else [*found, replace(knows, schema=None)]


def _by_record(claim: Claim, again: Repeated | None, attacked: Attacked, knows: Knowledge) -> Claim:
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


def _completed(claim: Claim, attack: Attack, attacked: Attacked, knows: Knowledge) -> tuple[Claim, bool]:
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


def once(claim: Claim, reported: int | None) -> tuple[Claim, str]:
    """The claim with each record once where weights of classes, of which nothing was said, count some as several.

    So it is where records of a label all count as often, two of one at least or as many as are reported. The second is
    a line on it; empty where nothing is changed.
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


def single(claim: Claim, attacked: Attacked, reported: int | None) -> tuple[Claim, str]:
    """The claim without what may be the mean of several records, and a line on it; empty where nothing is left out.

    A claim of as many different records as the client reports, two at least, leaves no room for others.
    """
    model, different = attacked.part.model, len(torch.unique(claim.records, dim=0))
    if not isinstance(model, Mlp) or model.activation != "relu" or (different == reported and different > 1):
        return claim, ""
    left = None if claim.labels is None else claim.mismatch
    good = single_records(attacked.exchange.sent, claim.records, left)
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


def unverifiable(target: Target, how: Repeatable | None) -> str:
    """Why no claim on a sum could be verified; empty where one could, and for a client's own update."""
    if target.secure is None or (how is not None and (how.any_length or how.single(sum(target.counts)))):
        return ""
    if how is None:
        return "without a known loss no claim on a sum can be verified: name it by --loss"
    return (
        "each client of the sum takes several steps, and which records were in one is hidden: no claim can be verified"
    )
