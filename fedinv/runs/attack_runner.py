"""Runs attacks on a run folder's observations, behind the wall, and keeps their claims.

claims/<label>/round-001-client-0003.safetensors
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Literal

from fedinv.attack import Answer, Attack, Claim, Knowledge, Observation, Progress, Question, Sample
from fedinv.blame import blamed, returned
from fedinv.federation.streams import stream
from fedinv.runs import claim_checks
from fedinv.runs.wall import wall
from fedinv.scenario.scenario import Scenario
from fedinv.storage import files
from fedinv.task.schema import Schema

Variant = Literal["static", "adaptive"]
Target = Literal["client", "sum", "model"]
Steps = Callable[[str], Progress]
"""Called with what begins; returns where its progress goes."""


@dataclass(frozen=True)
class Assault:
    """One attack in one variant on all observations of one kind."""

    attack: Attack
    variant: Variant
    target: Target

    @property
    def label(self) -> str:
        """Folder name, distinct for distinct parameters."""
        parameters = json.dumps(self.attack.model_dump(mode="json"), sort_keys=True)
        return f"{self.attack.kind}-{self.variant}-{self.target}-{sha256(parameters.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Outcome:
    """An attack's claims, one an observation, and what they took."""

    assault: Assault
    claims: tuple[tuple[Observation, Claim | Answer], ...]
    seconds: float


@dataclass(frozen=True)
class Handed:
    """What the operator hands an attacker beside what crossed the wire, as far as the scenario grants it."""

    model: Observation
    """The trained model."""
    ask: Callable[[Observation], Question | None] = lambda _: None
    auxiliary: Sample | None = None
    holds: Mapping[int, int] = field(default_factory=dict)
    """How many records each client holds, which tells the noise that was calibrated for it."""


def assaults(scenario: Scenario, attacks: Sequence[Attack]) -> Iterator[Assault]:
    """What is to be run: each attack as if there were no defense, then with its answer to the defenses it is told of.

    Against secure aggregation the answer is to attack the sum as one large batch.
    """
    kinds = {defense.kind for defense in scenario.defenses}
    summed = any(defense.secure_aggregation for defense in scenario.defenses)
    told = "defenses" in scenario.attacker.knows
    for attack in attacks:
        if attack.sees == "model":
            yield Assault(attack, "static", "model")
            if told and kinds & attack.adapts_to:
                yield Assault(attack, "adaptive", "model")
            continue
        yield Assault(attack, "static", "client")
        if told and summed:
            yield Assault(attack, "adaptive", "sum")
        elif told and kinds & attack.adapts_to:
            yield Assault(attack, "adaptive", "client")


def read_schema(folder: Path) -> Schema:
    """The data dictionary that the server was told."""
    return Schema.model_validate(files.read_json(folder / "schema.json"))


def run_attack(
    scenario: Scenario,
    folder: Path,
    assault: Assault,
    seen: Sequence[Observation],
    handed: Handed,
    progress: Progress,
) -> Outcome:
    """Run one attack on the observations it is for; claims that are already there are read, not made again.

    Raises PluginError, a RunError, with the attack's file and line when it fails or claims what cannot be a claim.
    """
    schema, adaptive = read_schema(folder), assault.variant == "adaptive"
    aimed = [o for o in seen if (len(o.clients) > 1) == (assault.target == "sum")]
    if assault.attack.last_only:
        aimed = list({observation.clients: observation for observation in aimed}.values())  # by round, oldest first
    if assault.target == "model":
        aimed = [handed.model]
    claims: list[tuple[Observation, Claim | Answer]] = []
    seconds = 0.0
    for index, observation in enumerate(aimed):
        name = f"client-{observation.clients[0]:04}" if assault.target == "client" else assault.target
        path = folder / "claims" / assault.label / f"round-{observation.last.round:03}-{name}.safetensors"
        if path.is_file():
            claim, took = _read(path)
        else:
            begun = time.perf_counter()
            held = min((handed.holds.get(client, 1) for client in observation.clients), default=1)
            knows = scenario.knowledge(schema, adaptive=adaptive, records=held)
            asked = replace(knows, auxiliary=handed.auxiliary, question=handed.ask(observation))
            claim = _attack(scenario, schema, assault, observation, asked, _part(progress, index, len(aimed)))
            took = time.perf_counter() - begun
            _write(path, claim, took)
        seconds += took
        claims.append((observation, claim))
        progress((index + 1) / len(aimed))
    return Outcome(assault, tuple(claims), seconds)


def _attack(
    scenario: Scenario, schema: Schema, assault: Assault, seen: Observation, knows: Knowledge, progress: Progress
) -> Claim | Answer:
    """The attack's claim about one observation, checked. Raises PluginError with the attack's file and line."""
    attack, plugin = assault.attack, type(assault.attack)
    rng = stream(scenario.seed, "attack", attack.kind, *seen.clients, seen.last.round)
    name = f"attack {attack.kind!r} on round {seen.last.round}, client {seen.clients[0]}"
    before = _versions(seen, knows)
    with blamed(name, plugin), wall():
        found = attack.run(seen, knows, rng, progress)
    fault = claim_checks.wrong(found, attack.asks, knows.question, schema)
    if fault is None and _versions(seen, knows) != before:
        fault = "it changed a tensor that it was given: change a .clone() of it, others attack the same update"
    if fault is not None:
        raise returned(name, plugin, fault)
    return found


def _versions(seen: Observation, knows: Knowledge) -> list[int]:
    """How often each tensor that an attack is given was changed in place, as torch counts it."""
    tensors = [t for one in seen.exchanges for weights in (one.sent, one.received) for t in weights.values()]
    asked = knows.question
    people = [knows.auxiliary] if asked is None else [knows.auxiliary, asked.people, asked.others]
    tensors += [tensor for sample in people if sample is not None for tensor in (sample.records, sample.labels)]
    return [tensor._version for tensor in tensors]


def _part(progress: Progress, index: int, total: int) -> Progress:
    return lambda share: progress((index + share) / total)


def _write(path: Path, claim: Claim | Answer, seconds: float) -> None:
    if isinstance(claim, Answer):
        files.write_tensors(path, {"scores": claim.scores}, {"notes": list(claim.notes), "seconds": seconds})
        return
    tensors = {"records": claim.records, "confidence": claim.confidence}
    if claim.labels is not None:
        tensors["labels"] = claim.labels
    files.write_tensors(path, tensors, {"mismatch": claim.mismatch, "notes": list(claim.notes), "seconds": seconds})


def _read(path: Path) -> tuple[Claim | Answer, float]:
    tensors, facts = files.read_tensors(path)
    if "scores" in tensors:
        return Answer(tensors["scores"], tuple(facts["notes"])), float(facts["seconds"])
    claim = Claim(
        records=tensors["records"],
        confidence=tensors["confidence"],
        labels=tensors.get("labels"),
        mismatch=facts["mismatch"],
        notes=tuple(facts["notes"]),
    )
    return claim, float(facts["seconds"])
