from functools import cache
from itertools import product

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from clients.defenses.training.dropout import Dropout
from clients.training.job import train
from fedinv.data.sources.hospital import Hospital
from fedinv.errors import RequestError
from fedinv.judge.truth import population_of
from fedinv.scenario.reading import loads
from fedinv.task.columns import Categorical
from fedinv.task.loss import loss
from fedinv.task.models import build, load, outputs_of, shapes, state
from fedinv.task.networks.tabular import Tabular


@cache
def _people():
    table = Hospital(source="hospital", records=40).load(7)
    return table.schema, table.schema.encode(table.columns)[:8]


def _fitted(**keys):
    return Tabular(**{"hidden": (16, 16), **keys}).fitted(_people()[0])


def _inputs(network, records):
    """Name and inputs of each linear layer but the tables, in the order in which records reach them."""
    seen = []
    for name, layer in network.named_modules():
        if isinstance(layer, torch.nn.Linear) and "tables" not in name:
            layer.register_forward_hook(lambda _, given, made, name=name: seen.append((name, given[0].detach())))
    assert network(records).shape == (8, 2)
    return seen


VARIANTS = [
    {"encoding": encoding, "norm": norm, "dropout": drop, "residual": skip, "bias": not skip}
    for encoding, norm, drop, skip in product(
        ("embedding", "ordinal", "one-hot"), ("none", "batch", "layer", "group"), (0.0, 0.2), (False, True)
    )
]


def test_the_beginning_says_what_feeds_the_first_two_layers_of_every_variant():
    schema, records = _people()
    for keys in VARIANTS:
        model = _fitted(**keys, hidden=(48, 48))
        network = build(model, schema.shape, 2, 1)
        sent = {name: tensor.clone() for name, tensor in state(network).items()}
        assert {name: tuple(t.shape) for name, t in sent.items()} == shapes(model, schema.shape, 2)
        seen = _inputs(network, records)
        update = {name: tensor - sent[name] for name, tensor in state(network).items()}
        found = model.beginning(sent, update, 1, 8)
        z = records.double() @ found.matrix.T + found.shift
        assert found.first.weight == f"{seen[0][0]}.weight"
        torch.testing.assert_close(z.float(), seen[0][1], atol=1e-5, rtol=1e-4)
        if found.center is not None:
            torch.testing.assert_close(found.center, z.mean(0), atol=1e-4, rtol=1e-3)
        if found.second is not None and found.units is not None:
            assert found.second.weight == f"{seen[1][0]}.weight"
            hidden = (z @ found.units[0].T + found.units[1]).relu()
            torch.testing.assert_close(hidden.float(), seen[1][1], atol=1e-4, rtol=1e-3)


def test_only_categories_that_are_there_move_rows_of_their_tables():
    schema, records = _people()
    for encoding in ("embedding", "one-hot"):
        model = _fitted(encoding=encoding)
        network = build(model, schema.shape, 2, 1)
        sent = {name: tensor.clone() for name, tensor in state(network).items()}
        loss(network(records[:2]), torch.tensor([0, 1])).backward()
        update = {name: weight.grad for name, weight in network.named_parameters()}
        used = model.beginning(sent, update, 1, 2).uses
        for column, where, moved in zip(schema.columns, schema.slices, used, strict=True):
            if isinstance(column, Categorical):
                there = records[:2, where].any(0)
                assert torch.equal(moved.any(0), there)
            else:
                assert moved is None


def test_one_logit_is_trained_by_binary_cross_entropy():
    schema, records = _people()
    labels = torch.tensor([0, 1] * 4)
    network = build(_fitted(logits="one"), schema.shape, 2, 3)
    assert outputs_of(network) == 2
    assert outputs_of(build(_fitted(), schema.shape, 2, 3)) == 2
    logit = network[:-1](records)
    assert logit.shape == (8, 1)
    torch.testing.assert_close(
        loss(network(records), labels), binary_cross_entropy_with_logits(logit[:, 0], labels.float())
    )


