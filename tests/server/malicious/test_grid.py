"""The grid, its blocks and one target alone, through the whole federation behind a secure sum."""

import numpy as np
import pytest
import torch

from fedinv import roles
from fedinv.attack import Knowledge
from fedinv.data.sources.hospital import Hospital
from fedinv.results.wording import worst_text
from fedinv.runs import run
from fedinv.scenario.reading import loads
from fedinv.storage import observations
from fedinv.task.models import build, state
from fedinv.task.networks.perceptron import Mlp

cells, peeling = (roles.load("server", f"crafting.{name}") for name in ("cells", "peeling"))
features, dictionary = (roles.load("server", f"crafting.{name}") for name in ("features", "dictionary"))
FEDERATION = """
name = "crafted"
seed = 5
secret = "00112233445566778899aabbccddeeff"
[data]
source = "hospital"
records = 400
[model]
kind = "mlp"
hidden = [200, 150]
[federation]
clients = 3
rounds = 2
[training]
algorithm = "fedsgd"
batch_size = 8
records_per_client = 8
lr = 0.5
[[defenses]]
kind = "masking"
[server]
kind = "malicious"
[attacker]
watch = { rounds = [1], clients = 1 }
[[attacks]]
kind = "read-out"
[[server.deviations]]
"""


@pytest.fixture(scope="module")
def schema():
    return Hospital(source="hospital", records=400).load(3).schema


def verdict(tmp_path, table, changes=()):
    text = FEDERATION + table
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    scenario = loads(text)
    found = run.run(scenario, run.open_folder(scenario, tmp_path / "run"))
    (adaptive,) = [one for one in found.attacks if one.target == "sum"]
    return adaptive


def test_the_whole_secure_sum_is_listed_and_the_model_goes_on_as_if_nothing_had_been(tmp_path):
    table = 'kind = "grid"\nrounds = [1]\n'
    found = verdict(tmp_path, table, [("rounds = [1], clients = 1", "rounds = [1, 2], clients = 1")])
    assert (found.verified, found.owned) == (24, None)
    assert round(found.exact.value * found.exact.count) == 24
    first, second = (one.last for one in observations.read(tmp_path / "run/observations") if len(one.clients) == 3)
    assert not first.sent_to and not second.sent_to
    honest = state(build(Mlp(hidden=(200, 150)), (first.sent["0.weight"].shape[1],), 2, 5))
    assert all(torch.equal(honest[name], tensor) for name, tensor in second.sent.items())
    assert not torch.equal(honest["0.weight"], first.sent["0.weight"])


def test_whose_each_record_is_follows_from_units_of_its_own(tmp_path):
    found = verdict(
        tmp_path, 'kind = "blocks"\ntables = 2\n', [("clients = 3", "clients = 2"), ("[200, 150]", "[300, 200]")]
    )
    whole = round(found.recovered.value * found.recovered.count)
    assert whole >= 15
    assert found.owned == whole


def test_one_target_is_read_as_if_it_were_alone(tmp_path):
    found = verdict(tmp_path, 'kind = "inconsistency"\n', [("batch_size = 8", "batch_size = 4")])
    assert (round(found.recovered.value * found.recovered.count), found.recovered.count) == (4, 12)
    assert (found.worst.client, found.worst.recovered, found.worst.records) == (0, 4, 4)
    assert worst_text(found) == "client 0: 4 of 4"
    first = observations.read(tmp_path / "run/observations")[-1].last
    assert len({id(weights) for weights in first.sent_to.values()}) == 2


def test_a_copy_is_exact_in_its_block_and_silent_in_others(schema):
    grid = cells.layout(schema, (400, 200), 2, cells.ONE_STEP)
    assert len(grid.blocks) > 2
    knows, rng = Knowledge(schema=schema), np.random.default_rng(0)
    grid = cells.aimed(grid, knows, rng)
    like = state(build(Mlp(hidden=(400, 200)), schema.shape, schema.outputs, 0))
    w1, b1, *_ = cells.weights(grid, like).values()
    records = schema.draw(50, rng)
    hidden = torch.relu(records @ w1.T + b1).double()
    told, count = grid.features, len(grid.features.low)
    exact = records.double() @ told.map.T - told.low
    for place, rows in enumerate(grid.blocks):
        copy = hidden[:, place * count : (place + 1) * count]
        inside = (records.double() @ rows.T > 0.5).all(1)
        assert float((copy[inside] - exact[inside]).abs().max() if inside.any() else 0) < 1e-4
        assert not bool(copy[~inside].any())
    held = torch.stack([(records.double() @ rows.T > 0.5).all(1) for rows in grid.blocks]).sum(0)
    assert bool((held == 1).all())


