import pytest
import torch

from fedinv import roles
from fedinv.attack import Knowledge
from fedinv.errors import RunError
from fedinv.federation.agreement import Agreement

malicious = roles.load("server", "malicious")
MODEL = {
    "0.weight": torch.ones(3, 2),
    "0.bias": torch.ones(3),
    "2.weight": torch.ones(2, 3),
    "2.bias": torch.ones(2),
}
AVERAGED = {name: 2 * tensor for name, tensor in MODEL.items()}


def planned(round_, **server):
    table = {"clients": 3, "rounds": 5}
    agreement = Agreement.model_validate(
        {
            "name": "x",
            "federation": table,
            "training": {"algorithm": "fedsgd", "batch_size": 4, "lr": 0.1},
            "server": server,
        }
    )
    return malicious.plan(agreement, MODEL, Knowledge(), round_, (0, 1, 2), lambda client: ())


@pytest.mark.parametrize("server", [{}, {"kind": "malicious"}, {"kind": "malicious", "unmask": True}])
def test_what_is_not_switched_on_changes_nothing(server):
    found = planned(1, **server)
    assert all(weights is MODEL for weights in found.sent.values())
    assert found.base is MODEL
    assert found.next_model(AVERAGED, 1) is AVERAGED


@pytest.mark.parametrize("server", [{"repeat": 3}, {"deviations": [{"kind": "repeat", "times": 3}]}])
def test_the_first_weights_are_repeated_and_training_goes_on_from_the_last_of_these_rounds(server):
    followed = [planned(r, kind="malicious", **server).next_model(AVERAGED, r) is MODEL for r in (1, 2, 3, 4)]
    assert followed == [True, True, False, False]


def test_deviations_add_up():
    found = planned(1, kind="malicious", repeat=2, overflow=True)
    sent = found.base
    assert all(weights is sent for weights in found.sent.values())
    assert float(sent["0.weight"][0, 0]) > 1e18 and float(sent["0.weight"][1:].abs().sum()) == 0
    assert torch.equal(MODEL["0.weight"], torch.ones(3, 2))


def test_what_is_no_deviation_is_named():
    with pytest.raises(RunError, match="there is no deviation 'cat'"):
        planned(1, kind="malicious", deviations=[{"kind": "cat"}])


def test_a_deviation_that_does_not_fit_says_why():
    small = {"0.weight": torch.ones(2, 3), "0.bias": torch.ones(2)}
    agreement = Agreement.model_validate(
        {
            "name": "x",
            "federation": {"clients": 1, "rounds": 1},
            "training": {"algorithm": "fedsgd", "batch_size": 4, "lr": 0.1},
            "server": {"kind": "malicious", "deviations": [{"kind": "overflow"}]},
        }
    )
    with pytest.raises(RunError, match="server.deviations: overflow: needs a network of at least two linear layers"):
        malicious.plan(agreement, small, Knowledge(), 1, (0,), lambda client: ())


def test_weights_go_as_far_from_the_model_as_the_deviation_does():
    whole, none, half = (
        planned(1, kind="malicious", deviations=[{"kind": "overflow", "strength": strength}]).base
        for strength in (1.0, 0.0, 0.5)
    )
    assert all(torch.equal(none[name], tensor) for name, tensor in MODEL.items())
    for name, tensor in MODEL.items():
        assert torch.allclose(half[name], (tensor + whole[name]) / 2)


def test_of_some_units_of_the_first_layer_all_else_is_the_model():
    whole = planned(1, kind="malicious", deviations=[{"kind": "overflow"}]).base
    some = planned(1, kind="malicious", deviations=[{"kind": "overflow", "units": 0.34}]).base
    assert torch.equal(some["0.weight"][0], whole["0.weight"][0])
    assert torch.equal(some["0.weight"][1:], MODEL["0.weight"][1:])
    assert not torch.equal(whole["2.weight"], MODEL["2.weight"])
    assert torch.equal(some["2.weight"], MODEL["2.weight"])
