"""Judges of what is inferred beyond single records' fields: one file for each thing an attack may ask.

Each has `ask`, what the attacker is handed, and `judge`, its answers against the truth. They know answers, never an
attack by name.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol

import numpy as np
from torch import nn

from fedinv.attack import Answer, Asks, Attack, Claim, Observation, Question
from fedinv.data.population import Population
from fedinv.errors import RequestError, nearest
from fedinv.results.run import Curve, Exhibit, Measure
from fedinv.scenario.scenario import Scenario
from fedinv.task.columns import Column


@dataclass(frozen=True)
class Setting:
    """What a judge of inferences knows: everything."""

    scenario: Scenario
    people: Population
    attack: Attack
    network: Callable[[], nn.Sequential]
    """Loads the trained model."""


@dataclass(frozen=True)
class Heard:
    """An attack's answer to a question about one observation, or its claim about the model's classes."""

    seen: Observation
    question: Question | None
    answer: Answer | Claim


@dataclass(frozen=True)
class Finding:
    """One attack's inferences, judged."""

    says: str
    """In the words of a sentence that begins with "it": what was inferred, beside the guess."""
    measures: Sequence[Measure]
    """The one that tells most first."""
    curve: Curve | None = None
    exhibits: Sequence[Exhibit] = ()


class Judge(Protocol):
    """A module of this package, named after what it judges."""

    def ask(self, setting: Setting, seen: Observation) -> Question | None:
        """What the attacker is asked about an observation, and handed for it; None where there is nothing to hand."""

    def judge(self, setting: Setting, heard: Sequence[Heard], rng: np.random.Generator) -> Finding:
        """Answers (at least one) against the truth. One without rows is no answer: the guess speaks for it."""


def column_of(setting: Setting) -> Column:
    """The column that an attack is about: the one it names, else the first sensitive one.

    Raises RequestError for one that is not there.
    """
    schema = setting.people.table.schema
    wanted = getattr(setting.attack, "column", None)
    if wanted is not None and wanted not in schema.names:
        raise RequestError(f"attacks.column: there is no column {wanted!r}{nearest(wanted, schema.names)}")
    name = wanted or next((c.name for c in schema.columns if c.sensitive), schema.names[0])
    return schema.columns[schema.names.index(name)]


def judge_of(asks: Asks) -> Judge:
    """The judge of what an attack asks, imported when it is needed."""
    module: Judge = import_module(f"{__name__}.{asks.replace('-', '_')}")
    return module
