import pytest
import torch

from server.inversion.matching.steps import lengths, walk


def _run(rule, evaluate, start, steps):
    walking = walk(rule, start, steps)
    point, values = next(walking), []
    for _ in steps:
        value, slope = evaluate(point)
        values.append(value)
        point = walking.send((value, slope))
    return point, torch.stack(values)


def _quadratic(scales):
    return lambda x: ((scales * x.square()).sum(1) / 2, scales * x)


def test_lbfgs_solves_badly_scaled_restarts_each_on_its_own():
    scales = torch.logspace(0, 3, 12) * torch.tensor([[1.0], [0.01]])
    start = torch.randn(2, 12, generator=torch.Generator().manual_seed(0))
    point, _ = _run("l-bfgs", _quadratic(scales), start, [1.0] * 80)
    assert float(point.abs().max()) < 1e-3
    alone, _ = _run("l-bfgs", _quadratic(scales[:1]), start[:1], [1.0] * 80)
    assert torch.allclose(alone, point[:1], atol=1e-6)


def test_lbfgs_descends_a_curved_valley():
    def rosenbrock(x):
        a, b = x[:, 0], x[:, 1]
        value = (1 - a).square() + 100 * (b - a.square()).square()
        slope = torch.stack([-2 * (1 - a) - 400 * a * (b - a.square()), 200 * (b - a.square())], 1)
        return value, slope

    point, _ = _run("l-bfgs", rosenbrock, torch.tensor([[-1.2, 1.0]]), [1.0] * 150)
    assert torch.allclose(point, torch.ones(1, 2), atol=1e-2)


def test_lbfgs_steps_back_from_values_that_are_not_finite():
    def walled(x):
        value = torch.where(x[:, 0] > 0.5, torch.nan, -x[:, 0])
        return value, torch.where(x > 0.5, torch.nan, -torch.ones_like(x))

    _, values = _run("l-bfgs", walled, torch.zeros(1, 1), [1.0] * 60)
    assert bool(values.isnan().any())
    assert -0.5 <= float(values.nan_to_num(nan=0.0).min()) < -0.4


@pytest.mark.parametrize("rule", ["adam", "signed-adam"])
def test_adam_is_torchs(rule):
    scales, start = torch.tensor([[1.0, 10.0, 100.0]]), torch.tensor([[1.03, -2.01, 0.517]])
    point, _ = _run(rule, _quadratic(scales), start, [0.05] * 20)
    parameter = start.clone().requires_grad_()
    adam = torch.optim.Adam([parameter], lr=0.05)
    for _ in range(20):
        slope = scales * parameter.detach()
        parameter.grad = slope if rule == "adam" else slope.sign()
        adam.step()
    assert torch.allclose(point, parameter.detach(), atol=1e-5)


def test_schedules():
    assert lengths("constant", 2.0, 3) == [2.0] * 3
    assert lengths("steps", 1.0, 8) == pytest.approx([1, 1, 1, 0.1, 0.1, 0.01, 0.01, 0.001])
    cosine = lengths("cosine", 1.0, 100)
    assert cosine[0] == 1 and cosine[50] == pytest.approx(0.5) and cosine[-1] < 0.001
