"""Checks found records by their back-propagated slopes, which the search for them did not use."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from .backward import pass_through
from .spans import Span

DECOYS = 64
"""Records drawn at random with whose slopes those of found records are compared."""
CLEARLY = 0.5
"""Share of the decoys' least distance from the column space within which a record's slopes must lie: most true records
of a batch do after up to 30 local steps (hospital, 16 to 256 records, widths 64 to 512); the nearest of some hundred
blends were found at 0.67."""
RATHER = 0.85
"""Share, as CLEARLY, for a record that fits its equations far better than it must, its categories checked by a schema:
true ones were at 0.37 to 0.79 (sums of 320 records in layers of 512 units), wrong ones at 0.90 or more."""


def slopes_apart(
    network: nn.Sequential, records: Tensor, decoys: Tensor, spans: tuple[Span, ...], batch: int
) -> Tensor:
    """How far the slopes of records (k, d), float64, are from the column space of the update of a `batch` of records.

    Relative to the least distance of the decoys (m, d): 0 within it, (k,).

    As a record's inputs to a layer lie in its update's row space, its slopes at the layer's outputs lie in the column
    space, with its own label; after several local steps nearly so. Of the layers wide enough to span the batch that one
    decides of which the decoys stay away farthest. Infinite throughout where no layer is wide enough.
    """
    bound, found = 0.0, torch.full((len(records),), torch.inf, dtype=records.dtype)
    for layer, one in enumerate(spans):
        if min(len(one.left), one.right.shape[1]) <= batch:
            continue
        first = replace(one, left=one.left[:, :batch])
        least = float(_outside(network, decoys, first, layer).min())
        if least > bound:
            bound, found = least, _outside(network, records, first, layer)
    return found / bound if bound > 0 else torch.full_like(found, torch.inf)


def _outside(network: nn.Sequential, records: Tensor, span: Span, layer: int) -> Tensor:
    """Share (k,) of the length of each record's slopes outside the column space, with the label that leaves least."""
    passed = pass_through(network, records)
    chances = passed.logits.softmax(1)
    truth = torch.eye(chances.shape[1], dtype=chances.dtype)
    return torch.stack([span.outside(passed.slopes(layer, chances - one)) for one in truth]).amin(0)
