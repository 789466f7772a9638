"""Which defenses can be used together, and in which order."""

from collections.abc import Callable, Sequence

from fedinv import plugins
from fedinv.defense import Defense


def offered(fits: Callable[[type[Defense]], bool]) -> str:
    """The kinds of all defenses of which something holds, as "a, b or c". Imports every defense."""
    kinds = [kind for kind, defense in plugins.loaded("defenses").items() if fits(defense)]
    return " or ".join([", ".join(kinds[:-1]), kinds[-1]] if len(kinds) > 1 else kinds)


def stacking(defenses: Sequence[Defense]) -> str | None:
    """Return why these defenses cannot be used together in this order, as one line; None where they can."""
    noisy: str | None = None
    for before, defense in enumerate(defenses):
        later = defenses[before + 1 :]
        if defense.secure_aggregation and any(other.secure_aggregation for other in later):
            return f"{defense.kind!r} beside another secure aggregation: an update can be hidden only once"
        if defense.secure_aggregation and later:
            return f"{defense.kind!r} hides the update, so it must be the last defense listed"
        if defense.by_server and any(other.secure_aggregation for other in defenses):
            return f"{defense.kind!r} needs to see each client's update, which secure aggregation hides from the server"
        if defense.for_sum and not (later and later[0].secure_aggregation):
            return (
                f"{defense.kind!r} protects the sum alone: list a secure aggregation right after it "
                f"({offered(lambda other: other.secure_aggregation)}), or use a defense that protects each update"
            )
        if defense.mixes_records and any(other.per_record for other in defenses):
            return (
                f"{defense.kind!r} makes one example of several records, so that clipping examples bounds no record's "
                "share: the privacy claim would not hold"
            )
        if defense.no_own_gradients is not None and any(other.per_record for other in defenses):
            return f"{defense.kind!r} beside a defense that clips each record's gradient: {defense.no_own_gradients}"
        if noisy is not None and defense.after_noise is not None:
            return f"{defense.kind!r} after {noisy!r}: {defense.after_noise}"
        if type(defense).privacy_events is not Defense.privacy_events and not defense.by_server:
            noisy = defense.kind
    return None
