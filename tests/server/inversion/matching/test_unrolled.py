from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import mse_loss, one_hot

from fedinv import roles
from fedinv.attack import Exchange, Knowledge
from fedinv.federation.training import Job, Training
from fedinv.task.models import build, state
from fedinv.task.networks.perceptron import Mlp
from fedinv.task.optimizers import LocalDescent, Sgd
from fedinv.task.optimizers.schedules import Cosine
from server.inversion.local_training import course, local_steps
from server.inversion.matching.chain import Chain, directions
from server.inversion.matching.objective import dense_layers
from server.inversion.matching.simulation import Batches, drawn_batches, whole_batches
from server.inversion.matching.unrolled import likeliest_length, simulated, unrolled

WIDTH, CLASSES = 7, 3


def _trained(batches, *, lr=0.3, how=None, activation="relu", n=6, seed=0, class_weights=()):
    """The exchange of a client that trained on these batches, and its records."""
    network = build(Mlp(hidden=(12, 9), activation=activation), (WIDTH,), CLASSES, seed)
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(n, WIDTH, generator=generator), torch.randint(CLASSES, (n,), generator=generator)
    sent = {name: tensor.clone() for name, tensor in state(network).items()}
    rows = tuple(np.asarray(batch) for batch in batches)
    how = how or LocalDescent(lr)
    shared = {"optimizer": how.optimizer, "proximal": how.proximal, "schedule": how.schedule}
    training = Training(
        "fedavg", 1, len(rows[0]), how.lr, how.momentum, how.weight_decay, class_weights=class_weights, **shared
    )
    job = Job(network, x, y, rows, training, np.random.default_rng(0))
    received = roles.load("clients", "training.plain_training").plain_training(job)
    return Exchange(1, sent, received, n), x[None], one_hot(y, CLASSES).float()[None]


def _chain(exchange, activation="relu", distance="cosine"):
    layers = dense_layers(exchange.sent)
    return Chain(
        layers, directions(dense_layers(exchange.received), exchange.records), distance=distance, activation=activation
    )


def _update(objective, inputs, labels, kept):
    """What the simulation changes the parameters by, (outputs, inputs + 1) a layer."""
    simulation = objective.simulation
    trained = simulation.train(inputs, labels)
    layers = [torch.cat([layer.weight, layer.bias[:, None]], 1) for layer in simulation.layers]
    ahead = [torch.cat([h, torch.ones_like(h[..., :1])], -1) for h in trained.hidden]
    counted = [d * simulation.counts[-1][:, None] for d in trained.slopes]
    return [(kept - 1) * w - (d.mT @ h)[0] for w, d, h in zip(layers, counted, ahead, strict=True)]


@pytest.mark.parametrize(
    ("how", "class_weights"),
    [
        (LocalDescent(0.3), ()),
        (LocalDescent(0.3, 0.9), ()),
        (LocalDescent(0.3, 0.5, 0.05), ()),
        (LocalDescent(0.3, 0.5, 0.05, Sgd(nesterov=True), 0.4, Cosine()), (1.0, 0.5, 2.0)),
    ],
)
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_simulated_training_is_the_clients_own_for_a_given_order(how, class_weights, activation):
    order = [[3, 0], [5, 1], [2, 4], [1, 0], [4, 5], [3, 2]]
    exchange, x, y = _trained(order, how=how, activation=activation, class_weights=class_weights)
    plan = course(how, 6)
    batches = Batches(torch.tensor([order]), torch.full((6, 2), 0.5))
    weighted = torch.tensor(class_weights) if class_weights else None
    chain = replace(_chain(exchange, activation), class_weights=weighted)
    objective = unrolled(chain, exchange, plan, batches)
    truth = [torch.cat([t.weight, t.bias[:, None]], 1) for t in dense_layers(exchange.received)]
    for mine, client in zip(_update(objective, x, y, float(plan.kept[-1])), truth, strict=True):
        torch.testing.assert_close(mine, client, atol=2e-6, rtol=2e-5)
    assert float(objective(x, y)[0]) < 1e-5
    assert float(objective(x.roll(1, 1), y)[0]) > 1e-2


def test_a_smaller_last_batch_counts_as_the_client_counts_it():
    batches = drawn_batches(5, 2, 2, 1, np.random.default_rng(0))
    assert torch.equal(batches.rows[0, :3].flatten()[:5].sort().values, torch.arange(5))
    order = [row[share > 0].tolist() for row, share in zip(batches.rows[0], batches.shares, strict=True)]
    assert [len(batch) for batch in order] == [2, 2, 1, 2, 2, 1]
    exchange, x, y = _trained(order, n=5)
    assert float(unrolled(_chain(exchange), exchange, course(LocalDescent(0.3), 6), batches)(x, y)[0]) < 1e-5


@pytest.mark.parametrize("distance", ["cosine", "squared"])
@pytest.mark.parametrize("loss", ["cross-entropy", "squared-error"])
def test_slopes_are_those_of_finite_differences(distance, loss):
    exchange, x, y = _trained([[0, 1, 2], [3, 4, 5], [0, 2, 4]], activation="tanh", lr=0.5)
    chain = _chain(exchange, "tanh", distance)
    plan = course(LocalDescent(0.4, 0.5, 0.01), 4)
    objective = unrolled(chain, exchange, plan, drawn_batches(6, 3, 2, 2, np.random.default_rng(1)))
    objective = replace(objective, simulation=replace(objective.simulation, loss=loss))
    generator = torch.Generator().manual_seed(1)
    x = x + 0.3 * torch.randn(2, 6, WIDTH, generator=generator)
    y = y.repeat(2, 1, 1)
    _, by_inputs, by_labels = objective(x, y)
    for _ in range(3):
        to_x, to_y = torch.randn(x.shape, generator=generator), torch.randn(y.shape, generator=generator)
        step = 3e-3
        ahead = objective.misfit(x + step * to_x, y + step * to_y)
        behind = objective.misfit(x - step * to_x, y - step * to_y)
        slope = (by_inputs * to_x).sum((1, 2)) + (by_labels * to_y).sum((1, 2))
        torch.testing.assert_close(slope, (ahead - behind) / (2 * step), atol=3e-3, rtol=2e-2)


