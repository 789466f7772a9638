import pytest
import torch
from torch.nn.functional import cross_entropy

from fedinv.attack import Exchange, Knowledge
from fedinv.task.loss import loss
from fedinv.task.models import build
from fedinv.task.networks.perceptron import Mlp
from server.inversion.exact.signals import label, target

MODEL = Mlp(hidden=(40, 20))


def _signals(labels, classes=4, step=0.01):
    """Signals of single steps on records that are there with each of some labels."""
    generator = torch.Generator().manual_seed(2)
    network = build(MODEL, (6,), classes, seed=0).double()
    records = torch.randn(len(labels), 6, generator=generator).double()
    signals = []
    for record, several in zip(records, labels, strict=True):
        units = network[0](record).detach().requires_grad_()
        logits = network[1:](units).repeat(len(several), 1)
        loss = cross_entropy(logits, torch.tensor(several), reduction="sum")
        signals.append(-step * torch.autograd.grad(loss, units)[0])
    sent = {k: p.detach().float() for k, p in network.named_parameters()}
    return sent, records, torch.stack(signals)


def test_one_label_a_record():
    sent, records, signals = _signals([[0], [1], [2], [3], [1]])
    for step in (None, 0.01):
        read = label(MODEL, sent, records, signals, step, most=1)
        assert read.counts.argmax(1).tolist() == [0, 1, 2, 3, 1] and read.counts.sum(1).eq(1).all()
        assert float(read.likeness.min()) > 0.9999


def test_a_record_with_several_labels_is_counted():
    sent, records, signals = _signals([[0], [1, 1], [2, 3], [3, 0, 3]])
    read = label(MODEL, sent, records, signals, 0.01, most=3)
    assert read.counts.tolist() == [[1, 0, 0, 0], [0, 2, 0, 0], [0, 0, 1, 1], [1, 0, 0, 2]]
    assert float(read.likeness.min()) > 0.9999


def test_clipped_signals_fall_back_to_the_likeliest_label():
    sent, records, signals = _signals([[0], [1], [2]])
    read = label(MODEL, sent, records, 0.37 * signals, 0.01, most=2)
    assert read.counts.argmax(1).tolist() == [0, 1, 2] and read.counts.sum(1).eq(1).all()


def test_a_strange_signal_is_unlike_any_label():
    sent, records, signals = _signals([[0], [1], [2]])
    strange = torch.randn(signals.shape, generator=torch.Generator().manual_seed(0)).double()
    assert float(label(MODEL, sent, records, strange, None, 1).likeness.max()) < 0.8


def test_weights_of_another_network_are_named():
    sent, records, signals = _signals([[0]])
    with pytest.raises(ValueError, match="architecture"):
        label(Mlp(hidden=(40,)), sent, records, signals, None, 1)


def _regression(step=0.01, epochs=1):
    """An exchange of one or several full-batch steps on the squared error, its records, signals and targets."""
    generator = torch.Generator().manual_seed(3)
    network = build(MODEL, (6,), 1, seed=0).double()
    sent = {name: tensor.detach().clone() for name, tensor in network.named_parameters()}
    records, targets = torch.randn(5, 6, generator=generator).double(), 2 * torch.randn(5, generator=generator).double()
    weights, signals = list(network.parameters()), torch.zeros(5, 40).double()
    for _ in range(epochs):
        units = network[0](records)
        gradients = torch.autograd.grad(loss(network[1:](units), targets), [units, *weights])
        signals -= step * gradients[0]
        for weight, gradient in zip(weights, gradients[1:], strict=True):
            weight.data.sub_(step * gradient)
    received = {name: tensor.detach() - sent[name] for name, tensor in network.named_parameters()}
    return Exchange(1, sent, received, 5), records, signals, targets


def _knows(algorithm="fedsgd", **more):
    return Knowledge(model=MODEL, loss="squared-error", algorithm=algorithm, **({"lr": 0.01} | more))


def test_a_target_follows_from_the_signal_of_one_step():
    last, records, signals, targets = _regression()
    for knows in (_knows(), _knows("fedavg", epochs=1, batch_size=8)):
        told = target(knows, last, records, signals)
        assert told.targets.tolist() == pytest.approx(targets.tolist(), abs=1e-4)
        assert float(told.likeness.min()) > 0.9999
        assert told.notes == ()


def test_a_target_is_estimated_from_several_steps_and_that_is_said():
    last, records, signals, targets = _regression(epochs=5)
    told = target(_knows("fedavg", epochs=5, batch_size=5), last, records, signals)
    assert float((told.targets - targets).abs().max()) < 0.05
    assert "estimates" in told.notes[0]


def test_no_target_is_told_without_the_scale():
    last, records, signals, _ = _regression()
    told = target(_knows(lr=None), last, records, signals)
    assert told.targets is None
    assert "withheld: no targets" in told.notes[0]
    strange = torch.randn(signals.shape, generator=torch.Generator().manual_seed(0)).double()
    assert float(target(_knows(), last, records, strange).likeness.max()) < 0.8
    with pytest.raises(ValueError, match="architecture is withheld"):
        target(Knowledge(), last, records, signals)
