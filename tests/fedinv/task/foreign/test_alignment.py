import pytest
import torch
from torch import nn

from fedinv.errors import RequestError
from fedinv.task.foreign.alignment import WRAPPERS, align


def network():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))


@pytest.mark.parametrize("prefix", ["", *WRAPPERS])
def test_names_fit_whatever_a_wrapper_puts_before_them(prefix):
    own = network().state_dict()
    found = align({prefix + name: tensor for name, tensor in own.items()}, network())
    assert list(found.names) == list(own)
    assert (found.missing, found.unknown) == ((), ())
    assert (prefix in found.note) if prefix else not found.note
    taken = found.take({prefix + name: tensor for name, tensor in own.items()})
    assert all(torch.equal(taken[name], tensor) for name, tensor in own.items())


def test_a_wrapped_network_fits_arrays_without_the_wrapper():
    class Wrapper(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = network()

    found = align(network().state_dict(), Wrapper())
    assert found.names["module.0.weight"] == "0.weight"


def test_lists_without_names_are_matched_by_order():
    own = network().state_dict()
    found = align(dict(zip(map(str, range(len(own))), own.values(), strict=True)), network())
    assert (found.names["3.bias"], found.note) == (str(len(own) - 1), "by order and shape")
    parameters = [one.detach() for one in network().parameters()]
    found = align({f"p{place}": tensor for place, tensor in enumerate(parameters)}, network())
    assert (found.names["3.bias"], found.note) == ("p5", "by order, no buffers and shape")
    assert "1.running_mean" in found.missing


def test_a_head_alone_and_arrays_of_something_else_are_told_apart():
    own = network().state_dict()
    found = align({"3.weight": own["3.weight"], "3.bias": own["3.bias"], "extra": torch.zeros(9)}, network())
    assert list(found.names) == ["3.weight", "3.bias"]
    assert found.unknown == ("extra",)
    assert "0.weight" in found.missing


def test_arrays_that_do_not_fit_are_named_with_the_names_that_differ():
    with pytest.raises(RequestError, match=r"0.weight is \(4, 9\), the network's \(4, 3\)"):
        align({"0.weight": torch.zeros(4, 9)}, network())
    with pytest.raises(RequestError, match="it has 9, as 0.weight, 0.bias, 1.weight, and on the wire are 1, as layer"):
        align({"layer": torch.zeros(7)}, network())
