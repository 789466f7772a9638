"""Reads texts token by token off the spans of a transformer."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from fedinv.attack import Attack, Claim, Knowledge, Limit, Observation, Progress, Reading, nothing
from fedinv.task.foreign.update import LayerUpdate
from fedinv.task.models import AnyModel
from fedinv.task.networks.transformer import Decoder, Encoder

from ..countermeasures import answer, answered
from ..inversion import clock
from ..inversion.single_layer import no_spans
from ..inversion.support.unrolled import Work
from ..inversion.tokens.reading import TextBudget, read_texts
from ..inversion.tokens.spans import SPARE


class SpanTokens(Attack):
    """Span of tokens: each token at its position must lie in the span of the first block's update.

    Threat model: an honest-but-curious server with one update of one client. It needs the architecture (a decoder or
    an encoder), the schema with its public vocabulary, and plain SGD steps; the learning rate and the algorithm verify.

    Claims: whole texts with labels. After one step the spans are exact, and so are the texts; copies of a text are
    counted by the head's update. After several steps a decoder's texts are those nearest to the spans, claimed only if
    training on them again explains the update.

    Papers: Petrov et al. 2024 (DAGER), sections 3 and 4: the first block's query, key and value updates have the
    tokens' inputs in their row space; behind a causal mask prefixes are tested before their text is complete. Here they
    are tested by the first block's perceptron, which has a slope at every token also where the head reads one alone,
    and whole texts by the last block's query. In an encoder each token makes linear equations on the rest of its text
    (server/inversion/tokens/contexts.py), where the paper enumerates.

    Fails where a batch has about as many tokens as the network is wide, behind noise and adaptive optimizers, at
    adapters of a smaller rank than there are tokens or none at the perceptron, and at encoders from about six texts of
    32 tokens on, or two where normalization comes after attention: what was not found is said to be missing.
    """

    kind: Literal["span-tokens"] = "span-tokens"
    """Selects this attack: the span of tokens."""
    adapts_to: ClassVar[frozenset[str]] = answered("look", "noise", "rounding")
    tried_in_turn: ClassVar[int | None] = 21
    assessed_with: ClassVar[Mapping[str, Any] | None] = {}
    known_as: ClassVar[Mapping[str, str]] = {"dager": "span-tokens"}
    prefixes: int = Field(default=TextBudget.prefixes, ge=1, le=100_000)
    """Prefixes of texts that are kept at a position, 1 to 100000: those nearest to the spans."""
    starts: int = Field(default=TextBudget.starts, ge=1, le=100_000)
    """Texts that are begun in a network that reads in both directions, 1 to 100000."""
    rows: bool = True
    """Whether tokens whose embedding did not move are ruled out; without it the spans alone tell."""
    seconds: float = Field(default=60.0, gt=0)
    """Seconds of computing after which the search ends; a limit that is hit makes results machine-dependent."""

    @classmethod
    def suits(cls, model: AnyModel) -> bool:
        """Whether the model is a transformer over tokens."""
        return model.texts

    @classmethod
    def reads(cls, update: LayerUpdate, following: LayerUpdate | None) -> Reading | None:
        """Whether the layer is one of those in whose spans tokens, prefixes or whole texts lie; None without texts."""
        origin, layer = update.origin, update.layer
        if origin is None or not isinstance(origin.model, Decoder | Encoder) or layer.kind == "Embedding":
            return None
        told = _told(origin.model)
        what = next((said for part, said in told.items() if f".{part}." in f".{layer.name}."), None)
        if what is None:
            return Reading(
                False, "it reads the first block's query, key, value and perceptron, and the last one's query"
            )
        if not origin.single and not (origin.model.causal and ".wide" in layer.name):
            return Reading(False, "several local steps blur its span")
        reason = no_spans(update)
        if not reason and update.most - update.rank < SPARE:
            reason = f"its rank {update.rank} is about that of {update.most} inputs: as many tokens, or noise"
        return Reading(False, reason) if reason else Reading(True, what)

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
                    TextBudget(self.prefixes, self.starts, self.rows),
                    Work(rng, progress),
                )
        except (ValueError, torch.linalg.LinAlgError, Limit) as reason:  # type: ignore[attr-defined]
            claim = nothing(reason, 1 if knows.schema is None else knows.schema.width)
        progress(1.0)
        return against.decode(claim, rng)


def _told(model: Decoder | Encoder) -> dict[str, str]:
    """What the spans of a transformer's layers tell, by the end of the layer's name."""
    around = {} if model.causal else {"blocks.0.mixed": "what surrounds each token, by its span"}
    first = {f"blocks.0.{part}": "which tokens are where, by its span" for part in ("query", "key", "value")}
    inside = "texts, token by token behind what is before it" if model.causal else "texts, as a whole"
    return {**first, **around, "blocks.0.wide": inside, f"blocks.{model.depth - 1}.query": "whole texts, by its span"}
