"""Who is watched where a scenario does not say: where clients are unlike, all of them, or the smallest."""

from collections.abc import Mapping
from typing import Any

EVEN = ("iid", "drawn")
"""Kinds of partition whose clients hold records of one distribution, as many each: any one stands for all."""
MOST = 8
"""Number of clients up to which all are watched; of more, this many of the smallest."""


def with_watch(document: Any) -> Any:
    """A scenario's document with [attacker] watch.clients and watch.choose filled in where clients are unlike.

    Without them one client is watched, the first by number. Where a partition is skewed that may be the safest of all:
    few records behind an update are rebuilt most easily. What is no scenario is returned as it is, for its checks to
    complain of.
    """
    try:
        attacker = document.get("attacker", {})
        watch = attacker.get("watch", {})
        kind = document["data"].get("partition", {}).get("kind", EVEN[0])
        federation = document["federation"]
        taking_part = federation.get("clients_per_round") or federation["clients"]
        settled = "clients" in watch or kind in EVEN or not isinstance(taking_part, int) or taking_part < 1
    except (AttributeError, KeyError, TypeError):
        return document
    if settled or not isinstance(watch, Mapping):
        return document
    filled = {"clients": taking_part} if taking_part <= MOST else {"clients": MOST, "choose": "smallest"}
    return {**document, "attacker": {**attacker, "watch": {**filled, **watch}}}
