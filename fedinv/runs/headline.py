"""The verdict of a run in one sentence: the worst case over attacks, beside the guess and the defenses' price."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fedinv.results.ranking import (
    exceeds_guess,
    worst_case,
    worst_fields,
    worst_inferences,
    worst_names,
    worst_of_several,
)
from fedinv.results.run import AttackResult, InferenceResult, Privacy, Rate, Utility, VettedRound
from fedinv.results.wording import epsilon_text, hits, metric_text, no_epsilon_text, percent, unit_text

if TYPE_CHECKING:
    from fedinv.scenario.scenario import Scenario


APART = 0.05
"""Share of records by which the worst client must exceed all of them together to be named."""


def headline(
    scenario: "Scenario",
    attacks: Sequence[AttackResult],
    privacy: Privacy,
    utility: Utility,
    people: str = "records",
    clients: str = "clients",
    inferences: Sequence[InferenceResult] = (),
    vetting: Sequence[VettedRound] = (),
) -> str:
    """Say in one sentence what the server learned at worst, what the defenses guarantee and what utility they cost.

    Each number is the worst over all attacks, static and adaptive; inferences beside records are quoted where they
    exceed a guess. `people` is what a record is called ("patient records"), `clients` who holds them ("hospitals").
    `vetting` is what these found of the weights that they were sent: how many refused them is said.
    """
    refused = _refused(scenario, vetting, clients)
    price = [*refused, *_price(scenario, privacy, utility)]
    if refused and not attacks and not inferences and refused[0].startswith("all"):
        return _sentence([f"{refused[0]}, so that no attack had an update to attack", *price[1:]])
    told = [one.says for one in worst_inferences(inferences) if exceeds_guess(one)]
    if not attacks and told:
        return _sentence([f"the server {told[0]}", *(f"it {said}" for said in told[1:]), *price])
    if not attacks and inferences:
        return _sentence(["what was inferred is not measurably more than a guess", *price])
    if not attacks:
        why = "no attack had an update to attack" if scenario.attacks else "no attack was run"
        return _sentence([f"{why}, so nothing is known of what the server would learn", *price])
    worst, by_field, by_name = worst_case(attacks), worst_fields(attacks), worst_names(attacks)
    rebuilt, total = hits(worst.recovered), worst.recovered.count
    if not total:
        return _sentence(["no record was behind the updates that were attacked, so leakage is not measurable", *price])
    learned = f"{_source(scenario, worst, clients)}, the server rebuilt {rebuilt or 'none'} of {total} {people} in full"
    learned += _worst(worst, clients)
    traced = by_name.reidentified if by_name else None
    parts = [learned, *_unverified(worst)] if rebuilt else [learned]
    if traced is not None and by_name is not None and _exceeds(traced, by_name.chance):
        parts.append(f"{by_name.outside_register} then names the right person for {percent(traced.value)} of them")
    if worst.images is not None and worst.claimed:
        psnr = worst.images.psnr
        called, guessed = worst.images.called, f"a guesser's {psnr.prior:.1f} dB"
        parts.append(f"its {called} have a PSNR of {psnr.value:.1f} dB to the true ones, {guessed}")
    if (worst.recovered.value or 0.0) < 0.5:
        parts.append(_by_field(by_field.field_accuracy, worst.element))
    if not rebuilt:
        parts += _not_attacked(scenario)
    if rebuilt:
        parts.append(f"a guesser without the updates rebuilds {_expected(worst.recovered)}")
    return _sentence([*parts, *(f"it {said}" for said in told), *_control(attacks), *price])


def _refused(scenario: "Scenario", vetting: Sequence[VettedRound], clients: str) -> list[str]:
    """How many clients refused the weights of each watched round, at least; empty where none did."""
    most: dict[int, int] = {}
    for one in vetting:
        if one.action == "refuse" and one.flagged and one.round in scenario.attacker.watch.rounds:
            most[one.round] = max(most.get(one.round, 0), one.flagged)
    total = scenario.federation.participants
    return [
        f"{f'all {total}' if count >= total else f'{count} of {total}'} {clients} refused the weights of round {round_}"
        for round_, count in sorted(most.items())
    ]


def _not_attacked(scenario: "Scenario") -> list[str]:
    """Why that nothing was rebuilt is no guarantee, where attacks could not read the optimizer's updates."""
    optimizer = scenario.training.optimizer
    if optimizer.linear or scenario.training.algorithm == "fedsgd":
        return []
    return [f"attacks that need sums of gradients cannot read several steps of {optimizer.kind}, which is no guarantee"]