def test_features_tell_a_record(schema):
    rng = np.random.default_rng(1)
    records = schema.draw(40, rng).double()
    records = dictionary.snapped(schema, records)
    for most, numbers in ((cells.COARSE, False), (cells.FINE, False), (cells.FINE, True)):
        told = features.features(schema, most, numbers)
        back, off = told.decode(records @ told.map.T)
        assert float((back - records).abs().max()) < 1e-6 and float(off.max()) < 1e-9


def test_what_weights_hold_is_read_off_them(schema):
    like = state(build(Mlp(hidden=(400, 200)), schema.shape, schema.outputs, 0))
    rng = np.random.default_rng(2)
    for scales in (cells.ONE_STEP, cells.LOCAL_STEPS):
        empty = cells.layout(schema, (400, 200), 3, scales)
        made = cells.aimed(empty, Knowledge(schema=schema), rng)
        again = cells.read_grid(empty, cells.weights(made, like))
        for one, other in zip(made.tables, again.tables, strict=True):
            assert float((one.along - other.along).abs().max()) < 1e-6
            assert float((one.edges[1:] - other.edges[1:]).abs().max()) < 1e-3


def test_too_narrow_a_layer_is_refused(schema):
    with pytest.raises(ValueError, match="of 100 and 100 units are too narrow: .* and 120 are the fewest"):
        cells.layout(schema, (100, 100), 3, cells.ONE_STEP, slice(0, 100 // 20))
    cells.layout(schema, (100, 120), 3, cells.ONE_STEP, slice(0, 120 // 20))
    with pytest.raises(ValueError, match="too narrow: .* are the fewest"):
        cells.layout(schema, (10, 200), 3, cells.ONE_STEP)
    with pytest.raises(ValueError, match="too narrow"):
        cells.layout(schema, (400, 4), 3, cells.ONE_STEP)


def listing(schema, widths, count, noise, known=True):
    """How many records of cells with noise are listed to every digit, in how many blocks; none is nobody's."""
    rng, generator = np.random.default_rng(4), torch.Generator().manual_seed(4)
    grid = cells.aimed(cells.layout(schema, widths, 3, cells.ONE_STEP), Knowledge(schema=schema), rng)
    records, told = dictionary.snapped(schema, schema.draw(count, rng).double()), grid.features
    errors = torch.tensor([-0.618, 0.382]).double()
    g = errors[torch.randint(0, 2, (count,), generator=generator)]
    made = []
    for table, at in zip(grid.tables, grid.cells(records), strict=True):
        cell = torch.zeros(len(table.edges) * len(grid.blocks) + 1, len(told.low)).double()
        cell.index_add_(0, at, g[:, None] * (records @ told.map.T - told.low))
        cell += noise * torch.randn(cell.shape, generator=generator).double()
        own = cell[:-1, -1:] / told.unit
        made.append(torch.cat([cell[:-1] + own * told.low, own], 1))
    off = torch.cdist(peeling.peel(grid, made, errors if known else None).records, records, p=torch.inf)
    assert float(off.amin(1).max()) < 0.1
    return int((off.amin(0) < 1e-3).sum()), len(grid.blocks)


def test_a_class_s_known_error_keeps_digits_that_noise_takes_from_a_cell_s_own(schema):
    (known, _), (own, _) = (listing(schema, (400, 200), 100, 1e-4, known) for known in (True, False))
    assert known >= 98
    assert own < 90


def test_a_narrow_layer_packs_whole_numbers_so_that_it_holds_more_blocks(schema):
    found, blocks = listing(schema, (100, 100), 320, 0.0)
    assert blocks >= 6
    assert found >= 300
