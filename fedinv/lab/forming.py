"""A record that forms step by step: what a search holds along its way, beside the person it ends at."""

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fedinv import plugins
from fedinv.attack import Attack, Claim, Progress
from fedinv.errors import RunError
from fedinv.judge.matching import match
from fedinv.judge.truth import true_rows
from fedinv.report.plots.pictures import png
from fedinv.report.reading import Cell, number
from fedinv.runs.attack_runner import plans, watched
from fedinv.runs.context import TrainedRun, with_secret
from fedinv.runs.run import parse_attack
from fedinv.scenario.reading import read
from fedinv.storage.run_folder import RunFolder
from fedinv.task.columns import Column, Continuous
from fedinv.task.schema import Schema

MOST_FRAMES = 24
"""Frames that are kept of a search, spread evenly over it; the claim is one more."""


@dataclass(frozen=True)
class Frame:
    """What the search holds at one moment, for one person."""

    share: float
    """Share of the search that is done, 0 to 1; above 1 for the claim that it ends in."""
    right: float
    """Share of the fields of all records of the batch that are right, 0 to 1."""
    cells: tuple[Cell, ...]
    """The person's fields, true and as they are held; empty for images."""
    picture: str
    """The image as it is held, PNG, base64; empty for tables."""


@dataclass(frozen=True)
class Forming:
    """The frames of one search."""

    attack: str
    """Kind of the attack that searches."""
    who: str
    """The person's identifying columns, or else "record" and its row."""
    true: str
    """The true image, PNG, base64; empty for tables."""
    records: int
    """Records that are searched together."""
    frames: tuple[Frame, ...]
    """Frames, the earliest first; empty where nothing was searched."""
    says: str
    """How the search ended, in a sentence."""


def forming(folder: Path, progress: Progress) -> Forming:
    """Attack the first update of a finished run once more by a search, and keep what it holds on the way.

    Raises RunError where no attack that searches suits the network, no update was seen, or a file of the run is
    damaged.
    """
    place = RunFolder(folder)
    scenario = read(str(place.scenario))
    run = TrainedRun(with_secret(scenario, place), place)
    attack = _searching(run)
    plan = [*plans(scenario, attack)][-1]
    whole = plan.observations(run)
    if not whole:
        raise RunError("no round came to a sum, so that none of its records can be shown forming")
    seen = whole[0]
    held: list[tuple[float, Tensor]] = []
    claim = watched(run, plan, seen, lambda share, records: held.append((share, records.detach().cpu())), progress)
    if not isinstance(claim, Claim):
        raise RunError(f"attack {attack.kind}: claims no records, so that none can be shown forming")
    rows = true_rows(scenario, run.people, seen.clients, seen.last.round)
    return _formed(run, attack, _kept(held, claim), rows, claim)


def _searching(run: TrainedRun) -> Attack:
    """The attack that comes to its records step by step, with its quick settings."""
    for kind, attack in plugins.loaded("attacks").items():
        if attack.searches and attack.suits(run.scenario.model):
            return parse_attack({"kind": kind, **(attack.assessed_with or {})})
    raise RunError("no attack that searches suits this network")


def _kept(held: list[tuple[float, Tensor]], claim: Claim) -> list[tuple[float, Tensor]]:
    """At most MOST_FRAMES of what was held, spread evenly, and the claim if there is any."""
    at = dict.fromkeys(np.linspace(0, len(held) - 1, min(MOST_FRAMES, len(held))).round().astype(int).tolist())
    last = [(1.01, claim.records)] if len(claim.records) else []
    return [held[position] for position in at] + last


def _formed(
    run: TrainedRun, attack: Attack, frames: list[tuple[float, Tensor]], rows: NDArray[np.int64], claim: Claim
) -> Forming:
    schema, table, tolerance = run.people.table.schema, run.people.table, run.scenario.judge.tolerance
    truth = table.take(rows).columns
    found = [match(records, truth, schema, tolerance) for _, records in frames]
    best = int(found[-1].right.sum(1).argmax()) if found else 0
    drawn = []
    for (share, records), one in zip(frames, found, strict=True):
        values = schema.decode(records)
        position = int(one.claim[best])
        here = {name: column[position] for name, column in values.items()} if position >= 0 else None
        drawn.append(
            Frame(
                share,
                float(one.right.mean()),
                () if schema.image is not None or here is None else _cells(schema, truth, here, best, one.right[best]),
                "" if schema.image is None or here is None else _png(here[schema.image.name], schema),
            )
        )
    return Forming(
        attack=attack.kind,
        who=_who(run, int(rows[best])),
        true="" if schema.image is None else _png(truth[schema.image.name][best], schema),
        records=len(rows),
        frames=tuple(drawn),
        says="; ".join(claim.notes),
    )


def _who(run: TrainedRun, row: int) -> str:
    identities = run.people.table.identities or {}
    return ", ".join(str(who[row]) for who in identities.values()) or f"record {row}"


def _cells(schema: Schema, truth: Any, here: dict[str, Any], person: int, right: NDArray[np.bool_]) -> tuple[Cell, ...]:
    return tuple(
        Cell(
            column.name,
            column.sensitive,
            _text(truth[column.name][person], column),
            _text(here[column.name], column),
            bool(right[position]),
        )
        for position, column in enumerate(schema.columns)
    )


def _text(value: Any, column: Column) -> str:
    return number(float(value), column) if isinstance(column, Continuous) else str(value)


def _png(pixels: Any, schema: Schema) -> str:
    assert schema.image is not None
    return base64.b64encode(png(np.asarray(pixels, np.float64), schema.image)).decode()
