"""Whether given records are behind an update: what they feed into its layers, against its row spaces and other records.

Each layer's distances are put in standard deviations of the others' mean, and a record's score is that of the layer in
which it stands out most. The threshold is a quantile of the others' own scores, so that the false positive rate holds
whatever the training was, as long as the others are of the same kind as the records.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedinv.errors import RequestError
from fedinv.results.intervals import clopper_pearson
from fedinv.results.probing import RATES, AtRate, LayerProbe, ProbeVerdict, UpdateProbe, fewest
from fedinv.results.terms import whose
from fedinv.runs.own_apps.leak_map import UNREAD
from fedinv.runs.own_apps.targets import probed_target
from fedinv.runs.own_records import files as given
from fedinv.runs.own_records import row_space
from fedinv.runs.own_records.updates import Updates
from fedinv.storage import files

Scores = NDArray[np.float64]
"""Score of each record (n,): standard deviations by which it is nearer to the update than the mean of the others."""


@dataclass(frozen=True)
class Asked:
    """The records that are asked about."""

    records: Tensor
    """Records of somebody's (n, ...), which may be behind the update."""
    others: Tensor
    """Records of the same kind that surely are not (m, ...)."""
    members: bool = False
    """Whether the records are known to be behind it."""
    update: Tensor | None = None
    """Place of the update that each record is behind, int64 (n,); None where all are asked of each update."""

    def of(self, place: int) -> "Asked":
        """What is asked of one update, by its place."""
        return self if self.update is None else replace(self, records=self.records[self.update == place])


@dataclass(frozen=True)
class Scored:
    """Scores of one update."""

    records: Scores
    """Scores of the given records."""
    others: Scores
    """Scores of the others."""


def asked(
    layout: given.Layout, records: Any, others: Any, members: bool, project: Path | None
) -> tuple[Asked, list[str]]:
    """Read the records, and the others of one file or several, without those that are among the records.

    Of `members` a column or array "update" says which update each is behind. The second is a note on how many those
    were; none for none. Raises RequestError for records that cannot be used.
    """
    several = others if isinstance(others, list | tuple) else [others]
    if not several:
        raise RequestError("--others: name records of the same kind that were surely not trained on")
    read = given.read(records, layout, "--truth" if members else "--records", project)
    mine = read.inputs
    rest = torch.cat([given.read(one, layout, "--others", project).inputs for one in several])
    known = {row.tobytes() for row in mine.flatten(1).numpy()}
    fresh = torch.tensor([row.tobytes() not in known for row in rest.flatten(1).numpy()])
    same = int((~fresh).sum())
    if not bool(fresh.any()):
        raise RequestError("--others: all of them are among the records too: name records that were not trained on")
    notes = [f"{same} of the others are among the records too, and were left out"] if same else []
    return Asked(mine, rest[fresh], members, read.update if members else None), notes


def probe_all(
    updates: Updates, places: Sequence[int], asked: Asked, notes: Sequence[str], progress: Callable[[float], None]
) -> tuple[ProbeVerdict, dict[int, Scored]]:
    """Probe these updates; scores by an update's place. Raises RequestError as `probed` does."""
    verdicts, scores = list[UpdateProbe](), dict[int, Scored]()
    for done, place in enumerate(places):
        one, scored = probed(updates, place, asked.of(place))
        verdicts.append(one)
        if scored is not None:
            scores[place] = scored
        progress((done + 1) / len(places))
    found = ProbeVerdict(
        network=type(updates.network).__name__,
        records=len(asked.records),
        others=len(asked.others),
        members=asked.members,
        updates=verdicts,
        notes=[*notes, *updates.skipped],
        headline=_headline(asked, verdicts),
    )
    return found, scores


def write(folder: Path, found: ProbeVerdict, scores: Mapping[int, Scored]) -> None:
    """Write probe.csv, then probe.json, each whole or not at all."""
    files.write(folder / "probe.csv", _table(scores))
    files.write(folder / "probe.json", found.model_dump_json(indent=2) + "\n")


