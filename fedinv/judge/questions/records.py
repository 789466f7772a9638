"""Reconstruction: how many records, and how many of their fields, does the attack reconstruct?"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa

from fedinv.attack import Claim, Observation, Question
from fedinv.data.population import Population
from fedinv.federation.streams import stream
from fedinv.judge import record_table
from fedinv.judge.calibration import calibration, confidences
from fedinv.judge.guess import Guesses, strongest
from fedinv.judge.questions import Finding, Heard, Setting, Tried
from fedinv.judge.truth import auxiliary, population_of, true_rows
from fedinv.judge.verdict import Case, Rates, Verdict
from fedinv.judge.verdict import judge as judge_cases
from fedinv.results.ranking import worst_client
from fedinv.results.run import AttackResult, ClientRate, Control
from fedinv.scenario.scenario import Scenario


@dataclass(frozen=True)
class Reconstruction:
    """Verdict on a reconstruction attack over all its observations."""

    verdicts: tuple[Verdict, ...]
    """Verdict on each observation's claim, in order."""
    rates: Rates
    """Rates over all observations."""
    people: Population
    """All records, and which client holds them."""

    def result(self, tried: Tried, control: Finding | None) -> AttackResult:
        """Return the entry of results.json, with the rates of the same attack without defenses."""
        claims = [verdict.case.claim for verdict in self.verdicts]
        mismatches = [claim.mismatch for claim in claims if claim.mismatch is not None]
        named = self.people.table.identities is not None
        clients = _by_client([seen for seen, _ in tried.said], self.verdicts) if tried.target == "client" else []
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
            clients=clients,
            worst=worst_client(clients),
            images=self.rates.images,
            reidentified=self.rates.reidentified if named else None,
            calibration=calibration(*confidences(self.verdicts)),
            chance=1 / len(self.people.table) if named else None,
            undefended=_control(control.rates) if isinstance(control, Reconstruction) else None,
            mismatch=sum(mismatches) / len(mismatches) if mismatches else None,
            notes=tried.notes,
        )

    def table(self, tried: Tried) -> pa.Table:
        """Return a row for every true record with its claim."""
        return record_table.table(tried, self.verdicts, self.people)


def ask(setting: Setting, seen: Observation) -> Question | None:
    """Return None: the attacker needs nothing beyond the observation and its knowledge."""
    return None


def judge(setting: Setting, heard: Sequence[Heard], rng: np.random.Generator) -> Reconstruction:
    """Compare claims with the records from which the updates were computed; `rng` is not used.

    Guesses and resampling draw from a stream that is the same for all attacks of a scenario, so that attacks are
    compared on the same draws.
    """
    cases = [
        Case(one.answer, true_rows(setting.scenario, setting.people, one.seen.clients, one.seen.last.round))
        for one in heard
        if isinstance(one.answer, Claim)
    ]
    drawn = stream(setting.scenario.seed, "judge")
    guesses = _guesses(setting.scenario, tuple(len(case.rows) for case in cases))
    verdicts, rates = judge_cases(cases, setting.people, setting.scenario.judge.tolerance, drawn, guesses)
    return Reconstruction(verdicts, rates, setting.people)


@lru_cache(maxsize=4)
def _guesses(scenario: Scenario, sizes: tuple[int, ...]) -> Guesses:
    """The strongest guesses for batches of these sizes; cached, as all attacks of a scenario are held against them."""
    people = population_of(scenario)
    granted = auxiliary(scenario, people)
    known = None if granted is None else granted.records
    return strongest(people.schema, sizes, scenario.judge.tolerance, known, stream(scenario.seed, "guess"))


def _by_client(seen: Sequence[Observation], verdicts: Sequence[Verdict]) -> list[ClientRate]:
    """Counts of each client over its observations."""
    found: dict[int, list[Verdict]] = {}
    for one, verdict in zip(seen, verdicts, strict=True):
        found.setdefault(one.clients[0], []).append(verdict)
    return [
        ClientRate(
            client=client,
            records=sum(len(verdict.case.rows) for verdict in own),
            recovered=sum(int(verdict.match.recovered.sum()) for verdict in own),
            fields=sum(verdict.filled.size for verdict in own),
            right=round(sum(float(verdict.filled.sum()) for verdict in own)),
        )
        for client, own in sorted(found.items())
    ]


def _control(rates: Rates) -> Control:
    return Control(field_accuracy=rates.field_accuracy, recovered=rates.recovered)
