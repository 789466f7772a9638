"""Asks the clients, after the last round, what their detectors found of the weights that they were sent."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from flwr.app import ConfigRecord, Message
from flwr.serverapp import Grid

from fedinv.federation import wire
from fedinv.results.run import VettedRound
from fedinv.storage.checkpoints import Vetting

from . import registration


def collected(grid: Grid, nodes: Sequence[int], detectors: Sequence[Mapping[str, Any]]) -> Vetting:
    """What these nodes' detectors found, counted by detector and round; a node that answers badly is left out.

    For the operator of a simulation: clients who fear the server would not answer it.
    """
    counted: dict[tuple[int, int], tuple[int, int, float]] = {}
    for reply in registration.asked(grid, "query.vetting", list(nodes)):
        for at, round_, score, flag in _read(reply, len(detectors)):
            looked, flagged, highest = counted.get((at, round_), (0, 0, score))
            counted[at, round_] = (looked + 1, flagged + flag, max(highest, score))
    return Vetting(
        found=tuple(
            VettedRound(
                detector=str(detectors[at].get("kind")),
                action=str(detectors[at].get("action", "report")),
                round=round_,
                looked=looked,
                flagged=flagged,
                highest=highest,
            )
            for (at, round_), (looked, flagged, highest) in sorted(counted.items())
        )
    )


def _read(reply: Message, detectors: int) -> list[tuple[int, int, float, int]]:
    """Detector, round, score and flag of each finding of a reply; none where it cannot be read."""
    with suppress(Exception):  # a client may send anything
        said: Any = wire.record(reply.content, "vetting", ConfigRecord)
        rows = zip(said["detectors"], said["rounds"], said["scores"], said["flags"], strict=True)
        return [
            (int(at), int(round_), float(score), int(bool(flag)))
            for at, round_, score, flag in rows
            if 0 <= int(at) < detectors and int(round_) > 0 and abs(float(score)) < float("inf")
        ]
    return []
