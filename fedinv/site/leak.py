"""How much of its records can be read off one update: the one place where the SuperNode asks for the attacks."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedinv.attack import Exchange
from fedinv.errors import RequestError
from fedinv.results.app_verdict import refusal
from fedinv.runs.own_apps import gate
from fedinv.runs.own_apps.leak_map import update_of
from fedinv.runs.own_apps.targets import Given, Target
from fedinv.task.schema import Schema


@dataclass(frozen=True)
class Network:
    """The network whose updates are attacked, with what is known of it."""

    network: nn.Module
    """The network, at any weights."""
    example: Tensor | None = None
    """A batch of its inputs (n, ...); made up where there is none."""
    schema: Schema | None = None
    """What every record fits, in the columns of the network's inputs; withheld from the attacks where there is none."""
    unknown: gate.Answer = "refuse"
    """What is done with an update of a network that no attack applies to."""
    unfinished: gate.Answer = "send"
    """What is done with an update of which too little was read when the time was over."""


def leak_of(
    sent: Mapping[str, Tensor],
    received: Mapping[str, Tensor],
    network: Network,
    claimed_records: int | None,
    limit: float,
    seconds: float,
) -> float | str:
    """Share of an update's records that can be read off it, 0 to 1; a reason in one line where nothing is known of it.

    `sent` and `received` are the weights on the wire by name. The attacks end once they have read more than the share
    `limit`, or after `seconds` of computing.
    """
    try:
        update = update_of(sent, received)
        if not all(bool(torch.isfinite(one).all()) for one in update.values() if one.is_floating_point()):
            return "values that are not finite came back"
        exchange = Exchange(1, dict(sent), update, max(1, claimed_records or 1))
        given = Given(network.network, network.example, schema=network.schema)
        rule = gate.Rule(limit, seconds, network.unknown, network.unfinished)
        found = gate.judge(Target(exchange, 0, claimed_records), given, rule)
    except RequestError as error:
        return str(error)
    one = found.verdict
    if found.reason and not refusal(one, limit):
        return found.reason
    return one.verified / (max(one.least or 0, one.verified) or one.claimed or 1)