def probed(updates: Updates, place: int, asked: Asked) -> tuple[UpdateProbe, Scored | None]:
    """Compare the records with one update, the `place`-th of its recording, without the weight decay that is known.

    There are no scores where no layer distinguishes records. Raises RequestError where the arrays do not fit the
    network, or it does not accept the records.
    """
    network, target = updates.network, updates.targets[place]
    found = probed_target(network, updates.example, target, updates.how)
    measured = found.measured
    spaces = row_space.row_spaces(network, measured, found.update)
    chosen = row_space.chosen(spaces)
    forward = found.forward(max([target.claimed or 0, *(one.least for one in measured)]))
    used = {one.name for one in chosen}
    mine, other = (
        row_space.distances(network, forward, chosen, one) if len(one) else {} for one in (asked.records, asked.others)
    )
    by_layer = {name: _standardized(mine[name], other[name]) for name in mine if name in other}
    layers = [
        LayerProbe(
            name=one.name,
            rank=len(one.basis),
            inputs=one.basis.shape[1],
            places=one.places,
            used=one.name in by_layer,
            at=[at_rate(rate, by_layer[one.name]) for rate in RATES] if one.name in by_layer else [],
        )
        for one in spaces
    ]
    notes = []
    mixed = [one.name for one in found.layers if one.mixed and one.name in used]
    if mixed and not found.undone:
        notes.append(f"records of a batch are mixed before {', '.join(mixed)}: what they fed into it is known roughly")
    if updates.how is not None and not updates.how.steps.linear:
        notes.append(UNREAD.format(updates.how.steps.kind))
    elif any(one.rescaled for one in measured if one.layer.name in used):
        notes.append("the update's entries are of one size, as Adam or signs leave them: its row space is no record's")
    scored = None
    if by_layer:
        pairs = by_layer.values()
        scored = Scored(*(np.max([getattr(one, part) for one in pairs], 0) for part in ("records", "others")))
        at = [at_rate(rate, scored) for rate in RATES]
    else:
        why = "no layer distinguishes records: nothing moved, or each row space holds all inputs"
        at = [_uncounted(rate, why) for rate in RATES]
    verdict = UpdateProbe(
        update=place, round=target.exchange.round, client=target.client, layers=layers, at=at, notes=notes
    )
    return verdict, scored


def at_rate(rate: float, scored: Scored) -> AtRate:
    """Count the records above the threshold that a share `rate` of the others exceeds."""
    count, least = len(scored.others), fewest(rate)
    if count < least:
        return _uncounted(rate, f"needs {least} other records or more, and there are {count}")
    if not len(scored.records):
        return _uncounted(rate, "there are no records")
    cut = threshold(rate, scored.others)
    found, false = int((scored.records > cut).sum()), int((scored.others > cut).sum())
    return AtRate(
        rate=rate,
        found=found,
        share=found / len(scored.records),
        ci95=clopper_pearson(found, len(scored.records)),
        false=false,
        false_ci95=clopper_pearson(false, count),
        words="",
    )


def threshold(rate: float, others: Scores) -> float:
    """The score that at most a share `rate` of the others (m,) exceeds."""
    return float(np.sort(others)[len(others) - 1 - math.floor(rate * len(others) + 1e-9)])


def chances(scored: Scored) -> Scores:
    """Share of the others that stand out as much as each record (n,), each record counted among them: a p-value."""
    ordered = np.sort(scored.others)
    above = len(ordered) - np.searchsorted(ordered, scored.records, side="left")
    return np.asarray((1 + above) / (1 + len(ordered)))


def _table(scores: Mapping[int, Scored]) -> str:
    """CSV with a row for each update and given record: its score, its chance, and the rates at which it stands out."""
    lines = [",".join(["update", "record", "score", "chance", *(f"found at {100 * rate:g} %" for rate in RATES)])]
    for place, one in scores.items():
        cuts = [threshold(rate, one.others) if len(one.others) >= fewest(rate) else None for rate in RATES]
        for row, (score, chance) in enumerate(zip(one.records, chances(one), strict=True)):
            marks = ["" if cut is None else "yes" if score > cut else "no" for cut in cuts]
            lines.append(",".join([str(place), str(row), f"{score:.4f}", f"{chance:.6f}", *marks]))
    return "\n".join(lines) + "\n"


def _standardized(records: Tensor, others: Tensor) -> Scored:
    mean, std = float(others.mean()), float(others.std()) if len(others) > 1 else 0.0
    return Scored(*(((mean - one) / max(std, 1e-12)).numpy() for one in (records, others)))


def _uncounted(rate: float, why: str) -> AtRate:
    return AtRate(rate=rate, found=None, share=None, ci95=None, false=None, false_ci95=None, words=why)


def _headline(asked: Asked, updates: Sequence[UpdateProbe]) -> str:
    if not updates:
        return "Nothing was probed, as the recording holds no update."
    counted = [(one, one.at[0]) for one in updates if one.at[0].found is not None]
    if not counted:
        return f"Nothing can be said of the records: {updates[0].at[0].words}."
    one, best = max(counted, key=lambda pair: pair[1].found or 0)
    rate, total = f"{100 * best.rate:g} %", len(asked.records)
    where = f"the update of round {one.round}, {whose(one.client)}"
    if asked.members:
        share = f"{100 * (best.share or 0):.1f} %"
        return f"{best.found} of {total} members ({share}) are recognized in {where}, and at most {rate} of the others."
    if not best.found:
        what = where if len(updates) == 1 else f"any of {len(updates)} updates"
        return f"None of {total} records stands out in {what} more than all but {rate} of the others do."
    most = f", of {len(updates)} updates the one with most" if len(updates) > 1 else ""
    return (
        f"{best.found} of {total} records stand out in {where}{most}, more than all but {rate} of the others do; by "
        f"chance {best.rate * total:.2g} would."
    )
