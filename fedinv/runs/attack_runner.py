"""Runs attacks on a trained run's observations, behind the wall, and stores what they claim."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from fedinv.attack import Answer, Attack, Claim, Knowledge, Observation, Progress, Watch, nothing, unanswered
from fedinv.blame import blamed, returned
from fedinv.federation.streams import sealed_stream
from fedinv.judge.questions import Target, Tried, Variant
from fedinv.report.terminal import Bar
from fedinv.runs import claim_checks
from fedinv.runs.context import Grants, TrainedRun
from fedinv.runs.provenance import attack_code
from fedinv.runs.wall import check_reach, wall
from fedinv.scenario.scenario import Scenario
from fedinv.storage import claims, files
from fedinv.task.models import perceptron, unsuited
from fedinv.task.threads import one_thread

ProgressBars = Callable[[str], Bar]
"""Opens a progress bar of a name and returns the function that is called with the share done, 0 to 1."""


@dataclass(frozen=True)
class AttackPlan:
    """One attack in one variant on all observations of one kind of target."""

    attack: Attack
    variant: Variant
    target: Target
    last_only: bool = False
    """True: on the last watched round of each client alone, whatever the attack says."""

    @property
    def label(self) -> str:
        """Name of the folder of its claims, different for different parameters, code, variants and targets."""
        made = json.dumps([self.attack.model_dump(mode="json"), attack_code(type(self.attack))], sort_keys=True)
        return f"{self.attack.kind}-{self.variant}-{self.target}-{sha256(made.encode()).hexdigest()[:8]}"

    def observations(self, run: TrainedRun) -> Sequence[Observation]:
        """The observations to attack: single clients' updates, sums, or the trained model; by round, oldest first."""
        if self.target == "model":
            return [run.model]
        aimed = [one for one in run.seen if (len(one.clients) > 1) == (self.target == "sum")]
        if not (self.attack.last_only or self.last_only):
            return aimed
        return list({one.clients: one for one in aimed}.values())


def plans(scenario: Scenario, attack: Attack) -> Iterator[AttackPlan]:
    """The plans of an attack: static, without knowledge of the defenses, then adaptive, where it has a countermeasure.

    Against secure aggregation the adaptive plan attacks the sum as one large batch. There is none where the scenario
    withholds the defenses.
    """
    yield control_plan(attack)
    kinds = {defense.kind for defense in scenario.defenses}
    if "defenses" not in scenario.attacker.knows:
        return
    if attack.sees == "update" and any(defense.secure_aggregation for defense in scenario.defenses):
        yield AttackPlan(attack, "adaptive", "sum")
    elif any(attack.answers(kind) for kind in kinds):
        yield replace(control_plan(attack), variant="adaptive")


def control_plan(attack: Attack) -> AttackPlan:
    """The plan of an attack where there is no defense: static, on the trained model or on each client's updates."""
    return AttackPlan(attack, "static", "model" if attack.sees == "model" else "client")


def run_attack(run: TrainedRun, plan: AttackPlan, grants: Grants, progress: Progress) -> Tried:
    """Run one attack on each observation of its plan; claims that a stopped run stored are read, not computed again.

    Raises PluginError, a RunError, with the attack's file and line when it fails or claims what cannot be a claim.
    """
    check_reach(type(plan.attack))
    said: list[tuple[Observation, Claim | Answer]] = []
    seconds = 0.0
    aimed = plan.observations(run)
    for index, seen in enumerate(aimed):
        name = f"client-{seen.clients[0]:04}" if plan.target == "client" else plan.target
        path = run.folder.claim(plan.label, seen.last.round, name)
        if path.is_file():
            claim, took = claims.read(path)
            damage = claim_checks.wrong(claim, plan.attack.asks, grants.ask(seen), run.schema)
            if damage is not None:
                raise files.damaged(path, ValueError(damage))
        else:
            begun = time.perf_counter()
            claim = _attack(run, plan, grants, seen, _part(progress, index, len(aimed)))
            took = time.perf_counter() - begun
            claims.write(path, claim, took)
        seconds += took
        said.append((seen, claim))
        progress((index + 1) / len(aimed))
    return Tried(plan.attack, plan.variant, plan.target, tuple(said), seconds)


def watched(run: TrainedRun, plan: AttackPlan, seen: Observation, watch: Watch, progress: Progress) -> Claim | Answer:
    """One attack's claim about one observation, anew; `watch` is called along its search. Nothing is stored.

    Raises PluginError, a RunError, with the attack's file and line when it fails.
    """
    check_reach(type(plan.attack))
    return _attack(run, plan, run.grants(lambda _: None), seen, progress, watch)


@one_thread()
def _attack(
    run: TrainedRun,
    plan: AttackPlan,
    grants: Grants,
    seen: Observation,
    progress: Progress,
    watch: Watch | None = None,
) -> Claim | Answer:
    """The attack's claim about one observation, made behind the wall and checked."""
    held = min((grants.holds.get(client, 1) for client in seen.clients), default=1)
    adaptive, round_ = plan.variant == "adaptive", seen.last.round
    told = run.scenario.knowledge(run.schema, adaptive=adaptive, records=held, round_=round_)
    knows = replace(told, auxiliary=grants.auxiliary, question=grants.ask(seen))
    attack, plugin = plan.attack, type(plan.attack)
    model = run.scenario.model
    if model.no_perceptron is not None and not plugin.suits(model):
        reason = unsuited(attack.kind, model)
        return nothing(reason, run.schema.width) if attack.asks in ("records", "classes") else unanswered(reason)
    seen, knows = as_perceptron(seen, knows)
    rng = sealed_stream(run.scenario.hidden, "attack", attack.kind, *seen.clients, seen.last.round)
    name = f"attack {attack.kind!r} on round {seen.last.round}, client {seen.clients[0]}"
    before = _versions(seen, knows)
    with blamed(name, plugin), wall():
        if watch is None:
            found = attack.run(seen, knows, rng, progress)
        else:
            found = attack.watched(seen, knows, rng, progress, watch)
    fault = claim_checks.wrong(found, attack.asks, knows.question, run.schema)
    if fault is None and _versions(seen, knows) != before:
        fault = "it changed a tensor that it was given: change a .clone() of it, others attack the same update"
    if fault is not None:
        raise returned(name, plugin, fault)
    return found


def as_perceptron(seen: Observation, knows: Knowledge) -> tuple[Observation, Knowledge]:
    """An observation and what is known of it, in the names of the perceptron that the network may be."""
    model = knows.model
    if model is None or perceptron(model) is model:
        return seen, knows
    exchanges = tuple(
        replace(
            one,
            sent=model.renamed(one.sent),
            received=model.renamed(one.received),
            sent_to={client: model.renamed(weights) for client, weights in one.sent_to.items()},
        )
        for one in seen.exchanges
    )
    return replace(seen, exchanges=exchanges), replace(knows, model=perceptron(model))


def _versions(seen: Observation, knows: Knowledge) -> list[int]:
    """How often each tensor that an attack is given was changed in place, as torch counts it."""
    tensors = [t for one in seen.exchanges for weights in (one.sent, one.received) for t in weights.values()]
    asked = knows.question
    people = [knows.auxiliary] if asked is None else [knows.auxiliary, asked.people, asked.others]
    tensors += [tensor for sample in people if sample is not None for tensor in (sample.records, sample.labels)]
    return [tensor._version for tensor in tensors]


def _part(progress: Progress, index: int, total: int) -> Progress:
    return lambda share: progress((index + share) / total)