def test_ordinal_codes_are_standardized_by_the_published_frequencies():
    schema, _ = _people()
    model = _fitted(encoding="ordinal")
    for column, where in zip(schema.columns, schema.slices, strict=True):
        if isinstance(column, Categorical):
            slot = next(slot for slot in model._slots if slot.start == where.start)
            share = torch.tensor(column.frequencies) / sum(column.frequencies)
            codes = torch.tensor(slot.codes)
            assert float((share * codes).sum()) == pytest.approx(0, abs=1e-5)
            assert float((share * codes.square()).sum()) == pytest.approx(1, abs=1e-4)


def test_widths_of_embeddings_follow_the_rule_or_the_key():
    schema, _ = _people()
    names = {c.name: i for i, c in enumerate(c for c in schema.columns if isinstance(c, Categorical))}
    found = shapes(_fitted(), schema.shape, 2)
    assert found[f"0.tables.{names['blood_type']}.weight"] == (4, 8)
    assert shapes(_fitted(embedding_width=3), schema.shape, 2)["0.tables.0.weight"] == (3, 2)


def test_what_cannot_be_built_says_why():
    schema, _ = _people()
    with pytest.raises(ValueError, match="must be fitted to a schema"):
        build(Tabular(), schema.shape, 2, 0)
    with pytest.raises(ValueError, match="other records"):
        build(_fitted(), (5,), 2, 0)
    with pytest.raises(ValueError, match='use "per class"'):
        build(_fitted(logits="one"), schema.shape, 3, 0)
    with pytest.raises(ValueError, match="multiples"):
        Tabular(hidden=(12,), norm="group")


def test_a_regression_has_one_output_either_way():
    schema, records = _people()
    for logits in ("one", "per class"):
        assert build(_fitted(logits=logits), schema.shape, 1, 0)(records).shape == (8, 1)


def test_weights_that_are_given_are_those_of_the_network():
    schema, records = _people()
    model = _fitted(norm="batch")
    network = build(model, schema.shape, 2, 3)
    again = load(model, schema.shape, 2, {name: tensor.clone() for name, tensor in state(network).items()})
    assert torch.equal(network.eval()(records), again.eval()(records))


def test_dp_sgd_refuses_a_normalization_over_the_batch(tiny):
    document = tiny.replace('kind = "mlp"', 'kind = "tabular"\nnorm = "batch"')
    with pytest.raises(RequestError, match='use norm = "layer", "group" or "none"'):
        loads(document + '\n[[defenses]]\nkind = "dp-sgd"\nepsilon = 8\n')


@pytest.mark.parametrize(
    "keys", ["residual = true", 'norm = "layer"\ndropout = 0.1', 'encoding = "ordinal"\nbias = false']
)
def test_dp_sgd_trains_them(tiny, keys):
    document = tiny.replace('kind = "mlp"\nhidden = [32, 16]', f'kind = "tabular"\nhidden = [16, 16]\n{keys}')
    scenario = loads(document + '\n[[defenses]]\nkind = "dp-sgd"\nepsilon = 8\n')
    people = population_of(scenario)
    schema = people.schema
    sent = state(build(scenario.model.fitted(schema), schema.shape, schema.outputs, 3))
    update = train(scenario, people, 0, 1, {name: tensor.clone() for name, tensor in sent.items()})
    assert list(update) == list(sent)
    assert all(bool(tensor.isfinite().all()) and bool(tensor.all()) for tensor in update.values())


def test_dropout_the_defense_masks_hidden_units_alone():
    schema, records = _people()
    network = build(_fitted(encoding="ordinal", logits="one"), schema.shape, 2, 1)
    wrapped = Dropout(rate=0.9).wrap_network(network, np.random.default_rng(0))
    assert bool(wrapped(records).all())
    names = [name for name, layer in wrapped.named_children() if isinstance(layer, torch.nn.Sequential)]
    assert names == ["2", "4"]
