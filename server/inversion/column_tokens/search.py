"""Searches records whose [CLS] fulfills linear equations: categories by the best single change, numbers solved for."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .. import clock
from .columns import Reader, Sums

DAMPING = 1e-3
"""Levenberg's damping, as a share of the mean diagonal entry of J^T J."""
FINE = 1e-9
"""Levenberg's damping while numbers are polished, as the same share."""
WEAKEST = 1e-3
"""Share of the largest variance that is added to all when equations are whitened: weaker ones are noise of the search,
as they are far from linear."""
LENGTHS = (1.0, 0.3)
"""Multiples of a Gauss-Newton step that are tried."""
PROGRESS = 0.999
"""A start has come to its end where no single change leaves less than this share of its cost."""
SPREAD = 0.7
"""Standard deviation of the numbers that a search begins with, standardized."""


@dataclass(frozen=True)
class State:
    """Records under search."""

    chosen: Tensor
    """Position of each column's category among those present, int64 (n, choices)."""
    numbers: Tensor
    """Numbers, standardized, (n, m)."""


def drawn(read: Reader, count: int, generator: torch.Generator) -> State:
    """Records of present categories, each as likely, and normal numbers."""
    chosen = [torch.randint(len(one.values), (count,), generator=generator) for one in read.choices]
    numbers = SPREAD * torch.randn(count, len(read.numbers), generator=generator, dtype=torch.float64)
    kept = torch.stack(chosen, 1) if chosen else torch.zeros(count, 0, dtype=torch.int64)
    return State(kept, numbers.clamp(read.low, read.high))


@dataclass(frozen=True)
class Equations:
    """Equations E [h, 1] = 0 of a record's [CLS], h."""

    read: Reader
    rows: Tensor
    """Coefficients, (e, width + 1)."""

    def residual(self, numbers: Tensor, sums: Sums) -> Tensor:
        """Residuals (n, e) of records with these numbers and the sums of their categories."""
        return self._of(self.read.of_numbers(numbers) + sums)

    def whitened(self, state: State) -> "Equations":
        """The equations so combined that records drawn at random leave residuals of about the same size in each."""
        residual = self.residual(state.numbers, self.read.of_values(state.chosen))
        values, vectors = torch.linalg.eigh(residual.T @ residual / len(residual))
        combined = (vectors / (values + WEAKEST * values[-1]).sqrt()).T
        return Equations(self.read, combined @ self.rows)

    def improved(self, state: State, sweeps: int) -> State:
        """Lower the residual of each record by itself until no change of a category does, `sweeps` times at most."""
        chosen, numbers = state.chosen.clone(), state.numbers.clone()
        moving = torch.arange(len(chosen))
        with torch.no_grad():
            for _ in range(sweeps):
                clock.check()
                now = self._solved(State(chosen[moving], numbers[moving]), DAMPING, 2)
                moved, changed = self._changed(now)
                chosen[moving], numbers[moving] = moved.chosen, moved.numbers
                moving = moving[changed]
                if not len(moving):
                    break
        return State(chosen, numbers)

    def polished(self, state: State, steps: int) -> tuple[State, Tensor]:
        """Solve for the numbers alone, and return the residuals' length relative to [h, 1] as well, (n,)."""
        with torch.no_grad():
            state = self._solved(state, FINE, steps)
            sums = self.read.of_values(state.chosen) + self.read.of_numbers(state.numbers)
            hidden = self.read.read(sums)
            return state, self._of(sums).norm(dim=1) / (hidden.square().sum(1) + 1).sqrt()

    def _of(self, sums: Sums) -> Tensor:
        return self.read.read(sums) @ self.rows[:, :-1].T + self.rows[:, -1]

    def _slopes(self, numbers: Tensor, sums: Sums) -> Tensor:
        """Slopes of the residuals by the numbers, (n, e, m)."""

        def one(own: Tensor, weights: Tensor, values: Tensor) -> Tensor:
            return self.residual(own, Sums(weights, values))

        slopes: Tensor = torch.func.vmap(torch.func.jacfwd(one))(numbers, sums.weights, sums.values)
        return slopes

    def _solved(self, state: State, damping: float, steps: int) -> State:
        """Gauss-Newton steps on the numbers, each kept where it lowers the residual."""
        sums, numbers = self.read.of_values(state.chosen), state.numbers
        residual = self.residual(numbers, sums)
        for _ in range(steps):
            slopes = self._slopes(numbers, sums)
            step = torch.linalg.solve(_damped(slopes, damping), slopes.mT @ residual[..., None])[..., 0]
            start = numbers
            for length in LENGTHS:
                tried = (start - length * step).clamp(self.read.low, self.read.high)
                reached = self.residual(tried, sums)
                better = (reached.norm(dim=1) < residual.norm(dim=1))[:, None]
                numbers, residual = torch.where(better, tried, numbers), torch.where(better, reached, residual)
        return State(state.chosen, numbers)

    def _changed(self, state: State) -> tuple[State, Tensor]:
        """The records with the one category changed that lowers the residual most, and which of them had one (n,).

        A change is judged by what it leaves once the numbers are solved for again, to first order.
        """
        sums, own = self.read.of_values(state.chosen), self.read.of_numbers(state.numbers)
        slopes = self._slopes(state.numbers, sums)
        inverse = torch.linalg.inv(_damped(slopes, DAMPING))
        best = PROGRESS * self._of(sums + own).norm(dim=1)
        column, value = torch.full_like(best, -1).long(), torch.zeros_like(best).long()
        for place, choice in enumerate(self.read.choices):
            if len(choice.values) < 2:
                continue
            rest = sums + own - choice.sums[state.chosen[:, place]]
            tried = self._of(rest[:, None] + choice.sums)
            tried = tried - (slopes @ (inverse @ (slopes.mT @ tried.mT))).mT
            cost = tried.norm(dim=-1).scatter(1, state.chosen[:, place : place + 1], torch.inf)
            least, which = cost.min(1)
            better = least < best
            best = torch.where(better, least, best)
            column, value = torch.where(better, place, column), torch.where(better, which, value)
        changed = (column >= 0).nonzero()[:, 0]
        chosen = state.chosen.clone()
        chosen[changed, column[changed]] = value[changed]
        return State(chosen, state.numbers), changed


def _damped(slopes: Tensor, damping: float) -> Tensor:
    gram = slopes.mT @ slopes
    ridge = damping * gram.diagonal(dim1=-2, dim2=-1).mean(-1).clamp_min(1e-300)
    return gram + ridge[:, None, None] * torch.eye(gram.shape[-1], dtype=gram.dtype)
