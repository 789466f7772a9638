"""What a guess without any update gets right: the strongest one beside the two simplest, by batch size and table."""

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedinv.data.population import Population
from fedinv.judge.guess import strongest
from fedinv.judge.matching import match
from fedinv.judge.truth import auxiliary, population_of
from fedinv.scenario.reading import read

SIZES = (1, 8, 16, 32, 64, 128)
PEOPLE = 1024
"""People that each figure is measured on, in batches drawn from those whom clients hold."""
CASES = {
    "hospital": ("hospital", []),
    "bank": ("bank", []),
    "hospital, 300 auxiliary records": ("hospital-gan", []),
}


def main() -> None:
    """Print a line for each table and batch size: mean field accuracy, the guess that was chosen, and its seconds."""
    torch.set_num_threads(1)
    print(f"{'table':32} {'batch':>5} {'constant':>9} {'draws':>7} {'strongest':>10}  guess, CPU s")
    for name, (scenario, settings) in CASES.items():
        declared = read(scenario, settings)
        people, granted = population_of(declared), auxiliary(declared, population_of(declared))
        tolerance = declared.judge.tolerance
        for size in SIZES:
            rng, began = np.random.default_rng(size), time.process_time()
            known = None if granted is None else granted.records
            best = strongest(people.schema, [size], tolerance, known, rng).fields[0]
            seconds = time.process_time() - began
            held = np.arange(len(people.table)) if granted is None else np.concatenate(people.shares)
            batches = [rng.choice(held, size, replace=False) for _ in range(max(4, PEOPLE // size))]

            def constant(count: int, _: np.random.Generator, people: Population = people) -> Tensor:
                return people.schema.guess(count)

            guesses = (constant, people.schema.draw, best.make)
            rates = [_right(one, people, batches, tolerance, rng) for one in guesses]
            shown = "  ".join(f"{100 * rate:5.1f} %" for rate in rates)
            print(f"{name:32} {size:5}   {shown}   {best.name}, {seconds:.1f}", flush=True)


def _right(
    guess: Callable[[int, np.random.Generator], Tensor],
    people: Population,
    batches: Sequence[NDArray[np.int64]],
    tolerance: float,
    rng: np.random.Generator,
) -> float:
    """Mean share of fields that a guess gets right of each batch, judged as claims are."""
    return float(
        np.mean(
            [
                match(guess(len(rows), rng), people.table.take(rows).columns, people.schema, tolerance).right.mean()
                for rows in batches
            ]
        )
    )
