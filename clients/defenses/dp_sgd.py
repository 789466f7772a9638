"""Clips and noises each record's gradient (Opacus): example-level DP.

Abadi et al. 2016, algorithm 1, with Poisson sampling as its accounting assumes.
"""

import json
import warnings
from typing import Literal

import torch
from opacus import GradSampleModule
from opacus.accountants import RDPAccountant
from opacus.optimizers import DPOptimizer
from pydantic import Field

from fedinv.defense import Defense, Job, LocalTraining, PrivacyEvent, State, Update
from fedinv.loss import loss
from fedinv.streams import torch_stream


class DpSgd(Defense):
    """Replaces local training by DP-SGD. `clip` is in gradient norm, `noise_multiplier` in multiples of it."""

    kind: Literal["dp-sgd"] = "dp-sgd"
    sampling = "poisson"
    per_record = True
    noise_multiplier: float = Field(ge=0)
    clip: float = Field(gt=0)
    delta: float = Field(default=1e-5, gt=0, lt=1)
    guard: bool = True
    """Drop records whose gradient is not finite: clipping lets NaN through, at any noise. Off only to show that."""

    def wrap_training(self, training: LocalTraining) -> LocalTraining:
        """Return DP-SGD, whatever the training was."""
        return self._train

    def privacy_events(self, state: State, rounds: int) -> tuple[PrivacyEvent, ...]:
        """What Opacus' accountant counted over all rounds."""
        history = json.loads(state[self.kind])["history"] if self.kind in state else []
        return tuple(
            PrivacyEvent(
                noise_multiplier=float(noise),
                sampling_rate=float(rate),
                steps=int(steps),
                delta=self.delta,
                unit="example",
                neighbors="add-or-remove-one",
                mechanism=self.kind,
            )
            for noise, rate, steps in history
        )

    def _train(self, job: Job) -> Update:
        settings, records = job.training, len(job.inputs)
        batch_size = min(settings.batch_size, records)
        start = {name: weight.detach().clone() for name, weight in job.network.named_parameters()}
        accountant = RDPAccountant()
        if self.kind in job.state:
            accountant.load_state_dict(json.loads(job.state[self.kind]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's notes on hooks, none of them the user's business
            model = GradSampleModule(job.network, loss_reduction="sum")
            optimizer = DPOptimizer(
                torch.optim.SGD(
                    model.parameters(),
                    lr=settings.lr,
                    momentum=settings.momentum,
                    weight_decay=settings.weight_decay,
                ),
                noise_multiplier=self.noise_multiplier,
                max_grad_norm=self.clip,
                expected_batch_size=batch_size,
                generator=torch_stream(job.rng),
            )
            optimizer.attach_step_hook(accountant.get_optimizer_hook_fn(sample_rate=batch_size / records))
            for batch in job.batches:
                rows = torch.from_numpy(batch)
                optimizer.zero_grad()
                off = loss(model(job.inputs[rows]), job.labels[rows], reduction="sum")
                torch.autograd.backward(off)
                if self.guard:
                    _drop_non_finite(optimizer)
                optimizer.step()
        job.state[self.kind] = json.dumps(accountant.state_dict())
        # by value: Opacus leaves the sum without noise on the parameters it trained
        end = {name: weight.detach().clone() for name, weight in model.to_standard_module().named_parameters()}
        return {name: end[name] - start[name] for name in start}


def _drop_non_finite(optimizer: DPOptimizer) -> None:
    """Zero the per-record gradients whose norm is not finite in any parameter."""
    samples: list[torch.Tensor] = optimizer.grad_samples
    bad = torch.zeros(len(samples[0]), dtype=torch.bool)
    for sample in samples:
        bad |= ~torch.isfinite(sample.flatten(1).square().sum(1))
    for parameter in optimizer.params:
        parameter.grad_sample[bad] = 0.0
