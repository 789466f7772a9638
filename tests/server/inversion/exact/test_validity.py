import numpy as np
import pytest
import torch

from fedinv.task.columns import Categorical, Continuous, Image
from fedinv.task.schema import Schema
from server.inversion.exact.first_layer import FirstLayer
from server.inversion.exact.validity import activity, fault, snap, stray

SCHEMA = Schema(
    columns=(
        Continuous(name="age", mean=50, std=10, low=20, high=90, mode=45),
        Categorical(name="ward", values=("a", "b", "c"), frequencies=(0.5, 0.3, 0.2)),
    ),
    label="ill",
    classes=("no", "yes"),
)


def test_fault_measures_the_worst_column():
    rows = torch.tensor([[0.5, 0, 1, 0], [4.5, 0, 1, 0], [0.0, 0.1, 0.9, 0], [0.0, 1, 1, 0], [0.0, 0, 0, 0]])
    assert torch.allclose(fault(SCHEMA, rows), torch.tensor([0.0, 0.5, 0.1, 1.0, 1.0]), atol=1e-6)


def test_images_are_valid_while_every_pixel_is_within_its_range():
    photo = Image(name="photo", channels=1, down=2, across=2, mean=0.5, std=0.25, low=0, high=1)
    schema = Schema(columns=(photo,), label="what", classes=("a", "b"))
    rows = torch.tensor([[-2.0, 0.0, 1.0, 2.0], [-2.0, 0.0, 1.0, 2.5], [-5.0, 0.0, 1.0, 2.5]])
    assert fault(schema, rows).tolist() == [0.0, 0.5, 3.0]
    assert snap(schema, rows).equal(rows)
    assert stray(schema, torch.ones(3, 5)) == 0


def test_snap_changes_categories_alone():
    rows = torch.tensor([[0.123, 0.02, 0.97, 0.01]])
    assert snap(SCHEMA, rows).equal(torch.tensor([[0.123, 0.0, 1.0, 0.0]]))


def test_a_mixture_of_two_records_is_at_fault():
    one, other = torch.tensor([[0.5, 0, 1, 0]]), torch.tensor([[1.5, 1, 0, 0]])
    assert float(fault(SCHEMA, (one - 0.3 * other) / 0.7)) > 0.2


def test_units_near_their_threshold_are_left_undecided_once_the_weights_move():
    weight = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.1, 0.0]]).double()
    layer = FirstLayer(weight, torch.tensor([[0.0, 0.2], [0.0, 0.2], [0.0, 0.2]]).double(), last=False)
    record = torch.tensor([[1.0, 1.0]]).double()
    assert [t.tolist() for t in activity(layer, record, single_step=True)] == [
        [[True, False, True]],
        [[False, True, False]],
    ]
    assert [t.tolist() for t in activity(layer, record, single_step=False)] == [
        [[True, False, False]],
        [[False, True, False]],
    ]


def test_what_no_record_can_put_into_an_update_measures_the_noise_in_it():
    generator = torch.Generator().manual_seed(0)
    records = SCHEMA.draw(9, np.random.default_rng(0)).double()
    signals = torch.randn(400, 9, generator=generator, dtype=torch.float64)
    update = signals @ torch.cat([records, torch.ones(9, 1)], 1)
    assert stray(SCHEMA, update) < 1e-6
    noised = update + 0.3 * torch.randn(update.shape, generator=generator, dtype=torch.float64)
    assert stray(SCHEMA, noised) == pytest.approx(0.3, rel=0.1)
