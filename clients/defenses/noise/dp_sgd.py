"""Clips and noises each record's gradient: example-level DP.

Abadi et al. 2016, algorithm 1, with Poisson sampling as its accounting assumes.
"""

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from fedinv.defense import (
    Clipping,
    Defense,
    Job,
    LocalTraining,
    Participation,
    PrivacyEvent,
    RecordExposure,
    Trial,
    Update,
)
from fedinv.federation.streams import torch_stream
from fedinv.privacy.claims import calibrated
from fedinv.privacy.events import Delta, Epsilon, NoiseMultiplier
from fedinv.task.loss import loss
from fedinv.task.optimizers import Memory

from ...training.plain_training import drawn

if TYPE_CHECKING:
    from opacus.grad_sample import GradSampleModuleFastGradientClipping
    from opacus.optimizers import DPOptimizer


class DpSgd(Defense):
    """Replaces local training by DP-SGD. Guarantees epsilon per record, over all rounds.

    A step's sum is divided by a public number, not by the client's count of records. That count itself, from which the
    number of steps and the sampling rate follow, is sent in the clear and no part of the guarantee.
    Any optimizer takes its steps by the noisy sum, which costs no more privacy: it is post-processing.
    Costs the gradient of each record (about 6 times the time of a step) and no bytes.
    """

    kind: Literal["dp-sgd"] = "dp-sgd"
    neutral: ClassVar[Mapping[str, Any] | None] = {"clip": 1e6, "noise_multiplier": 0.0}
    sampling = "poisson"
    per_record = True
    trials = (Trial(10, words="DP-SGD, noise 1, clip 1"), Trial(20, {"epsilon": 8}))
    noise_multiplier: NoiseMultiplier | None = None
    """Standard deviation of the noise, in multiples of `clip`. Default: what epsilon needs, else 1."""
    epsilon: Epsilon | None = None
    """Privacy budget of each client over the whole run; the noise is calibrated for it unless noise_multiplier is
    given. A client stops taking part before it exceeds the budget."""
    clip: float = Field(default=1.0, gt=0)
    """Norm to which each record's gradient is clipped, over all parameters."""
    delta: Delta = 1e-5
    """Delta of the (epsilon, delta) guarantee, a probability: choose it well below one over the number of records."""
    mode: Literal["ghost", "hooks", "functorch"] = "ghost"
    """Method by which Opacus clips: "ghost" computes the norms of the records' gradients and their clipped sum in two
    passes, which is fastest and needs least memory; "hooks" and "functorch" compute each record's gradient. The update
    does not depend on it."""
    guard: bool = True
    """True: records whose gradient is not finite are dropped. False shows the bug: clipping lets NaN through, at any
    noise, which reveals that such a record is there."""

    def wrap_training(self, training: LocalTraining) -> LocalTraining:
        """Return DP-SGD in the place of any training."""
        return self._train

    def clipping(self, taken: Participation) -> Clipping:
        """Clipping norm and noise, for clients that are trained in one stacked tensor."""
        (charged,) = self.privacy_events(taken)
        return Clipping(self.clip, charged.noise_multiplier, self.guard, float(taken.divisor or taken.batch_size))

    def privacy_events(self, taken: Participation) -> tuple[PrivacyEvent, ...]:
        """One Poisson-sampled Gaussian mechanism per local step."""
        event = PrivacyEvent(
            noise_multiplier=self.noise_multiplier or 0.0,
            sampling_rate=taken.batch_size / taken.records,
            steps=taken.steps,
            delta=self.delta,
            unit="example",
            neighbors="add-or-remove-one",
            mechanism=self.kind,
            budget=self.epsilon,
        )
        return (calibrated(event, self.noise_multiplier, taken.rounds),)

    def exposure(self, taken: Participation, rounds: int) -> RecordExposure | None:
        """One step a round: earlier rounds count at their sampling rate, the last one at 1; None for several steps."""
        if taken.steps != 1:
            return None
        (charged,) = self.privacy_events(taken)
        return RecordExposure(charged.noise_multiplier, ((1.0, 1), (charged.sampling_rate, rounds - 1)))

    def known(self, taken: Participation) -> dict[str, Any]:
        """The parameters, with the calibrated noise multiplier and the number that sums are divided by."""
        promised = self.clipping(taken)
        return {**self.model_dump(), "noise_multiplier": promised.noise_multiplier, "divisor": promised.divisor}

    def _train(self, job: Job) -> Update:
        # a second of importing, which clients that are trained as one stack do without
        from opacus import GradSampleModule
        from opacus.grad_sample import GradSampleModuleFastGradientClipping
        from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping

        descent, class_weights, promised = job.training.descent, job.training.weights(), self.clipping(job.taken)
        start = {name: weight.detach().clone() for name, weight in job.network.named_parameters()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's warnings about hooks, which do not concern the user
            ghost = self.mode == "ghost"
            model = (
                GradSampleModuleFastGradientClipping(job.network, loss_reduction="sum", max_grad_norm=self.clip)
                if ghost
                else GradSampleModule(job.network, loss_reduction="sum", force_functorch=self.mode == "functorch")
            )
            # Opacus clips and adds noise; the step itself is the scenario's optimizer's
            optimizer = (DPOptimizerFastGradientClipping if ghost else DPOptimizer)(
                torch.optim.SGD(model.parameters()),
                noise_multiplier=promised.noise_multiplier,
                max_grad_norm=self.clip,
                expected_batch_size=promised.divisor,
                generator=torch_stream(job.rng),
            )
            weights: list[Tensor] = list(job.network.parameters())
            begun, memory = list(start.values()), Memory()
            for batch, lr in zip(job.batches, descent.lrs(len(job.batches)), strict=True):
                optimizer.zero_grad()
                model.disable_hooks()  # gradients that other defenses compute on the batch must not be clipped
                inputs, labels = drawn(job, torch.from_numpy(batch))
                model.enable_hooks()
                if ghost:
                    self._clipped_sum(model, optimizer, inputs, labels, class_weights)
                else:
                    torch.autograd.backward(loss(model(inputs), labels, "sum", class_weights))
                    if self.guard:
                        _drop_non_finite(optimizer)
                if optimizer.pre_step():
                    with torch.no_grad():
                        noisy = [weight.grad for weight in weights if weight.grad is not None]
                        steps, memory = descent.direction(noisy, weights, begun, memory)
                        torch._foreach_add_(weights, steps, alpha=-lr)
        # copied, because Opacus leaves the sum without noise on the parameters it trained
        end = {name: weight.detach().clone() for name, weight in model.to_standard_module().named_parameters()}
        return {name: end[name] - start[name] for name in start}

    def _clipped_sum(
        self,
        model: "GradSampleModuleFastGradientClipping",
        optimizer: "DPOptimizer",
        inputs: Tensor,
        labels: Tensor,
        class_weights: Tensor | None,
    ) -> None:
        """Store the sum of the clipped gradients in the parameters' `grad`: one pass for the norms, one for the sum.

        Li, Tramer, Liang, Hashimoto 2022 (Large language models can be strong DP learners), section 4.
        """
        if not len(inputs):
            for parameter in optimizer.params:
                parameter.grad = torch.zeros_like(parameter)
            return
        losses = loss(model(inputs), labels, "none", class_weights)
        torch.autograd.backward(losses.sum(), retain_graph=True)
        factors = model.get_clipping_coef()
        optimizer.zero_grad()
        model.disable_hooks()
        if self.guard and not bool(factors.isfinite().all() & losses.isfinite().all()):
            usable = factors.isfinite() & (factors > 0) & losses.isfinite()
            inputs, labels, factors = inputs[usable], labels[usable], factors[usable]
            losses = loss(model(inputs), labels, "none", class_weights)
        torch.autograd.backward((factors * losses).sum())
        model.enable_hooks()


def _drop_non_finite(optimizer: "DPOptimizer") -> None:
    """Zero the gradient of each record whose norm is not finite in some parameter."""
    samples: list[torch.Tensor] = optimizer.grad_samples
    bad = torch.zeros(len(samples[0]), dtype=torch.bool)
    for sample in samples:
        bad |= ~torch.isfinite(sample.flatten(1).square().sum(1))
    for parameter in optimizer.params:
        parameter.grad_sample[bad] = 0.0
