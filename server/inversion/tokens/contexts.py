"""What one token at its position tells of the rest of its text, where attention looks both ways.

Let token a stand at position t. Its query q is known, and so is the weight e = exp(q k / sqrt(d)) that each head gives
each candidate at each other position, before all weights are divided by their sum. With z = 1 for the candidates that
make up the text and 0 for others, a head returns (sum of z e v) / (sum of z e). Two layers read at t what attention
returned, o, and both inputs lie in the spans of their updates while there are fewer tokens than inputs (Petrov et al.
2024, DAGER, section 3), so that with complements P of the spans

    P_mixed [o, 1] = 0,    P_wide [C (x_a + M o + b) + s beta, s] = 0,

x_a the token's hidden state, M and b the layer `mixed`, C centering and the gain of a layer normalization, beta its
shift and s the unknown deviation that it divides by. These are 2 (width + 1 - tokens) equations, linear in o and s, and
in z too once the sums of weights are known, which a guess of z gives nearly and a few rounds exactly.

Their solution under the published frequencies of tokens, taken for a Gaussian with their mean and covariance, is one
linear system of as many unknowns as equations. Tokens that do not stand at t leave a far larger Mahalanobis distance
than those that do, and several tokens of one text share its z: their equations add up.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from fedinv.task.networks.transformer import Block, TokenNetwork

from .spans import Span, distance

SLACK = (1e-3, 1e-5, 1e-6)
"""Variance left to each equation in each round, as a share of the prior's: the sums of weights are guesses at first."""
FAINT = 0.05
"""Share of a candidate at a position up to which it does not count in what attention returns."""


@dataclass(frozen=True)
class Standing:
    """A candidate taken to stand at a position."""

    place: int
    """Position in the text, from 0."""
    candidate: int
    """Row of the candidate."""


@dataclass(frozen=True)
class Belief:
    """What is believed of a text that holds certain tokens."""

    shares: Tensor
    """Posterior mean of each candidate at each position (c, length); about 1 where it is sure to stand."""
    misfit: float
    """Mahalanobis distance, squared, of the equations from what the frequencies of tokens let expect."""
    equations: int
    """Number of equations."""

    @property
    def each(self) -> float:
        """Misfit of an equation: about 1 or less where they hold."""
        return self.misfit / self.equations


@dataclass(frozen=True)
class _Equations:
    """What the spans demand, by the coefficients of k equations, each (k, width) or (k,)."""

    attended: Tensor
    """Of what attention returned."""
    hidden: Tensor
    """Of the token's own hidden state and the bias of `mixed`."""
    deviation: Tensor
    """Of the deviation by which the layer normalization divides."""
    constant: Tensor
    """Their sum with the others is 0."""


