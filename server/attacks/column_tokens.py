"""Reads tables row by row off an FT-Transformer's last block."""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from fedinv.attack import Attack, Claim, Exchange, Knowledge, Limit, Observation, Progress, Reading, nothing
from fedinv.task.foreign.update import LayerUpdate
from fedinv.task.loss import loss
from fedinv.task.models import AnyModel
from fedinv.task.networks.ft_transformer import FtTransformer
from fedinv.task.schema import Schema

from ..countermeasures import Countermeasures, answer, answered
from ..inversion import clock
from ..inversion.column_tokens.columns import MOST_BLOCKS, reader
from ..inversion.column_tokens.search import Equations, drawn
from ..inversion.column_tokens.shares import labels_of
from ..inversion.exact.first_layer import ROUNDING, with_bias
from ..inversion.local_training import decay, known_network, single_step, step_length
from ..inversion.recompute import explains, mismatch, recompute_update
from ..inversion.row_space.spans import span
from ..inversion.single_layer import no_spans
from ..inversion.verified_records import VerifiedRecords

WITHIN = 1e-5
"""Share of [h, 1] outside the span up to which a record is accepted: true ones leave 2e-7, random ones 1e-2 or more."""
NEARLY = 1e-3
"""Such share in what found records leave of the update, above which a record is not polished: these are not exact."""
POLISH = 10
"""Gauss-Newton steps on the numbers of a record that is nearly in the span."""
LOUD = 1000.0
"""Size of the first singular value beyond the records', in multiples of the largest that rounding and known noise
leave, from which on other noise is in the update."""
SWEEPS = 30
"""Changes of a category on the way from a start, at most."""
FEWEST = 24
"""Starts of a round, at least."""
MOST = 2048
"""Starts of a round, at most."""
SAME = 0.2
"""Largest difference of numbers, standardized, within which two found records of equal categories are the same: one
that was not polished to its end is no second record."""


