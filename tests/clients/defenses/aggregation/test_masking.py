from functools import reduce

import numpy as np
import pytest
import torch

from fedinv import roles
from fedinv.defense import Sending
from fedinv.federation import ring, wire

Masking = roles.load("clients", "defenses.aggregation.masking").Masking


def masked(updates, records, round_=1, seed=1):
    cohort = tuple(range(len(updates)))
    return [
        Masking().protect(
            u,
            Sending(
                client=c,
                round=round_,
                cohort=cohort,
                records=1,
                seed=seed,
                rng=np.random.default_rng(),
                weight=records[c],
            ),
        )
        for c, u in enumerate(updates)
    ]


def test_the_masks_cancel_in_the_sum():
    updates, records = [{"w": torch.randn(5, 3)} for _ in range(4)], [1, 7, 3, 2]
    total = wire.weighted_mean(masked(updates, records), records)
    assert torch.allclose(total["w"], wire.weighted_mean(updates, records)["w"], atol=1e-6)


def test_one_message_is_uniform_whatever_the_update():
    zero, one = (masked([{"w": torch.full((4000,), v)}] * 2, [1, 1])[0]["w"].double() / 2**63 for v in (0.0, 5.0))
    assert zero.mean().abs() < 0.05
    assert zero.std() == pytest.approx(3**-0.5, rel=0.05)
    assert torch.allclose(zero, one, atol=1e-3) or zero.std() > 0.5


def test_the_mask_changes_with_round_and_seed():
    update = [{"w": torch.zeros(8)}] * 2
    base = masked(update, [1, 1])[0]["w"]
    assert not torch.equal(base, masked(update, [1, 1], round_=2)[0]["w"])
    assert not torch.equal(base, masked(update, [1, 1], seed=2)[0]["w"])


def test_without_one_client_the_sum_is_noise():
    updates = [{"w": torch.ones(50)} for _ in range(3)]
    two = masked(updates, [1, 1, 1])[:2]
    total = reduce(torch.add, (t["w"] for t in two)).double() / 2**ring.FRACTION_BITS
    assert total.abs().median() > 1e4


def test_alone_or_not_finite_is_refused():
    with pytest.raises(ValueError, match="at least two"):
        masked([{"w": torch.ones(1)}], [1])
    with pytest.raises(ValueError, match="nothing to mask"):
        masked([{"w": torch.tensor([float("nan")])}] * 2, [1, 1])
