"""Whole texts of a bidirectional network, where what a position reads depends on all of them.

No prefix can be tested by itself, so that a text is searched as a whole: from tokens drawn at each position, every
position takes the candidate whose perceptron input is nearest to its span while the others stay, a random part of the
positions at once (iterated conditional modes, Besag 1986, section 2.5). A text that settles within the spans, that of
the last block's query at the head's token among them, is one of the batch. Petrov et al. 2024 (DAGER), section 4.3,
enumerate the candidates' products instead.
"""

import torch
from torch import Tensor

from fedinv.task.networks.transformer import Block, TokenNetwork
from fedinv.task.schema import Schema

from .. import clock
from .prefixes import Found, Tests, last_read
from .spans import distance

SWEEPS = 12
"""Times that the positions of a text are chosen anew before another start."""
MOVED = 0.7
"""Share of the positions that are chosen anew at once: all at once may go back and forth."""
RARER = 0.3
"""Factor by which the tokens of a text that was found are drawn more rarely in later starts."""
UNLISTED = 0.01
"""Weight of a token in the draw of a start beside the published shares of the frequent ones."""


def searched(
    network: TokenNetwork, candidates: Tensor, tests: Tests, schema: Schema, starts: int, generator: torch.Generator
) -> Found:
    """Texts of the full length that fit all spans, of candidate tokens, bool (vocabulary, length).

    `starts` texts are begun, or fewer where as many were found as the rank of the last block's query says there are.
    """
    tokens = candidates.any(1).nonzero()[:, 0]
    allowed = candidates[tokens]
    found: dict[tuple[int, ...], float] = {}
    length = candidates.shape[1]
    there = tests.end[0].rank
    if not bool(allowed.any(0).all()):
        starts = 0
    worth = _prior(schema, tokens) * allowed
    reads = _Reads(network, tokens)
    for _ in range(starts):
        clock.check()
        text = torch.multinomial(worth.T, 1, generator=generator)[:, 0]
        for _ in range(SWEEPS):
            away = distance(tests.inside, reads.inside(text)).masked_fill(~allowed, torch.inf)
            best, moved = away.argmin(0), torch.rand(length, generator=generator) < MOVED
            if bool((best == text).all()):
                break
            text = torch.where(moved, best, text)
        off = float(distance(tests.inside, reads.inside(text)).gather(0, text[None]).max())
        end = float(distance(tests.end, last_read(network, tokens[text][None]))[0])
        if max(off, end) <= tests.tolerance:
            found[tuple(tokens[text].tolist())] = max(off, end)
            # what is explained is drawn more rarely from now on
            worth[text, torch.arange(length)] *= RARER
        if len(found) >= there:
            break
    ids = torch.tensor(list(found), dtype=torch.long).reshape(-1, length)
    return Found(ids, torch.tensor(list(found.values()), dtype=torch.float64))


class _Reads:
    """Inputs of the first block's perceptron, for every candidate at every position of a text."""

    def __init__(self, network: TokenNetwork, tokens: Tensor) -> None:
        block = network.blocks[0]
        assert isinstance(block, Block)
        self._block = block
        self._hidden = network.tokens.weight[tokens][:, None] + network.positions.weight[None]
        read = block.read(self._hidden)
        self._query, self._key, self._value = (
            layer(read).unflatten(-1, (block.heads, -1)) for layer in (block.query, block.key, block.value)
        )

    def inside(self, text: Tensor) -> Tensor:
        """Inputs (candidates, length, width) with each candidate in turn at each position of a text (length,)."""
        places = torch.arange(len(text))
        keys, values = self._key[text, places], self._value[text, places]
        scale = keys.shape[-1] ** -0.5
        scores = torch.einsum("cjhd,ihd->cjhi", self._query, keys) * scale
        own = ((self._query * self._key).sum(-1) * scale)[..., None]
        itself = torch.eye(len(text), dtype=torch.bool)[None, :, None, :]
        weights = torch.where(itself, own, scores).softmax(-1)
        mixed = torch.einsum("cjhi,ihd->cjhd", weights.masked_fill(itself, 0.0), values)
        mixed = mixed + (weights * itself).sum(-1, keepdim=True) * self._value
        _, read = self._block.join(self._hidden, mixed.flatten(2))
        return read


def _prior(schema: Schema, tokens: Tensor) -> Tensor:
    """Weight of each candidate at each position (candidates, length), by the published frequencies."""
    column = schema.tokens
    assert column is not None
    shares = torch.full((len(column.words), column.length), UNLISTED, dtype=torch.float64)
    for place, (ids, listed) in enumerate(zip(column.frequent, column.shares, strict=True)):
        shares[list(ids), place] += torch.tensor(listed, dtype=torch.float64)
    return shares[tokens]
