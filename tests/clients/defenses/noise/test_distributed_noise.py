import numpy as np
import pytest
import torch

from fedinv import plugins
from fedinv.defense import Sending
from fedinv.federation import wire
from fedinv.federation.ring import FRACTION_BITS
from fedinv.federation.training import Participation
from fedinv.privacy.claims import epsilon

Masking = plugins.load("defenses", "masking")
DistributedNoise = plugins.load("defenses", "distributed-noise")


def summed(defense, updates, round_=1):
    cohort, ring = tuple(range(len(updates))), []
    for client, update in enumerate(updates):
        rng = np.random.default_rng([client, round_])
        sending = Sending(client, round_, cohort, 4, 1, rng, taken=Participation(cohort=len(cohort)))
        ring.append(Masking().protect(defense.protect(update, sending), sending))
    return wire.weighted_mean(ring, [1.0] * len(ring))["w"] * len(ring)


def test_the_sum_holds_all_of_the_noise_and_each_client_a_share():
    updates = [{"w": torch.zeros(20_000)} for _ in range(9)]
    noise = summed(DistributedNoise(clip=0.5, noise_multiplier=2.0), updates)
    assert noise.std() == pytest.approx(1.0, rel=0.03)
    sending = Sending(0, 1, tuple(range(9)), 4, 1, np.random.default_rng(0))
    alone = DistributedNoise(clip=0.5, noise_multiplier=2.0).protect(updates[0], sending)["w"]
    assert alone.std() == pytest.approx(1 / 3, rel=0.03)


def test_what_is_sent_lies_on_the_grid_and_within_the_clip():
    update = {"w": torch.randn(1000, generator=torch.Generator().manual_seed(0))}
    sending = Sending(0, 1, (0, 1), 4, 1, np.random.default_rng(0))
    sent = DistributedNoise(clip=0.25, noise_multiplier=0.0).protect(update, sending)["w"]
    units = sent * 2.0**FRACTION_BITS
    assert torch.equal(units, units.round())
    assert 0.2499 < float(sent.norm()) <= 0.25
    noisy = DistributedNoise(clip=0.25).protect(update, sending)["w"] * 2.0**FRACTION_BITS
    assert torch.equal(noisy, noisy.round())


def test_clients_that_are_not_honest_are_not_relied_upon():
    whole, half = (
        DistributedNoise(noise_multiplier=4.0, honest=h).privacy_events(Participation()) for h in (1.0, 0.25)
    )
    assert (whole[0].noise_multiplier, half[0].noise_multiplier) == (4.0, 2.0)
    taken = Participation(rounds=3, cohort=5)
    careful = DistributedNoise(epsilon=6.0, honest=0.25)
    (event,) = careful.privacy_events(taken)
    assert epsilon([event] * 3, 1e-5) <= 6.0
    assert careful.known(taken)["noise_multiplier"] == pytest.approx(2 * event.noise_multiplier)


def test_noise_too_fine_for_the_grid_is_refused():
    sending = Sending(0, 1, (0, 1), 4, 1, np.random.default_rng(0))
    with pytest.raises(ValueError, match="too fine"):
        DistributedNoise(clip=1e-9).protect({"w": torch.ones(3)}, sending)
