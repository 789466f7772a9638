"""Which of several attacks and inferences is the worst case."""

from collections.abc import Sequence

from fedinv.results.run import AttackResult, InferenceResult, Rate


def severity(attack: AttackResult) -> tuple[float, bool, float]:
    """How bad an attack is: what it recovered above the guesser first, then its fields above the guesser.

    An attack that claims nothing scores the guesser's fields, so any that claims something goes before it.
    """
    return max(0.0, _above(attack.recovered)), attack.claimed > 0, _above(attack.field_accuracy)


def worst_case(attacks: Sequence[AttackResult]) -> AttackResult:
    """The attack (of at least one) by which the server learned most."""
    return max(attacks, key=severity)


def worst_fields(attacks: Sequence[AttackResult]) -> AttackResult:
    """The attack (of at least one) that got most single fields right above the guesser."""
    return max(attacks, key=lambda attack: _above(attack.field_accuracy))


def worst_names(attacks: Sequence[AttackResult]) -> AttackResult | None:
    """The attack that traced the largest share of its records to the right person; None where nobody has a name."""
    named = [attack for attack in attacks if attack.reidentified is not None]
    return max(named, key=lambda attack: attack.reidentified.value if attack.reidentified else 0.0, default=None)


def worst_told(inferences: Sequence[InferenceResult]) -> list[InferenceResult]:
    """Of all that answered the same question the attack, static or adaptive, that told most above the guess."""
    worst: dict[str, InferenceResult] = {}
    for one in inferences:
        name = f"{one.asks} {one.parameters.get('column')}"
        if one.answered and (name not in worst or _told(one) > _told(worst[name])):
            worst[name] = one
    return list(worst.values())


def exceeds_guess(one: InferenceResult) -> bool:
    """Whether any of its measures lies above the guess by more than its interval."""
    return any((m.ci95[1] < m.prior) if m.lower_leaks else (m.ci95[0] > m.prior) for m in one.measures)


def _told(one: InferenceResult) -> float:
    if not one.measures:
        return 0.0
    first = one.measures[0]
    return first.prior - first.value if first.lower_leaks else first.value - first.prior


def _above(rate: Rate) -> float:
    return rate.value - rate.prior
