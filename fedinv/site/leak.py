"""How much of its records can be read off one update: the one place where the gate asks for the attacks."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedinv.attack import Exchange
from fedinv.errors import RequestError
from fedinv.runs import own_app
from fedinv.runs.leak_map import update_of


@dataclass(frozen=True)
class Network:
    """The network whose updates are attacked."""

    network: nn.Module
    """The network, at any weights."""
    example: Tensor | None = None
    """A batch of its inputs (n, ...); made up where there is none."""


def leak_of(
    sent: Mapping[str, Tensor],
    received: Mapping[str, Tensor],
    network: Network,
    claimed_records: int | None,
    limit: float,
    seconds: float,
) -> float | str:
    """Share of an update's records that can be read off it, 0 to 1; a reason in one line where no attack can be run.

    `sent` and `received` are the weights on the wire by name; `limit` is the share above which the attacks need look no
    further, `seconds` what one attack may take.
    """
    try:
        update = update_of(sent, received)
    except RequestError as error:
        return str(error)
    if not all(bool(torch.isfinite(one).all()) for one in update.values() if one.is_floating_point()):
        return "values that are not finite came back"
    target = own_app.Target(Exchange(1, dict(sent), update, max(1, claimed_records or 1)), 0, claimed_records)
    given = own_app.Given(network.network, network.example, seconds)
    try:
        verdict, _ = own_app.attacked(given, [target], [], lambda _: None)
    except RequestError as error:
        return str(error)
    (one,) = verdict.updates
    count = max(one.least or 0, one.verified) or one.claimed or 1
    return one.verified / count
