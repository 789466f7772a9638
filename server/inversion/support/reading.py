"""Claims the records behind an update of any optimizer that works entry by entry."""

import math
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from fedinv.attack import EXPLAINS, Claim, Exchange, Knowledge, Limit
from fedinv.task.networks.perceptron import Mlp
from fedinv.task.optimizers import SGD
from fedinv.task.schema import Schema

from .. import clock
from ..distortion import UNDISTORTED, Distortion
from ..evidence import unusable
from ..exact.validity import snap
from ..local_training import known_network, local_steps
from ..matching.optimize import part
from ..row_space.reading import read_records
from ..row_space.search import SpanBudget
from .classes import Found, Seen, by_batches, by_classes, class_weights
from .entries import idle, lossless, read_entries
from .exchange import Search
from .magnitudes import decoded
from .remainder import FITTED, Batch, remaining
from .replay import Course, joined
from .schedule import batch_sizes
from .unrolled import REPEATED, Problem, SupportBudget, Work, labelled, trained

RESIDUE = 3e-6
"""Noise that a smoothed gradient is said to have, relative to its root mean square: enough for the search to accept
what is not exact."""
ROUNDS = 3
"""Rounds without a new record after which that search ends: the last ones are read off what the others leave."""
FEW = 8
"""Missing records up to which they are looked for in what the found ones leave of the gradient."""
SPANS = 20.0
"""Seconds of computing of the search in the spans of a single step's gradient."""


def read_support(last: Exchange, knows: Knowledge, distortion: Distortion, budget: SupportBudget, work: Work) -> Claim:
    """Claim records with labels; unfinished where entries rest and what moved is not all explained.

    Raises ValueError, in the words of a note, where nothing can be claimed, and Limit where only the search found none.
    """
    schema = _applies(last, knows, distortion, budget)
    seen = _seen(last, knows, schema, _known(last, distortion))
    several, rests = (local_steps(knows, last.records) or 1) > 1, bool(seen.entries.resting.any())
    try:
        claim = _of_several(seen, budget, work) if several else _of_one(seen, budget, work)
    except ValueError as reason:
        # noise leaves nothing at rest: where something rests, records are behind what moved
        if clock.over() or not rests:
            raise
        raise Limit(str(reason)) from reason
    short = len(claim.records) < last.records
    unverifiable = only_signs(joined(last.received))
    if claim.unfinished or clock.over() or not rests:
        return claim
    if not short and (unverifiable or bool(claim.verified.all())):
        return claim
    missing = f"zeros found {len(claim.records)} of {last.records} records" if short else "some records are wrong"
    return replace(claim, unfinished=(f"{missing}: what moved in the update is not all explained",))


def _of_one(seen: Seen, budget: SupportBudget, work: Work) -> Claim:
    """The claim behind a single step: by the gradient's magnitudes, and by classes where they leave records over."""
    entries, last, knows, plain, found = seen.entries, seen.last, seen.knows, seen.plain, None
    if lossless(last) and not seen.masked:
        found = _by_magnitude(last, knows, plain, replace(work, progress=part(work.progress, 0, 0.5)))
    if found is not None and len(found.records) < last.records:
        change = joined({name: tensor.double() - plain[name] for name, tensor in last.received.items()})
        known, late = Batch(found.records, found.labels), 0
        while 0 < last.records - len(known.records) <= FEW:
            rest = remaining(known, last, knows, change, work.rng)
            if not len(rest.records):
                break
            known, late = known.and_(rest), len(rest.records)
        new = torch.zeros(len(known.records) - len(found.records), dtype=torch.bool)
        checked = None if found.checked is None else torch.cat([found.checked, new])
        found = replace(found, records=known.records, labels=known.labels, late=late, checked=checked)
    work, whole = replace(work, progress=part(work.progress, 0.5, 1)), found
    if found is None or len(found.records) < last.records:
        try:
            whole = _joined(
                found,
                by_classes(seen, Search(last.records, work.generator(), effort=0)),
                entries.categories,
                last.records,
            )
        except ValueError:
            if found is None:
                raise
    assert whole is not None
    claim = _fitted(whole, seen, budget, work)
    if found is None or whole is found or bool(claim.verified.any()):
        return claim
    return _fitted(found, seen, budget, work)


