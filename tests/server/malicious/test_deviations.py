import pytest
import torch

from fedinv import roles
from fedinv.federation.agreement import Server

malicious = roles.load("server", "malicious")
MODEL = {
    "0.weight": torch.ones(3, 2),
    "0.bias": torch.ones(3),
    "2.weight": torch.ones(2, 3),
    "2.bias": torch.ones(2),
}
AVERAGED = {name: 2 * tensor for name, tensor in MODEL.items()}


@pytest.mark.parametrize("server", [Server(), Server(kind="malicious"), Server(kind="malicious", unmask=True)])
def test_what_is_not_switched_on_changes_nothing(server):
    assert malicious.weights(server, MODEL, 1) is MODEL
    assert malicious.next_model(server, MODEL, AVERAGED, 1) is AVERAGED


def test_the_first_weights_are_repeated_and_training_goes_on_from_the_last_of_these_rounds():
    server = Server(kind="malicious", repeat=3)
    followed = [malicious.next_model(server, MODEL, AVERAGED, round_) is MODEL for round_ in (1, 2, 3, 4)]
    assert followed == [True, True, False, False]


def test_deviations_add_up():
    server = Server(kind="malicious", repeat=2, overflow=True)
    sent = malicious.weights(server, MODEL, 1)
    assert float(sent["0.weight"][0, 0]) > 1e18 and float(sent["0.weight"][1:].abs().sum()) == 0
    assert torch.equal(MODEL["0.weight"], torch.ones(3, 2))
    assert malicious.next_model(server, sent, AVERAGED, 1) is sent
