"""Reads texts token by token off the spans of a transformer."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from fedinv.attack import Attack, Claim, Knowledge, Observation, Progress, nothing
from fedinv.task.models import AnyModel

from ..countermeasures import answer, answered
from ..inversion import clock
from ..inversion.support.reading import Work
from ..inversion.tokens.reading import TextBudget, read_texts


class SpanTokens(Attack):
    """Span of tokens: each token at its position must lie in the span of the first block's update."""

    kind: Literal["span-tokens"] = "span-tokens"
    """Selects this attack: the span of tokens."""
    adapts_to: ClassVar[frozenset[str]] = answered("look", "noise", "rounding")
    assessed_with: ClassVar[Mapping[str, Any] | None] = {}
    known_as: ClassVar[Mapping[str, str]] = {"dager": "span-tokens"}
    prefixes: int = Field(default=TextBudget.prefixes, ge=1, le=100_000)
    """Prefixes of texts that are kept at a position, 1 to 100000: those nearest to the spans."""
    rows: bool = True
    """Whether tokens whose embedding did not move are ruled out; without it the spans alone tell."""
    seconds: float = Field(default=60.0, gt=0)
    """Seconds of computing after which the search ends; a limit that is hit makes results machine-dependent."""

    @classmethod
    def suits(cls, model: AnyModel) -> bool:
        """Whether the model is a transformer over tokens."""
        return model.texts

    def run(self, seen: Observation, knows: Knowledge, rng: np.random.Generator, progress: Progress) -> Claim:
        """Claim the texts that fit, and note why others are missing."""
        against = answer(seen, knows)
        last = against.seen.last
        try:
            with clock.limited(self.seconds):
                claim = read_texts(
                    last,
                    against.requires,
                    against.distortion(last),
                    TextBudget(self.prefixes, self.rows),
                    Work(rng, progress),
                )
        except (ValueError, torch.linalg.LinAlgError, clock.OutOfTime) as reason:  # type: ignore[attr-defined]
            claim = nothing(str(reason), 1 if knows.schema is None else knows.schema.width)
        progress(1.0)
        return against.decode(claim, rng)