@dataclass(frozen=True)
class Contexts:
    """Candidates with what the first block makes of them."""

    network: TokenNetwork
    """The network at the weights that were sent, float64."""
    tokens: Tensor
    """Token ids of the candidates, int64 (c,)."""
    shares: Tensor
    """Prior share of each candidate at each position (c, length), 0 where it cannot stand."""
    inside: tuple[Span, ...]
    """Spans of the first block's perceptron."""
    hidden: Tensor
    """Inputs of the first block (c, length, width)."""
    query: Tensor
    """Queries of the first block (c, length, heads, width / heads)."""
    key: Tensor
    """Keys, of the same shape."""
    value: Tensor
    """Values, of the same shape."""
    equations: _Equations
    """What each token's span demands."""

    @property
    def block(self) -> Block:
        """The first block."""
        block = self.network.blocks[0]
        assert isinstance(block, Block)
        return block

    @classmethod
    def of(
        cls, network: TokenNetwork, tokens: Tensor, shares: Tensor, inside: tuple[Span, ...], mixed: tuple[Span, ...]
    ) -> "Contexts":
        """The contexts of candidate tokens (c,) with prior shares (c, length), spans of the perceptron and `mixed`."""
        block = network.blocks[0]
        assert isinstance(block, Block)
        hidden = network.tokens.weight[tokens][:, None] + network.positions.weight[None]
        projected = block.projected(block.read(hidden))
        return cls(
            network, tokens, shares / shares.sum(0), inside, hidden, *projected, _equations(block, inside, mixed)
        )

    def away(self, shares: Tensor) -> Tensor:
        """Distance of each candidate's perceptron input from its span (c, length), in a text of shares (c, length).

        It is infinite for a candidate that cannot stand at a position. Shares below FAINT count as none
        beside larger ones.
        """
        around = shares * (shares >= shares.amax(0).clamp_max(FAINT))
        around = around / around.sum(0)
        rows, places = around.nonzero().T
        scale = self.key.shape[-1] ** -0.5
        scores = torch.einsum("cjhd,nhd->cjhn", self.query, self.key[rows, places]) * scale
        scores = scores + around[rows, places].log()
        itself = (torch.arange(around.shape[1])[:, None] == places)[:, None]
        own = (self.query * self.key).sum(-1, keepdim=True) * scale
        weights = torch.cat([scores.masked_fill(itself, -torch.inf), own], -1).softmax(-1)
        mixed = torch.einsum("cjhn,nhd->cjhd", weights[..., :-1], self.value[rows, places])
        _, read = self.block.join(self.hidden, (mixed + weights[..., -1:] * self.value).flatten(2))
        return distance(self.inside, read).masked_fill(self.shares == 0, torch.inf)

    def believe(self, standing: Sequence[Standing], rounds: int = len(SLACK)) -> Belief:
        """What candidates that stand in one text tell of it, the sums of weights computed anew `rounds` times."""
        shares = self.shares.clone()
        for one in standing:
            shares[:, one.place] = 0.0
            shares[one.candidate, one.place] = 1.0
        rows, places = shares.nonzero().T
        prior, there = shares[rows, places], one_hot(places, shares.shape[1]).double()
        keys, values = self.key[rows, places], self.value[rows, places]
        posterior = guess = prior
        misfit = 0.0
        for slack in SLACK[:rounds]:
            parts = [self._linear(one, keys, values, guess, prior) for one in standing]
            slopes, rest = torch.cat([part[0] for part in parts], 1), torch.cat([part[1] for part in parts])
            # what is chosen at one position sums to 1: slopes about their mean there
            slopes = slopes - there @ (there.T @ (slopes * prior[:, None]))
            spread = (slopes * prior[:, None]).T @ slopes
            spread = spread + torch.block_diag(*(torch.outer(part[2], part[2]) for part in parts))  # type: ignore[no-untyped-call]
            spread.diagonal().add_(slack * spread.diagonal().mean())
            weights = torch.linalg.solve(spread, rest)
            misfit = float(rest @ weights)
            posterior = prior * (1 + slopes @ weights)
            guess = posterior.clamp_min(0.0)
            guess = guess / (there @ (there.T @ guess))
        found = torch.zeros_like(shares)
        found[rows, places] = posterior
        return Belief(found, misfit, len(standing) * len(self.equations.constant))

    def _linear(
        self, one: Standing, keys: Tensor, values: Tensor, guess: Tensor, prior: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A standing token's k equations, made linear at a guess of z (p,).

        They are the slopes by z (p, k), what is left at the prior (k,), and the slopes by the deviation (k,), times the
        deviation, which so has a prior spread of 1.
        """
        query = self.query[one.candidate, one.place]
        weight = (keys * query).sum(-1).mul(query.shape[-1] ** -0.5).exp()
        total = guess @ weight
        mean = torch.einsum("n,nh,nhd->hd", guess, weight, values) / total[:, None]
        off = (weight[..., None] * (values - mean) / total[:, None]).flatten(1)
        returned = mean.flatten() + (prior - guess) @ off
        own = self.hidden[one.candidate, one.place]
        alone, joined = own + self.block.mixed(torch.zeros_like(returned)), own + self.block.mixed(returned)
        deviation = float(joined.std(correction=0))
        found = self.equations
        left = found.attended @ returned + found.hidden @ alone + found.deviation * deviation + found.constant
        return off @ found.attended.T, -left, found.deviation * deviation


def _equations(block: Block, inside: tuple[Span, ...], mixed: tuple[Span, ...]) -> _Equations:
    """What the spans of the first block's perceptron and of `mixed` demand of every token."""
    norm = block.fed if block.norm == "pre" else block.attended
    width = len(norm.weight)
    centered = torch.diag(norm.weight) @ (torch.eye(width, dtype=torch.double) - 1 / width)
    outcome = block.mixed(torch.eye(width, dtype=torch.double)) - block.mixed(torch.zeros(width, dtype=torch.double))
    parts = list[_Equations]()
    for span in inside:
        rows = _complement(span)
        hidden = rows[:, :width] @ centered
        deviation = rows[:, :width] @ norm.bias + rows[:, width]
        parts.append(_Equations(hidden @ outcome.T, hidden, deviation, torch.zeros_like(deviation)))
    for span in mixed:
        rows = _complement(span)
        none = torch.zeros_like(rows[:, :width])
        parts.append(_Equations(rows[:, :width], none, none[:, 0], rows[:, width]))
    return _Equations(
        torch.cat([part.attended for part in parts]),
        torch.cat([part.hidden for part in parts]),
        torch.cat([part.deviation for part in parts]),
        torch.cat([part.constant for part in parts]),
    )


def _complement(span: Span) -> Tensor:
    """Coefficients (k, inputs + 1) of the equations that an input with its constant fulfills within a span."""
    whole = torch.linalg.qr(span.rows.T, mode="complete").Q
    rows: Tensor = whole[:, span.rank :].T @ span.shape
    return rows
