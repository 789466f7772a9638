"""What an attack may be asked: one file a question, named after it.

Each has `ask`, what the attacker is handed, and `judge`, what it said against the truth. They know claims and answers,
never an attack by name.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Literal, Protocol

import numpy as np
import pyarrow as pa
from torch import nn

from fedinv.attack import Answer, Asks, Attack, Claim, Observation, Question
from fedinv.data.population import Population
from fedinv.errors import RequestError, nearest
from fedinv.results.run import AttackResult, Curve, Exhibit, InferenceResult, Measure
from fedinv.scenario.scenario import Scenario
from fedinv.task.columns import Column

Variant = Literal["static", "adaptive"]
Target = Literal["client", "sum", "model"]


@dataclass(frozen=True)
class Setting:
    """What a judge knows: everything."""

    scenario: Scenario
    people: Population
    attack: Attack
    network: Callable[[], nn.Sequential]
    """Loads the trained model."""


@dataclass(frozen=True)
class Tried:
    """One attack in one variant on all observations that it was for."""

    attack: Attack
    variant: Variant
    """static: not told of the defenses; adaptive: told, and using it."""
    target: Target
    """Whether single clients' updates, the sum of a secure aggregation, or the trained model was attacked."""
    said: tuple[tuple[Observation, Claim | Answer], ...]
    """Each observation with what the attack said of it."""
    seconds: float
    """Of all its runs together."""

    @property
    def notes(self) -> list[str]:
        """What the attack said of itself, each note once."""
        return list(dict.fromkeys(note for _, one in self.said for note in one.notes))


@dataclass(frozen=True)
class Heard:
    """What an attack said about one observation, beside what it was asked."""

    seen: Observation
    question: Question | None
    answer: Answer | Claim


class Finding(Protocol):
    """What a judge found of one attack."""

    def result(self, tried: Tried, control: "Finding | None") -> AttackResult | InferenceResult:
        """The finding as it is published; `control` is the same attack's on the federation without defenses."""

    def table(self, tried: Tried) -> pa.Table | None:
        """Every true record beside what was claimed of it; None for what is not about single records' fields."""


@dataclass(frozen=True)
class Inference:
    """What was inferred beyond single records' fields, judged."""

    says: str
    """In the words of a sentence that begins with "it": what was inferred, beside the guess."""
    measures: Sequence[Measure]
    """The one that reveals most first."""
    curve: Curve | None = None
    exhibits: Sequence[Exhibit] = ()

    def result(self, tried: Tried, control: Finding | None) -> InferenceResult:
        """The inference as it is published, with the measures of the undefended one beside it."""
        said = [one for _, one in tried.said]
        return InferenceResult(
            kind=tried.attack.kind,
            variant=tried.variant,
            target=tried.target,
            asks=tried.attack.asks,
            parameters=tried.attack.model_dump(mode="json"),
            observations=len(said),
            answered=sum(len(one.scores if isinstance(one, Answer) else one.records) > 0 for one in said),
            seconds=tried.seconds,
            says=self.says,
            measures=list(self.measures),
            undefended=list(control.measures) if isinstance(control, Inference) else None,
            curve=self.curve,
            exhibits=list(self.exhibits),
            notes=tried.notes,
        )

    def table(self, tried: Tried) -> None:
        """None: an inference is about no single record's fields."""


class Judge(Protocol):
    """A module of this package, named after the question that it judges."""

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
    """The judge of what an attack is asked, imported when it is needed."""
    module: Judge = import_module(f"{__name__}.{asks.replace('-', '_')}")
    return module
