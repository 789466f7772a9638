"""Single records: which fields of whom did the attack rebuild?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from fedinv.attack import Claim, Observation, Question
from fedinv.data.population import Population
from fedinv.federation.streams import stream
from fedinv.judge import record_table
from fedinv.judge.calibration import calibration, confidences
from fedinv.judge.questions import Finding, Heard, Setting, Tried
from fedinv.judge.truth import true_rows
from fedinv.judge.verdict import Case, Rates, Verdict
from fedinv.judge.verdict import judge as judge_cases
from fedinv.results.run import AttackResult, Control


@dataclass(frozen=True)
class Reconstruction:
    """Claims of records, judged one observation after the other."""

    verdicts: tuple[Verdict, ...]
    rates: Rates
    people: Population

    def result(self, tried: Tried, control: Finding | None) -> AttackResult:
        """The rates as they are published, beside those of the same attack without defenses."""
        claims = [verdict.case.claim for verdict in self.verdicts]
        mismatches = [claim.mismatch for claim in claims if claim.mismatch is not None]
        named = self.people.table.identities is not None
        return AttackResult(
            kind=tried.attack.kind,
            variant=tried.variant,
            target="sum" if tried.target == "sum" else "client",
            parameters=tried.attack.model_dump(mode="json"),
            observations=len(claims),
            records=sum(len(verdict.case.rows) for verdict in self.verdicts),
            claimed=sum(len(claim.records) for claim in claims),
            seconds=tried.seconds,
            field_accuracy=self.rates.field_accuracy,
            recovered=self.rates.recovered,
            exact=self.rates.exact,
            images=self.rates.images,
            reidentified=self.rates.reidentified if named else None,
            calibration=calibration(*confidences(self.verdicts)),
            chance=1 / len(self.people.table) if named else None,
            undefended=_control(control.rates) if isinstance(control, Reconstruction) else None,
            mismatch=sum(mismatches) / len(mismatches) if mismatches else None,
            notes=tried.notes,
        )

    def table(self, tried: Tried) -> pa.Table:
        """Every true record beside what was claimed of it."""
        return record_table.table(tried, self.verdicts, self.people)


def ask(setting: Setting, seen: Observation) -> Question | None:
    """None: an attack on records is handed nothing but the observation and its knowledge."""
    return None


def judge(setting: Setting, heard: Sequence[Heard], rng: np.random.Generator) -> Reconstruction:
    """Claims against the records that the updates were computed from; `rng` is not used.

    The guesses and the resampling draw on one stream for all attacks of a scenario, so that attacks are compared on the
    same draws.
    """
    cases = [
        Case(one.answer, true_rows(setting.scenario, setting.people, one.seen.clients, one.seen.last.round))
        for one in heard
        if isinstance(one.answer, Claim)
    ]
    drawn = stream(setting.scenario.seed, "judge")
    verdicts, rates = judge_cases(cases, setting.people, setting.scenario.judge.tolerance, drawn)
    return Reconstruction(verdicts, rates, setting.people)


def _control(rates: Rates) -> Control:
    return Control(field_accuracy=rates.field_accuracy, recovered=rates.recovered)
