"""Reads a batch of texts off one update of a transformer, and verifies them by training on them again."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from fedinv.attack import Claim, Exchange, Knowledge, Limit
from fedinv.task.networks.transformer import TokenNetwork, adapters

from .. import clock
from ..distortion import Distortion
from ..evidence import unusable
from ..local_training import gradient_weights, known_network, single_step, step_length
from ..recompute import explains, mismatch, recompute_update
from ..support.unrolled import Work
from .prefixes import Found, Tests, grown, ranked
from .sequences import searched
from .spans import TOLERANCE, Noise, block_names, spans

SURE, UNSURE = 0.99, 0.5
"""Confidence in texts that fit every span, where training on them again explains the update, and where it does not."""

NEAREST = 0.7
"""Share of the directions that a span keeps at most after several steps; with 0.5 to 0.85 the right tokens are as often
the nearest."""
WHOLE = 0.02
"""Distance from whole numbers up to which a text's counts of labels are taken for them."""


@dataclass(frozen=True)
class TextBudget:
    """Limits of a search."""

    prefixes: int = 256
    """Prefixes that are kept at a position."""
    starts: int = 60
    """Texts that are begun where a network reads in both directions."""
    rows: bool = True
    """Whether embeddings that did not move rule their tokens out."""


def read_texts(last: Exchange, knows: Knowledge, distortion: Distortion, budget: TextBudget, work: Work) -> Claim:
    """Claim the texts that fit the spans of the update.

    Raises ValueError, in the words of a note, where nothing can be read.
    """
    reason = unusable(last)
    if reason is not None:
        raise ValueError(reason)
    model, schema = knows.model, knows.schema
    if model is None or schema is None:
        raise ValueError(f"the {'architecture' if model is None else 'schema'} is withheld")
    if schema.tokens is None or not model.texts:
        raise ValueError("the records are no texts")
    if knows.adaptive is not None:
        raise ValueError(knows.adaptive)
    if distortion.only_signs:
        raise ValueError("nothing but signs was sent, which have no row space of tokens")
    single = single_step(knows, last.records)
    network = known_network(model, gradient_weights(last, single), schema).double()[0]
    assert isinstance(network, TokenNetwork)
    with torch.no_grad():
        tests = _tests(last, Noise(distortion.spread, 1.0 if single else NEAREST), single)
        work.progress(0.1)
        candidates = _candidates(network, last.received, tests, budget)
        if not single and not network.causal:
            raise ValueError("several local steps blur the spans, by which whole texts of an encoder are searched")
        if not single:
            found = ranked(network, candidates, tests, budget.prefixes, last.records)
        elif network.causal:
            found = grown(network, candidates, tests, budget.prefixes)
        else:
            found = searched(network, candidates, tests, schema, budget.starts)
    work.progress(0.8)
    missed = tests.end[0].rank - len(found.ids) if single else 0
    if not len(found.ids):
        raise (Limit if missed > 0 else ValueError)("no text that was tried fits the spans of the update")
    claim = _claim(last, knows, network, found, work)
    return replace(claim, unfinished=(_said(missed),)) if missed > 0 else claim


def _said(missed: int) -> str:
    return "1 text of the batch was not found" if missed == 1 else f"{missed} texts of the batch were not found"


def _tests(last: Exchange, noise: Noise, single: bool) -> Tests:
    """What the update demands of texts. Raises ValueError where it demands nothing."""
    first, *_, final = block_names(last.sent)
    # scores sum to a constant over keys: an adapter of keys by itself tells differences of inputs alone
    reads = ("query", "value") if adapters(last.sent) else ("query", "key", "value")
    found = {
        part: spans(last.received, last.sent, [f"{block}.{name}" for name in names], noise)
        for part, block, names in (
            ("first", first, reads),
            ("inside", first, ("wide",)),
            ("mixed", first, ("mixed",)),
            ("end", final, ("query",)),
        )
    }
    needed = {part: one for part, one in found.items() if isinstance(one, str) and (part == "inside" or single)}
    for part in ("first", "mixed"):
        needed.pop(part, None)
    if needed:
        raise ValueError(next(iter(needed.values())))
    told = {part: one if isinstance(one, tuple) else () for part, one in found.items()}
    if not single:
        return Tests((), told["inside"], (), (), math.inf)
    return Tests(told["first"], told["inside"], told["mixed"], told["end"], TOLERANCE)


