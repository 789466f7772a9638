"""The FT-Transformer: a row of a table as a sequence of tokens, one for each column."""

import math
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, PrivateAttr, model_validator
from torch import Tensor, nn
from torch.nn import functional

from fedinv.task.networks.architecture import Architecture, Shape
from fedinv.task.networks.perceptron import width_of
from fedinv.task.schema import Schema


class FtTransformer(Architecture):
    """The FT-Transformer of Gorishniy, Rubachev, Khrulkov and Babenko 2021, section 3.3, for rows of a table.

    A number is the token x w + b of its column, a category the row of its column's table plus b, and a token [CLS]
    that is the same for all stands beside them. Blocks of attention and a ReGLU layer follow, normalized before each
    but for the first block's attention; the last [CLS] goes through a normalization, ReLU and a linear layer.

    What it gives the server:

    - A row of a table moves only where a record of the batch has that category: the rows that moved name the
      categories that are present in each column.
    - The tokens span the update of the first block's query, key and value weights: eight records of 14 columns have up
      to 113 distinct tokens, which fill 64 dimensions, so that this tells nothing.
    - In the last block only [CLS] asks and only [CLS] is read: the updates of its query and ReGLU weights have a rank
      of at most one for each record, and the record's own [CLS] in their row space, with some 50 equations to spare.
      Behind one block that [CLS] is cheap: its query is the same for every record, so that each column adds a term of
      its own to the sums over which attention takes its mean.
    """

    kind: Literal["ft-transformer"] = "ft-transformer"
    """Selects this network, and with it the keys that the table may have."""
    width: Annotated[int, Field(ge=2)] = 64
    """Numbers of a token, a multiple of `heads`."""
    heads: Annotated[int, Field(ge=1)] = 8
    """Heads of each attention."""
    blocks: int = Field(default=2, ge=1, le=12)
    """Blocks of attention and a ReGLU layer."""

    _columns: tuple[int, ...] = PrivateAttr(default=())
    _outputs: int = PrivateAttr(default=0)

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width: {self.width} is no multiple of the {self.heads} heads")
        return self

    @property
    def sizes(self) -> tuple[Shape, int] | None:
        """Shape of a record and number of outputs, once the model is fitted to a schema."""
        return ((sum(self._columns),), self._outputs) if self._columns else None

    def fitted(self, schema: Schema) -> Self:
        """The same model with the widths of the schema's columns. Raises ValueError for images."""
        if schema.image is not None:
            raise ValueError(f"model {self.kind!r} reads columns, and these records are {schema.image.called}")
        made = self.model_copy()
        made._columns, made._outputs = tuple(column.width for column in schema.columns), schema.outputs
        return made

    def layers(self, shape: Shape, outputs: int) -> list[nn.Module]:
        """The network's layers in order. Raises ValueError where it is fitted to no schema of records of this shape."""
        if not self._columns:
            raise ValueError(f"model {self.kind!r} reads columns: it must be fitted to a schema")
        if sum(self._columns) != width_of(shape):
            raise ValueError(f"model {self.kind!r} is fitted to other records than those of the shape {tuple(shape)}")
        blocks = [Block(self.width, self.heads, first=place == 0) for place in range(self.blocks)]
        return [Tokens(self._columns, self.width), *blocks, Head(self.width, outputs)]


class Tokens(nn.Module):
    """Turns records (n, inputs) into tokens (n, 1 + columns, width), [CLS] first."""

    def __init__(self, columns: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.columns = columns
        bound = 1 / math.sqrt(width)
        self.weight = nn.Parameter(torch.empty(sum(columns), width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(len(columns), width).uniform_(-bound, bound))
        self.cls = nn.Parameter(torch.empty(width).uniform_(-bound, bound))

    def forward(self, records: Tensor) -> Tensor:
        """A column's token is the sum of its inputs times their weights, plus its bias."""
        weights = torch.split(self.weight, list(self.columns))
        tokens = [
            one @ weight for one, weight in zip(torch.split(records, list(self.columns), -1), weights, strict=True)
        ]
        first = self.cls.expand(len(records), 1, -1)
        return torch.cat([first, torch.stack(tokens, -2) + self.bias], -2)


class Block(nn.Module):
    """Attention among the tokens (n, tokens, width) of a record, then a ReGLU layer; each is added to its input."""

    def __init__(self, width: int, heads: int, *, first: bool) -> None:
        super().__init__()
        self.heads = heads
        hidden = width * 4 // 3
        self.before_attention = nn.Identity() if first else nn.LayerNorm(width)
        self.query, self.key, self.value, self.mix = (nn.Linear(width, width) for _ in range(4))
        self.before_hidden = nn.LayerNorm(width)
        self.hidden = nn.Linear(width, 2 * hidden)
        self.out = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """The tokens after the block, (n, tokens, width)."""
        tokens = tokens + self.attended(self.before_attention(tokens))
        return tokens + self.gated(self.before_hidden(tokens))

    def attended(self, tokens: Tensor) -> Tensor:
        """Each head's mean of the values, weighted by softmax(q k / sqrt(d)), mixed: (n, tokens, width)."""
        split = [
            layer(tokens).unflatten(-1, (self.heads, -1)).transpose(-2, -3)
            for layer in (self.query, self.key, self.value)
        ]
        query, key, value = split
        logits = query @ key.mT / math.sqrt(query.shape[-1])
        return self.mix((logits.softmax(-1) @ value).transpose(-2, -3).flatten(-2))  # type: ignore[no-any-return]

    def gated(self, tokens: Tensor) -> Tensor:
        """ReGLU (Shazeer 2020): half of the hidden units times the ReLU of the others, back to (n, tokens, width)."""
        open_, gate = self.hidden(tokens).chunk(2, -1)
        return self.out(open_ * functional.relu(gate))  # type: ignore[no-any-return]


class Head(nn.Module):
    """Turns the last [CLS] of tokens (n, tokens, width) into logits (n, outputs)."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        """Normalization, ReLU and a linear layer."""
        return self.linear(functional.relu(self.norm(tokens[..., 0, :])))  # type: ignore[no-any-return]
