from dataclasses import replace

import pytest
import torch

from fedinv.attack import Knowledge
from fedinv.deviation import Turn
from fedinv.task.models import build, state
from fedinv.task.networks.perceptron import Mlp
from server.crafting import certificates, flips
from server.malicious.differential import Differential, same_model


def size(tensors):
    return float(torch.cat([tensor.flatten() for tensor in tensors]).norm())


@pytest.fixture(scope="module")
def played(play):
    return play([Differential(shift=0.5)], rounds=8)


def test_biases_moved_by_less_than_a_step_reveal_records_with_their_labels(played):
    right, false = played.recovered()
    assert right >= 24
    assert false == 0
    assert played.labels_right()
    assert bool(played.claim.verified.all())


@pytest.fixture(scope="module")
def blurred(play):
    """Biases that move so far that what changes smoothly does not cancel."""
    return play([Differential(shift=3.0)], rounds=6, hidden=(128, 128))


def test_what_is_verified_is_right_to_every_digit_where_numbers_are_blurred(blurred):
    off = torch.cdist(blurred.claim.records.double(), blurred.records.double(), p=torch.inf).amin(1)
    sure = blurred.claim.verified
    assert int(sure.sum()) >= 15
    assert float(off[sure].max()) < 1e-3
    assert int((off < 1e-3).sum()) >= 25


def read_again(played, change=lambda found: found):
    schema, last = played.schema, played.exchanges[-1]
    batch = flips.rounds(same_model(played.exchanges, last.sent), 0.05)
    found = flips.listed(batch, schema)
    return certificates.solved_again(batch, change(found), schema)


def test_the_network_certifies_no_record_of_another_class_and_none_that_differs_in_one_category(played):
    whole, sure = read_again(played)
    assert int(sure.sum()) >= 24
    where = next(s for c, s in zip(played.schema.columns, played.schema.slices, strict=True) if c.name == "drug_class")
    swapped = whole.records.clone()
    swapped[:, where] = swapped[:, where].roll(1, 1)
    for wrong in (replace(whole, labels=1 - whole.labels), replace(whole, records=swapped)):
        _, sure = read_again(played, lambda found, wrong=wrong: wrong)
        assert not bool(sure.any())


def test_numbers_are_solved_for_again_with_categories_fixed(played):
    whole, _ = read_again(played)
    columns = certificates.numbers(played.schema)
    moved = whole.records.clone()
    moved[:, columns] += 0.002
    again, _ = read_again(played, lambda found: replace(whole, records=moved))
    assert float((again.records - whole.records).abs().median()) < 1e-4


def test_rounds_differ_by_the_shift_in_units_of_an_honest_step_and_in_one_layer_s_biases_alone(played):
    step = size(played.exchanges[0].received.values())
    for one, other in zip(played.exchanges, played.exchanges[1:], strict=False):
        moved = {name: other.sent[name] - one.sent[name] for name in one.sent}
        assert size(moved.values()) == pytest.approx(0.5 * step, rel=1e-3)
        assert [name for name, tensor in moved.items() if bool(tensor.any())] == ["2.bias"]


def test_the_first_round_is_honest(played):
    model = played.exchanges[0].sent
    honest = state(build(Mlp(hidden=(256, 256)), (model["0.weight"].shape[1],), 2, 0))
    assert all(torch.equal(model[name], tensor) for name, tensor in honest.items())


def test_noise_hides_all_of_it(play):
    torch.manual_seed(0)
    noised = play(
        [Differential(shift=0.5)],
        rounds=4,
        change=lambda up: {n: t + 1e-3 * torch.randn(t.shape) for n, t in up.items()},
    )
    assert len(noised.claim.records) == 0
    assert noised.claim.notes


def test_local_steps_and_too_few_rounds_are_named(play):
    assert "several local steps" in play([Differential()], rounds=3, algorithm="fedavg", batch_size=8).claim.notes[0]
    assert "2 rounds" in play([Differential()], rounds=2).claim.notes[0]


@pytest.mark.parametrize(
    ("model", "reason"),
    [(Mlp(hidden=(8,)), "1 hidden"), (Mlp(hidden=(8, 8), activation="tanh"), "tanh"), (Mlp(hidden=(8, 8)), None)],
)
def test_a_network_that_does_not_fit_is_named(model, reason):
    said = Differential().misfit(model)
    assert (said is None) == (reason is None)
    assert reason is None or reason in said


def test_without_the_schema_it_does_not_run(played):
    with pytest.raises(ValueError, match="schema is withheld"):
        Differential().craft(played.exchanges[0].sent, Knowledge(), Turn(0, 1, (0,), (0,)), None)
