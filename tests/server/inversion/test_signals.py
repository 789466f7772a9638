import pytest
import torch
from torch.nn.functional import cross_entropy

from fedinv.models import Mlp, build
from server.inversion.signals import label

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
