"""Reconstruction: how many records, and how many of their fields, does the attack reconstruct?"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fedinv.attack import Claim, Observation, Question
from fedinv.data.population import Population
from fedinv.federation.agreement import Server
from fedinv.federation.streams import stream
from fedinv.judge import record_table
from fedinv.judge.calibration import calibration, confidences
from fedinv.judge.guess import Guesses, strongest
from fedinv.judge.linking import Register, register
from fedinv.judge.questions import Finding, Heard, Setting, Tried
from fedinv.judge.tally import tally
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
    outside: Register | None
    """Register in which claims were looked up; None where no column is known elsewhere."""

    def result(self, tried: Tried, control: Finding | None) -> AttackResult:
        """Return the entry of results.json, with the rates of the same attack without defenses."""
        claims = [verdict.case.claim for verdict in self.verdicts]
        mismatches = [claim.mismatch for claim in claims if claim.mismatch is not None]
        clients = _by_client(self.verdicts, self.people)
        return AttackResult(
            kind=tried.attack.kind,
            variant=tried.variant,
            target="sum" if tried.target == "sum" else "client",
            parameters=tried.attack.model_dump(mode="json"),
            observations=len(claims),
            records=sum(len(verdict.case.rows) for verdict in self.verdicts),
            claimed=sum(len(claim.records) for claim in claims),
            verified=sum(int(claim.verified.sum()) for claim in claims),
            seconds=tried.seconds,
            field_accuracy=self.rates.field_accuracy,
            recovered=self.rates.recovered,
            exact=self.rates.exact,
            owned=_owned(self.verdicts, self.people),
            clients=clients if tried.target == "client" else [],
            worst=worst_client(clients),
            images=self.rates.images,
            reidentified=self.rates.reidentified,
            calibration=calibration(*confidences(self.verdicts)),
            chance=1 / len(self.people.table) if self.outside else None,
            outside_register=self.outside.name if self.outside else None,
            undefended=_control(control.rates) if isinstance(control, Reconstruction) else None,
            mismatch=sum(mismatches) / len(mismatches) if mismatches else None,
            notes=tried.notes,
            unfinished=tried.unfinished,
        )

    def table(self, tried: Tried) -> pa.Table:
        """Return a row for every true record with its claim."""
        return record_table.table(tried, self.verdicts, self.people)


def _holders(people: Population) -> NDArray[np.int64]:
    """Client that holds each row, int64 (rows,); -1 for one that no client holds."""
    held = np.full(len(people.table), -1, np.int64)
    for client, rows in enumerate(people.shares):
        held[rows] = client
    return held


def _owned(verdicts: Sequence[Verdict], people: Population) -> int | None:
    """Number of recovered records whose claim names the client that holds them; None where no claim names any."""
    named = [one for one in verdicts if one.case.claim.owners is not None]
    if not named:
        return None
    holder = _holders(people)
    right = 0
    for one in named:
        owners, found = one.case.claim.owners, one.match
        assert owners is not None
        for place in np.flatnonzero(found.recovered):
            right += int(owners[int(found.claim[place])]) == holder[int(one.case.rows[place])]
    return right


def ask(setting: Setting, seen: Observation) -> Question | None:
    """Return None: the attacker needs nothing beyond the observation and its knowledge."""
    return None


def judge(setting: Setting, heard: Sequence[Heard], rng: np.random.Generator) -> Reconstruction:
    """Compare claims with the records from which the updates were computed; `rng` is not used.

    Guesses and resampling draw from a stream that is the same for all attacks of a scenario, so that attacks are
    compared on the same draws.
    """
    cases = [
        Case(
            one.answer,
            true_rows(setting.scenario, setting.people, one.seen.clients, one.seen.last.round),
            one.seen.clients,
        )
        for one in heard
        if isinstance(one.answer, Claim)
    ]
    drawn = stream(setting.scenario.seed, "judge")
    # neither what the server does nor who looks at it changes a guess, which a study of many servers asks for each time
    same = setting.scenario.model_copy(update={"name": "", "server": Server(), "vetting": (), "attacks": ()})
    guesses = _guesses(same, tuple(len(case.rows) for case in cases))
    outside = register(setting.people, setting.scenario.data.known_elsewhere)
    verdicts, rates = judge_cases(cases, setting.people, setting.scenario.judge.tolerance, drawn, guesses, outside)
    return Reconstruction(verdicts, rates, setting.people, outside)


@lru_cache(maxsize=16)
def _guesses(scenario: Scenario, sizes: tuple[int, ...]) -> Guesses:
    """The strongest guesses for batches of these sizes; cached, as all attacks of a scenario are held against them."""
    people = population_of(scenario)
    granted = auxiliary(scenario, people)
    known = None if granted is None else granted.records
    return strongest(people.schema, sizes, scenario.judge.tolerance, known, stream(scenario.seed, "guess"))


def _by_client(verdicts: Sequence[Verdict], people: Population) -> list[ClientRate]:
    """Counts of each client that stands behind an observation, of a sum too, over the records that it holds."""
    if not verdicts:
        return []
    rows = np.concatenate([one.case.rows for one in verdicts])
    holder = _holders(people)[rows]
    recovered = np.concatenate([one.recovered.astype(float) for one in verdicts])
    shares, guessed = (
        np.concatenate(parts) for parts in ([one.shares for one in verdicts], [one.guessed_shares for one in verdicts])
    )
    columns = verdicts[0].filled.shape[1]
    found = []
    for client in sorted({client for one in verdicts for client in one.case.clients}):
        own = holder == client
        counted = tally([((client,), people.person[rows[own]])])
        fields = counted.people * columns
        right, guess = (float(counted.mean(values[own]).mean()) if fields else 0.0 for values in (shares, guessed))
        found.append(
            ClientRate(
                client=client,
                records=counted.people,
                recovered=round(float(counted.ever(recovered[own]).sum())),
                fields=fields,
                right=right * fields,
                guessed=guess * fields,
            )
        )
    return found


def _control(rates: Rates) -> Control:
    return Control(field_accuracy=rates.field_accuracy, recovered=rates.recovered)
