import math
from dataclasses import replace

import torch

from server.inversion.exact.first_layer import FirstLayer, factor
from server.inversion.exact.peeling import Mixture, PeelingBudget, _explain, _verified, peel

BUDGET = PeelingBudget(restarts=10, iterations=150, rounds=4, deadline=math.inf)


def _layer(n=8, h=256, d=20, seed=0):
    generator = torch.Generator().manual_seed(seed)
    records = torch.cat([torch.randn(n, d, generator=generator), torch.ones(n, 1)], 1).double()
    weight = torch.randn(h, d + 1, generator=generator).double()
    signals = torch.randn(n, h, generator=generator).double() * (records @ weight.T > 0)
    return FirstLayer(weight, signals.T @ records, last=False), records, signals


def test_records_and_their_signals_are_taken_out():
    layer, records, signals = _layer()
    factors = factor(layer, 8, 0.0, lossless=True)
    shares = []
    found = peel(Mixture(layer, factors, None, True), BUDGET, torch.Generator().manual_seed(0), shares.append)
    apart = (found.records[:, None] - records).abs().amax(2)
    assert sorted(apart.argmin(1).tolist()) == list(range(8)) and float(apart.amin(1).max()) < 1e-6
    assert torch.allclose(found.signals, signals[apart.argmin(1)], atol=1e-6)
    assert float(found.agreement.min()) == 1 and shares[-1] == 1


def test_a_mixture_of_records_is_rejected():
    layer, records, _ = _layer()
    factors = factor(layer, 8, 0.0, lossless=True)
    mixtures = torch.stack([0.7 * records[0] + 0.3 * records[1], 2 * records[2] - records[3]])
    assert float(_explain(layer, factors, records, True)[1].min()) == 1
    assert float(_explain(layer, factors, mixtures, True)[1].max()) < 0.9
    rows = torch.cat([torch.cat([3 * records[:2], mixtures]), torch.full((4, 1), 1e-9).double()], 1)
    assert torch.allclose(_verified(rows, layer, factors, None, True).sum(0), records[:2].sum(0))


def test_nothing_is_verified_where_any_record_would_pass():
    layer, records, _ = _layer(n=8, h=10)
    factors = factor(layer, 8, 0.0, lossless=True)
    assert float(_explain(layer, factors, records, True)[1].max()) == 0


def test_signals_that_ignore_the_units_are_no_records():
    layer, records, _ = _layer()
    dense = torch.randn(256, 8, generator=torch.Generator().manual_seed(3)).double()
    layer = replace(layer, update=dense @ records)
    factors = factor(layer, 8, 0.0, lossless=True)
    budget = replace(BUDGET, rounds=1)
    found = peel(Mixture(layer, factors, None, True), budget, torch.Generator().manual_seed(0), lambda share: None)
    assert len(found.records) == 0
