"""Takes records that were read off single units out of the rows of all other units that fire at them.

Rows of the first layer hold sums of error times [record, 1] over the records that fire the unit. A record that is read
where it is alone is known in all other rows, since the server knows the weights that it sent: which units fire, and the
error that comes back to each. Taken out of them it may leave another record alone, and so on: the rows are listed as an
invertible Bloom lookup table is (Goodrich and Mitzenmacher 2011, section 3), with units for cells. Of n records that
fire each of K units with probability f / n, the share that is listed follows from density evolution,
q = exp(-(f K / n) exp(-f q)): all but exp(-f K / n) as long as no other fixed point is above that.
"""

import torch
from torch import Tensor

from fedinv.attack import Claim, Exchange, Knowledge

from .dictionary import fresh
from .first_layer import Found, Sums, alone, claimed, errors, floor, layers, predicts

PASSES = 100
"""Passes over all rows at most, each without the records found before."""
SAME = 0.05
"""Largest difference of two inputs, in standard deviations, at which two records are one."""


def eliminated(rows: Tensor, last_: Exchange, knows: Knowledge) -> Claim:
    """The claim of the records in the rows (units, d + 1) of the first layer, each taken out of all rows once found.

    Where a record's error is not known in advance, as after several local steps, only those of units that fire at one
    record are found.
    """
    units = torch.arange(len(rows))
    sums = Sums(rows, units)
    least = floor(sums)
    found = alone(sums, last_, knows, least)
    new = found
    for _ in range(PASSES if predicts(last_, knows) else 0):
        if not len(new.records):
            break
        rows = rows - _sent(new, last_)
        new = _unknown(alone(Sums(rows, units), last_, knows, least), found)
        found = Found(
            torch.cat([found.records, new.records]),
            torch.cat([found.labels, new.labels]),
            torch.cat([found.sure, new.sure]),
        )
    return claimed(found, last_, knows)


def _sent(found: Found, last_: Exchange) -> Tensor:
    """What records contribute to the first layer's rows, (units, d + 1)."""
    error = found.records.new_zeros(len(found.records), len(layers(last_.sent)[0][0]))
    for label in range(layers(last_.sent)[-1][0].shape[0]):
        mine = found.labels == label
        error[mine] = errors(last_.sent, found.records[mine], label, 0)
    return error.T @ torch.cat([found.records, found.records.new_ones(len(found.records), 1)], 1)


def _unknown(new: Found, known: Found) -> Found:
    """Those records that are not known yet."""
    good = fresh(new.records, known.records, SAME)
    return Found(new.records[good], new.labels[good], new.sure[good])
