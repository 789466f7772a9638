"""Asks the clients, after the last round, what their detectors found of the weights that they were sent."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from flwr.app import ConfigRecord, Message
from flwr.serverapp import Grid

from fedinv.federation import wire
from fedinv.results.run import VettedRound
from fedinv.storage.checkpoints import ClientScores, Vetting

from . import registration


def collected(grid: Grid, nodes: Mapping[int, int], detectors: Sequence[Mapping[str, Any]]) -> Vetting:
    """What the detectors of these clients, each with its node, found; a node that answers badly is left out.

    For the operator of a simulation: clients who fear the server would not answer it.
    """
    counted: dict[tuple[int, int], tuple[int, int, float]] = {}
    scored: dict[tuple[int, int], dict[int, float]] = {}
    clients = {node: client for client, node in nodes.items()}
    for reply in registration.asked(grid, "query.vetting", list(clients)):
        client = clients.get(reply.metadata.src_node_id)
        for at, round_, score, flag in _read(reply, len(detectors)):
            looked, flagged, highest = counted.get((at, round_), (0, 0, score))
            counted[at, round_] = (looked + 1, flagged + flag, max(highest, score))
            if client is not None:
                scored.setdefault((round_, client), {})[at] = score
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
        ),
        scores=tuple(
            ClientScores(client=client, round=round_, scores=tuple(map(found.get, range(len(detectors)))))
            for (round_, client), found in sorted(scored.items())
        ),
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
