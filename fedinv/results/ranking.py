"""The worst case among several attacks and inferences."""

from collections.abc import Sequence

from fedinv.results.run import AttackResult, ClientRate, InferenceResult, Rate


def severity(attack: AttackResult) -> tuple[float, bool, float]:
    """Sort key of an attack's severity: recovered records above the prior, claims at all, right fields above the prior.

    An attack without claims scores the guess's fields, so that any attack with claims ranks above it.
    """
    return max(0.0, _above(attack.recovered)), attack.claimed > 0, _above(attack.field_accuracy)


def worst_case(attacks: Sequence[AttackResult]) -> AttackResult:
    """The most severe of one or more attacks, see `severity`."""
    return max(attacks, key=severity)


def worst_client(clients: Sequence[ClientRate]) -> ClientRate | None:
    """The client of which the largest share of records was recovered, among equals of fields; None without records."""
    held = [one for one in clients if one.records]
    return max(held, key=lambda one: (one.recovered / one.records, one.right / one.fields), default=None)


def worst_of_several(found: AttackResult) -> ClientRate | None:
    """The client that an attack hits worst; None where it attacked one client alone, and for a sum that held."""
    several = found.worst is not None and found.worst.recovered if found.target == "sum" else len(found.clients) > 1
    return found.worst if several else None


def worst_fields(attacks: Sequence[AttackResult]) -> AttackResult:
    """The one of one or more attacks whose share of right fields exceeds its prior most."""
    return max(attacks, key=lambda attack: _above(attack.field_accuracy))


def worst_names(attacks: Sequence[AttackResult]) -> AttackResult | None:
    """The attack that re-identified the largest share of records; None where nobody has a name."""
    named = [attack for attack in attacks if attack.reidentified is not None]
    return max(named, key=lambda attack: (attack.reidentified and attack.reidentified.value) or 0.0, default=None)


def worst_inferences(inferences: Sequence[InferenceResult]) -> list[InferenceResult]:
    """The answered inference, static or adaptive, that exceeds its prior most, for each question."""
    worst: dict[str, InferenceResult] = {}
    for one in inferences:
        name = f"{one.asks} {one.parameters.get('column')}"
        if one.answered and (name not in worst or _gain(one) > _gain(worst[name])):
            worst[name] = one
    return list(worst.values())


def exceeds_guess(one: InferenceResult) -> bool:
    """Whether any measure of an inference exceeds its prior by more than its 95 % interval."""
    known = [(m.lower_leaks, *m.numbers) for m in one.measures if m.numbers is not None]
    return any(ci95[1] < prior if lower else ci95[0] > prior for lower, _, ci95, prior in known)


def _gain(one: InferenceResult) -> float:
    if not one.measures:
        return 0.0
    first = one.measures[0]
    if first.value is None or first.prior is None:
        return 0.0
    return first.prior - first.value if first.lower_leaks else first.value - first.prior


def _above(rate: Rate) -> float:
    """How far a rate exceeds its prior; 0 where nothing was judged."""
    return 0.0 if rate.value is None or rate.prior is None else rate.value - rate.prior
