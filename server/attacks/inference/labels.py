"""Label counts of a batch from the last layer's update."""

from typing import Literal

import numpy as np
import torch

from fedinv.attack import Answer, Asks, Attack, Knowledge, Observation, Progress, Reading, unanswered
from fedinv.task.foreign.update import LayerUpdate
from fedinv.task.models import AnyModel

from ...countermeasures import answer
from ...inversion.labels import label_hypotheses
from ...inversion.local_training import step_length
from ...inversion.matching.matcher import matching
from ...inversion.matching.network import matchable
from ...inversion.matching.presets import settled

DRAWS = 512
"""Records drawn to estimate the network's mean output probabilities."""


class Labels(Attack):
    """Label counts of a batch from the last layer's update.

    Threat model: an honest-but-curious server with one update of one client, or one sum of updates. It needs the
    architecture, the schema, from which the network's mean output is estimated, and, for the counts, the learning rate.

    Answers: how many of the update's records have each label.

    Papers: cross-entropy's gradient at the last bias is the mean of (probabilities - one-hot labels): for one record
    the only negative entry is its label (Zhao et al. 2020, iDLG, equation 3); for a batch the counts follow once the
    mean probabilities are known (Yin et al. 2021, equation 8; Geng et al. 2021), here estimated on records drawn from
    the schema, at the weights halfway where there were several local steps.

    Fails behind noise and masks, where the label is a number, and where the last layer has no bias.
    """

    kind: Literal["labels"] = "labels"
    """Selects this attack: label counts."""

    @classmethod
    def suits(cls, model: AnyModel) -> bool:
        """Whether gradient matching knows the model's layers, through which the mean output is estimated."""
        return matchable(model)

    @classmethod
    def reads(cls, update: LayerUpdate, following: LayerUpdate | None) -> Reading | None:
        """Whether the layer is the last and has a bias, whose update counts the labels."""
        if update.layer.gate != "last":
            return None
        reason = "" if update.biased else "its bias was not on the wire"
        if update.rescaled and not reason:
            reason = "all entries are of about one size, as Adam or signs leave them: signs alone tell of labels"
        return Reading(False, reason) if reason else Reading(True, "how often each label occurs")

    @property
    def asks(self) -> Asks:
        """Labels: how often each class occurs in the batch."""
        return "labels"

    def run(self, seen: Observation, knows: Knowledge, rng: np.random.Generator, progress: Progress) -> Answer:
        """Answer with scores (1, classes): how many of the update's records have each label."""
        against = answer(seen, knows)
        last, schema = against.seen.last, knows.schema
        if schema is None:
            return unanswered("the schema is withheld, and with it what the network answers on average")
        if knows.loss == "squared-error":
            return unanswered("the label is a number, and has no counts")
        try:
            length = step_length(knows, last.records)
            distortion = against.distortion(last)
            match = matching(last, knows, distortion, settled("fedinv", {}), length)
        except ValueError as error:
            return unanswered(str(error))
        if len(match.bias) != schema.outputs:
            return unanswered("the last layer has no bias")
        chances, weights = match.objective.answers(schema.draw(DRAWS, rng)), match.objective.class_weights
        counts = label_hypotheses(match.bias, chances, last.records, length, distortion.noise, weights)[0]
        progress(1.0)
        return Answer(torch.as_tensor(counts, dtype=torch.float32).reshape(1, -1))
