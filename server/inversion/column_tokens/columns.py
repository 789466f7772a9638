"""What each column of a record adds to the first attention's sums for [CLS], and the [CLS] that follows."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedinv.task.columns import Categorical
from fedinv.task.networks.ft_transformer import Block, Tokens
from fedinv.task.schema import Schema

MOST_BLOCKS = 2
"""Blocks of a network at most, for the last one's [CLS] to be a function of sums over columns."""


@dataclass(frozen=True)
class Sums:
    """Sums over tokens t of exp(q k_t / sqrt(d)) and of that times the token's values, by head."""

    weights: Tensor
    """Sums of exp(q k_t / sqrt(d)), (..., heads)."""
    values: Tensor
    """Sums of that times the tokens' values, (..., heads, d)."""

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(self.weights + other.weights, self.values + other.values)

    def __sub__(self, other: "Sums") -> "Sums":
        return Sums(self.weights - other.weights, self.values - other.values)

    def __getitem__(self, rows: object) -> "Sums":
        return Sums(self.weights[rows], self.values[rows])  # type: ignore[index]


@dataclass(frozen=True)
class Choice:
    """A categorical column, with the values that some record of the batch has."""

    where: slice
    """Inputs of the column."""
    values: Tensor
    """Positions of those values among the inputs, int64 (k,)."""
    sums: Sums
    """What each of them adds, (k, ...)."""


@dataclass(frozen=True)
class Reader:
    """A fitted network's first block, as [CLS] reads a record's columns in it, float64.

    [CLS] asks the same of every record there, so that a column's weight and values depend on its own token alone and
    are added up. The number of operations does not grow with the number of columns then.
    """

    tokens: Tokens
    first: Block
    last: Block
    choices: tuple[Choice, ...]
    """Categorical columns, in the schema's order."""
    numbers: Tensor
    """Inputs that are numbers, int64 (m,)."""
    places: Tensor
    """Column of each number, int64 (m,)."""
    low: Tensor
    """Least value of each number, standardized, (m,)."""
    high: Tensor
    """Largest value of each number, standardized, (m,)."""

    def of_tokens(self, tokens: Tensor) -> Sums:
        """What tokens (..., width) add to the sums of [CLS]."""
        first, heads = self.first, self.first.heads
        query = first.query(self.tokens.cls).view(heads, -1)
        key, value = (layer(tokens).unflatten(-1, (heads, -1)) for layer in (first.key, first.value))
        weights = ((query * key).sum(-1) / math.sqrt(query.shape[-1])).exp()
        return Sums(weights, weights[..., None] * value)

    def of_numbers(self, numbers: Tensor) -> Sums:
        """What numbers (..., m) add together."""
        each = self.of_tokens(numbers[..., None] * self.tokens.weight[self.numbers] + self.tokens.bias[self.places])
        return Sums(each.weights.sum(-2), each.values.sum(-3))

    def of_values(self, chosen: Tensor) -> Sums:
        """What [CLS] itself and the chosen values, int64 (n, choices), add."""
        found = self.of_tokens(self.tokens.cls.expand(len(chosen), -1))
        for place, choice in enumerate(self.choices):
            found = found + choice.sums[chosen[:, place]]
        return found

    def read(self, sums: Sums) -> Tensor:
        """The input of the last block's query, or where there is one block of its hidden layer, (..., width)."""
        cls = self.tokens.cls + self.first.mix((sums.values / sums.weights[..., None]).flatten(-2))
        if self.first is self.last:
            return self.last.before_hidden(cls)  # type: ignore[no-any-return]
        cls = cls + self.first.gated(self.first.before_hidden(cls))
        return self.last.before_attention(cls)  # type: ignore[no-any-return]

    def records(self, chosen: Tensor, numbers: Tensor) -> Tensor:
        """Records (n, inputs) of these values and numbers."""
        found = numbers.new_zeros(len(numbers), len(self.tokens.weight))
        for place, choice in enumerate(self.choices):
            found[torch.arange(len(found)), choice.values[chosen[:, place]]] = 1.0
        found[:, self.numbers] = numbers
        return found


def reader(network: nn.Sequential, moved: Tensor, schema: Schema) -> Reader:
    """The reader of a network of one or two blocks, float64; `moved` (inputs, width) is its tables' update.

    A category whose row did not move is in no record. Raises ValueError for more blocks, and where no row of a
    categorical column moved.
    """
    tokens, blocks = network[0], list(network)[1:-1]
    if not isinstance(tokens, Tokens) or not all(isinstance(block, Block) for block in blocks):
        raise ValueError("the network is no FT-Transformer")
    if len(blocks) > MOST_BLOCKS:
        raise ValueError(f"only one or two blocks leave each column a term of its own, not {len(blocks)}")
    columns = list(zip(schema.columns, schema.slices, strict=True))
    plain = [(i, s, c) for i, (c, s) in enumerate(columns) if not isinstance(c, Categorical)]
    if not plain:
        raise ValueError("a table without a column of numbers is not read")
    low, high = (
        torch.tensor([(getattr(c, end) - c.mean) / c.std for _, _, c in plain], dtype=torch.float64)
        for end in ("low", "high")
    )
    numbers, places = torch.tensor([s.start for _, s, _ in plain]), torch.tensor([i for i, _, _ in plain])
    first, last = blocks[0], blocks[-1]
    assert isinstance(first, Block)
    assert isinstance(last, Block)
    bare = Reader(tokens, first, last, (), numbers, places, low, high)
    choices = []
    for place, (column, where) in enumerate(columns):
        if isinstance(column, Categorical):
            values = where.start + (moved[where] != 0).any(1).nonzero()[:, 0]
            if not len(values):
                raise ValueError(f"no category of the column {column.name!r} moved")
            sums = bare.of_tokens(tokens.weight[values] + tokens.bias[place])
            choices.append(Choice(where, values, sums))
    return Reader(tokens, first, last, tuple(choices), numbers, places, low, high)
