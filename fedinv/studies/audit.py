"""Audits a privacy claim: plants canaries in the scenario's own training and tests how well they can be detected."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fedinv.defense import Defense
from fedinv.engines import inline
from fedinv.errors import RequestError
from fedinv.privacy.events import PrivacyEvent
from fedinv.privacy.lower_bounds import Bound, gaussian, one_run
from fedinv.results.audit import Audit, Verdict
from fedinv.runs import provenance
from fedinv.runs.attack_runner import ProgressBars
from fedinv.runs.context import with_secret
from fedinv.runs.price import price, spent
from fedinv.scenario.reading import parse
from fedinv.scenario.scenario import Scenario
from fedinv.storage import files
from fedinv.storage.checkpoints import Progress, read_charges
from fedinv.storage.run_folder import RunFolder
from fedinv.studies.canary_scores import client_scores, record_scores
from fedinv.task.threads import one_thread

ASSUMPTION_FREE, GAUSSIAN = "one run, assumption-free", "one run, Gaussian"
"""Names of the two lower bounds in results and reports."""


@one_thread()
def audit(scenario: Scenario, folder: Path, bars: ProgressBars) -> Audit:
    """Train with canaries in a folder, and hold the lower bounds of epsilon that they give against the claim.

    A finished training in the folder is used again. Raises RequestError where nothing is claimed, and where the folder
    holds the audit of another scenario, of other records or by other code.
    """
    claimed, optimizer = _claimed(scenario), scenario.training.optimizer
    if claimed.event.unit == "example" and not optimizer.linear:
        raise RequestError(
            f"training.optimizer: an audit finds records in sums of gradients, and {optimizer.kind} sends none: write "
            'optimizer = "sgd", with which the claim is the same'
        )
    audited = _audited(scenario, claimed.event.unit)
    planned = price(audited)
    if scenario.audit.claimed_epsilon is None and planned.epsilon is None:
        raise RequestError(f"nothing to audit: {planned.note}")
    provenance.begin(folder, provenance.of(audited))
    place = RunFolder(folder)
    audited = with_secret(audited, place)
    progress, expected = bars("training with canaries"), audited.federation.rounds * audited.federation.participants
    if not place.is_trained:
        files.write(place.scenario, audited.to_toml())
        done = iter(range(1, expected + 1))
        inline.train(audited, folder, lambda _: progress(next(done, expected) / expected))
    progress(1.0)
    ledger = spent(audited, read_charges(place.ledger).clients, files.read_model(Progress, place.progress).left_out)
    scoring = bars("scoring canaries")
    score, delta = client_scores if claimed.event.unit == "client" else record_scores, claimed.event.delta
    linear, likely, present = score(audited, place, claimed.defense)
    bounds = {ASSUMPTION_FREE: one_run(likely, present, delta), GAUSSIAN: gaussian(linear, present, delta)}
    scoring(1.0)
    return _verdict(scenario, claimed.event, ledger.epsilon, len(present), bounds)


@dataclass(frozen=True)
class _Claimed:
    """The claim under audit: the first defense that claims differential privacy, and its charge for one round."""

    defense: Defense
    event: PrivacyEvent


def _verdict(
    scenario: Scenario, event: PrivacyEvent, ledger: float | None, canaries: int, bounds: Mapping[str, Bound]
) -> Audit:
    """The audit's outcome: the largest lower bound against the quoted epsilon, or else the ledger's."""
    quoted, unit = scenario.audit.claimed_epsilon, event.unit
    claimed = quoted if quoted is not None else float(ledger or 0.0)
    method, worst = max(bounds.items(), key=lambda item: item[1].epsilon)
    verdict: Verdict = "FAIL" if worst.epsilon > claimed else "not contradicted"
    told = f"{worst.right} of {worst.guesses} guesses right"
    says = (
        f"FAIL: epsilon is at least {worst.epsilon:.2f} ({method}: {told}), and {claimed:.2f} per {unit} is claimed"
        if verdict == "FAIL"
        else f"not contradicted: epsilon is at least {worst.epsilon:.2f} ({method}: {told}), and {claimed:.2f} per "
        f"{unit} is claimed; that is no proof that the claim holds"
    )
    return Audit(
        scenario=scenario.name,
        unit=unit,
        claimed=claimed,
        quoted=quoted is not None,
        ledger=ledger,
        delta=event.delta,
        canaries=canaries,
        lower_bounds={name: bound.epsilon for name, bound in bounds.items()},
        right={name: (bound.right, bound.guesses) for name, bound in bounds.items()},
        verdict=verdict,
        says=says,
    )


def _claimed(scenario: Scenario) -> _Claimed:
    taken = scenario.participation(max(1, scenario.training.batch_size))
    for defense in scenario.defenses:
        events = defense.privacy_events(taken)
        if events:
            return _Claimed(defense, events[0])
    kinds = ", ".join(defense.kind for defense in scenario.defenses) or "no defense is on"
    raise RequestError(f"nothing to audit: no defense of {scenario.name} claims differential privacy ({kinds})")


def _audited(scenario: Scenario, unit: Literal["example", "client"]) -> Scenario:
    """The scenario with canaries planted and all rounds and clients watched, without attacks.

    Where privacy is claimed per client it has `audit.clients` clients of one record each and a small model, as canary
    clients send a crafted update and train nothing.
    """
    document = scenario.model_dump(mode="json", exclude_none=True)
    document |= {"attacks": [], "audit": {"plant": "records" if unit == "example" else "clients"}}
    if unit == "client":
        document["federation"] |= {"clients": scenario.audit.clients}
        document["federation"].pop("clients_per_round", None)
        one_step = {"algorithm": "fedsgd", "proximal": 0.0, "local_schedule": "constant"}
        document["training"] |= {**one_step, "batch_size": 1, "records_per_client": 1}
        if scenario.model.widths:
            document["model"] |= {"hidden": [32]}
    rounds = list(range(1, scenario.federation.rounds + 1))
    clients = document["federation"].get("clients_per_round")
    # canaries are looked for in the mean update, which is the model's change under plain averaging alone; the claim
    # is about what the server receives, and the same
    document["federation"] |= {"strategy": "fedavg"}
    document["attacker"] |= {"watch": {"rounds": rounds, "clients": clients or document["federation"]["clients"]}}
    return parse(document, f"audit of {scenario.name}")


def note(found: Audit, folder: Path) -> None:
    """Write an audit's lower bounds into a finished run's results.json, and render its report again."""
    from fedinv.report import render
    from fedinv.runs.run import read_results

    results = read_results(RunFolder(folder))
    measured = results.privacy.model_copy(update={"lower_bounds": found.lower_bounds})
    changed = results.model_copy(update={"privacy": measured})
    render(folder, changed)
    files.write_json(RunFolder(folder).results, changed.model_dump(mode="json"))
