"""Tells claims that are single records from those that may be the mean of several, which a ReLU network takes for one.

Records at which the same units are active change all layers by multiples of one another, as far as their slopes agree:
their update is that of one record between them, to every digit. Where one column is far larger than all others, as an
age in years beside standardized numbers, all units go by it, and many records share them.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

DRAWS = 16
"""Halves of a record's numbers that are left out in turn, and the other halves too."""
FLIPS = 8
"""Units, active or not, that must differ from claim to claim, or whichever half is left out: chance then leaves no two
records the same ones."""
FITS = 5e-4
"""Mismatch up to which claims of a whole batch, trained on again, are no means by that alone, if they are several.

A network's slope at a mean is not the mean of slopes: beside others that count once, a mean counts no whole number of
times, which left 6e-4 to 1e-2 where it left so little as to be verified. Single records leave 1e-6 to 4e-4.
"""


def single_records(weights: Mapping[str, Tensor], records: Tensor, mismatch: float | None = None) -> Tensor:
    """Which claims (k, d) on a ReLU perceptron are no means of several records, bool (k,).

    `weights` are a weight and a bias of each layer in turn, those that were sent; `mismatch` is what the claims leave
    of the update, trained on again with labels, None where they have none. A claim is a single record where no half of
    its numbers alone decides which units are active: another record, that differs in the rest, would show. It is one
    too where the claim nearest to it has other units active, as records that shared them would be near, unless they
    have all become one: so claims must then leave next to nothing, or each half of its numbers decide of one unit.
    """
    fits = mismatch is not None and mismatch <= FITS
    draw = torch.Generator().manual_seed(0)
    parts = [tensor.double() for tensor in weights.values()]
    pairs = list(zip(parts[:-2:2], parts[1:-2:2], strict=True))
    units = _active(pairs, records.double()).double()
    nearest = torch.cdist(units, units, p=1).fill_diagonal_(math.inf).amin(1)
    far = (nearest >= FLIPS) & (nearest < math.inf)  # a single claim has no other
    found = torch.zeros(len(records), dtype=torch.bool)
    for place, record in enumerate(records.double()):
        used = record.nonzero().flatten()
        orders = torch.stack([used[torch.randperm(len(used), generator=draw)] for _ in range(DRAWS)])
        others = record.repeat(2 * DRAWS, 1)
        others[:DRAWS].scatter_(1, orders[:, : len(used) // 2], 0.0)
        others[DRAWS:].scatter_(1, orders[:, len(used) // 2 :], 0.0)
        active = _active(pairs, torch.cat([record[None], others]))
        least = int((active[1:] != active[:1]).sum(1).min())
        found[place] = least >= FLIPS or (bool(far[place]) and (fits or least > 0))
    return found


def _active(layers: list[tuple[Tensor, Tensor]], inputs: Tensor) -> Tensor:
    """Which hidden units are active at inputs (n, d), bool (n, units)."""
    found = []
    for weight, bias in layers:
        outputs = inputs @ weight.T + bias
        found.append(outputs > 0)
        inputs = outputs.relu()
    return torch.cat(found, 1)