def _of_several(seen: Seen, budget: SupportBudget, work: Work) -> Claim:
    """The first claim behind several steps that explains the update, else the nearest; quick searches come first.

    Batch by batch where the steps of a single epoch are told apart, and all at once where that finds less than half of
    the records. Raises ValueError where no record is found.
    """
    last, knows, best = seen.last, seen.knows, None
    sizes, reason = batch_sizes(last.records, knows.batch_size or 1), None
    ways = [partial(by_batches, seen, sizes)] if knows.epochs == 1 else []
    for way in (*ways, partial(by_classes, seen)):
        for effort in (1, 2):
            if best is not None and clock.over():
                return best
            try:
                found = way(Search(last.records, work.generator(), effort))
            except ValueError as why:
                reason = why
                break
            claim = _fitted(found, seen, budget, work)
            best = claim if best is None else max(best, claim, key=_near)
            if claim.mismatch is not None and claim.mismatch <= EXPLAINS:
                return claim
        if best is not None and 2 * len(best.records) >= last.records:
            return best
    if best is None:
        assert reason is not None
        raise reason
    return best


def _near(claim: Claim) -> tuple[int, float]:
    """Records of a claim, and how little of the update it leaves."""
    return len(claim.records), -math.inf if claim.mismatch is None else -claim.mismatch


def trained_again(last: Exchange, knows: Knowledge, claim: Claim, iterations: int, work: Work) -> Claim:
    """A claim of a whole batch with numbers fitted through the optimizer's unrolled steps, and its mismatch.

    Raises ValueError, in the words of a note, where the training cannot be unrolled.
    """
    budget = SupportBudget(iterations=iterations)
    schema = _applies(last, knows, UNDISTORTED, budget)
    if claim.labels is None or len(claim.records) != last.records:
        raise ValueError("training is unrolled on whole batches with labels only")
    seen = _seen(last, knows, schema)
    valid = snap(schema, claim.records.double())
    return _fitted(Found(valid, claim.labels, joined(seen.plain)), seen, budget, work)


def _applies(last: Exchange, knows: Knowledge, distortion: Distortion, budget: SupportBudget) -> Schema:
    """The schema, where the attack can be run. Raises ValueError with the reason where it cannot."""
    model, reason = knows.model, unusable(last)
    if reason is not None:
        raise ValueError(reason)
    if not isinstance(model, Mlp) or model.bottleneck or model.activation != "relu":
        raise ValueError(
            "the architecture is withheld, or is no perceptron behind whose first layer a ReLU leaves exact zeros"
        )
    if knows.schema is None:
        raise ValueError("the schema is withheld: which inputs are categories is not known")
    if knows.lr is None:
        raise ValueError("the learning rate is withheld, and with it the optimizer")
    if knows.loss != "cross-entropy":
        raise ValueError("the label is a number, and labels are found here for classes only")
    if local_steps(knows, last.records) is None:
        raise ValueError("epochs and batch size are withheld: the number of local steps is not known")
    if not 1 <= last.records <= budget.most_records:
        raise Limit(f"{last.records} records, the attack tries 1 to {budget.most_records}")
    if distortion.spread:
        raise ValueError("noise or rounding on each entry leaves none at rest and no two equal")
    if knows.proximal and local_steps(knows, last.records) != 1:
        raise ValueError("the proximal term pulls each weight by its own distance: no two entries move equally")
    known_network(model, last.sent, knows.schema)
    return knows.schema


def _seen(last: Exchange, knows: Knowledge, schema: Schema, known: Tensor | None = None) -> Seen:
    """What is seen of an update, of whose first layer the `known` entries (h, d) tell; None: all of them."""
    steps = local_steps(knows, last.records) or 1
    plain = {name: idle(tensor.double(), knows, steps) for name, tensor in last.sent.items()}
    return Seen(read_entries(last, knows, schema, known), last, knows, plain, masked=known is not None)


def _known(last: Exchange, distortion: Distortion) -> Tensor | None:
    """Entries (h, d) of the first layer that tell of the gradient; None for all."""
    return None if distortion.masks is None else distortion.masks[next(iter(last.sent))]


