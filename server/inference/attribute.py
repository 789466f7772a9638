"""Infers one unknown field of a person whose other fields are known, from the model's loss or a client's update."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedinv.attack import Answer, Knowledge, Observation, Question, Sample, unanswered
from fedinv.task.columns import Categorical
from fedinv.task.loss import loss
from fedinv.task.schema import Schema

from ..inversion.evidence import unusable
from ..inversion.local_training import gradient_weights, known_network, step_length
from .whitening import Noise, gradients, seen_gradient

CHUNK = 2**25
"""Most numbers that the per-record gradients computed at once may hold."""
DRAWS = 256
"""Records drawn from the schema to estimate the covariance of other people's gradients."""
DECOYS = 128
"""Further records drawn from the schema, in no batch, to calibrate the likelihood."""
RIDGE = 10.0
"""L2 penalty of the regressions that are fitted to the auxiliary records, whose numbers are standardized."""


def attribute(seen: Observation, knows: Knowledge, access: str, rng: np.random.Generator) -> Answer:
    """Answer with scores (people, options): log likelihood plus log prior of each value, for each person asked about.

    `access` "confidences": minus the model's loss on the person with each value filled in (Fredrikson et al. 2014,
    algorithm 1; Yeom et al. 2018, section 5), needs the trained model only. "gradients": how well the gradient that the
    person would have had with each value fits the client's update. The prior is that of the published marginals, or
    with auxiliary records the one that a regression on them gives for the person's other fields.
    """
    model, schema, question = knows.model, knows.schema, knows.question
    if model is None or schema is None:
        return unanswered("the architecture is withheld" if model is None else "the schema is withheld")
    if question is None or question.people is None or question.options is None or question.column is None:
        return unanswered("nobody is known in part")
    last = seen.last
    reason = unusable(last) if access == "gradients" else None
    if reason is not None:
        return unanswered(reason)
    try:
        length = step_length(knows, last.records) if access == "gradients" else None
        weights = gradient_weights(last, not last.received or knows.algorithm == "fedsgd")
        network = known_network(model, weights, schema).eval()
    except ValueError as error:
        return unanswered(str(error))
    people = question.people
    records, labels = _filled(schema, question)
    prior = _log_prior(schema, question) if knows.auxiliary is None else _imputed(schema, question, knows.auxiliary)
    if access == "confidences":
        with torch.no_grad():
            likely = -loss(network(records), labels, reduction="none")
    else:
        received = last.received
        picked = torch.from_numpy(rng.integers(len(people), size=DRAWS + DECOYS))
        drawn = Sample(schema.draw(DRAWS + DECOYS, rng), people.labels[picked])
        likely = _fit(network, Sample(records, labels), drawn, received, length, last.records)
    scores = likely.reshape(len(question.people), -1) + prior
    return Answer(scores) if bool(scores.isfinite().all()) else unanswered("values are not finite")


def _filled(schema: Schema, question: Question) -> tuple[Tensor, Tensor]:
    """Each person with each value filled in: records (people * options, width), labels (people * options,)."""
    people, options = question.people, question.options
    assert people is not None and options is not None
    at = schema.slices[schema.names.index(question.column or "")]
    records = people.records.repeat_interleave(len(options), 0)
    records[:, at] = options.repeat(len(people), 1)
    return records, people.labels.repeat_interleave(len(options))


def _log_prior(schema: Schema, question: Question) -> Tensor:
    """Log prior (options,) of the values from the published marginals; a normal density around a number's mode."""
    column, options = schema.columns[schema.names.index(question.column or "")], question.options
    assert options is not None
    if isinstance(column, Categorical):
        share = torch.tensor(column.frequencies) / sum(column.frequencies)
        return (options @ share).clamp_min(1e-6).log()
    return -(options - column.guess[0]).square().sum(1) / 2


def _imputed(schema: Schema, question: Question, auxiliary: Sample) -> Tensor:
    """Log prior (people, options) of the values given a person's other fields, by regression on auxiliary records."""
    from sklearn.linear_model import LogisticRegression, Ridge

    people, options, at = question.people, question.options, schema.slices[schema.names.index(question.column or "")]
    assert people is not None and options is not None

    def rest(sample: Sample) -> NDArray[np.float64]:
        fields = np.delete(sample.records.double().numpy(), np.arange(at.start, at.stop), 1)
        return np.concatenate([fields, sample.labels.double().numpy()[:, None]], 1)

    asked = auxiliary.records[:, at]
    if asked.shape[1] == 1:
        fitted = Ridge(RIDGE).fit(rest(auxiliary), asked[:, 0].numpy())
        told = torch.from_numpy(fitted.predict(rest(people))).float()
        spread = float((torch.from_numpy(fitted.predict(rest(auxiliary))) - asked[:, 0]).std()) + 1e-3
        return -((options[None, :, 0] - told[:, None]) / spread).square() / 2
    values, found = asked.argmax(1).numpy(), _log_prior(schema, question)
    if len(np.unique(values)) < 2:
        return found
    fitted = LogisticRegression(C=1 / RIDGE, max_iter=500).fit(rest(auxiliary), values)
    # a value that no auxiliary record has keeps its published frequency
    chances = found.exp().repeat(len(people), 1)
    chances[:, fitted.classes_] = torch.from_numpy(fitted.predict_proba(rest(people))).float()
    return chances.clamp_min(1e-6).log()


def _fit(
    network: nn.Sequential,
    people: Sample,
    drawn: Sample,
    received: Mapping[str, Tensor],
    step: float | None,
    n: int,
) -> Tensor:
    """Log likelihood (k,) of the update given that each of `people` (k) was one of its n records.

    If the noise model were right, the matched filter of people outside the batch would have variance 1. Where it has
    more, as after several local steps, all log likelihoods are divided by it (overdispersion; Wedderburn 1974).
    """
    all_of_them = gradients(network, drawn)
    others, decoys = all_of_them[:-DECOYS], all_of_them[-DECOYS:] / n
    mean = others.mean(0)
    rest = seen_gradient(network, received, step, others[:n]) - mean * (n - 1) / n
    noise = Noise.of(others * ((n - 1) ** 0.5 / n), rest)
    squares = noise.products(decoys, rest.expand_as(decoys)).square() / noise.products(decoys, decoys).clamp_min(1e-30)
    trust = 1 / max(1.0, float(squares.mean()))
    along, sizes, rows = [], [], max(1, CHUNK // len(rest))
    for at in range(0, len(people), rows):
        own = gradients(network, Sample(people.records[at : at + rows], people.labels[at : at + rows])) / n
        along.append(noise.products(own, rest.expand_as(own)))
        sizes.append(noise.products(own, own))
    fit, size = torch.cat(along), torch.cat(sizes)
    # where it was clipped, or noise dominates, a person's gradient is in the update with less than its full length
    share = min(1.0, max(0.0, float(fit.sum() / size.sum().clamp_min(1e-30))))
    return trust * (share * fit - share**2 * size / 2)
