import numpy as np
import torch
from torch.nn.functional import cross_entropy

from clients.training.plain_training import plain_training
from fedinv.federation.training import Job, Training
from fedinv.task.models import build, state
from fedinv.task.networks.convolutional import Convnet


def job(network, batches, lr=0.1):
    inputs = torch.randn(6, 64, generator=torch.Generator().manual_seed(0))
    training = Training("fedavg", 1, 2, lr, 0.0, 0.0)
    return Job(network, inputs, torch.arange(6) % 3, batches, training, np.random.default_rng(0))


def test_statistics_of_batch_normalization_travel_as_in_a_state_dict():
    model, batches = Convnet(channels=(4, 5), norm="batch"), (np.array([0, 1, 2]), np.array([3, 4, 5]))
    network, by_hand = build(model, (1, 8, 8), 3, 0), build(model, (1, 8, 8), 3, 0)
    start = {name: t.clone() for name, t in state(by_hand).items()}
    todo = job(network.eval(), batches)
    update = plain_training(todo)
    optimizer = torch.optim.SGD(by_hand.parameters(), lr=0.1)
    for batch in batches:
        optimizer.zero_grad()
        torch.autograd.backward(cross_entropy(by_hand(todo.inputs[batch]), todo.labels[batch]))
        optimizer.step()
    assert list(update) == list(start)
    for name, after in state(by_hand).items():
        assert torch.allclose(update[name], after - start[name], atol=1e-6), name
    assert all(bool(update[f"{i}.running_{what}"].any()) for i in (2, 6) for what in ("mean", "var"))


def test_one_steps_statistics_are_the_batchs():
    model = Convnet(channels=(4,), norm="batch")
    network = build(model, (1, 8, 8), 3, 0)
    todo = job(network, (np.array([0, 1, 2]),))
    seen = network[:2](todo.inputs[:3])
    update = plain_training(todo)
    # the momentum is 0.1, the running mean began at 0 and the running variance at 1
    assert torch.allclose(update["2.running_mean"] / 0.1, seen.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(update["2.running_var"] / 0.1 + 1, seen.transpose(0, 1).flatten(1).var(1), atol=1e-5)
