"""Texts behind a causal mask: prefixes grow token by token, as long as the next layer's inputs fit its span.

Petrov et al. 2024 (DAGER), section 4.2: what a position reads depends on the tokens up to it alone: a prefix can be
tested before its text is complete. They test the second block's query; here it is the first block's perceptron,
whose inputs hold the attention's outcome too and whose slopes are not zero at any token, also where the head reads the
last token alone and there are two blocks. The last block's query has slopes at the head's token only: a prefix that
fits its span is a whole text, and its rank is the number of different texts.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fedinv.task.networks.transformer import Block, TokenNetwork

from .. import clock
from .spans import Span, distance

EARLY = 4
"""Tokens of a prefix up to which it is no variant of a text, however many of them are equal."""
ALIKE = 0.6
"""Share of equal tokens from which on two texts are taken for variants of one."""


@dataclass(frozen=True)
class Tests:
    """What the tokens of a text must fit."""

    first: tuple[Span, ...]
    """Spans of the first block's query, key and value; none where they tell nothing."""
    inside: tuple[Span, ...]
    """Spans of the first block's perceptron, at every token."""
    mixed: tuple[Span, ...]
    """Spans of what the first block's attention returns, at every token; none where they tell nothing."""
    end: tuple[Span, ...]
    """Spans of the last block's query, at the token that the head reads."""
    tolerance: float
    """Relative distance up to which an input lies in a span; infinite after several steps, which blur the spans: there
    texts are ranked by the mean of their distances."""


@dataclass(frozen=True)
class Found:
    """Texts that fit all spans."""

    ids: Tensor
    """Token ids, int64 (k, length), with padding behind the end."""
    distance: Tensor
    """Largest relative distance of each text from a span (k,)."""


@dataclass(frozen=True)
class _Prefixes:
    """Prefixes of equal length i that fit so far."""

    ids: Tensor
    """Token ids (k, i)."""
    keys: Tensor
    """Keys of the first block (k, heads, i, width / heads)."""
    values: Tensor
    """Values of the first block, of the same shape."""
    worst: Tensor
    """Largest relative distance from a span so far (k,), or their sum where they are ranked."""


def grown(network: TokenNetwork, candidates: Tensor, tests: Tests, most: int) -> Found:
    """Texts all of whose prefixes fit, of candidate tokens, bool (vocabulary, length).

    At most `most` prefixes are kept at a position, those nearest to the spans.
    """
    length, held = candidates.shape[1], _begun(network)
    ends, worst = [], []
    for place in range(length):
        clock.check()
        ids = candidates[:, place].nonzero()[:, 0]
        if not len(ids) or not len(held.ids):
            break
        held = _extended(network, held, ids, tests, most)
        if len(held.ids):
            away = distance(tests.end, last_read(network, held.ids))
            fits = away <= tests.tolerance
            ends.append(torch.nn.functional.pad(held.ids[fits], (0, length - place - 1)))
            worst.append(torch.maximum(held.worst, away)[fits])
    if not ends:
        return Found(torch.zeros(0, length, dtype=torch.long), torch.zeros(0, dtype=torch.float64))
    return Found(torch.cat(ends), torch.cat(worst))


def ranked(network: TokenNetwork, candidates: Tensor, tests: Tests, most: int, count: int) -> Found:
    """The `count` texts of full length with the smallest mean distance from the span, none a variant of another.

    At most `most` prefixes are kept at a position.
    """
    length, found = candidates.shape[1], Found(torch.zeros(0, candidates.shape[1], dtype=torch.long), torch.zeros(0))
    for _ in range(count):
        held = _begun(network)
        for place in range(length):
            clock.check()
            held = _unlike(
                _extended(network, held, candidates[:, place].nonzero()[:, 0], tests, 4 * most), found.ids, most
            )
        if not len(held.ids):
            break
        found = Found(torch.cat([found.ids, held.ids[:1]]), torch.cat([found.distance, held.worst[:1] / length]))
    return found


def _unlike(held: _Prefixes, texts: Tensor, most: int) -> _Prefixes:
    """The `most` nearest prefixes that are no variants of the texts (t, length)."""
    place = held.ids.shape[1]
    shares = (held.ids[:, None] == texts[None, :, :place]).double().mean(2)
    kept = ((shares < ALIKE).all(1) | (place <= EARLY)).nonzero()[:most, 0]
    return _Prefixes(held.ids[kept], held.keys[kept], held.values[kept], held.worst[kept])


def last_read(network: TokenNetwork, ids: Tensor) -> Tensor:
    """What the last block's query reads at the token that the head reads, (k, width), of ids (k, i)."""
    hidden, hidden_from = network.embed(ids), network.hidden_from(ids)
    blocks = [block for block in network.blocks if isinstance(block, Block)]
    for block in blocks[:-1]:
        hidden = block(hidden, hidden_from)
    return blocks[-1].read(hidden)[:, -1 if network.causal else 0]


def _begun(network: TokenNetwork) -> _Prefixes:
    """The one prefix without tokens."""
    block = network.blocks[0]
    assert isinstance(block, Block)
    empty = torch.zeros(1, block.heads, 0, network.tokens.embedding_dim // block.heads, dtype=torch.float64)
    return _Prefixes(torch.zeros(1, 0, dtype=torch.long), empty, empty, torch.zeros(1, dtype=torch.float64))


def _extended(network: TokenNetwork, held: _Prefixes, ids: Tensor, tests: Tests, most: int) -> _Prefixes:
    """Every prefix with every one of the ids (c,) behind it, as far as it fits."""
    block, place = network.blocks[0], held.ids.shape[1]
    assert isinstance(block, Block)
    hidden = network.tokens.weight[ids] + network.positions.weight[place]
    query, key, value = block.projected(block.read(hidden))
    # scores of each candidate's query against the prefix's keys (k, heads, c, i) and against its own (heads, c)
    scale = query.shape[-1] ** -0.5
    before = torch.einsum("chd,khid->khci", query, held.keys) * scale
    own = ((query * key).sum(-1) * scale).T.expand(len(held.ids), -1, -1)
    weights = torch.cat([before, own[..., None]], -1).softmax(-1)
    mixed = torch.einsum("khci,khid->kchd", weights[..., :-1], held.values)
    mixed = mixed + weights[..., -1].transpose(1, 2)[..., None] * value
    _, inside = block.join(hidden.expand(len(held.ids), -1, -1), mixed.flatten(2))
    now = distance(tests.inside, inside)
    ranked = tests.tolerance == math.inf
    away = held.worst[:, None] + now if ranked else torch.maximum(held.worst[:, None], now)
    good = (away <= tests.tolerance).nonzero()
    order = away[good[:, 0], good[:, 1]].argsort(stable=True)
    order = order[:most]
    old, new = good[order].T
    return _Prefixes(
        torch.cat([held.ids[old], ids[new][:, None]], 1),
        torch.cat([held.keys[old], key[new][:, :, None]], 2),
        torch.cat([held.values[old], value[new][:, :, None]], 2),
        away[old, new],
    )
