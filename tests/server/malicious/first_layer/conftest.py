import numpy as np
import pytest
import torch

from fedinv import roles
from fedinv.attack import Exchange, Knowledge
from fedinv.deviation import Turn
from fedinv.federation.training import Job, Training
from fedinv.task.columns import Categorical, Continuous
from fedinv.task.models import load
from fedinv.task.networks.perceptron import Mlp
from fedinv.task.schema import Schema

plain_training = roles.load("clients", "training.plain_training").plain_training


def _category(name, size):
    return Categorical(name=name, values=tuple(map(str, range(size))), frequencies=(1 / size,) * size)


def _number(name, *, integer):
    return Continuous(name=name, mean=50, std=10, low=0, high=100, mode=50, integer=integer)


SCHEMA = Schema(
    columns=(
        _number("age", integer=True),
        _category("ward", 6),
        _number("dose", integer=False),
        _category("drug", 5),
        _number("days", integer=True),
        _number("level", integer=False),
        _category("sex", 2),
    ),
    label="ill",
    classes=("no", "yes"),
)


class Clinic:
    """A client of `count` people, who trains honestly on whatever weights it is sent, all its people in each round."""

    schema = SCHEMA

    def __init__(self, count, *hidden, algorithm="fedsgd", epochs=1):
        rng = np.random.default_rng(3)
        people = SCHEMA.draw(count, rng)
        for at in (0, 13):  # whole numbers
            people[:, at] = ((people[:, at] * 10).round() / 10).clamp(-5, 5)
        self.people, self.labels = people, torch.from_numpy(rng.integers(0, 2, count))
        self.model = Mlp(hidden=hidden)
        size = count if algorithm == "fedsgd" else 8
        self.training = Training(algorithm, epochs, size, 0.05, 0.0, 0.0)
        self.knows = Knowledge(
            model=self.model, schema=SCHEMA, algorithm=algorithm, lr=0.05, batch_size=size, epochs=epochs
        )

    def blank(self):
        widths = [SCHEMA.width, *self.model.hidden, 2]
        shapes = [s for i in range(1, len(widths)) for s in ((widths[i], widths[i - 1]), (widths[i],))]
        names = [f"{2 * (i // 2)}.{'bias' if i % 2 else 'weight'}" for i in range(len(shapes))]
        return {name: torch.zeros(shape) for name, shape in zip(names, shapes, strict=True)}

    def turn(self, round_=1, seen=()):
        return Turn(0, round_, (0,), (0,), tuple(seen))

    def answer(self, sent, round_=1):
        network = load(self.model, SCHEMA.shape, 2, {name: tensor.clone() for name, tensor in sent.items()})
        rng, count = np.random.default_rng(round_), len(self.people)
        epochs = [rng.permutation(count) for _ in range(self.training.epochs)]
        size = self.training.batch_size
        batches = tuple(order[i : i + size] for order in epochs for i in range(0, count, size))
        received = plain_training(Job(network, self.people, self.labels, batches, self.training, rng))
        return Exchange(round_, sent, received, count)

    def judged(self, claim):
        """How many people a claim recovers to 0.001 standard deviations, and how many of its records are nobody's."""
        off = torch.cdist(claim.records.double(), self.people.double(), p=torch.inf)
        right = off <= 1e-3
        if claim.labels is not None:
            assert torch.equal(claim.labels[right.any(1)], self.labels[off.argmin(1)][right.any(1)])
        return int(right.any(0).sum()), int((~right.any(1)).sum())


@pytest.fixture(scope="session")
def clinic():
    return Clinic
