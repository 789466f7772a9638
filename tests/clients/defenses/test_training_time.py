import numpy as np
import pytest
import torch

from fedinv import plugins, roles
from fedinv.federation.training import Batch, Job, Training
from fedinv.task.loss import loss
from fedinv.task.models import build, state
from fedinv.task.networks.perceptron import Mlp

plain_training = roles.load("clients", "training.plain_training").plain_training


def defense(kind, **settings):
    return plugins.load("defenses", kind).model_validate({"kind": kind, **settings})


def batch(n=6, classes=3):
    generator = torch.Generator().manual_seed(1)
    return Batch(torch.randn(n, 5, generator=generator), torch.eye(classes)[torch.arange(n) % classes])


def network():
    return build(Mlp(hidden=(8, 8)), (5,), 3, seed=2)


def job(net, augment=None, algorithm="fedavg"):
    rows = (np.arange(4), np.arange(4, 6)) if algorithm == "fedavg" else (np.arange(6),)
    training = Training(algorithm, 1, 4, 0.1, 0.5, 0.01)
    return Job(net, batch().inputs, torch.arange(6) % 3, rows, training, np.random.default_rng(0), augment)


def test_smoothed_labels_are_probabilities_with_the_share_spread():
    out = defense("label-smoothing", share=0.3).augment(batch(), network(), np.random.default_rng(0))
    assert torch.allclose(out.targets.sum(1), torch.ones(6))
    assert sorted(set(out.targets.flatten().tolist())) == pytest.approx([0.1, 0.8])
    targets = Batch(torch.ones(2, 5), torch.tensor([0.5, 2.0]))
    assert torch.equal(defense("label-smoothing").augment(targets, network(), None).targets, targets.targets)


def test_mixtures_keep_the_batchs_mean_and_mix_labels_as_inputs():
    out = defense("mixup").augment(batch(), network(), np.random.default_rng(3))
    assert torch.allclose(out.inputs.mean(0), batch().inputs.mean(0), atol=1e-6)
    joined = torch.cat([batch().inputs, batch().targets], 1)
    mixed = torch.cat([out.inputs, out.targets], 1)
    for row in mixed:
        pairs = [(a, b) for a in joined for b in joined]
        apart = []
        for a, b in pairs:
            along = (a - b).square().sum()
            share = ((row - b) @ (a - b) / along).clamp(0, 1) if along > 0 else torch.tensor(0.0)
            apart.append(float((share * a + (1 - share) * b - row).norm()))
        assert min(apart) < 1e-5


def test_adversarial_records_stay_within_the_radius_and_do_worse():
    net, before = network(), batch()
    out = defense("adversarial-training", radius=0.2).augment(before, net, np.random.default_rng(0))
    assert (out.inputs - before.inputs).abs().max() <= 0.2 + 1e-6
    assert loss(net(out.inputs), before.targets) > loss(net(before.inputs), before.targets) + 0.01
    one = defense("adversarial-training", radius=0.2).augment(
        Batch(before.inputs[:1], before.targets[:1]), net, np.random.default_rng(0)
    )
    assert torch.allclose(one.inputs, out.inputs[:1])


def test_dropout_keeps_the_names_draws_by_its_own_seed_and_is_off_in_evaluation():
    net, dropout = network(), defense("dropout", rate=0.5)
    one, two, other = (dropout.wrap_network(network(), np.random.default_rng(s)) for s in (1, 1, 2))
    assert list(state(one)) == list(state(net))
    x = batch(40).inputs
    assert torch.equal(one(x), two(x))
    assert not torch.equal(one(x), other(x))
    assert torch.equal(one.eval()(x), net(x))
    zeros = (defense("dropout", rate=0.5).wrap_network(network(), np.random.default_rng(5))[:2](x) == 0).double().mean()
    assert zeros > (net[:2](x) == 0).double().mean() + 0.2


@pytest.mark.parametrize("algorithm", ["fedsgd", "fedavg"])
def test_a_small_model_trains_its_largest_weights_and_takes_the_others_to_zero(algorithm):
    small, net = defense("small-model", keep=0.25), network()
    sent = {name: tensor.clone() for name, tensor in state(net).items()}
    update = small.wrap_training(plain_training)(job(net, algorithm=algorithm))
    after = {name: sent[name] + update[name] for name in sent}
    assert {name: int((t != 0).sum()) for name, t in after.items() if t.ndim == 2} == {
        "0.weight": 10,
        "2.weight": 16,
        "4.weight": 6,
    }
    again = build(Mlp(hidden=(8, 8)), (5,), 3, seed=9)
    again.load_state_dict(after)
    update = small.wrap_training(plain_training)(job(again, algorithm=algorithm))
    assert all(bool((update[name][after[name] == 0] == 0).all()) for name in after if after[name].ndim == 2)
    assert all(bool(update[name].any()) for name in after)


def test_soft_labels_train_as_hard_ones_where_they_are_certain():
    plain = plain_training(job(network()))
    soft = plain_training(job(network(), augment=lambda one: one))
    assert all(torch.allclose(plain[name], soft[name], atol=1e-7) for name in plain)