def _joined(found: Found | None, other: Found, categories: Tensor, count: int) -> Found:
    """The records found in the spans, which are right one by one, and others where they make up a whole batch."""
    if found is None or not len(found.records):
        return other
    theirs, ours = other.records[:, categories], found.records[:, categories]
    new = (torch.cdist(theirs, ours).amin(1) > 0.5).nonzero()[:, 0][: count - len(found.records)]
    if len(found.records) + len(new) < count:
        return found
    records, labels = torch.cat([found.records, other.records[new]]), torch.cat([found.labels, other.labels[new]])
    return Found(records, labels, found.idle)


def _by_magnitude(last: Exchange, knows: Knowledge, plain: dict[str, Tensor], work: Work) -> Found | None:
    """The records found in the spans of a single step's gradient; None where magnitudes are not told."""
    try:
        update = decoded(last, knows, plain)
    except ValueError:
        return None
    as_sgd = replace(knows, optimizer=SGD, momentum=0.0, weight_decay=0.0, proximal=0.0)
    first = next(iter(update.values()))
    noise = RESIDUE * float(first.double().square().mean().sqrt())
    claim = read_records(
        replace(last, received=update), as_sgd, noise, SpanBudget(rounds=ROUNDS, seconds=SPANS), work.rng, work.progress
    )
    if not len(claim.records) or claim.labels is None:
        return None
    return Found(claim.records.double(), claim.labels, joined(plain), claim.verified)


def _fitted(found: Found, seen: Seen, budget: SupportBudget, work: Work) -> Claim:
    """The claim of the records found, fitted where all of the batch are known."""
    last, knows, records = seen.last, seen.knows, found.records
    notes, unfinished = list[str](), list[str]()
    start, change = joined(last.sent), joined(last.received)
    whole, left = len(records) == last.records, None
    if only_signs(change):
        notes.append("the update has signs and no sizes: numbers are read off the units alone")
    elif whole:
        sizes = [last.records] if knows.algorithm == "fedsgd" else batch_sizes(last.records, knows.batch_size or 1)
        steps = found.steps or (torch.arange(len(records)),) * (local_steps(knows, last.records) or 1)
        course = Course(start, knows.descent, steps, found.labels, class_weights(knows, start))
        course = labelled(course, records, change) if found.steps else course
        order = [] if found.steps else sizes
        problem = Problem(seen.entries, course, change, order, lossless(last), found.idle, seen.masked)
        again = None
        try:
            again = trained(problem, records, budget, work)
            if found.late == 1:
                # the others' numbers are known now: what they leave tells those of the last one better
                known = Batch(again.records[:-1], found.labels[:-1])
                moved = [c - i for c, i in zip(change, found.idle, strict=True)]
                rest = remaining(known, last, knows, moved, work.rng, FITTED)
                if len(rest.records):
                    again = trained(problem, known.and_(rest).records, budget, work)
        except (ValueError, Limit) as reason:
            notes.append(str(reason))
            unfinished += [str(reason)] if isinstance(reason, Limit) else []
        with clock.finishing():
            again = again or problem.explained(course, records)
        records, left = again.records, again.left
        found = replace(found, labels=again.course.labels)
    else:
        how = "the units" if found.checked is None else "the gradient's spans"
        notes.append(f"{len(records)} of {last.records} records found: numbers are read off {how}, as a fit needs all")
    explained = left is not None and left <= (EXPLAINS if found.steps else REPEATED)
    if left is not None and not explained:
        notes.append("the training, repeated on the records, does not explain the update: some are wrong")
    confidence = torch.full((len(records),), 0.99 if explained else 0.5)
    checked = torch.full((len(records),), explained, dtype=torch.bool)
    if found.checked is not None and not whole:
        checked = found.checked
    return Claim(
        records.float(), confidence, found.labels, left, tuple(notes), checked=checked, unfinished=tuple(unfinished)
    )


def only_signs(change: list[Tensor]) -> bool:
    """Whether all entries of a layer's update that moved are of one size, to the last bit."""
    return any(len(torch.unique(layer[:, :-1][layer[:, :-1] != 0].abs())) == 1 for layer in change)
