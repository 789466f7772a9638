"""The price of a scenario in privacy, known before any client trains: the ledgers follow from rounds and records."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from fedinv import roles
from fedinv.errors import RequestError
from fedinv.federation.agreement import round_clients
from fedinv.judge.truth import population_of
from fedinv.privacy import claims
from fedinv.privacy import ledger as ledgers
from fedinv.privacy.events import PrivacyEvent
from fedinv.results.run import LeftOutClient, Privacy
from fedinv.results.wording import UNITS, epsilon_text, no_epsilon_text
from fedinv.scenario.scenario import Scenario


def price(scenario: Scenario) -> Privacy:
    """The guarantee that the ledgers will support if every client that is asked replies.

    Raises RequestError where a budget does not pay for the first round, as `payable` does.
    """
    payable(scenario)
    ledger = {
        str(number): (
            *(replace(event, steps=event.steps * plan.rounds) for event in plan.round if plan.rounds),
            *plan.by_server,
        )
        for number, plan in enumerate(_plans(scenario))
    }
    return _told(scenario, ledger)


def spent(scenario: Scenario, charges: Mapping[str, ledgers.Ledger], left_out: Sequence[LeftOutClient]) -> Privacy:
    """The guarantee of a finished training, by the clients' ledgers and by which replies were left out."""
    absent = {(one.round, one.client) for one in left_out}
    missing: dict[str, list[int]] = {client: [] for client in charges}
    if absent:
        for round_ in range(1, scenario.federation.rounds + 1):
            cohort = _cohort(scenario, round_)
            there = [client for client in cohort if (round_, client) not in absent]
            for client in there:
                missing.get(str(client), []).append(len(cohort) - len(there))
    real = {client: ledgers.recharged(charged, missing[client]) for client, charged in charges.items()}
    lacked = any(set(real[client]) != set(charged) for client, charged in charges.items())
    found = _told(scenario, real)
    return found.model_copy(update={"note": f"{found.note}; {LACKED}"}) if lacked else found


LACKED = "rounds that lacked the noise of clients that dropped out are charged with the noise that arrived"


def _told(scenario: Scenario, ledger: Mapping[str, ledgers.Ledger]) -> Privacy:
    """The guarantee by these charges, with what it does not cover, and what it means for people of several rows."""
    kinds = [defense.kind for defense in scenario.defenses]
    found = claims.claim({client: [vars(event) for event in events] for client, events in ledger.items()}, kinds)
    if found.epsilon is None:
        return found
    excludes = [*(() if scenario.data.declared_in is not None else (DICTIONARY,)), COUNTS]
    note = f"{found.note}; the guarantee excludes {' and '.join(excludes)}"
    rows = population_of(scenario).rows_per_person
    if found.unit != "example" or rows == 1:
        return found.model_copy(update={"excludes": excludes, "note": note})
    whole = claims.claim({c: [vars(ledgers.of_rows(e, rows)) for e in events] for c, events in ledger.items()}, kinds)
    said = no_epsilon_text(whole.exceeds) if whole.epsilon is None else epsilon_text(whole.epsilon)
    note += f"; a record is a row, and for all of a person's rows, up to {rows}, epsilon is {said}"
    return found.model_copy(update={"excludes": excludes, "note": note, "person": whole.epsilon, "rows": rows})


DICTIONARY = "the data dictionary"
COUNTS = "record counts"


def _cohort(scenario: Scenario, round_: int) -> tuple[int, ...]:
    federation = scenario.federation
    return round_clients(federation.clients, federation.participants, scenario.seed, round_)


def payable(scenario: Scenario) -> None:
    """Raise RequestError for a budget that pays no client's first round, or that the server would exceed.

    It says which budget would be enough. Clients beside others that can pay are left out of the rounds by themselves.
    """
    plans = list(_plans(scenario))
    if plans and all(plan.rounds == 0 and plan.asked for plan in plans):
        short = min((_short(plan) for plan in plans), key=lambda one: one[1])
        raise RequestError(_refusal(*short, "the first round costs"))
    for plan in plans:
        for event in plan.by_server:
            if event.budget is not None and (cost := claims.rough_epsilon([event])) > event.budget:
                raise RequestError(_refusal(event, cost, "all rounds cost"))


@dataclass(frozen=True)
class _Plan:
    """What clients of one number of records, asked equally often, are charged."""

    round: tuple[PrivacyEvent, ...]
    """Charges of one round."""
    asked: int
    """Rounds that they are asked to take part in."""
    rounds: int
    """Rounds of those that their budgets pay for."""
    by_server: tuple[PrivacyEvent, ...]
    """Charges of all rounds for what the server carries out, whether they are asked or not."""


def _plans(scenario: Scenario) -> Iterator[_Plan]:
    federation = scenario.federation
    if not scenario.defenses:
        return
    asked = (
        Counter(client for round_ in range(1, federation.rounds + 1) for client in _cohort(scenario, round_))
        if federation.participants < federation.clients
        else dict.fromkeys(range(federation.clients), federation.rounds)
    )
    by_server = tuple(
        replace(event, steps=event.steps * federation.rounds) for event in _events(scenario, 1, by_server=True)
    )
    for records, rounds in dict.fromkeys((held, asked.get(c, 0)) for c, held in population_of(scenario).holds.items()):
        events = _events(scenario, records, by_server=False)
        yield _Plan(events, rounds, min([rounds, *map(_rounds_paid, _budgeted(events))]), by_server)


@lru_cache(maxsize=256)
def _events(scenario: Scenario, records: int, by_server: bool) -> tuple[PrivacyEvent, ...]:
    """One round's charges by the defenses that the server carries out, or by the clients' own."""
    charging = [defense for defense in scenario.defenses if defense.by_server == by_server]
    return tuple(roles.load("clients", "hooks").events(charging, scenario.participation(records)))


def _budgeted(events: Sequence[PrivacyEvent]) -> list[PrivacyEvent]:
    """The charges with a budget, of mechanisms that charge one event a round: others are checked round by round."""
    alone = Counter(event.mechanism for event in events)
    return [event for event in events if event.budget is not None and alone[event.mechanism] == 1]


def _rounds_paid(event: PrivacyEvent) -> int:
    from fedinv.privacy.accountants import most_steps

    return most_steps(replace(event, steps=1, mechanism="", budget=None), event.budget or 0.0) // event.steps


def _short(plan: _Plan) -> tuple[PrivacyEvent, float]:
    """The charge whose budget does not pay for one round, and the round's cost."""
    event = next(event for event in _budgeted(plan.round) if _rounds_paid(event) == 0)
    return event, claims.rough_epsilon([event])


def _refusal(event: PrivacyEvent, cost: float, what: str) -> str:
    enough = -(-cost // 0.01) * 0.01
    paying = (
        f"write epsilon = {enough:.4g} or more" if cost < float("inf") else "no epsilon up to 10^6 would pay for it"
    )
    return (
        f"defenses: {event.mechanism}: its budget is epsilon {event.budget:g}, and {what} {cost:.2f} per "
        f"{UNITS[event.unit]} at noise_multiplier {event.noise_multiplier:g}: {paying}, or leave noise_multiplier out, "
        "which is then chosen to keep the budget over all rounds"
    )
