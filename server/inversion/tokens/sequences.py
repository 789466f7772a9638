"""Whole texts of a bidirectional network, where what a position reads depends on all of them.

No prefix can be tested by itself, but a token can: with it come equations on the rest of its text (`contexts.py`). At
one position the candidates that stand there are told from the others; then each text grows from its own token by
the candidates that its equations make surest, each of which adds equations. A text that lies within the spans, that of
the last block's query at the head's token among them, is one of the batch. Petrov et al. 2024 (DAGER), section 4.3,
enumerate the candidates' products instead.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from fedinv.task.networks.transformer import TokenNetwork
from fedinv.task.schema import Schema

from .. import clock
from .contexts import Belief, Contexts, Standing
from .prefixes import Found, Tests, last_read
from .spans import distance

PLAUSIBLE = 1.5
"""Misfit of an equation up to which a token is taken to stand where it does: true ones leave 0.2 to 1.2, most wrong
ones more than 2 (batches of 4)."""
APART = 2.5
"""Factor between the misfits of the worst text's token and of the next candidate that ends the search for a position
to begin at."""
PLACES = 12
"""Positions that are looked at, those of fewest candidates first, for one where every text has a token of its own."""
SHARED = 0.5
"""Weight of what other texts of the batch believe of a candidate, against what its own does."""
EQUATIONS = 2200
"""Equations of a text at most: the time of one more token grows with their cube."""
SWEEPS = 4
"""Times that all positions of a text are chosen anew beside each other."""
TRIALS = 14
"""Tokens that are tried in a text at most."""
UNLISTED = 0.01
"""Weight of a token at a position beside the published shares of the frequent ones."""


@dataclass(frozen=True)
class _Beginning:
    """A position with the candidates from which texts are read."""

    standing: list[Standing]
    """Candidates that stand there, the one that tells most first; at most as many as there are texts."""
    beliefs: list[Belief]
    """What each of them tells."""
    gap: float
    """Factor between the misfits of the last of them and of the next candidate; 0 where there are fewer than texts."""


def searched(network: TokenNetwork, candidates: Tensor, tests: Tests, schema: Schema, starts: int) -> Found:
    """Texts of the full length that fit all spans, of candidate tokens, bool (vocabulary, length).

    `starts` texts are begun, or fewer where as many were found as the rank of the last block's query says there are, or
    where the time is over.
    """
    tokens = candidates.any(1).nonzero()[:, 0]
    allowed, texts = candidates[tokens], tests.end[0].rank
    found: dict[tuple[int, ...], float] = {}
    if bool(allowed.any(0).all()):
        contexts = Contexts.of(network, tokens, _prior(schema, tokens) * allowed, tests.inside, tests.mixed)
        for one in _beginnings(contexts, texts):
            for row, first in enumerate(one.standing):
                # where each text has a token of its own there, a token of a found text begins no other one
                known = len(one.standing) == texts and any(text[first.place] == first.candidate for text in found)
                if known or starts == 0 or len(found) >= texts or clock.over():
                    continue
                starts -= 1
                found |= _grown(contexts, tests, first, one.beliefs[:row] + one.beliefs[row + 1 :])
    rows = torch.tensor(list(found), dtype=torch.long).reshape(-1, candidates.shape[1])
    return Found(tokens[rows], torch.tensor(list(found.values()), dtype=torch.float64))


def _beginnings(contexts: Contexts, texts: int) -> list[_Beginning]:
    """Positions to begin at, the clearest first: best is one where each text has a token of its own."""
    count = (contexts.shares > 0).sum(0)
    found = list[_Beginning]()
    for place in torch.where(count >= texts, count, count + len(count) * len(contexts.tokens)).argsort(stable=True):
        if len(found) == PLACES or clock.over():
            break
        there = [Standing(int(place), row) for row in contexts.shares[:, place].nonzero()[:, 0].tolist()]
        ranked = sorted(((one, contexts.believe([one], 1)) for one in there), key=lambda pair: pair[1].misfit)
        plausible = [pair for pair in ranked[:texts] if pair[1].each < PLAUSIBLE]
        next_one = ranked[texts][1].misfit if len(ranked) > texts else math.inf
        gap = next_one / max(ranked[texts - 1][1].misfit, 1e-12) if len(ranked) >= texts else 0.0
        plausible.reverse()
        found.append(_Beginning([one for one, _ in plausible], [belief for _, belief in plausible], gap))
        if len(plausible) == texts and gap > APART:
            break
    return sorted(found, key=lambda one: -one.gap)


def _grown(contexts: Contexts, tests: Tests, first: Standing, others: Sequence[Belief]) -> dict[tuple[int, ...], float]:
    """The text that holds a token, as rows of candidates, with its largest distance from a span; empty where none fits.

    Candidates that `others` believe in too are taken later.
    """
    standing: tuple[Standing, ...] = (first,)
    ruled_out = list[Standing]()
    sure = contexts.believe(standing)
    bound = PLAUSIBLE * max(1.0, sure.each)
    shared = torch.stack([other.shares for other in others]).amax(0) if others else 0.0
    text, off = _settled(contexts, tests, sure.shares.argmax(0))
    for _ in range(TRIALS):
        if off <= tests.tolerance or clock.over() or len(standing) * len(contexts.equations.constant) > EQUATIONS:
            break
        more = (*standing, _next(sure, shared, standing, ruled_out))
        belief = contexts.believe(more)
        added = (belief.misfit - sure.misfit) / len(contexts.equations.constant)
        if max(belief.each, added) > bound:
            ruled_out.append(more[-1])
            continue
        standing, sure = more, belief
        text, off = _settled(contexts, tests, sure.shares.argmax(0))
    if off > tests.tolerance:
        # where attention hardly tells positions apart it tells which tokens there are, and each position's own which
        # of them stands at it
        text, off = _settled(contexts, tests, contexts.away(sure.shares).argmin(0))
    return {tuple(text.tolist()): off} if off <= tests.tolerance else {}


def _next(
    sure: Belief, shared: Tensor | float, standing: Sequence[Standing], ruled_out: Sequence[Standing]
) -> Standing:
    """The candidate, at a position without one, that is surest, its share nearest to 1, and not shared by others."""
    worth = -(sure.shares - 1).abs() - SHARED * shared
    worth[:, [one.place for one in standing]] = -math.inf
    for one in ruled_out:
        worth[one.candidate, one.place] = -math.inf
    row, place = divmod(int(worth.argmax()), worth.shape[1])
    return Standing(place, row)


def _settled(contexts: Contexts, tests: Tests, text: Tensor) -> tuple[Tensor, float]:
    """A text (length,) in which each candidate is the nearest to its span beside the others, and its largest distance.

    It is the first one, or what comes of it within SWEEPS rounds of choosing all anew (iterated conditional modes,
    Besag 1986, section 2.5).
    """
    off = math.inf
    for _ in range(SWEEPS):
        away = contexts.away(one_hot(text, len(contexts.tokens)).T.double())
        off, best = float(away.gather(0, text[None]).max()), away.argmin(0)
        if off <= tests.tolerance or bool((best == text).all()):
            break
        text = best
    end = float(distance(tests.end, last_read(contexts.network, contexts.tokens[text][None]))[0])
    return text, max(off, end)


def _prior(schema: Schema, tokens: Tensor) -> Tensor:
    """Weight of each candidate at each position (candidates, length), by the published frequencies."""
    column = schema.tokens
    assert column is not None
    shares = torch.full((len(column.words), column.length), UNLISTED, dtype=torch.float64)
    for place, (ids, listed) in enumerate(zip(column.frequent, column.shares, strict=True)):
        shares[list(ids), place] += torch.tensor(listed, dtype=torch.float64)
    return shares[tokens]