class ColumnTokens(Attack):
    """Column-token search: each record's [CLS] must lie in the span of the last block's query update.

    Threat model: an honest-but-curious server with one update of one client that took a single step. It needs the
    architecture (an FT-Transformer of one or two blocks), the loss, the learning rate, the schema, and fewer records
    than a token has numbers.

    Claims: records that lie in that span to rounding and whose slopes at the last block's hidden layer are a whole
    number of times in its update, with one of the labels: each is verified so.

    Papers: the network is that of Gorishniy et al. 2021; span checks of transformers' tokens are those of Petrov et al.
    2024 (DAGER, section 3). There the first block's span tells tokens apart, which a table's tokens fill altogether.
    Here a record is searched whole: the rows of the tokenizer that moved name its categories, the equations of its
    [CLS] hold for it alone, and are cheap as [CLS] asks the same of every record in the first block. What found records
    did is subtracted, which makes the others easier to find.

    Fails behind noise, after several local steps, with more than two blocks, and on larger batches the sooner the more
    categories there are.
    """

    kind: Literal["column-tokens"] = "column-tokens"
    """Selects this attack: the column-token search."""
    adapts_to: ClassVar[frozenset[str]] = answered("look", "noise", "rounding", "decode")
    tried_in_turn: ClassVar[int | None] = 22
    assessed_with: ClassVar[Mapping[str, Any] | None] = {}
    starts: int = Field(default=8, ge=1, le=1000)
    """Starting records drawn in a round for each one not yet found, 1 to 1000; doubled after a round without any."""
    rounds: int = Field(default=3, ge=1, le=100)
    """Rounds in a row without a new record after which the search ends, 1 to 100."""
    seconds: float = Field(default=60.0, gt=0)
    """Seconds of computing after which no further round begins; a limit that is hit makes results machine-dependent."""
    most_records: int = Field(default=60, ge=1, le=1024)
    """Records of the largest batch that is attacked, 1 to 1024; nothing is claimed of larger ones."""

    @classmethod
    def suits(cls, model: AnyModel) -> bool:
        """Whether the model makes a token of each column."""
        return isinstance(model, FtTransformer)

    @classmethod
    def reads(cls, update: LayerUpdate, following: LayerUpdate | None) -> Reading | None:
        """Whether the layer has each record's [CLS] in its span; None behind other networks."""
        origin, layer = update.origin, update.layer
        if origin is None or not isinstance(origin.model, FtTransformer) or layer.kind == "Tokens":
            return None
        blocks = origin.model.blocks
        wanted = f"{blocks}.{'query' if blocks > 1 else 'hidden'}"
        if layer.name != wanted:
            return Reading(False, f"it reads the span of {wanted}, in which each record's [CLS] lies")
        if blocks > MOST_BLOCKS:
            return Reading(False, f"what the last of {blocks} blocks reads is no sum over columns")
        if not origin.single:
            return Reading(False, "tokens move with every local step")
        reason = no_spans(update)
        return Reading(False, reason) if reason else Reading(True, "whole records, by the span of their [CLS]")

    def run(self, seen: Observation, knows: Knowledge, rng: np.random.Generator, progress: Progress) -> Claim:
        """Claim the verified records, and note why others are missing."""
        against = answer(seen, knows)
        try:
            return against.decode(self._run(against, rng, progress), rng)
        except (ValueError, torch.linalg.LinAlgError, Limit) as reason:  # type: ignore[attr-defined]
            width = 1 if knows.schema is None else knows.schema.width
            return replace(nothing(reason, width), labels=torch.zeros(0, dtype=torch.int64))
        finally:
            progress(1.0)

    def _run(self, against: Countermeasures, rng: np.random.Generator, progress: Progress) -> Claim:
        last, knows = against.seen.last, against.knows
        n, noise = last.records, against.distortion(last).spread
        if not 1 <= n <= self.most_records:
            raise Limit(f"{n} records, the attack tries 1 to {self.most_records}")
        spread = _Spread(last, knows, noise)
        found, idle, deadline = VerifiedRecords.none(spread.schema.width), 0, clock.seconds() + self.seconds
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        whole, strict = spread.equations(spread.update, n, generator)
        counted = spread.span_of_hidden(spread.update, n, generator)
        while len(found.labels) < n and idle < self.rounds and clock.seconds() < deadline:
            rest = n - len(found.labels)
            left = spread.without(found)
            equations, _ = spread.equations(left, rest, generator)
            starts = drawn(whole.read, min(max(FEWEST, self.starts * rest * 2**idle), MOST), generator)
            tried = equations.whitened(starts).improved(starts, SWEEPS)
            tried, outside = equations.polished(tried, POLISH)
            near = outside < NEARLY
            if idle == 0 and not bool((outside < 10 * NEARLY).any()) and not len(found.labels):
                break
            polished, outside = whole.polished(type(tried)(tried.chosen[near], tried.numbers[near]), POLISH)
            records = whole.read.records(polished.chosen, polished.numbers)[outside.argsort()]
            records = _distinct(torch.cat([found.records, records[: int((outside < strict).sum())]]))
            records = records[len(_distinct(found.records)) :]
            labels, counts = labels_of(spread.network, records, counted, spread.step)
            new = VerifiedRecords(records[counts > 0], labels[counts > 0]).times(counts[counts > 0])
            new = VerifiedRecords(new.records[:rest], new.labels[:rest])
            idle = 0 if len(new.labels) else idle + 1
            found = found.and_(new)
            progress(len(found.labels) / n)
        if not len(found.labels):
            raise ValueError("no record was found whose [CLS] lies in the span of the last block's update")
        return _claim(last, knows, found, rng)


