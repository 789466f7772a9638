"""Draws records from their posterior behind known noise."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from fedinv.attack import Attack, Claim, Knowledge, Limit, Observation, Progress, nothing

from ..countermeasures import answer, answered
from ..inference.likelihood import mechanism, repeats
from ..inference.posterior import Draws, first_record, sample
from ..inversion.recompute import explains


class DpAware(Attack):
    """Draws the records from their posterior, given the known clip and noise and the published marginals.

    Threat model: a server that knows the mechanism: architecture, schema, loss, learning rate, and of dp-sgd the batch
    size. A malicious server that repeats its weights gets as many updates as rounds; where the batch was the same one
    each time (FedSGD on fewer records than the batch size) their mean is attacked, whose noise is sqrt(rounds) times
    smaller.

    Claims: as many records as the update covers, each field its likeliest value: a field that noise hides comes out as
    the best guess, with the confidence of a guess.

    Paper: Balunovic et al. 2022. It climbs log p(update | records) + log p(records), for one record from the rank-one
    total least squares of the first layer's update [dW | db], else from draws of the marginals, then samples the
    posterior field by field.

    Fails on several local steps (FedAvg), on images (too many fields), and is slow on large batches, whose posterior
    has many modes.
    """

    kind: Literal["dp-aware"] = "dp-aware"
    """Selects this attack: sampling the posterior behind known noise."""
    adapts_to: ClassVar[frozenset[str]] = answered("noise")
    assessed_with: ClassVar[Mapping[str, Any] | None] = {"draws": 10, "most": 4}
    draws: int = Field(default=40, ge=1)
    """Sweeps over all fields, 1 or more; confidence is the share of them in which a value came up."""
    most: int = Field(default=8, ge=1)
    """Records of the largest batch that is attacked, 1 or more; nothing is claimed of larger ones."""
    tolerance: float = Field(default=0.319, gt=0)
    """Error in standard deviations, above 0, up to which a drawn number supports the claimed one."""

    def run(self, seen: Observation, knows: Knowledge, rng: np.random.Generator, progress: Progress) -> Claim:
        """Claim as many records as the update covers, each field its likeliest value, or none, with a note why."""
        against = answer(seen, knows)
        seen, schema, count = against.seen, knows.schema, seen.last.records
        if schema is None:
            return nothing("the schema is withheld")
        if schema.image is not None:
            return nothing("an image has too many fields to be drawn one by one")
        if count > self.most or len(seen.clients) > 1:
            return nothing(Limit(f"{count} records are more than the {self.most} that it takes on (dp-aware.most)"))
        same = repeats(seen.exchanges, knows)
        try:
            given = mechanism(same, knows, against.distortion(seen.last))
        except ValueError as error:
            return nothing(str(error))
        if not bool(given.update.any()):
            return nothing("the update is zero")
        starts = schema.draw(count, rng)
        closed = first_record(given, schema) if count == 1 else None
        if closed is not None:
            starts = closed[None]
        found = sample(given, schema, starts, Draws(self.draws, self.tolerance), rng, progress)
        notes: tuple[str, ...] = () if given.std > 0 else ("no noise is known of: the update is taken for exact",)
        if len(same) > 1:
            notes += (f"the mean of {len(same)} answers to the same weights was attacked",)
        residual = given.residual(given.gradients(found.best).sum(0)[None], count)
        mismatch = float(residual.sqrt() / given.update.double().norm())
        noise = given.update.numel() * (given.std / float(given.update.double().norm())) ** 2
        checked = torch.full((count,), explains(mismatch, knows, count, noise))
        return Claim(found.best.records, found.records, found.best.labels, mismatch, notes, found.fields, checked)