def _candidates(network: TokenNetwork, update: Mapping[str, Tensor], tests: Tests, budget: TextBudget) -> Tensor:
    """Tokens that may be at each position, bool (vocabulary, length)."""
    vocabulary, length = network.tokens.num_embeddings, network.positions.num_embeddings
    moved = next((tensor for name, tensor in update.items() if name.endswith("tokens.weight")), None)
    here = torch.ones(vocabulary, dtype=torch.bool)
    if moved is not None and budget.rows:
        here = moved.any(1)
    here[0] = False  # padding stands behind texts only
    found = here[:, None].expand(-1, length).clone()
    if tests.first:
        rows = here.nonzero()[:, 0]
        for place in range(length):
            block = network.blocks[0]
            read = block.read(network.tokens.weight[rows] + network.positions.weight[place])  # type: ignore[operator]
            away = torch.stack([span.distance(read) for span in tests.first])
            # behind a causal mask the first token attends to itself whatever its query is, which then has no slope
            alone = network.causal and place == 0
            found[rows, place] = (away.amin(0) if alone else away.amax(0)) <= tests.tolerance
    elif moved is None or not budget.rows:
        raise ValueError("neither the first block's update nor the embeddings' tells which tokens there are")
    return found


def _claim(last: Exchange, knows: Knowledge, network: TokenNetwork, found: Found, work: Work) -> Claim:
    single = single_step(knows, last.records)
    distinct = found.ids[found.distance.argsort(stable=True)].float()
    counts = _labels(last, knows, network, distinct)
    records = distinct.repeat_interleave(counts.sum(1), 0)
    labels = torch.cat([torch.repeat_interleave(torch.arange(len(one)), one) for one in counts])
    notes = []
    if len(records) != last.records:
        notes.append(f"{len(records)} texts fit the spans of the update, and the message counts {last.records}")
    left = None
    try:
        labels, left = _explained(last, knows, records, labels, work, flips=not single)
    except ValueError:
        notes.append("too little is known to train on them again")
    sure = explains(left, knows, last.records)
    if not single and not sure:
        raise ValueError("the texts nearest to the spans do not explain the update when they are trained on again")
    confidence = torch.full((len(records),), SURE if sure else UNSURE)
    checked = torch.full((len(records),), single)
    return Claim(records, confidence, labels, left, tuple(notes), checked=checked)


def _explained(
    last: Exchange, knows: Knowledge, records: Tensor, labels: Tensor, work: Work, flips: bool
) -> tuple[Tensor, float]:
    """Labels with the mismatch of the update that training on the texts with them gives.

    With `flips` each text's label is changed in turn where that leaves less, as several steps blur what the head tells.
    """

    def left(tried: Tensor) -> float:
        return mismatch(recompute_update(knows, last.sent, records, tried, work.rng, count=last.records), last.received)

    best = left(labels)
    classes = 0 if knows.schema is None else knows.schema.outputs
    for row in range(len(records)) if flips else ():
        for label in range(classes):
            clock.check()
            tried = labels.clone()
            tried[row] = label
            if label != labels[row] and (now := left(tried)) < best:
                labels, best = tried, now
    return labels, best


def _labels(last: Exchange, knows: Knowledge, network: TokenNetwork, texts: Tensor) -> Tensor:
    """How often each of k texts is in the batch with each label, int64 (k, classes); once where that cannot be told.

    The head's update is the sum of c_r h_r^T over the texts, h_r what it reads of text r. After one step of length lr
    on n records c_r is -lr / n times (m p - y), p the text's probabilities, y how often it has each label and m the sum
    of y; else the label is the class whose logit c_r raises.
    """
    reads: list[Tensor] = []
    handle = network.head.register_forward_hook(lambda _, inputs, __: reads.append(inputs[0]))
    with torch.no_grad():
        chances = network(texts.double()).softmax(1)
    handle.remove()
    update = next(tensor for name, tensor in last.received.items() if name.endswith("head.weight")).double()
    shares: Tensor = torch.linalg.lstsq(reads[0].T, update.T).solution
    once = one_hot(shares.argmax(1), shares.shape[1])
    length = step_length(knows, last.records) if single_step(knows, last.records) else None
    if not length or len(texts) > last.records:
        return once
    pulled = -shares * last.records / length
    found = once.clone()
    for row, (chance, pull) in enumerate(zip(chances, pulled, strict=True)):
        for times in range(1, last.records - len(texts) + 2):
            counted = times * chance - pull
            if float((counted - counted.round()).abs().max()) < WHOLE and bool((counted.round() >= 0).all()):
                found[row] = counted.round().long()
                break
    return found if int(found.sum()) <= last.records else once
