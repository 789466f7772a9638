"""Writes report.html beside a verdict or a probe of an app's updates, with the other one where the folder holds it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from fedinv.attack import Claim
from fedinv.errors import RunError
from fedinv.report import app_page
from fedinv.report.plots.pictures import shown
from fedinv.results.app_verdict import AppVerdict
from fedinv.results.leak_map import LeakMap
from fedinv.results.probing import ProbeVerdict
from fedinv.runs.own_apps.leak_map import leak_map
from fedinv.runs.own_apps.targets import Given, Target, how_trained, probed_target
from fedinv.storage import files

PAGE = "report.html"
"""Name of the page in its folder."""
PICTURES = 12
"""Claimed images that a page shows at most."""

Verdict = TypeVar("Verdict", AppVerdict, ProbeVerdict)


def of_verdict(
    folder: Path, found: AppVerdict, mapped: LeakMap | None, claims: Mapping[int, Claim], shape: tuple[int, ...]
) -> None:
    """Write the page of a verdict, with the folder's probe; `shape` is that of one record."""
    pictures = _pictures(found, claims, shape)
    other = _beside(folder / "probe.json", ProbeVerdict, found.network)
    app_page.write(folder / PAGE, app_page.Found(found, mapped, other, pictures))


def of_probe(folder: Path, found: ProbeVerdict, mapped: LeakMap | None) -> None:
    """Write the page of a probe, with the folder's verdict."""
    other = _beside(folder / "verdict.json", AppVerdict, found.network)
    app_page.write(folder / PAGE, app_page.Found(other, mapped, found))


def first_map(given: Given, targets: Sequence[Target]) -> LeakMap | None:
    """The leak map of the first update; None where there is none."""
    if not targets:
        return None
    first, how = targets[0], how_trained(given)
    return leak_map(probed_target(given.network, given.example, first, how), first.client, first.claimed, how)


def _beside(path: Path, model: type[Verdict], network: str) -> Verdict | None:
    """What another command left in the folder; None where there is nothing, it cannot be read, or is of another net."""
    try:
        found: BaseModel = files.read_model(model, path)
    except (RunError, OSError):
        return None
    return found if isinstance(found, model) and found.network == network else None


def _pictures(found: AppVerdict, claims: Mapping[int, Claim], shape: tuple[int, ...]) -> list[bytes]:
    """Claimed records as PNG, where records are images, from black to white as all that were claimed of an update."""
    if len(shape) != 3 or shape[0] not in (1, 3):
        return []
    drawn = list[bytes]()
    for place, claim in claims.items():
        if found.updates[place].inputs == "record" and len(claim.records):
            values = claim.records.double().numpy()
            low, span = values.min(), float(values.max() - values.min()) or 1.0
            drawn += [shown((row - low) / span, shape) for row in values[: PICTURES - len(drawn)]]
    return drawn
