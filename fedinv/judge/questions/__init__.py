"""The questions that an attack may be asked, in a file each, named after the question.

Each file has `ask`, which makes what the attacker is given, and `judge`, which compares its answers with the truth.
They depend on claims and answers, never on an attack's name.
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
    """The judge's knowledge, which includes the truth."""

    scenario: Scenario
    """Scenario of the run."""
    people: Population
    """All records, and which client holds them."""
    attack: Attack
    """Attack that is judged."""
    network: Callable[[], nn.Sequential]
    """Loads the trained model."""


@dataclass(frozen=True)
class Tried:
    """One attack in one variant, with its output on every observation."""

    attack: Attack
    """Attack with its parameters."""
    variant: Variant
    """Attacker's knowledge of the defenses: "static" has none, "adaptive" knows and uses them."""
    target: Target
    """Attacked data: single clients' updates, the sum of a secure aggregation, or the trained model."""
    said: tuple[tuple[Observation, Claim | Answer], ...]
    """Observations, each with the attack's claim or answer."""
    seconds: float
    """Duration of all runs of the attack together, seconds."""

    @property
    def notes(self) -> list[str]:
        """Remarks of the attack on all observations, each once."""
        return list(dict.fromkeys(note for _, one in self.said for note in one.notes))

    @property
    def unfinished(self) -> list[str]:
        """Limits of the attack's own that ended it on any observation before it was done, each once."""
        claims = [one for _, one in self.said if isinstance(one, Claim)]
        return list(dict.fromkeys(limit for one in claims for limit in one.unfinished))


@dataclass(frozen=True)
class Heard:
    """An attack's answer about one observation."""

    seen: Observation
    """Observation that was attacked."""
    question: Question | None
    """Question that the attack was given; None where it was given none."""
    answer: Answer | Claim
    """Answer or claim of the attack."""


class Finding(Protocol):
    """A judge's verdict on one attack."""

    def result(self, tried: Tried, control: "Finding | None") -> AttackResult | InferenceResult:
        """Return the entry of results.json; `control` is the finding on the same attack without defenses."""

    def table(self, tried: Tried) -> pa.Table | None:
        """Return a row for every true record with its claim; None for questions that are not about records."""


@dataclass(frozen=True)
class Inference:
    """Verdict on an inference about something else than records."""

    says: str
    """Inference and prior in words: the end of a sentence that begins with "it"."""
    measures: Sequence[Measure]
    """Measures of the inference, the most revealing first."""
    curve: Curve | None = None
    """ROC curve of a membership test; None for other questions."""
    exhibits: Sequence[Exhibit] = ()
    """Examples for readers."""

    def result(self, tried: Tried, control: Finding | None) -> InferenceResult:
        """Return the entry of results.json, with the measures of the undefended federation."""
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
        """Return None: there are no claims of records."""


class Judge(Protocol):
    """A module of this package that poses and judges the question that it is named after."""

    def ask(self, setting: Setting, seen: Observation) -> Question | None:
        """Make the question about an observation, with what the attacker is given for it; None where it is nothing."""

    def judge(self, setting: Setting, heard: Sequence[Heard], rng: np.random.Generator) -> Finding:
        """Compare one or more answers with the truth. An answer without rows is scored as the guess, or left out."""


def column_of(setting: Setting) -> Column:
    """The column that an attack infers: the one it names, else the first sensitive one, else the first.

    Raises RequestError for a column that the table does not have.
    """
    schema = setting.people.table.schema
    wanted = getattr(setting.attack, "column", None)
    if wanted is not None and wanted not in schema.names:
        raise RequestError(f"attacks.column: there is no column {wanted!r}{nearest(wanted, schema.names)}")
    name = wanted or next((c.name for c in schema.columns if c.sensitive), schema.names[0])
    return schema.columns[schema.names.index(name)]


def judge_of(asks: Asks) -> Judge:
    """Import the module of a question on first use."""
    module: Judge = import_module(f"{__name__}.{asks.replace('-', '_')}")
    return module
