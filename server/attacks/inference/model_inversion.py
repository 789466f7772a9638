"""Reads classes, or one field of a person, off the model."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from fedinv.attack import Answer, Asks, Attack, Claim, Knowledge, Observation, Progress, Sees, nothing
from fedinv.task.schema import Schema

from ...inference.attribute import attribute
from ...inference.representatives import (
    ClassDescent,
    Slopes,
    begin,
    by_confidence,
    by_gradient,
    marginals,
    representatives,
)
from ...inversion.local_training import known_network
from ...inversion.matching.priors import Prior, squares, total_variation
from ...inversion.matching.relaxation import relax

REACH = 0.3
"""Standard deviation of the random steps by which confidences are probed, in the population's standard deviations."""


class ModelInversion(Attack):
    """Model inversion: what a class looks like, or one unknown field of a person, from the model.

    Threat model: an honest-but-curious server, or anyone who has the trained model. It needs the architecture and the
    schema; with `access` "confidences" mode "classes" only queries the model and never differentiates it.

    Mode "classes" claims one representative a class, with the model's own probability of it as confidence (Fredrikson,
    Jha, Ristenpart 2015, algorithm 1): descend the loss of a class, or ascend its output, with respect to the input,
    x <- x - eta * dL/dx, all classes and restarts at once. Priors keep it among plausible records: the published
    marginals for a table, total variation and the distance to the mean pixel for an image. By confidences alone the
    slope is estimated by an evolution strategy within a budget of queries.

    Mode "attribute" answers which value of `column` fits a person whose other fields are known (Fredrikson et al. 2014;
    Yeom et al. 2018): access "confidences" queries the trained model, "gradients" uses each update of a client.

    Fails where a class's members differ: a representative is what the model takes for typical, which is near the
    class's mean where a class is one person, and far from anybody otherwise; of a one-hot group it shows shares.
    Outputs have no bound, and ascending them overshoots.
    """

    kind: Literal["model-inversion"] = "model-inversion"
    """Selects this attack: model inversion."""
    known_as: ClassVar[Mapping[str, str]] = {"mi-face": "model-inversion", "miface": "model-inversion"}
    assessed_with: ClassVar[Mapping[str, Any] | None] = {"mode": "attribute", "access": "gradients"}
    mode: Literal["classes", "attribute"] = "classes"
    """What is asked for: a representative of each class, or one column of people whose other columns are known."""
    access: Literal["gradients", "confidences"] = "gradients"
    """What the attack uses: the model's gradients (for an attribute, each client's update) or its confidences only."""
    column: str | None = None
    """Name of the column that mode "attribute" asks for; the first sensitive column if absent."""
    goal: Literal["loss", "output"] = "loss"
    """What mode "classes" optimizes: the class's loss, descended, or its output, ascended."""
    start: Literal["mean", "random"] = "mean"
    """Where the search in mode "classes" begins: the published mean, or random records."""
    restarts: int = Field(default=4, ge=1, le=64)
    """Starting points per class, 1 to 64, of which the best is claimed; always 1 with access "confidences"."""
    iterations: int = Field(default=300, ge=1, le=100_000)
    """Steps of the search in mode "classes", 1 to 100000."""
    lr: float = Field(default=0.05, gt=0)
    """Step length of the search in mode "classes", above 0, in searched numbers."""
    smooth: float = Field(default=1.0, ge=0)
    """Weight of an image's total variation, 0 or more."""
    near: float | None = Field(default=None, ge=0)
    """Weight, 0 or more, of a table's published marginals, 1 if absent, or of an image's squared distance to the mean
    pixel, 0.3 if absent."""
    questions: int = Field(default=20_000, ge=100)
    """Queries per class that access "confidences" may make of the model, 100 or more."""

    @property
    def asks(self) -> Asks:
        """Classes or an attribute, as `mode` says."""
        return self.mode

    @property
    def sees(self) -> Sees:
        """The trained model; each update where an attribute is read from gradients."""
        return "update" if self.mode == "attribute" and self.access == "gradients" else "model"

    def run(self, seen: Observation, knows: Knowledge, rng: np.random.Generator, progress: Progress) -> Claim | Answer:
        """Claim one representative a class, or answer with scores (people, values) of a column."""
        if self.mode == "attribute":
            return attribute(seen, knows, self.access, rng)
        model, schema = knows.model, knows.schema
        if model is None or schema is None:
            return nothing("the architecture is withheld" if model is None else "the schema is withheld")
        if not schema.classes:
            return nothing("the label is a number, and has no classes")
        try:
            network = known_network(model, {k: t.float() for k, t in seen.last.sent.items()}, schema)
        except ValueError as error:
            return nothing(str(error))
        if not all(bool(t.isfinite().all()) for t in seen.last.sent.values()):
            return nothing("the model's weights are not finite")
        return self._classes(network.eval().requires_grad_(False), schema, rng, progress)

    def _classes(self, network: nn.Sequential, schema: Schema, rng: np.random.Generator, progress: Progress) -> Claim:
        def confidences(inputs: Tensor) -> Tensor:
            with torch.no_grad():
                return torch.as_tensor(network(inputs)).softmax(1)

        image, black = schema.image is not None, self.access == "confidences"
        relaxation = relax(schema, schema.width, "box" if image else "relaxed")
        restarts = 1 if black else self.restarts
        probes = max(1, self.questions // (2 * (self.iterations + 1)))
        iterations = min(self.iterations, self.questions // (2 * probes) - 1) if black else self.iterations
        slopes: Slopes = (
            by_confidence(
                confidences, probes, REACH, schema.image, torch.Generator().manual_seed(int(rng.integers(2**63)))
            )
            if black
            else by_gradient(network, self.goal)
        )
        descent = ClassDescent(slopes, relaxation, self._priors(schema), iterations, self.lr)
        classes = torch.arange(schema.outputs).repeat_interleave(restarts)
        start = begin(schema, relaxation, restarts, self.start, rng)
        found, costs = representatives(start, classes, descent, progress)
        best = costs.reshape(-1, restarts).argmin(1) + torch.arange(schema.outputs) * restarts
        records = found[best]
        labels = torch.arange(schema.outputs)
        sure = confidences(records).gather(1, labels[:, None])[:, 0]
        asked = 2 * probes * (iterations + 1)
        notes = (f"asked for {asked} confidences a class and saw no gradient",) if black else ()
        return Claim(records, sure.clamp(0, 1), labels, notes=notes)

    def _priors(self, schema: Schema) -> list[Prior]:
        if schema.image is None:
            return [marginals(schema, 1.0 if self.near is None else self.near)]
        return [total_variation(self.smooth, schema.shape), squares(0.3 if self.near is None else self.near)]
