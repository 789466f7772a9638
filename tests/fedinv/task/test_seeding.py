import torch

from fedinv.task.seeding import seeded


def test_the_seed_alone_decides_and_the_generator_goes_on_as_if_nothing_had_been_drawn():
    before = torch.get_rng_state()
    with seeded(7):
        one = torch.randn(5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.randn(3)
    with seeded(7):
        assert torch.equal(torch.randn(5), one)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        assert torch.equal(torch.randn(5), one)


def test_without_a_seed_draws_go_on():
    before = torch.get_rng_state()
    with seeded(None):
        torch.randn(1)
    assert not torch.equal(torch.get_rng_state(), before)


def test_nothing_is_kept_for_accelerators_that_are_not_there():
    kept = len(torch.cuda._queued_calls)
    with seeded(7):
        torch.randn(1)
    assert len(torch.cuda._queued_calls) == kept
