"""Trains a generator against the models of all rounds."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn

from fedinv.attack import Asks, Attack, Claim, Knowledge, Observation, Progress, nothing

from ...inference.generators import NOISE, Duration, Guides, generator_of, train_by_model
from ...inversion.evidence import unusable
from ...inversion.local_training import known_network
from ...inversion.matching.relaxation import relax


class GanClass(Attack):
    """Trains a generator against the models of all rounds and draws samples of each class.

    Threat model: an honest-but-curious server that watches one client over several rounds. It needs the architecture
    and the schema; auxiliary records help.

    Claims: samples of each class, not records of single people. A classifier knows what separates its classes and
    little else, so samples are typical of a class rather than of anybody; where classes differ among clients they are
    typical of the victim's.

    Papers: round by round, the model that the client sent back is the discriminator of a conditional generator (Hitaj,
    Ateniese, Perez-Cruz 2017, section 5; Wang et al. 2019, mGAN-AI, for one client's updates): the model shall assign
    generated records to their class. The published means and variances keep them plausible, and, where the scenario
    grants auxiliary records, a second discriminator that separates generated from real ones.

    Fails on labels that are numbers, behind masks, and on models that learned nothing.
    """

    kind: Literal["gan-class"] = "gan-class"
    """Selects this attack: a generator trained against all rounds' models."""
    known_as: ClassVar[Mapping[str, str]] = {"gan": "gan-class", "dmgan": "gan-class"}
    last_only: ClassVar[bool] = True
    samples: int = Field(default=50, ge=1, le=1000)
    """Records generated of each class, 1 to 1000."""
    iterations: int = Field(default=1500, ge=1, le=1_000_000)
    """Steps of the generator's training over all rounds together, 1 to 1000000."""
    seconds: float = Field(default=60.0, gt=0)
    """Seconds of computing after which training stops; a limit that is hit makes results machine-dependent."""

    @property
    def asks(self) -> Asks:
        """Classes: what the records of each class look like."""
        return "classes"

    def run(self, seen: Observation, knows: Knowledge, rng: np.random.Generator, progress: Progress) -> Claim:
        """Claim `samples` labeled records of each class, with the last model's probability of it as confidence."""
        model, schema = knows.model, knows.schema
        if model is None or schema is None:
            return nothing("the architecture is withheld" if model is None else "the schema is withheld")
        if not schema.classes:
            return nothing("the label is a number, and has no classes")
        discriminators: list[nn.Module] = []
        for exchange in seen.exchanges:
            reason = unusable(exchange)
            if reason is not None:
                return nothing(reason)
            weights = {name: t + exchange.received[name].float() for name, t in exchange.sent.items()}
            try:
                network = known_network(model, weights, schema)
            except ValueError as error:
                return nothing(str(error))
            discriminators.append(network.eval().requires_grad_(False))
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        form: Literal["box", "relaxed"] = "box" if schema.image is not None else "relaxed"
        made = generator_of(relax(schema, schema.width, form), schema.outputs, int(rng.integers(2**31)))
        guides, duration = Guides(discriminators, schema, knows.auxiliary), Duration(self.iterations, self.seconds)
        taken = train_by_model(made, guides, duration, generator, progress)
        if not all(bool(weight.isfinite().all()) for weight in made.parameters):
            return nothing("the generator's training diverged against a model whose answers are not finite")
        labels = torch.arange(schema.outputs).repeat_interleave(self.samples)
        with torch.no_grad():
            records = made(torch.randn(len(labels), NOISE, generator=generator), labels, generator)
            records = made.relaxation.harden(records)
            sure = discriminators[-1](records).softmax(1).gather(1, labels[:, None])[:, 0]
        progress(1.0)
        each = f"a generator was trained for {taken} steps against {len(discriminators)} rounds' models"
        return Claim(records, sure.clamp(0, 1), labels, notes=(each,))
