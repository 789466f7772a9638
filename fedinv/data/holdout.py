"""Which records are held out: as good as the same share of every class, so that the model can be measured on them."""

import numpy as np
from numpy.typing import NDArray


def held_out_rows(
    order: NDArray[np.int64], labels: NDArray[np.generic], count: int, *, classes: bool
) -> NDArray[np.int64]:
    """Rows that nobody trains on, sorted, int64 (count,): the first of each class in the random `order` (n,).

    `labels` (n,) are class numbers where `classes`, else numbers, of which the first `count` in order are taken. Each
    class is held out in proportion to its size, by largest remainders; one with at least two records has one at least
    held out, where `count` allows, and keeps one at least.
    """
    if not classes:
        return np.sort(order[:count])
    codes = np.asarray(labels)[order]
    names, sizes = np.unique(codes, return_counts=True)
    given = _quotas(sizes, count)
    chosen = [order[codes == name][:quota] for name, quota in zip(names, given, strict=True)]
    return np.sort(np.concatenate(chosen))


def _quotas(sizes: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Number of records of each class that are held out, int64 (classes,); they sum to `count`."""
    exact = sizes * count / sizes.sum()
    given: NDArray[np.int64] = np.floor(exact).astype(np.int64)
    for at in np.argsort(given - exact, kind="stable")[: count - given.sum()]:
        given[at] += 1
    while True:  # rare classes first: what they lack is taken from the class with most records held out
        lacking = np.flatnonzero((given == 0) & (sizes > 1))
        spare = int(np.argmax(given))
        if not len(lacking) or given[spare] < 2:
            break
        given[lacking[np.argmin(sizes[lacking])]] += 1
        given[spare] -= 1
    while True:  # and none is held out whole, if another has records left to hold out
        whole, room = np.flatnonzero(given == sizes), sizes - given
        if not len(whole) or room.max() < 2:
            return given
        given[whole[0]] -= 1
        given[int(np.argmax(room))] += 1
