"""The gate at a site: computing time an update, leaking updates let through, honest ones refused.

Tables of the hospital and the bank, networks of two hidden layers, one step of SGD on a whole batch as in the other
benchmarks on foreign networks; the gate knows the site's own records, reads with limit 0 and has 2 s an update.
DP-SGD is Opacus', clip 1 and noise 1, ten steps. Four CPU minutes.
"""

import time
import warnings
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from itertools import islice, pairwise, product

import numpy as np
import torch
from opacus import PrivacyEngine
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from fedinv.attack import Exchange
from fedinv.judge.truth import population_of
from fedinv.runs.own_apps.gate import Rule, judge
from fedinv.runs.own_apps.targets import Given, Target
from fedinv.scenario.reading import read
from fedinv.task.foreign.encoded import schema_of_inputs

TABLES, WIDTHS, RECORDS = ("hospital", "bank"), ((64, 64), (128, 64), (512, 512)), (1, 2, 4, 8, 16, 32)
UPDATES = 200
SITE = 256
"""Records of a site, of which a batch is drawn."""


@dataclass(frozen=True)
class Site:
    """Records of one site as inputs (n, d), with their labels and a network for them."""

    inputs: Tensor
    labels: Tensor
    network: nn.Module


def main() -> None:
    """Print the three tables."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module="opacus")
    warnings.filterwarnings("ignore", message="Full backward hook")
    for widths in ((64, 64), (512, 512)):
        seconds = [_judged(site, *_sgd(site, 32), 32)[1] for site in islice(_sites(("hospital",), (widths,)), 20)]
        print(f"hospital, 32 records, {widths}: {np.median(seconds):.2f} CPU s, longest {max(seconds):.2f}", flush=True)
    open_, times = dict.fromkeys(product(TABLES, RECORDS), 0), []
    asked = islice(zip(_sites(TABLES, WIDTHS), _endless(RECORDS), strict=False), UPDATES)
    for place, (site, records) in enumerate(asked):
        refused, seconds_ = _judged(site, *_sgd(site, records), records)
        times.append(seconds_)
        open_[TABLES[place % len(TABLES)], records] += not refused
    left = {key: count for key, count in open_.items() if count}
    print(f"undefended: {sum(open_.values())} of {UPDATES} let through; {left or ''}longest {max(times):.2f} CPU s")
    refusals, times = 0, []
    for site in islice(_sites(TABLES, WIDTHS), UPDATES):
        refused, seconds_ = _judged(site, *_private(site), 64)
        refusals, times = refusals + refused, [*times, seconds_]
    print(f"DP-SGD: {refusals} of {UPDATES} refused; {np.median(times):.2f} CPU s, longest {max(times):.2f}")


def _endless(values: tuple[int, ...]) -> Iterator[int]:
    # each number twice, as tables alternate
    while True:
        for value in values:
            yield from (value, value)


def _sites(tables: tuple[str, ...], widths: tuple[tuple[int, ...], ...]) -> Iterator[Site]:
    """Sites of the tables in turn, each with a network of its own."""
    people = [population_of(read(name, ["data.records=4000"])) for name in tables]
    seed = 0
    while True:
        for one in people:
            rows = np.random.default_rng(seed).choice(len(one.inputs), SITE, replace=False)
            torch.manual_seed(seed)
            sizes = [one.inputs.shape[1], *widths[seed // len(tables) % len(widths)]]
            hidden = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
            network = nn.Sequential(*hidden, nn.Linear(sizes[-1], 2))
            yield Site(one.inputs[rows], one.labels[rows], network)
            seed += 1


def _sgd(site: Site, records: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights before and after one step of SGD on the first records."""
    network = site.network
    sent = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    functional.cross_entropy(network(site.inputs[:records]), site.labels[:records]).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    optimizer.zero_grad()
    return sent, {name: tensor.clone() for name, tensor in network.state_dict().items()}


def _private(site: Site) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights before and after ten steps of Opacus' DP-SGD on batches of 64 of the site's records."""
    network = deepcopy(site.network)  # Opacus leaves hooks behind
    sent = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    data = DataLoader(TensorDataset(site.inputs, site.labels), batch_size=64)
    private, optimizer, loader = PrivacyEngine().make_private(
        module=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        data_loader=data,
        noise_multiplier=1.0,
        max_grad_norm=1.0,
    )
    for _ in range(10 * 64 // SITE + 1):
        for x, y in loader:
            if len(x):
                optimizer.zero_grad()
                functional.cross_entropy(private(x), y).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
    return sent, {name: tensor.detach().clone() for name, tensor in zip(sent, private.parameters(), strict=True)}


def _judged(site: Site, sent: dict[str, Tensor], back: dict[str, Tensor], records: int) -> tuple[bool, float]:
    """Whether the gate refuses an update, and its CPU seconds."""
    begun = time.process_time()
    update = {name: tensor - sent[name] for name, tensor in back.items()}
    target = Target(Exchange(1, sent, update, records), 0, records)
    given = Given(site.network, schema=schema_of_inputs(site.inputs))
    return bool(judge(target, given, Rule()).reason), time.process_time() - begun
