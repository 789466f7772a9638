"""What the contract tests share: one client's update of a small network, and all that a scenario can grant."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache

import numpy as np
import torch
from pydantic import BaseModel

from clients.training.plain_training import plain_training
from fedinv import plugins
from fedinv.attack import Exchange, Knowledge, Observation, Question, Sample
from fedinv.federation.training import Job, Participation, Training
from fedinv.task.columns import Categorical, Continuous
from fedinv.task.models import Mlp, state
from fedinv.task.schema import Schema

RECORDS = 3
"""Of the update under attack."""
PEOPLE = 6
"""Whom the attacker is asked about."""

_AGE = Continuous(name="age", mean=50, std=10, low=20, high=90, mode=48, integer=True)
_DOSE = Continuous(name="dose", mean=0, std=2, low=-5, high=5, mode=0.5, sensitive=True)
_WARD = Categorical(name="ward", values=("a", "b", "c"), frequencies=(0.5, 0.3, 0.2))
CLASSES = Schema(columns=(_AGE, _DOSE, _WARD), label="ill", classes=("no", "yes", "maybe"))
NUMBER = Schema(
    columns=CLASSES.columns, label="days", target=Continuous(name="days", mean=3, std=2, low=0, high=9, mode=2)
)
MODEL = Mlp(hidden=(16, 12))


@cache
def update(schema: Schema) -> Exchange:
    """One step of plain training on three records, from weights that were trained for some steps before."""
    rng = np.random.default_rng(11)
    torch.manual_seed(4)
    network = torch.nn.Sequential(*MODEL.layers(schema.shape, schema.outputs))
    inputs, labels = schema.draw(40, rng), _labels(schema, 40)

    def trained(rows, epochs):
        settings = Training("fedsgd" if epochs == 1 else "fedavg", epochs, len(rows), 0.1, 0.0, 0.0)
        batches = tuple(np.arange(len(rows)) for _ in range(epochs))
        return plain_training(Job(network, inputs[rows], labels[rows], batches, settings, rng))

    trained(np.arange(RECORDS, 40), 5)
    sent = {name: tensor.detach().clone() for name, tensor in state(network).items()}
    received = {name: tensor.detach().clone() for name, tensor in trained(np.arange(RECORDS), 1).items()}
    return Exchange(2, sent, received, RECORDS)


def observed(
    schema: Schema = CLASSES, defenses: tuple[str, ...] = (), sees: str = "update"
) -> tuple[Observation, Knowledge]:
    """An observation and all that can be known, in tensors of their own; `defenses` by kind, as their defaults are.

    What `sees` the model is given it without an update, as after the training.
    """
    last = update(schema)
    last = Exchange(2, _copied(last.sent), _copied(last.received) if sees == "update" else {}, RECORDS)
    rng = np.random.default_rng(7)
    people = Sample(schema.draw(PEOPLE, rng), _labels(schema, PEOPLE))
    people.records[:, schema.slices[2]] = 0
    question = Question(
        people, "ward", torch.eye(3), Sample(schema.draw(RECORDS - 1, rng), _labels(schema, RECORDS - 1))
    )
    taken = Participation(records=RECORDS, batch_size=RECORDS, cohort=3, clients=5)
    told = tuple(plugins.load("defenses", kind).model_validate({"kind": kind}).known(taken) for kind in defenses)
    knows = Knowledge(
        model=MODEL,
        loss=schema.loss,
        schema=schema,
        algorithm="fedsgd",
        lr=0.1,
        batch_size=RECORDS,
        epochs=1,
        momentum=0.0,
        weight_decay=0.0,
        defenses=told or None,
        auxiliary=Sample(schema.draw(30, rng), _labels(schema, 30)),
        question=question,
    )
    return Observation((0,), (last,)), knows


def flattened(thing: object) -> object:
    """All that a value holds, to be compared bit by bit: tensors and arrays as their bytes."""
    if isinstance(thing, torch.Tensor):
        return str(thing.dtype), tuple(thing.shape), thing.detach().contiguous().numpy().tobytes()
    if isinstance(thing, np.ndarray):
        # an array of texts holds pointers
        held = thing.tolist() if thing.dtype == object else thing.tobytes()
        return str(thing.dtype), thing.shape, held
    if is_dataclass(thing):
        return type(thing).__name__, [(f.name, flattened(getattr(thing, f.name))) for f in fields(thing)]
    if isinstance(thing, BaseModel):
        return type(thing).__name__, thing.model_dump_json()
    if isinstance(thing, Mapping):
        return [(key, flattened(value)) for key, value in thing.items()]
    if isinstance(thing, tuple | list):
        return [flattened(value) for value in thing]
    return repr(thing)


def _copied(weights):
    return {name: tensor.clone() for name, tensor in weights.items()}


def _labels(schema: Schema, count: int) -> torch.Tensor:
    labels = torch.arange(count) % 3
    return labels if schema.target is None else labels.float() - 1