@dataclass(frozen=True)
class _Spread:
    """An exchange, checked, and what follows from it."""

    last: Exchange
    knows: Knowledge
    noise: float
    """Standard deviation of known noise on each number of the update."""

    def __post_init__(self) -> None:
        last, knows, n = self.last, self.knows, self.last.records
        sent, received = last.sent, last.received
        if knows.schema is None or knows.model is None:
            raise ValueError("the architecture or the schema is withheld")
        if not single_step(knows, n):
            raise ValueError("tokens move with every local step, and only a single one leaves their span as it is")
        if knows.loss != "cross-entropy" or knows.lr is None or knows.class_weights:
            raise ValueError("the learning rate is withheld, or the loss is not the plain cross-entropy of classes")
        if sorted(sent) != sorted(received) or any(sent[name].shape != received[name].shape for name in sent):
            raise ValueError("the update does not have the parameters that were sent, as if it were masked")
        if not all(bool(torch.isfinite(t).all()) for one in (sent, received) for t in one.values()):
            raise ValueError("values are not finite")
        if not isinstance(knows.model, FtTransformer):
            raise ValueError("the network is no FT-Transformer")

    @property
    def schema(self) -> Schema:
        """Data dictionary."""
        assert self.knows.schema is not None
        return self.knows.schema

    @cached_property
    def network(self) -> nn.Sequential:
        """The network that was sent, float64."""
        assert self.knows.model is not None
        return known_network(
            self.knows.model, {name: tensor.double() for name, tensor in self.last.sent.items()}, self.schema
        )

    @cached_property
    def frozen(self) -> nn.Sequential:
        """The same network, with weights that nothing is differentiated by."""
        return copy.deepcopy(self.network).requires_grad_(False)

    @cached_property
    def update(self) -> dict[str, Tensor]:
        """The update without known weight decay, float64."""
        shrunk = decay(self.knows, self.last.records)
        return {name: t.double() - shrunk * self.last.sent[name].double() for name, t in self.last.received.items()}

    @property
    def step(self) -> float:
        """Learning rate over the batch's size."""
        length = step_length(self.knows, self.last.records)
        assert length is not None
        return length / self.last.records

    def equations(self, update: dict[str, Tensor], records: int, generator: torch.Generator) -> tuple[Equations, float]:
        """Equations that the [CLS] of so many records fulfill, and the residual up to which they hold."""
        network = self.frozen
        read = reader(network, self.update["0.weight"], self.schema)
        layer = f"{len(network) - 2}.{'hidden' if read.first is read.last else 'query'}"
        whole = with_bias(self.update, f"{layer}.weight", f"{layer}.bias")
        floor = math.hypot(self.noise, ROUNDING * float(whole.square().mean().sqrt()))
        beyond = torch.linalg.svdvals(whole)[self.last.records :]
        if len(beyond) and float(beyond[0]) > LOUD * floor * (math.sqrt(len(whole)) + math.sqrt(whole.shape[1])):
            raise ValueError("the last block's update has more directions than there are records: noise is in it")
        found = span(with_bias(update, f"{layer}.weight", f"{layer}.bias"), records, floor, generator)
        if not found.rank:
            raise ValueError("the last block's update does not stand above the noise in it")
        if not len(found.equations):
            raise ValueError(f"{records} records fill all of a token's {whole.shape[1] - 1} numbers")
        blurred = 8 * floor * math.sqrt(whole.shape[1]) / float(found.values[-1])
        return Equations(read, found.equations), min(max(WITHIN, blurred), NEARLY)

    def span_of_hidden(self, update: dict[str, Tensor], records: int, generator: torch.Generator) -> Any:
        """The span of the last block's hidden layer."""
        layer = f"{len(self.network) - 2}.hidden"
        return span(with_bias(update, f"{layer}.weight", f"{layer}.bias"), records, self.noise, generator)

    def without(self, found: VerifiedRecords) -> dict[str, Tensor]:
        """The update without what found records did to it."""
        update = self.update
        if not len(found.labels):
            return update
        network = self.network
        value = loss(network(found.records), found.labels) * len(found.labels) * self.step
        named = dict(network.named_parameters())
        gradients = torch.autograd.grad(value, list(named.values()))
        return {name: update[name] + one for name, one in zip(named, gradients, strict=True)}


def _distinct(records: Tensor) -> Tensor:
    """Records (k, width) without repeats, the first of each kept."""
    if not len(records):
        return records
    same = torch.cdist(records, records, p=torch.inf) < SAME
    return records[same.float().argmax(1) == torch.arange(len(records))]


def _claim(last: Exchange, knows: Knowledge, found: VerifiedRecords, rng: np.random.Generator) -> Claim:
    n, known, records = last.records, len(found.labels), found.records.float()
    off = mismatch(recompute_update(knows, last.sent, records, found.labels, rng, count=n), last.received)
    notes = () if known == n else (f"{known} of {n} records recovered",)
    checked = torch.ones(known, dtype=torch.bool)
    confidence = torch.full((known,), 1.0 if explains(off, knows, n) else 0.99)
    return Claim(records, confidence, found.labels, off, notes, checked=checked)
