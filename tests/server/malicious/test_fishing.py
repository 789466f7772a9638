import pytest
import torch

from fedinv.attack import Knowledge
from fedinv.deviation import Turn
from fedinv.runs import run
from fedinv.scenario.reading import read
from fedinv.task.networks.perceptron import Mlp
from server.malicious.fishing import Fishing, left_in, window_of


@pytest.fixture(scope="module")
def played(play):
    return play([Fishing(most=2)], each=300, rounds=5)


def test_single_records_of_a_large_batch_are_read_to_every_digit(played):
    right, false = played.recovered()
    assert right >= 3
    assert false == 0
    assert played.labels_right()


def test_all_other_records_are_silenced(played):
    for one in played.exchanges:
        window = window_of(one.sent)
        place = played.records.double() @ window.along
        inside = int(((place > window.low) & (place < window.high + 0.01)).sum())
        assert left_in(one) <= inside < 30


def test_windows_move_on_below_the_settled_ones(played):
    ends = [(window_of(one.sent).low, window_of(one.sent).high) for one in played.exchanges]
    assert len(set(ends)) == len(ends)
    settled = [low for one, (low, _) in zip(played.exchanges, ends, strict=True) if left_in(one) <= 2]
    assert ends[-1][1] in (*settled, pytest.approx(1e3))


def test_by_class_the_other_class_sends_nothing(play):
    found = play([Fishing(by="class", label=1)], each=16, hidden=(64, 64))
    assert left_in(found.exchanges[0]) == int((found.labels == 1).sum())


def test_by_both_each_record_in_the_window_is_of_the_class(play):
    found = play([Fishing(by="both", label=1, most=8)], each=300, hidden=(64, 64))
    window = window_of(found.exchanges[0].sent)
    place = found.records.double() @ window.along
    assert left_in(found.exchanges[0]) <= int(((place > window.low) & (found.labels == 1)).sum())


def test_what_does_not_fit_is_named(played):
    assert "tanh" in Fishing().misfit(Mlp(hidden=(8, 8), activation="tanh"))
    assert Fishing().misfit(Mlp(hidden=(8, 8))) is None
    model = played.exchanges[0].sent
    with pytest.raises(ValueError, match="schema is withheld"):
        Fishing().craft(model, Knowledge(), Turn(0, 1, (0,), (0,)), None)
    with pytest.raises(ValueError, match="no class 7"):
        Fishing(by="class", label=7).craft(model, Knowledge(), Turn(0, 1, (0,), (0,)), None)


def test_an_update_of_zeros_holds_nothing(play):
    found = play([Fishing()], each=16, change=lambda up: {n: torch.zeros_like(t) for n, t in up.items()})
    assert len(found.claim.records) == 0
    assert found.claim.notes


@pytest.mark.slow
def test_the_shipped_scenario_reads_single_records_of_whole_batches(tmp_path):
    small = ["data.records=600", "training.batch_size=200", "model.hidden=[200, 200]", "federation.rounds=4"]
    scenario = read("hospital-fishing", [*small, "attacker.watch={rounds=[1,2,3,4],clients=1}"])
    (found,) = run.run(scenario, run.open_folder(scenario, tmp_path / "run")).attacks
    assert found.exact.ci95[0] > found.exact.prior == 0
    assert found.claimed == found.verified
