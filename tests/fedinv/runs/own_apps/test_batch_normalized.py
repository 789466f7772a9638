"""Tables in raw units behind a batch normalization in training: what one step tells of it takes claims back to them."""

import numpy as np
import pytest
import torch
from torch import nn

import fedinv
from fedinv.task.foreign.batch_statistics import batch_statistics, one_step

WIDTH, RECORDS = 10, 8


def network(**options):
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(WIDTH, **options)
    return nn.Sequential(norm, nn.Linear(WIDTH, 96), nn.ReLU(), nn.Linear(96, 48), nn.ReLU(), nn.Linear(48, 2))


def raw():
    """Columns from tenths to tens of thousands, one of them the same for everybody."""
    x = torch.randn(RECORDS, WIDTH, generator=torch.Generator().manual_seed(1))
    x = x * torch.logspace(-1, 4, WIDTH) + torch.logspace(0, 5, WIDTH)
    x[:, 3] = 0.0
    return x, torch.tensor([0, 1, 1, 0, 1, 0, 0, 1])


def trained(folder, made, steps=1):
    """A recording of so many steps of SGD on all records, as the app's client makes it."""
    (x, y), sent = raw(), {name: tensor.clone() for name, tensor in made.state_dict().items()}
    optimizer = torch.optim.SGD(made.train().parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(made(x), y).backward()
        optimizer.step()
    for name, arrays in (("sent", sent), ("back", made.state_dict())):
        np.savez(folder / f"{name}.npz", **{one: tensor.detach().numpy() for one, tensor in arrays.items()})
    fedinv.import_files(folder / "sent.npz", [folder / "back.npz"], out=folder / "rec", records=RECORDS)
    return folder / "rec", x, y


@pytest.mark.parametrize("options", [{}, {"momentum": None}, {"momentum": 0.3, "affine": False}])
def test_records_come_back_in_their_own_units(tmp_path, options):
    folder, x, y = trained(tmp_path, network(**options))
    np.savez(tmp_path / "truth.npz", records=x.numpy(), labels=y.numpy())
    found = fedinv.attack_recording(folder, network(**options), truth=tmp_path / "truth.npz")
    (one,), (judged,) = found.updates, found.judged
    assert (one.inputs, one.layer, one.verified) == ("record", "1", RECORDS)
    assert (judged.inputs, judged.verified_right, judged.labels_right) == ("record", RECORDS, RECORDS)
    claimed = torch.from_numpy(np.load(folder / "claims.npz")["update-0-records"])
    off = ((claimed[:, None] - x[None]).abs() / x.std(0).clamp_min(0.1)).amax(2).min(1).values
    assert float(off.max()) < 0.01
    assert fedinv.leak_map(folder, network(**options)).layers[1].fed == "affine of the record"


@pytest.mark.slow
def test_features_are_judged_as_the_batch_was_normalized_where_more_steps_hide_its_statistics(tmp_path):
    folder, x, _ = trained(tmp_path, network(), steps=2)
    found = fedinv.attack_recording(folder, network(), truth=x)
    (one,), (judged,) = found.updates, found.judged
    assert one.inputs == "features"
    assert judged.verified_right == one.verified == RECORDS
    layer = fedinv.leak_map(folder, network()).layers[0]
    assert layer.tells == "mean and variance of its inputs over the batches of 2 local steps are on the wire"


@pytest.mark.parametrize("steps", [1, 3])
def test_a_probe_normalizes_records_as_the_batch_was(tmp_path, steps):
    folder, x, _ = trained(tmp_path, network(), steps)
    others = x.mean(0) + x.std(0) * torch.randn(200, WIDTH, generator=torch.Generator().manual_seed(2))
    (one,) = fedinv.probe(folder, network(), records=x, others=others, members=True).updates
    assert one.at[0].found == RECORDS
    assert bool(one.notes) == (steps > 1)


def test_statistics_are_those_of_the_batch_and_none_where_they_cannot_be_known():
    made, (x, _) = network(), raw()
    sent = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    made.train()(x)
    update = {name: tensor - sent[name] for name, tensor in made.state_dict().items()}
    found = batch_statistics(made, sent, update, {"0": RECORDS})
    assert torch.allclose(found["0.running_mean"], x.mean(0), rtol=1e-4)
    assert torch.allclose(found["0.running_var"], x.var(0, unbiased=False), rtol=1e-4)
    assert one_step(made, update)
    assert not one_step(made, {**update, "0.num_batches_tracked": torch.tensor(2)})
    without = {name: tensor for name, tensor in update.items() if "num_batches" not in name}
    assert batch_statistics(made, sent, without) == {}
    assert not one_step(made, without)
    assert batch_statistics(made, sent, {name: 0 * tensor for name, tensor in update.items()}) == {}