def _source(scenario: "Scenario", attack: AttackResult, clients: str) -> str:
    rounds, everyone = len(set(scenario.attacker.watch.rounds)), scenario.federation.clients
    if attack.target == "sum":
        sums = "the sum" if attack.observations == 1 else f"{attack.observations} sums"
        return f"From {sums} of the updates of {scenario.federation.participants} {clients}"
    if rounds == 1:
        if attack.observations == 1:
            return (
                f"From one update of one of {everyone} {clients}" if everyone > 1 else "From the only client's update"
            )
        smallest = "the " if scenario.attacker.watch.choose == "smallest" else ""
        few = " smallest" if smallest else ""
        return f"From one update of each of {smallest}{attack.observations}{few} of {everyone} {clients}"
    return f"From {attack.observations} updates that {clients} sent in {rounds} rounds"


def _exceeds(rate: Rate, chance: float | None) -> bool:
    """Whether a rate lies measurably above its prior and above chance."""
    return rate.ci95 is not None and rate.ci95[0] > max(rate.prior or 0.0, chance or 0.0)


def _worst(attack: AttackResult, clients: str) -> str:
    """The client that is worst off, where a rate over all hides it; else empty."""
    one, over_all = worst_of_several(attack), attack.recovered.value
    if one is None or over_all is None:
        return ""
    if one.recovered / one.records <= over_all + APART:
        return ""
    return f" ({one.recovered} of {one.records} at the worst of these {clients}, client {one.client})"


def _unverified(attack: AttackResult) -> list[str]:
    """How many claimed records the server itself cannot tell to be right; empty where it can of all."""
    if attack.verified is None or attack.verified >= attack.claimed:
        return []
    if not attack.verified:
        return ["which of the records it claims are right it cannot tell itself"]
    return [f"it can itself verify {attack.verified} of the {attack.claimed} records that it claims"]


def _by_field(rate: Rate, field: str) -> str:
    if rate.numbers is None:
        return f"{field} by {field} nothing is measurable"
    value, interval, prior = rate.numbers
    numbers = f"({percent(value)} right, guess {percent(prior)})"
    if interval[0] <= prior:
        no_more = "no more" if value <= prior else "not measurably more"
        return f"{field} by {field} it knows {no_more} than a guesser {numbers}"
    return f"{field} by {field} it knows more than a guesser {numbers}"


def _expected(rate: Rate) -> str:
    """The expected number of records that a guess recovers, as text."""
    expected = (rate.prior or 0.0) * rate.count
    if expected == 0:
        return "none"
    return f"{expected:.0f}" if abs(expected - round(expected)) < 0.05 and expected >= 0.95 else f"{expected:.2g}"


def _control(attacks: Sequence[AttackResult]) -> list[str]:
    """What the same attacks recover without the defenses, at worst; empty where there are no defenses."""
    rates = [attack.undefended.recovered for attack in attacks if attack.undefended is not None]
    rates = [rate for rate in rates if rate.count]
    if not rates:
        return []
    worst = max(rates, key=lambda rate: rate.value or 0.0)
    if hits(worst) == 0:
        return ["without the defenses it rebuilds none either, so no defense has proved itself"]
    return [f"without the defenses it rebuilds {hits(worst)} of {worst.count}"]


def _price(scenario: "Scenario", privacy: Privacy, utility: Utility) -> list[str]:
    """The epsilon that the defenses guarantee and the utility that they cost; empty without defenses."""
    if not scenario.defenses:
        return []
    claim = (
        "no formal guarantee" + ("" if privacy.exceeds is None else f" (epsilon {no_epsilon_text(privacy.exceeds)})")
        if privacy.epsilon is None
        else f"guaranteed is epsilon {epsilon_text(privacy.epsilon)} per {unit_text(privacy)}"
        + (f", which excludes {' and '.join(privacy.excludes)}" if privacy.excludes else "")
    )
    if not privacy.against_server:
        claim += " to those who see only the models, and nothing to the server, which sees the updates before the noise"
    if utility.undefended is None:
        return [claim]
    if utility.value is None or utility.undefended.value is None:
        return [claim, f"what that costs in {metric_text(utility)} is not measurable on the held-out records"]
    points = 100 * (utility.undefended.value - utility.value)
    if abs(points) < 0.05:
        return [claim, f"the model keeps its {metric_text(utility)}"]
    return [claim, f"the model {'loses' if points > 0 else 'gains'} {abs(points):.1f} points of {metric_text(utility)}"]


def _sentence(parts: Sequence[str]) -> str:
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."
