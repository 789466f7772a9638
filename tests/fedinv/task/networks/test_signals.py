import pytest
import torch

from fedinv.task.models import build
from fedinv.task.networks.signals import SignalConvnet


@pytest.mark.parametrize("hidden", [(), (8,), (8, 6)])
def test_a_signal_becomes_a_logit_a_class(hidden):
    network = build(SignalConvnet(channels=(4, 5), hidden=hidden), (2, 1, 30), 3, 0)
    assert network(torch.randn(6, 60)).shape == (6, 3)


@pytest.mark.parametrize(
    ("model", "shape", "said"),
    [
        (SignalConvnet(), (5,), "5 numbers without a shape"),
        (SignalConvnet(), (1, 8, 8), "images of several rows"),
        (SignalConvnet(kernel=4), (1, 1, 64), "kernel: 4 is even"),
        (SignalConvnet(channels=(2, 2, 2)), (1, 1, 4), "halve 4 samples too often"),
    ],
)
def test_what_cannot_be_read_is_refused(model, shape, said):
    with pytest.raises(ValueError, match=said):
        build(model, shape, 2, 0)
