"""What each claimed record alone makes of an update, by its label, and how much of the update each accounts for."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from fedinv.task.foreign.training.entry import Entry
from fedinv.task.foreign.training.losses import shaped
from fedinv.task.foreign.training.training import Repeatable, quietly

ENTRIES = 20_000
"""Entries of the update that are fitted at most; training again is held against all of them."""
FEW = 200
"""Entries of each parameter that are fitted at least, where it has as many."""
EVEN = 1e-3
"""Largest distance from 1 of a label's weight that is rounding."""


def chosen_entries(update: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries of each parameter's update that are fitted: evenly many of those that changed, ENTRIES at most."""
    moved = {name: tensor.flatten().nonzero()[:, 0] for name, tensor in update.items()}
    total, draw = sum(len(rows) for rows in moved.values()), torch.Generator().manual_seed(0)
    found = {}
    for name, rows in moved.items():
        keep = len(rows) if total <= ENTRIES else max(min(len(rows), FEW), len(rows) * ENTRIES // total)
        found[name] = rows[torch.randperm(len(rows), generator=draw)[:keep]]
    return found


def descents(
    entry: Entry,
    how: Repeatable,
    at: Mapping[str, Tensor],
    records: Tensor,
    label: int | None,
    chosen: Mapping[str, Tensor],
) -> Tensor:
    """The direction in which each record alone moves the chosen entries with this label, float64 (k, entries).

    Without a label it is that of a falling output. By the loss's gradient; where the app's own training alone knows the
    loss, by that training where it is a single step, else by the usual loss' gradient.
    """
    single = how.single(len(records))
    if label is not None and how.loss is None and single:
        return _trained_alone(entry, how, at, records, label, chosen)
    loss, form = (how.usual, how.usual_form) if how.loss is None else (how.loss, how.form)
    network = entry.at(at).double().eval()
    weights = {inner: dict(network.named_parameters())[inner].detach() for inner in entry.names.values()}
    target = None if label is None else shaped(torch.tensor([label]), form, how.outputs)

    def value(at: Mapping[str, Tensor], one: Tensor) -> Tensor:
        outputs: Tensor = functional_call(network, dict(at), (one[None],))
        if target is None:
            return outputs.sum()
        return loss.objective(outputs, target.double() if target.is_floating_point() else target).sum()

    inputs = entry.inputs(records).double()
    found: list[Mapping[str, Tensor]] = []
    if quietly(lambda: found.append(vmap(grad(value), (None, 0))(weights, inputs))):
        each = [grad(value)(weights, one) for one in inputs]
        found.append({name: torch.stack([one[name] for one in each]) for name in weights})
    return torch.cat([-found[0][entry.names[own]].flatten(1)[:, rows] for own, rows in chosen.items()], 1)


def _trained_alone(
    entry: Entry,
    how: Repeatable,
    at: Mapping[str, Tensor],
    records: Tensor,
    label: int,
    chosen: Mapping[str, Tensor],
) -> Tensor:
    """What the app's own training makes of the chosen entries on each record alone, float64 (k, entries)."""
    found = []
    for row in range(len(records)):
        moved = _moved(entry, how, at, records[row : row + 1], [label])
        found.append(torch.cat([moved[own][rows] for own, rows in chosen.items()]))
    return torch.stack(found)


def _moved(
    entry: Entry, how: Repeatable, at: Mapping[str, Tensor], records: Tensor, labels: Sequence[int]
) -> dict[str, Tensor]:
    """What one step on records (k, d) with labels changes of each parameter, flat, without its weight decay."""
    network, inputs = entry.at(at), entry.inputs(records)
    targets = shaped(torch.tensor(labels), how.form, how.outputs)
    if how.training.train is None:  # an app's own code may take float32 alone
        network, inputs = network.double(), inputs.double()
        targets = targets.double() if targets.is_floating_point() else targets
    how.train(network, inputs, targets, [[list(range(len(records)))]])
    after, kept = dict(network.named_parameters()), 1 + how.shrunk(1)
    return {
        own: (after[inner].detach().double() - kept * at[own].double()).flatten() for own, inner in entry.names.items()
    }


def label_weights(entry: Entry, how: Repeatable, at: Mapping[str, Tensor], records: Tensor) -> Tensor:
    """How much a record of each label counts in a step, relative to one of label 0, float64 (classes,).

    They are 1 for a plain mean or sum over records, and others for a mean over class weights, of which a record alone
    tells nothing: a step on two records of two labels is held against the steps on each of them. 1 where this cannot be
    had, as with fewer than two records (k, d).
    """
    found = torch.ones(how.classes, dtype=torch.float64)
    if len(records) < 2:
        return found

    def moved(rows: list[int], labels: list[int]) -> Tensor:
        return torch.cat([*_moved(entry, how, at, records[rows], labels).values()])

    def measure() -> None:
        first = moved([0], [0])
        for label in range(1, how.classes):
            pair = torch.stack([first, moved([1], [label])], 1)
            parts = torch.linalg.lstsq(pair, moved([0, 1], [0, label])[:, None]).solution[:, 0]
            ratio = float(parts[1] / parts[0])
            if 0 < ratio < float("inf") and abs(ratio - 1) > EVEN:
                found[label] = ratio

    return torch.ones_like(found) if quietly(measure) else found


def fitted_weights(matrix: Tensor, update: Tensor, nonnegative: bool) -> Tensor:
    """Weights (k,) of the columns of a matrix (D, k) that give an update (D,) best (Lawson and Hanson 1974)."""
    from scipy.optimize import nnls

    size = matrix.norm(dim=0).clamp_min(1e-30)
    basis, upper = torch.linalg.qr(matrix / size)
    toward = basis.T @ update
    if nonnegative:
        found: Tensor = torch.from_numpy(nnls(upper.numpy(), toward.numpy(), maxiter=100 * matrix.shape[1])[0])
    else:
        found = torch.linalg.lstsq(upper, toward[:, None], driver="gelsd").solution[:, 0]
    scaled: Tensor = found / size
    return scaled


def explained(matrix: Tensor, weights: Tensor, update: Tensor) -> tuple[float, Tensor]:
    """What weighted columns leave of an update, relative to it, and the share of it that is lost without each column.

    That is a column's weight times its distance from the others' span.
    """
    whole, size = max(float(update.norm()), 1e-30), matrix.norm(dim=0).clamp_min(1e-30)
    unit = matrix / size
    apart = torch.linalg.pinv(unit.T @ unit, hermitian=True).diagonal().clamp_min(1e-30).rsqrt()
    return float((update - matrix @ weights).norm()) / whole, weights.abs() * size * apart / whole
