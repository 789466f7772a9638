"""Transformers over token ids: a causal decoder and a bidirectional encoder, with low-rank adapters if wanted."""

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from fedinv.task.columns import PADDING
from fedinv.task.networks.architecture import Architecture, Shape

PUBLIC_SEED = 20240527
"""Seed of the frozen weights below adapters: they are public, and the same in every federation."""
ADAPTER_SCALE = 2.0
"""Factor of an adapter's output, alpha / rank in Hu et al. 2022, section 4.1."""
EMBEDDED = 0.02
"""Standard deviation of the embeddings that training begins with, as in GPT-2."""
Norm = Literal["pre", "post"]
"""Place of the layer normalization: before each part of a block, or after its residual sum."""


class Adapted(nn.Module):
    """A frozen linear layer W with a trained low-rank adapter: x -> W x + b + ADAPTER_SCALE B A x.

    Hu et al. 2022 (LoRA), section 4.1: A (rank, inputs) begins random, B (outputs, rank) begins at zero, so that the
    first update of A is zero and that of B is D^T X A^T, with slopes D and inputs X.
    """

    def __init__(self, frozen: nn.Linear, rank: int) -> None:
        super().__init__()
        self.frozen = frozen
        self.down = nn.Linear(frozen.in_features, rank, bias=False)
        self.up = nn.Linear(rank, frozen.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs (..., inputs) to (..., outputs)."""
        out: Tensor = self.frozen(inputs) + ADAPTER_SCALE * self.up(self.down(inputs))
        return out


class Block(nn.Module):
    """One transformer block (Vaswani et al. 2017, section 3): attention of several heads, then a perceptron."""

    def __init__(self, width: int, heads: int, norm: Norm) -> None:
        super().__init__()
        self.heads, self.norm = heads, norm
        self.attended = nn.LayerNorm(width)
        self.query, self.key, self.value, self.mixed = (nn.Linear(width, width) for _ in range(4))
        self.fed = nn.LayerNorm(width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def read(self, hidden: Tensor) -> Tensor:
        """Inputs of query, key and value (..., width) from the block's inputs: normalized where the norm is before."""
        out: Tensor = self.attended(hidden) if self.norm == "pre" else hidden
        return out

    def projected(self, read: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of what `read` returns, each (..., heads, width / heads)."""
        query, key, value = (
            layer(read).unflatten(-1, (self.heads, -1)) for layer in (self.query, self.key, self.value)
        )
        return query, key, value

    def attend(self, hidden: Tensor, hidden_from: Tensor) -> Tensor:
        """Inputs of `mixed`, the heads' weighted values (n, length, width).

        `hidden_from` is bool (n or 1, length, length): whether a position does not see another one.
        """
        query, key, value = (part.transpose(1, 2) for part in self.projected(self.read(hidden)))
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        seen = scores.masked_fill(hidden_from[:, None], -math.inf).softmax(-1)
        out: Tensor = (seen @ value).transpose(1, 2).flatten(2)
        return out

    def join(self, hidden: Tensor, attended: Tensor) -> tuple[Tensor, Tensor]:
        """The residual sum behind attention, and the inputs of `wide`, each (n, length, width)."""
        total = hidden + self.mixed(attended)
        if self.norm == "pre":
            return total, self.fed(total)
        total = self.attended(total)
        return total, total

    def forward(self, hidden: Tensor, hidden_from: Tensor) -> Tensor:
        """Map (n, length, width) to the next block's inputs."""
        total, read = self.join(hidden, self.attend(hidden, hidden_from))
        out: Tensor = total + self.narrow(nn.functional.gelu(self.wide(read)))
        if self.norm == "post":
            out = self.fed(out)
        return out


class TokenNetwork(nn.Module):
    """Embeddings of tokens and positions, blocks, and a linear head on one position of each text.

    Behind a causal mask the head reads the last token before the padding, as GPT-2 for classification does; without
    one it reads the first, as BERT does. Padding is seen by nobody.
    """

    def __init__(self, model: "Transformer", length: int, vocabulary: int, outputs: int) -> None:
        super().__init__()
        self.causal = model.causal
        self.tokens = nn.Embedding(vocabulary, model.width)
        self.positions = nn.Embedding(length, model.width)
        for table in (self.tokens, self.positions):
            nn.init.normal_(table.weight, std=EMBEDDED)
        self.blocks = nn.ModuleList(Block(model.width, model.heads, model.norm) for _ in range(model.depth))
        self.last = nn.LayerNorm(model.width) if model.norm == "pre" else nn.Identity()
        if model.lora_rank:
            frozen(self)
            for block in self.blocks:
                for name in model.adapted:
                    setattr(block, name, Adapted(getattr(block, name), model.lora_rank))
        self.head = nn.Linear(model.width, outputs)

    def embed(self, ids: Tensor) -> Tensor:
        """Inputs of the first block (n, length, width) of ids, int64 (n, length), which begin at the first position."""
        places = torch.arange(ids.shape[1], device=ids.device).repeat(len(ids), 1)
        out: Tensor = self.tokens(ids) + self.positions(places)
        return out

    def hidden_from(self, ids: Tensor) -> Tensor:
        """Whether each position does not see each other one, bool (n, length, length)."""
        length = ids.shape[1]
        hidden = (ids == PADDING)[:, None].expand(-1, length, -1)
        if self.causal:
            hidden = hidden | torch.ones(length, length, dtype=torch.bool, device=ids.device).triu(1)
        # a position that sees nothing would have no weights to sum to one: it sees itself
        return hidden & ~torch.eye(length, dtype=torch.bool, device=ids.device)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (n, outputs) of ids as floating-point numbers (n, length)."""
        ids = inputs.round().long().clamp(0, self.tokens.num_embeddings - 1)
        hidden, hidden_from = self.embed(ids), self.hidden_from(ids)
        for block in self.blocks:
            hidden = block(hidden, hidden_from)
        there = torch.arange(ids.shape[1], device=ids.device) * (ids != PADDING)
        read = there.amax(1) if self.causal else torch.zeros_like(there[:, 0])
        out: Tensor = self.head(self.last(hidden[torch.arange(len(ids), device=ids.device), read]))
        return out


class Transformer(Architecture):
    """Base of the networks over token ids. Weights are drawn, never downloaded."""

    texts: ClassVar[bool] = True
    causal: ClassVar[bool] = False
    """True: a position sees itself and those before it; False: all of them."""

    depth: int = Field(default=2, ge=1, le=12)
    """Number of blocks, 1 to 12."""
    width: int = Field(default=256, ge=8, le=1024)
    """Numbers by which each token is represented, 8 to 1024; a batch of fewer tokens than that lies open in the spans
    of its update."""
    heads: int = Field(default=4, ge=1, le=16)
    """Attention heads of each block, 1 to 16; they divide the width."""
    norm: Norm = "pre"
    """Layer normalization before each part of a block ("pre", as in GPT-2) or after it ("post", as in BERT)."""
    lora_rank: int = Field(default=0, ge=0, le=1024)
    """Rank of trained adapters beside frozen public weights, 0 to 1024; 0: no adapters, all weights are trained.
    With adapters only they and the last layer cross the wire."""
    adapted: Annotated[tuple[Literal["query", "key", "value", "mixed", "wide", "narrow"], ...], Field(min_length=1)] = (
        "query",
        "value",
    )
    """Linear layers of each block that have an adapter."""

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> "Transformer":
        if self.width % self.heads:
            raise ValueError(f"{self.heads} heads do not divide a width of {self.width}")
        if len(set(self.adapted)) < len(self.adapted):
            raise ValueError("adapted: a layer is listed twice")
        return self

    @property
    def no_perceptron(self) -> str | None:
        """A transformer is none."""
        return f"a {type(self).__name__.lower()} reads texts, token by token"

    def layers(self, shape: Shape, outputs: int) -> list[nn.Module]:
        """The network as one layer. Raises ValueError for records that are no texts."""
        if len(shape) != 2:
            raise ValueError(f"model {type(self).__name__.lower()!r} reads texts, and these records are none")
        length, vocabulary = shape
        if not self.lora_rank:
            return [TokenNetwork(self, length, vocabulary, outputs)]
        # the frozen weights are no part of what is sent: they must have numbers wherever the network is built
        with torch.device("cpu"):
            return [TokenNetwork(self, length, vocabulary, outputs)]


class Decoder(Transformer):
    """A causal transformer (GPT-2's blocks) that classifies a text by its last token."""

    causal: ClassVar[bool] = True

    kind: Literal["decoder"] = "decoder"
    """Selects this network, and with it the keys that the table may have."""


class Encoder(Transformer):
    """A bidirectional transformer (BERT's blocks) that classifies a text by its first token."""

    kind: Literal["encoder"] = "encoder"
    """Selects this network, and with it the keys that the table may have."""


def frozen(network: nn.Module) -> None:
    """Turn a network's parameters, in place, into constants that are drawn from PUBLIC_SEED and never sent.

    Linear layers and embeddings keep their kinds of distribution; what begins as ones or zeros stays so.
    """
    generator = torch.Generator().manual_seed(PUBLIC_SEED)
    for module in network.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            value = weight.detach()
            if isinstance(module, nn.Linear):
                bound = 1 / math.sqrt(module.in_features)
                value = (torch.rand(value.shape, generator=generator) * 2 - 1) * bound
            elif isinstance(module, nn.Embedding):
                value = EMBEDDED * torch.randn(value.shape, generator=generator)
            delattr(module, name)
            module.register_buffer(name, value, persistent=False)


def adapters(weights: Mapping[str, Tensor]) -> bool:
    """Whether weights, by parameter name, are those of adapters."""
    return any(name.endswith(".down.weight") for name in weights)
