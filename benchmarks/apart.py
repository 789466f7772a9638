"""Claims that are the mean of several records: how many pass for single ones, and how many single ones are withheld.

Tables of which one column, or a few, are far larger than the others, so that records share their active units and a
ReLU network takes several for one. A hundred and eight victims by seeds that nothing was tuned on, 2 s each, so that a
slow processor reads less. Two CPU minutes.
"""

from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedinv.attack import Claim, Exchange
from fedinv.runs.own_apps import reading, verifying
from fedinv.runs.own_apps.reading import attacked
from fedinv.runs.own_apps.targets import Given, Target

SEEDS = range(100, 109)
WIDTH = 12
SCALES = {
    "one column of one sign": (10, 30, 100, 1000),
    "one column of both signs": (10, 30, 100),
    "one column of three levels": (10, 30),
    "one normal column": (30, 100),
    "every column of a scale of its own": (20,),
}
"""How many times larger columns are, by what is drawn."""
RIGHT = 0.05
"""Largest error of a single record's inputs, in each column's standard deviations."""


def main() -> None:
    """Print what is withheld and what is kept, of single records and of others, by what is drawn and in all."""
    torch.set_num_threads(1)
    total = torch.zeros(4, dtype=torch.int64)
    for place, (kind, scales) in enumerate(SCALES.items()):
        found = torch.stack([_counts(kind, scale, 100 * seed + place) for scale in scales for seed in SEEDS]).sum(0)
        total += found
        print(f"{kind}, {len(scales) * len(SEEDS)} victims: {_said(found)}", flush=True)
    print(f"in all: {_said(total)}")


def _said(counts: Tensor) -> str:
    kept, single, passed, others = counts.tolist()
    return f"{kept} of {single} claims of single records are kept; {passed} of {others} others pass for one"


def _counts(kind: str, scale: int, seed: int) -> Tensor:
    """Claims of single records that are kept, all of these, others that are kept, all of these (4,)."""
    torch.manual_seed(seed)
    records = (4, 8, 16)[seed % 3]
    hidden = ((64, 32), (128, 64))[seed // 3 % 2]
    network = nn.Sequential(
        nn.Linear(WIDTH, hidden[0]), nn.ReLU(), nn.Linear(*hidden), nn.ReLU(), nn.Linear(hidden[1], 2)
    )
    x, y = _table(kind, scale, records), torch.randint(0, 2, (records,))
    sent = {name: tensor.detach().clone() for name, tensor in network.named_parameters()}
    functional.cross_entropy(network(x), y).backward()  # type: ignore[no-untyped-call]
    lr = 0.1 / float(x.abs().max())
    update = {n: (sent[n] - lr * one.grad) - sent[n] for n, one in network.named_parameters() if one.grad is not None}
    seen: list[tuple[Claim, Claim]] = []

    def watched(claim: Claim, part: verifying.Attacked, reported: int | None) -> tuple[Claim, str]:
        kept, note = verifying.single(claim, part, reported)
        seen.append((claim, kept))
        return kept, note

    with patch.object(reading, "single", watched):
        attacked(Given(network, seconds=2.0), [Target(Exchange(1, sent, update, 1), 0, 1)], [], lambda share: None)
    counts = [0, 0, 0, 0]
    for claim, kept in seen:
        for at, one in ((1, claim), (0, kept)):
            right = int((_errors(one.records, x) <= RIGHT).sum())
            counts[at] += right
            counts[at + 2] += len(one.records) - right
    return torch.tensor(counts)


def _table(kind: str, scale: int, records: int) -> Tensor:
    x = torch.randn(records, WIDTH)
    if kind == "every column of a scale of its own":
        return (x + 2 * torch.randn(WIDTH)) * float(scale) ** torch.randn(WIDTH)
    x[:, 3] = (
        scale
        * {
            "one column of one sign": 1 + 0.3 * torch.rand(records),
            "one column of both signs": torch.randn(records).sign() * (1 + 0.3 * torch.rand(records)),
            "one column of three levels": torch.randint(0, 3, (records,)).float(),
            "one normal column": torch.randn(records),
        }[kind]
    )
    return x


def _errors(claims: Tensor, x: Tensor) -> Tensor:
    """The largest error (k,) of each claim against the record nearest to it, in columns' standard deviations."""
    if not len(claims):
        return torch.zeros(0)
    stds = x.double().std(0).clamp_min(1e-9)
    return torch.cdist(claims.double() / stds, x.double() / stds, p=torch.inf).amin(1)


if __name__ == "__main__":
    main()
