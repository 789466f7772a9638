"""What was found of an app's updates as one self-contained HTML page: the verdict, the truth, a probe, the leak map."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedinv.errors import plain
from fedinv.report.app_verdict_text import judged_shares
from fedinv.report.html import rendered
from fedinv.report.leak_map_text import behind, says
from fedinv.report.plots import canvas
from fedinv.report.plots.probe_plot import dots
from fedinv.report.probe_text import false_text, found_text
from fedinv.results.app_verdict import AppVerdict
from fedinv.results.leak_map import LeakMap
from fedinv.results.probing import ProbeVerdict
from fedinv.results.terms import whose
from fedinv.storage import files

REASONS = 20
"""Reasons why nothing was read that the page lists at most."""


@dataclass(frozen=True)
class Found:
    """The parts of a page, each of which may be missing, but not all."""

    verdict: AppVerdict | None = None
    """What was read off the updates."""
    mapped: LeakMap | None = None
    """The leak map of one of them."""
    probed: ProbeVerdict | None = None
    """Whether given records are behind them."""
    pictures: Sequence[bytes] = ()
    """Claimed images, PNG, where records are images."""

    @property
    def headline(self) -> str:
        """The most important sentence that there is."""
        for one in (self.verdict, self.probed, self.mapped):
            if one is not None:
                return one.headline
        return "Nothing was found."

    @property
    def network(self) -> str:
        """Name of the network."""
        return next((one.network for one in (self.verdict, self.probed, self.mapped) if one is not None), "")


def page(found: Found) -> str:
    """The page as HTML; every text in it is escaped."""
    verdict = found.verdict
    reasons = [] if verdict is None else [note for one in verdict.updates if not one.verified for note in one.notes]
    drawn = None if found.probed is None else dots(found.probed)
    values = {
        "found": found,
        "reasons": list(dict.fromkeys(reasons))[:REASONS],
        "more_reasons": max(0, len(set(reasons)) - REASONS),
        "plot": None if drawn is None else canvas.embedded(drawn),
        "pictures": [base64.b64encode(one).decode() for one in found.pictures],
        "behind": behind,
        "says": says,
        "whose": whose,
        "judged_shares": judged_shares,
        "found_text": found_text,
        "false_text": false_text,
    }
    return rendered("own_app.html.j2", {"plain": plain}, values)


def write(path: Path, found: Found) -> None:
    """Write the page, whole or not at all."""
    files.write(path, page(found))
