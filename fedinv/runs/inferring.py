"""Inferences of a trained run: asks each attack its question, judges the answers, and the same without defenses."""

from collections.abc import Sequence
from pathlib import Path

from fedinv.attack import Answer, Attack, Progress
from fedinv.data.population import Population
from fedinv.federation.streams import stream
from fedinv.judge.questions import Finding, Heard, Setting, judge_of
from fedinv.judge.truth import auxiliary
from fedinv.results.run import InferenceResult
from fedinv.runs import attack_runner
from fedinv.runs.attack_runner import Steps
from fedinv.runs.context import trained, trained_network
from fedinv.scenario.scenario import Scenario
from fedinv.storage import observations


def inferences(
    scenario: Scenario, folder: Path, attacks: Sequence[Attack], people: Population, steps: Steps
) -> list[InferenceResult]:
    """Run and judge the attacks that tell something else than single records."""
    plain, found = scenario.undefended(), []
    for attack in attacks:
        control = None
        if scenario.defenses:
            assault = attack_runner.Assault(attack, "static", "model" if attack.sees == "model" else "client")
            step = steps(f"attack {attack.kind} (undefended)")
            _, _, control = _inferred(plain, folder / "undefended", assault, people, step)
        for assault in attack_runner.assaults(scenario, [attack]):
            step = steps(f"attack {attack.kind} ({assault.variant})")
            outcome, heard, finding = _inferred(scenario, folder, assault, people, step)
            if finding is not None:
                found.append(_result(outcome, heard, finding, control))
    return found


def _inferred(
    scenario: Scenario, folder: Path, assault: attack_runner.Assault, people: Population, progress: Progress
) -> tuple[attack_runner.Outcome, list[Heard], Finding | None]:
    judge = judge_of(assault.attack.asks)
    setting = Setting(scenario, people, assault.attack, lambda: trained_network(scenario, folder, people))
    seen = observations.read(folder / "observations")
    handed = attack_runner.Handed(
        trained(scenario, folder, people),
        lambda one: judge.ask(setting, one),
        auxiliary(scenario, people),
        people.holds,
    )
    outcome = attack_runner.run_attack(scenario, folder, assault, seen, handed, progress)
    heard = [Heard(one, judge.ask(setting, one), answer) for one, answer in outcome.claims]
    if not heard:
        return outcome, heard, None
    return outcome, heard, judge.judge(setting, heard, stream(scenario.seed, "judge", assault.attack.kind))


def _result(
    outcome: attack_runner.Outcome, heard: Sequence[Heard], finding: Finding, control: Finding | None
) -> InferenceResult:
    assault = outcome.assault
    return InferenceResult(
        kind=assault.attack.kind,
        variant=assault.variant,
        target=assault.target,
        asks=assault.attack.asks,
        parameters=assault.attack.model_dump(mode="json"),
        observations=len(heard),
        answered=sum(len(h.answer.scores if isinstance(h.answer, Answer) else h.answer.records) > 0 for h in heard),
        seconds=outcome.seconds,
        says=finding.says,
        measures=list(finding.measures),
        undefended=None if control is None else list(control.measures),
        curve=finding.curve,
        exhibits=list(finding.exhibits),
        notes=list(dict.fromkeys(note for h in heard for note in h.answer.notes)),
    )
