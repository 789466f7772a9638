"""The leak map of networks that are built here names the attack that reads each layer, and why others do not."""

import numpy as np
import pytest
import torch

import fedinv
from clients.training.plain_training import plain_training
from fedinv.attack import Exchange
from fedinv.data.sources.clinical_notes import ClinicalNotes
from fedinv.data.sources.heartbeats import Heartbeats
from fedinv.data.sources.hospital import Hospital
from fedinv.federation.training import Job, Training
from fedinv.report.leak_map_text import alike, show_leak_map
from fedinv.runs.own_apps.leak_map import leak_map, probe
from fedinv.task.foreign.update import Origin
from fedinv.task.models import Mlp, build, state
from fedinv.task.networks.ft_transformer import FtTransformer
from fedinv.task.networks.signals import SignalConvnet
from fedinv.task.networks.tabular import Tabular
from fedinv.task.networks.transformer import Decoder, Encoder
from fedinv.task.optimizers import SGD, Adam

SOURCES = {
    "hospital": Hospital(source="hospital", records=60),
    "clinical-notes": ClinicalNotes(source="clinical-notes", records=60, length=8),
    "heartbeats": Heartbeats(source="heartbeats"),
}
TEXT = {"width": 64, "heads": 2}


def seen(source, model, optimizer=SGD, n=4, epochs=1):
    """The network, what crossed the wire, and the schema, of n records."""
    table = SOURCES[source].load(7)
    schema, model = table.schema, model.fitted(table.schema)
    network = build(model, schema.shape, schema.outputs, 1)
    sent = {name: tensor.clone() for name, tensor in state(network).items()}
    settings = Training("fedsgd" if epochs == 1 else "fedavg", epochs, n, 0.05, optimizer=optimizer)
    inputs, labels = schema.encode(table.columns)[:n], schema.encode_labels(table.labels)[:n]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        update = plain_training(
            Job(network, inputs, labels, (np.arange(n),) * epochs, settings, np.random.default_rng(0))
        )
    return model, network, Exchange(1, sent, update, n), schema


def mapped(source, model, optimizer=SGD, n=4, epochs=1):
    model, network, exchange, schema = seen(source, model, optimizer, n, epochs)
    origin = Origin(model, optimizer.linear, epochs == 1, schema.width)
    example = schema.draw(4, np.random.default_rng(0))
    return leak_map(probe(network, exchange, example), 0, n, origin=origin)


def applies(found, kind):
    return [one.name for one in found.layers if kind in one.applies]


@pytest.mark.parametrize(
    ("source", "model", "kind", "layers"),
    [
        (
            "clinical-notes",
            Decoder(**TEXT),
            "span-tokens",
            [f"0.blocks.{part}" for part in ("0.query", "0.key", "0.value", "0.wide", "1.query")],
        ),
        ("heartbeats", SignalConvnet(), "feature-inversion", ["8"]),
        ("hospital", FtTransformer(), "column-tokens", ["2.query"]),
        ("hospital", FtTransformer(blocks=1), "column-tokens", ["1.hidden"]),
        ("hospital", Tabular(hidden=(64, 64), norm="layer", dropout=0.2), "row-space", ["1", "5"]),
        ("hospital", Mlp(hidden=(64, 64)), "row-space", ["0", "2"]),
    ],
)
def test_each_network_has_the_attack_that_reads_it_at_the_layers_that_it_reads(source, model, kind, layers):
    found = mapped(source, model)
    assert applies(found, kind) == layers
    assert kind.capitalize() in found.headline or f", {kind}" in found.headline
    others = [one for one in found.layers if one.name not in layers and kind in one.why_not]
    assert len(others) == len([one for one in found.layers if one.name not in layers and one.why_not]) > 0


def test_adaptive_optimizers_leave_zeros_and_the_first_step_of_an_encoded_table():
    found = mapped("hospital", Mlp(hidden=(64, 64)), Adam(), epochs=2)
    assert applies(found, "zeros") == ["0"]
    assert applies(found, "exact") == applies(found, "row-space") == []
    assert found.at_once == ["gradient-matching"]
    found = mapped("hospital", Tabular(hidden=(64, 64), encoding="ordinal"), Adam())
    assert "deficit of the first step" in found.layers[0].applies["row-space"]
    found = mapped("hospital", Tabular(hidden=(64, 64), encoding="ordinal"), Adam(), epochs=2)
    assert applies(found, "row-space") == []


@pytest.mark.parametrize(
    ("source", "model", "settings", "layer", "says"),
    [
        ("clinical-notes", Encoder(**TEXT), {"epochs": 2}, "0.blocks.0.wide", "several local steps"),
        ("clinical-notes", Decoder(**TEXT), {"optimizer": Adam()}, "0.blocks.0.wide", "as Adam or signs leave"),
        ("clinical-notes", Decoder(width=16, heads=2), {}, "0.blocks.0.wide", "as many tokens, or noise"),
        ("heartbeats", SignalConvnet(), {"epochs": 2}, "8", "move with every local step"),
        ("heartbeats", SignalConvnet(channels=(1,)), {}, "5", "features do not determine"),
        ("hospital", FtTransformer(blocks=3), {}, "3.query", "no sum over columns"),
        ("hospital", FtTransformer(), {"epochs": 2}, "2.query", "tokens move"),
    ],
)
def test_where_an_attack_does_not_apply_its_layer_says_why(source, model, settings, layer, says):
    one = next(one for one in mapped(source, model, **settings).layers if one.name == layer)
    assert any(says in why for why in one.why_not.values())
    assert not one.applies


def test_tables_name_categories_and_nothing_else_is_said_of_them():
    found = mapped("hospital", Tabular(hidden=(64, 64)))
    tables = [one for one in found.layers if one.name.startswith("0.tables.")]
    assert tables
    assert any("categories of its column that occur" in one.tells for one in tables)
    assert not any(one.applies for one in tables)
    assert "of 49 categories that occur" in mapped("hospital", FtTransformer()).layers[0].tells


def test_layers_of_which_the_same_is_said_are_printed_together(capsys):
    found = mapped("clinical-notes", Decoder(**TEXT))
    assert ("0.blocks.0.query", "0.blocks.0.key", "0.blocks.0.value") in alike(found)
    show_leak_map(found)
    shown = capsys.readouterr().out
    assert shown.count("0.blocks.0.query") == 2  # in the table, and with the others
    assert "exact, feature-inversion, gradient-matching, row-space" in " ".join(shown.split())


def test_auto_reads_a_text():
    model, _, exchange, schema = seen("clinical-notes", Decoder(**TEXT))
    notes = schema.encode(SOURCES["clinical-notes"].load(7).columns)[:4]
    claim = fedinv.invert(
        exchange.received, sent=exchange.sent, model=model, schema=schema, records=4, algorithm="fedsgd", lr=0.05
    )
    assert claim.notes[0] == "found by span-tokens"
    assert sorted(map(tuple, claim.records.tolist())) == sorted(map(tuple, notes.tolist()))
