"""How much of its records can be read off one update: the one place where the SuperNode asks for the attacks."""

from collections.abc import Mapping

from torch import Tensor

from fedinv.errors import RequestError
from fedinv.runs.own_apps import gate
from fedinv.runs.own_apps.targets import Given, target_of


def leak_of(
    sent: Mapping[str, Tensor], received: Mapping[str, Tensor], given: Given, claimed: int | None, rule: gate.Rule
) -> float | str:
    """Share of an update's records that can be read off it, 0 to 1; a reason in one line where nothing is known of it.

    `sent` and `received` are the weights on the wire by name, `claimed` the number of records that the app reports. The
    attacks end once they have read more than the rule's limit, or when its time is over.
    """
    try:
        found = gate.judge(target_of(sent, received, claimed), given, rule)
    except RequestError as error:
        return str(error)
    share = found.verdict.share
    return found.reason if found.reason and share <= rule.limit else share