def _squared_distance(exchange, batches, lr, weight_decay, class_weights):
    """The squared distance of the update from that of training with weights of its own, for torch to differentiate."""
    sent = list(exchange.sent.values())
    received = torch.cat([tensor.flatten() for tensor in exchange.received.values()])

    def distance(x, y):
        weights = [tensor.clone().requires_grad_() for tensor in sent]
        for rows, shares in zip(batches.rows[0], batches.shares, strict=True):
            seen = x[0, rows]
            for i in range(0, len(weights), 2):
                seen = seen @ weights[i].T + weights[i + 1]
                seen = seen.relu() if i + 2 < len(weights) else seen
            weighted = y[0, rows] * class_weights
            loss = -(shares * (weighted * seen.log_softmax(-1)).sum(-1)).sum()
            slopes = torch.autograd.grad(loss, weights, create_graph=True)
            weights = [w - lr * (g + weight_decay * w) for w, g in zip(weights, slopes, strict=True)]
        moved = torch.cat([(w - start).flatten() for w, start in zip(weights, sent, strict=True)])
        return (moved - received).square().sum()

    return distance


@pytest.mark.parametrize("batches", [whole_batches(6, 3), drawn_batches(6, 4, 2, 1, np.random.default_rng(1))])
def test_slopes_are_those_of_training_with_weights_that_are_formed(batches):
    exchange, x, y = _trained([[0, 1, 2], [3, 4, 5], [0, 2, 4]], lr=0.5)
    lr, decay, class_weights = 0.4, 0.02, torch.tensor([1.0, 0.5, 2.0])
    chain = replace(_chain(exchange, distance="squared"), class_weights=class_weights)
    plan = course(LocalDescent(lr, 0.0, decay), batches.rows.shape[1])
    objective = unrolled(chain, exchange, plan, batches)
    x = (x + 0.3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))).requires_grad_()
    y = y.clone().requires_grad_()
    value = _squared_distance(exchange, batches, lr, decay, class_weights)(x, y) / objective.size**2
    expected = torch.autograd.grad(value, (x, y))
    found, *slopes = objective(x.detach(), y.detach())
    torch.testing.assert_close(found[0], value.detach(), atol=1e-5, rtol=1e-4)
    for mine, other in zip(slopes, expected, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-3)


def test_every_restart_is_simulated_as_if_alone():
    exchange, x, y = _trained([[0, 1, 2], [3, 4, 5]])
    batches = drawn_batches(6, 3, 1, 3, np.random.default_rng(2))
    x = torch.cat([x, x + 0.1, x - 0.1])
    y = y.repeat(3, 1, 1)
    together = unrolled(_chain(exchange), exchange, course(LocalDescent(0.3), 2), batches)(x, y)
    for i in range(3):
        own = Batches(batches.rows[i : i + 1], batches.shares)
        alone = unrolled(_chain(exchange), exchange, course(LocalDescent(0.3), 2), own)(x[i : i + 1], y[i : i + 1])
        for mine, other in zip(together, alone, strict=True):
            torch.testing.assert_close(mine[i], other[0], atol=1e-6, rtol=1e-4)


def test_without_the_order_the_mean_step_explains_more_than_one_gradient_halfway():
    rng = np.random.default_rng(3)
    exchange, x, y = _trained([batch for _ in range(4) for batch in rng.permutation(6).reshape(3, 2)], lr=0.2)
    middle = {name: t + exchange.received[name] / 2 for name, t in exchange.sent.items()}
    halfway = Chain(dense_layers(middle), directions(dense_layers(exchange.received), 6))
    knows = Knowledge(algorithm="fedavg", lr=0.2, epochs=4, batch_size=2)
    assert local_steps(knows, 6) == 12
    whole = simulated(halfway, exchange, knows, 12 * 0.2, 4)
    assert whole.simulation.course.steps == 4
    assert float(whole(x, y)[0]) < 0.5 * float(halfway(x, y)[0])


def test_an_unknown_step_length_is_found_from_the_updates_own():
    exchange, x, y = _trained([range(6)] * 5, lr=0.04)
    length = likeliest_length(_chain(exchange), exchange, Knowledge(algorithm="fedavg"), x, y, 4)
    assert length == pytest.approx(0.2, rel=0.1)


def test_regression_targets_are_trained_on_as_mean_squared_error_would():
    exchange, x, _ = _trained([range(6)])
    targets = torch.randn(1, 6, CLASSES, generator=torch.Generator().manual_seed(4))
    objective = unrolled(_chain(exchange), exchange, course(LocalDescent(1.0), 1), whole_batches(6, 1))
    objective = replace(objective, simulation=replace(objective.simulation, loss="squared-error"))
    network = build(Mlp(hidden=(12, 9)), (WIDTH,), CLASSES, 0)
    gradients = torch.autograd.grad(mse_loss(network(x[0]), targets[0]), list(network.parameters()))
    mine = _update(objective, x, targets, 1.0)
    for both, weight, bias in zip(mine, gradients[::2], gradients[1::2], strict=True):
        torch.testing.assert_close(both, -torch.cat([weight, bias[:, None]], 1), atol=1e-6, rtol=1e-4)
