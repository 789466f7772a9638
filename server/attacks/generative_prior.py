"""Searches a generator's latents for the update's records."""

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import one_hot

from fedinv.attack import Attack, Claim, Knowledge, Limit, Observation, Progress, nothing

from ..countermeasures import answer, answered
from ..inference.generators import Duration, LatentDescent, generator_of, search_latent, train_on_records
from ..inversion.labels import as_labels, label_hypotheses
from ..inversion.local_training import step_length
from ..inversion.matching.matcher import matching
from ..inversion.matching.presets import settled
from ..inversion.matching.relaxation import relax

DRAWS = 512
"""Records drawn to estimate the network's mean output probabilities."""


class GenerativePrior(Attack):
    """Searches the latents of a generator, trained on other people's records, until its batch explains the update.

    Threat model: a server with one update and with records of the same population that no client holds
    (`attacker.auxiliary`); it also needs the architecture and the schema.

    Claims: as many records as the update covers, each one that the generator can make.

    Papers: a conditional variational autoencoder is trained on the auxiliary records, then the latents of a whole batch
    are searched whose records' gradient has the update's direction (Zhang et al. 2020, GMI, equation 4; Li et al. 2022,
    GGL, equation 5), all restarts at once. Records so stay plausible where an update reveals little, as behind noise or
    in large batches: there it gets fields right that follow from others.

    Fails on labels that are numbers, and on records that its generator cannot make, so where an update reveals
    everything `exact` and `row-space` are better.
    """

    kind: Literal["generative-prior"] = "generative-prior"
    """Selects this attack: a search in a generator's latents."""
    adapts_to: ClassVar[frozenset[str]] = answered("noise")
    training: int = Field(default=2000, ge=1)
    """Steps of the generator's training, 1 or more."""
    iterations: int = Field(default=300, ge=1)
    """Steps of the search in the latents, 1 or more."""
    restarts: int = Field(default=8, ge=1, le=256)
    """Batches of latents that are searched side by side, 1 to 256; the best is claimed."""
    lr: float = Field(default=0.05, gt=0)
    """Step length of the search in the latents, above 0."""
    seconds: float = Field(default=60.0, gt=0)
    """Seconds of computing after which the generator's training stops; a limit that is hit makes results
    machine-dependent."""
    most_records: int = Field(default=64, ge=1)
    """Records of the largest batch that is attacked, 1 or more; nothing is claimed of larger ones."""

    def run(self, seen: Observation, knows: Knowledge, rng: np.random.Generator, progress: Progress) -> Claim:
        """Claim as many records as the update covers, or none, with a note why."""
        against = answer(seen, knows)
        last, schema, real = against.seen.last, knows.schema, knows.auxiliary
        if real is None or not len(real):
            return nothing("there are no auxiliary records to train a generator on (attacker.auxiliary)")
        if schema is None or not schema.classes:
            return nothing("the schema is withheld" if schema is None else "the label is a number, and has no classes")
        if not 1 <= last.records <= self.most_records:
            return nothing(Limit(f"{last.records} records, the attack tries 1 to {self.most_records}"))
        try:
            length = step_length(knows, last.records)
            distortion = against.distortion(last)
            match = matching(last, knows, distortion, settled("fedinv", {}), length)
        except ValueError as error:
            return nothing(str(error))
        if len(match.bias) != schema.outputs:
            return nothing("the last layer has no bias, from which labels are read")
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        form: Literal["box", "relaxed"] = "box" if schema.image is not None else "relaxed"
        made = generator_of(relax(schema, schema.width, form), schema.outputs, int(rng.integers(2**31)))
        duration = Duration(self.training, self.seconds)
        train_on_records(made, real, duration, generator, lambda share: progress(share / 2))
        chances = match.objective.answers(schema.draw(DRAWS, rng))
        weights = match.objective.class_weights
        tried = label_hypotheses(match.bias, chances, last.records, length, distortion.noise, weights)
        labels = torch.stack([as_labels(tried[i % len(tried)]) for i in range(self.restarts)])

        def misfit(records: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
            value, slope, _ = match.objective(records, one_hot(classes, schema.outputs).float())
            return value, slope

        descent = LatentDescent(misfit, self.iterations, self.lr)
        found, misfits = search_latent(made, descent, labels, generator, lambda share: progress(0.5 + share / 2))
        best = int(misfits.argmin())
        records = made.relaxation.harden(found[best])
        explained = max(0.0, 1 - float(misfits[best]))
        progress(1.0)
        confidence = torch.full((last.records,), explained**2 * 0.5)
        return Claim(
            records, confidence, labels[best], notes=(f"the best batch's gradient has a cosine of {explained:.2f}",)
        )
