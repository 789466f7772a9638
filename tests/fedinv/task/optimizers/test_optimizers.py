import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from fedinv.task.optimizers import KINDS, Adam, AdamW, LocalDescent, Memory, RmsProp, Sgd
from fedinv.task.optimizers.adam import _roots
from fedinv.task.optimizers.schedules import Constant, Cosine, Linear, Step

BETA = st.floats(0, 0.999)
EPS = st.sampled_from([1e-8, 1e-5, 0.1])
MOMENTUM = st.sampled_from([0.0, 0.5, 0.9])
DECAY = st.sampled_from([0.0, 0.01, 0.3])
OPTIMIZERS = st.one_of(
    st.builds(Sgd, nesterov=st.booleans()),
    st.builds(Adam, betas=st.tuples(BETA, BETA), eps=EPS, amsgrad=st.booleans()),
    st.builds(AdamW, betas=st.tuples(BETA, BETA), eps=EPS, amsgrad=st.booleans()),
    st.builds(RmsProp, alpha=BETA, eps=EPS),
)


def torchs(optimizer, parameters, lr, momentum, weight_decay):
    """torch's own optimizer with the same settings."""
    own = optimizer.model_dump(exclude={"kind"})
    kinds = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    if optimizer.takes_momentum:
        own["momentum"] = momentum
    return (kinds | {"rmsprop": torch.optim.RMSprop})[optimizer.kind](
        parameters, lr=lr, weight_decay=weight_decay, foreach=False, **own
    )


@settings(max_examples=60, deadline=None)
@given(OPTIMIZERS, MOMENTUM, DECAY, st.integers(0, 2**20))
def test_every_step_is_that_of_torchs_own_optimizer(optimizer, momentum, decay, seed):
    if optimizer == Sgd(nesterov=True):
        momentum = momentum or 0.9
    generator = torch.Generator().manual_seed(seed)
    start = [torch.randn(shape, generator=generator) for shape in ((3, 4), (4,))]
    theirs = [one.clone().requires_grad_() for one in start]
    judge = torchs(optimizer, theirs, 0.05, momentum, decay)
    descent = LocalDescent(0.05, momentum if optimizer.takes_momentum else 0.0, decay, optimizer)
    ours, memory = [one.clone() for one in start], Memory()
    for _ in range(5):
        gradients = [torch.randn(one.shape, generator=generator) for one in start]
        gradients[0][0] = 0.0  # as of a unit that no record reaches
        for weight, gradient in zip(theirs, gradients, strict=True):
            weight.grad = gradient.clone()
        judge.step()
        kept = [one.clone() for one in (*gradients, *ours)]
        steps, memory = descent.direction(gradients, ours, start, memory)
        assert all(map(torch.equal, kept, (*gradients, *ours))), "an argument was changed"
        ours = [weight - 0.05 * step for weight, step in zip(ours, steps, strict=True)]
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other.detach(), rtol=1e-6, atol=1e-6), optimizer


@settings(max_examples=30, deadline=None)
@given(OPTIMIZERS, MOMENTUM, DECAY)
def test_a_stack_of_clients_takes_each_clients_own_steps(optimizer, momentum, decay):
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(5, generator=generator)
    descent = LocalDescent(0.1, momentum, decay, optimizer, proximal=0.3)
    gradients = torch.randn(3, 4, 5, generator=generator)  # steps, clients, entries
    stack, memory = start.expand(4, 5).clone(), Memory()
    for at in gradients:
        (step,), memory = descent.direction([at], [stack], [start], memory)
        stack = stack - 0.1 * step
    for client in range(4):
        alone, memory = start.clone(), Memory()
        for at in gradients[:, client]:
            (step,), memory = descent.direction([at], [alone], [start], memory)
            alone = alone - 0.1 * step
        assert torch.allclose(alone, stack[client], atol=1e-6)


def test_clients_that_are_done_leave_the_stack():
    descent = LocalDescent(0.1, optimizer=Adam())
    gradient = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    _, memory = descent.direction([gradient], [gradient], [gradient[0]], Memory())
    (whole,), _ = descent.direction([gradient], [gradient], [gradient[0]], memory)
    (part,), _ = descent.direction([gradient[:2]], [gradient[:2]], [gradient[0]], memory.first(2))
    assert torch.equal(whole[:2], part)


def test_the_proximal_term_draws_to_the_global_model():
    weight, start, gradient = torch.tensor([3.0]), torch.tensor([1.0]), torch.tensor([0.5])
    (step,), _ = LocalDescent(0.1, proximal=0.2).direction([gradient], [weight], [start], Memory())
    assert torch.allclose(step, torch.tensor([0.5 + 0.2 * 2.0]))


def test_only_plain_sgd_is_plain_and_only_sgd_is_linear():
    assert LocalDescent(0.1).plain
    for other in (
        LocalDescent(0.1, momentum=0.5),
        LocalDescent(0.1, weight_decay=0.1),
        LocalDescent(0.1, proximal=0.1),
        LocalDescent(0.1, schedule=Cosine()),
        LocalDescent(0.1, optimizer=Adam()),
    ):
        assert not other.plain
    assert {kind for kind, table in KINDS.items() if table.linear} == {"sgd"}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Constant(), lambda o: lr_scheduler.ConstantLR(o, 1.0)),
        (Step(every=3, by=0.5), lambda o: lr_scheduler.StepLR(o, 3, 0.5)),
        (Step(every=1, by=0.9), lambda o: lr_scheduler.ExponentialLR(o, 0.9)),
        (Cosine(floor=0.1), lambda o: lr_scheduler.CosineAnnealingLR(o, 10, eta_min=0.02)),
        (Linear(begin=0.2, end=1.0, over=4), lambda o: lr_scheduler.LinearLR(o, 0.2, 1.0, 4)),
        (Linear(begin=1.0, end=0.1, over=10), lambda o: lr_scheduler.LinearLR(o, 1.0, 0.1, 10)),
    ],
)
def test_schedules_are_torchs(ours, theirs):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.2)
    schedule = theirs(optimizer)
    for lr in LocalDescent(0.2, schedule=ours).lrs(10):
        assert lr == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6)
        optimizer.step()
        schedule.step()


def test_adam_s_roots_in_float64_are_those_of_torch_and_zero_at_zero():
    squares = torch.logspace(-40, 3, 500, dtype=torch.float64)
    (found,) = _roots([torch.cat([squares, torch.zeros(3, dtype=torch.float64)])])
    assert torch.allclose(found[:500], squares.sqrt(), rtol=1e-15, atol=0)
    assert not found[500:].any()
