"""Claims that may be the mean of several records are no single records, however well they explain an update."""

import numpy as np
import pytest
import torch
from torch import nn

import fedinv
from fedinv.task.foreign.apart import single_records

RECORDS, WIDTH = 8, 12


def case(seed, scale):
    """A perceptron and records of standardized columns, one of them so many times larger, all of one sign."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(WIDTH, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 2))
    x = torch.randn(RECORDS, WIDTH)
    if scale:
        x[:, 3] = scale * (1 + 0.3 * torch.rand(RECORDS))
    return network, x, torch.randint(0, 2, (RECORDS,))


def weights(network):
    return {name: tensor.detach() for name, tensor in network.named_parameters()}


def test_records_of_like_columns_are_single_and_those_that_one_column_rules_are_not():
    network, x, _ = case(0, 0)
    assert bool(single_records(weights(network), x).all())
    network, x, _ = case(0, 1000)
    assert not bool(single_records(weights(network), x).any())
    assert not bool(single_records(weights(network), x.mean(0, keepdim=True)).any())


def test_means_of_records_in_two_far_groups_are_none_unless_the_claims_leave_next_to_nothing():
    network, x, _ = case(0, 0)
    x[:, 3] = 1000 * torch.tensor([1.0, -1.0] * (RECORDS // 2))
    means = torch.stack([x[::2].mean(0), x[1::2].mean(0)])
    for left in (None, 0.0016):  # what means left that passed for single records, each far from the other
        assert not bool(single_records(weights(network), means, left).any())
    assert bool(single_records(weights(network), x[:2], 1e-5).all())


@pytest.mark.parametrize("reported", [1, RECORDS])
@pytest.mark.parametrize("seed", range(3))
def test_means_of_several_records_are_not_called_verified(tmp_path, seed, reported):
    network, x, y = case(seed, 1e5)
    sent = {name: tensor.clone() for name, tensor in weights(network).items()}
    nn.functional.cross_entropy(network(x), y).backward()
    back = {name: sent[name] - 1e-6 * weight.grad for name, weight in network.named_parameters()}
    for name, arrays in (("sent", sent), ("back", back)):
        np.savez(tmp_path / f"{name}.npz", **{one: tensor.numpy() for one, tensor in arrays.items()})
    fedinv.import_files(tmp_path / "sent.npz", [tmp_path / "back.npz"], out=tmp_path / "rec", records=reported)
    (one,) = fedinv.attack_recording(tmp_path / "rec", network, seconds=3).updates
    assert one.verified == 0
    assert any("the mean of several records leaves the same update" in note for note in one.notes)
