"""Finds each record alone in the spans; needs the architecture."""

import time
from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from fedinv.attack import Attack, Claim, Exchange, Knowledge, Observation, Progress

from ..countermeasures import answered, decoded, granted, looked
from ..inversion.noise import NOISY
from ..inversion.recompute import mismatch, recompute_update
from ..inversion.row_space.attribution import attribute
from ..inversion.row_space.deflation import Share, shares
from ..inversion.row_space.local_search import Equations
from ..inversion.row_space.reading import View, check_enough, view
from ..inversion.row_space.search import Search, aim_apart, find


class RowSpace(Attack):
    """Row-space search: each record alone must lie in the spans of the first two layers' updates.

    A batch's update of a linear layer has the records' inputs to that layer as rows of its row space (Dimitrov et al.
    2024, SPEAR, section 3; Petrov et al. 2024, DAGER, section 3), so that a record can be looked for by itself: its
    discrete columns by local search, its numbers by Gauss-Newton. A curious server needs the architecture (a perceptron
    of any activation) and fewer records than the second layer has units; the schema helps, and can be done without.
    After one step the spans are exact and so are the records; after several the second layer's are taken halfway, and
    numbers are approximate. Fails on noise, and where one wide hidden layer sees more records than they have columns.
    """

    kind: Literal["row-space"] = "row-space"
    adapts_to: ClassVar[frozenset[str]] = NOISY | answered("look", "rounding", "decode", "unsteady", "any_record")
    starts: int = Field(default=4, ge=1, le=1000)
    """Records drawn in a round for each one still wanted; twice as many after each round that finds nothing."""
    rounds: int = Field(default=8, ge=1, le=1000)
    """Rounds without a new record after which the search ends."""
    seconds: float = Field(default=60.0, gt=0)
    """Wall clock after which no further round begins: a safety, as results then depend on the machine."""
    most_records: int = Field(default=512, ge=1, le=4096)
    """Larger batches are not tried."""

    def run(self, seen: Observation, knows: Knowledge, rng: np.random.Generator, progress: Progress) -> Claim:
        """Claim the records whose equations hold, and say in the notes why others are missing."""
        seen = looked(seen, knows)
        return decoded(self.search(seen, granted(knows), rng, progress), seen, knows, rng)

    def search(self, seen: Observation, knows: Knowledge, rng: np.random.Generator, progress: Progress) -> Claim:
        """The records in the update's spans, whatever training did to them before."""
        last = seen.last
        try:
            if not 1 <= last.records <= self.most_records:
                raise ValueError(f"{last.records} records, the attack tries 1 to {self.most_records}")
            claim = self._run(view(last, knows), last, knows, rng, progress)
        except (ValueError, torch.linalg.LinAlgError) as reason:  # type: ignore[attr-defined]
            width = next((tensor.shape[1] for tensor in last.sent.values() if tensor.ndim == 2), 0)
            claim = Claim(torch.zeros(0, width), torch.zeros(0), notes=(f"nothing claimed: {reason}",))
        progress(1.0)
        return claim

    def _run(
        self, view: "View", last: Exchange, knows: Knowledge, rng: np.random.Generator, progress: Progress
    ) -> Claim:
        generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
        spans = view.spans(view.updates[:2], last.records, generator)
        equations = view.equations(spans)
        check_enough(view, spans)
        step = knows.lr / last.records if view.still and knows.lr is not None else None

        def aim(known: Tensor) -> Equations:
            if step is None or not len(known):
                return aim_apart(equations, spans, known, last.records)
            share = shares(view.network, known, spans, step)
            rest = tuple(u - p.sum(0) for u, p in zip(view.updates[:2], share.parts[:2], strict=True))
            left = view.spans(rest, max(1, last.records - int(share.counts.sum())), generator)
            return aim_apart(view.equations(left), left, known[share.counts == 0], last.records)

        def draw(count: int) -> Tensor:
            if knows.schema is None:
                return torch.from_numpy(rng.standard_normal((count, view.width))).float()
            return knows.schema.draw(count, rng)

        def believe(records: Tensor) -> Tensor:
            # at the inputs alone, sums of records may pass for records
            if step is None or view.spanned[1] or not len(records):
                return torch.ones(len(records), dtype=torch.bool)
            return shares(view.network, records, spans, step).counts > 0

        search = Search(self.starts, self.rounds, time.monotonic() + self.seconds)
        found = find(equations, aim, believe, view.form, draw, last.records, view.precision, search, progress)
        if not len(found.records):
            raise ValueError("no record was found in the spans of the update")
        share = None if step is None else shares(view.network, found.records, spans, step)
        return _claim(found.records, found.misfit, share, view, last, knows, rng)


def _claim(
    records: Tensor,
    misfit: Tensor,
    share: Share | None,
    view: View,
    last: Exchange,
    knows: Knowledge,
    rng: np.random.Generator,
) -> Claim:
    """The claim of records (k, d), surest first, with their misfits (k,) as shares of what is accepted."""
    confidence, labels, notes = (
        (1 - misfit) / (1 if view.spanned[1] or share else 2),
        attribute(view.network, records, view.updates),
        [],
    )
    distinct = len(records)
    if share is not None:
        told = share.counts > 0
        confidence = torch.where(told, confidence, confidence / 2)
        labels = share.labels if labels is None else torch.where(told, share.labels, labels)
        again = share.counts.clamp_min(1)
        again = torch.where(again.cumsum(0) <= last.records, again, 0)
        records, confidence, labels = (t.repeat_interleave(again, 0) for t in (records, confidence, labels))
        if len(records) > distinct:
            notes.append(f"{distinct} distinct records stand for {len(records)}")
    if len(records) < last.records:
        notes.append(f"{len(records)} of {last.records} records recovered")
    if not view.single:
        notes.append("several local steps blur the spans behind the first layer: numbers are approximate")
    claim = Claim(records.float(), confidence.float().clamp(0, 1), labels, notes=tuple(notes))
    if labels is None:
        return claim
    try:
        update = recompute_update(knows, last.sent, claim.records, labels, rng, count=last.records)
    except ValueError:
        return claim
    return replace(claim, mismatch=mismatch(update, last.received))
