"""Counts people once: outcomes of the same person in several rounds are one outcome, and clients are the clusters."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Tally:
    """Who stands behind the records of one attack's observations."""

    person: NDArray[np.int64]
    """Position of the person of each record, int64 (records,), among the people."""
    people: int
    """Number of different people."""
    clusters: NDArray[np.int64]
    """Cluster of each person, int64 (people,): the client, or the clients of a sum, by whose update they are attacked
    first."""

    def ever(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Largest value of each person (people,) over the records (records,): once rebuilt is rebuilt."""
        found = np.zeros(self.people)
        np.maximum.at(found, self.person, values)
        return found

    def mean(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean value of each person (people,) over the records (records,)."""
        return np.asarray(np.bincount(self.person, values, self.people) / np.bincount(self.person, None, self.people))


def tally(cases: Sequence[tuple[tuple[int, ...], NDArray[np.int64]]]) -> Tally:
    """Count the people behind observations: of each the clients that it covers and the person of each true record.

    Observations that name no client count as one client's.
    """
    rows = np.concatenate([who for _, who in cases])
    numbers = {clients: i for i, clients in enumerate(dict.fromkeys(clients for clients, _ in cases))}
    cluster = np.concatenate([np.full(len(who), numbers[clients], np.int64) for clients, who in cases])
    _, first, person = np.unique(rows, return_index=True, return_inverse=True)
    return Tally(person, len(first), cluster[first])
