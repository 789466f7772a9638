import re

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import nn
from torch.nn import functional

import fedinv
from fedinv.errors import RequestError
from fedinv.recording.grid import LocalGrid

WIDTH = 23


def narrow():
    return nn.Sequential(nn.Linear(WIDTH, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 2))


def perceptron():
    return nn.Sequential(nn.Linear(WIDTH, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))


class Recurrent(nn.Module):
    """A network whose last layer has no bias, so that no attack applies to it."""

    def __init__(self):
        super().__init__()
        self.rnn, self.last = nn.GRU(WIDTH, 8, batch_first=True), nn.Linear(8, 2, bias=False)

    def forward(self, x):
        return self.last(self.rnn(x[:, None])[0][:, -1])


def table(records, seed=0):
    rng = np.random.default_rng(seed)
    categories = [np.eye(4)[rng.integers(0, 4, records)] for _ in range(5)]
    return torch.from_numpy(np.concatenate([rng.standard_normal((records, 3)), *categories], 1)).float()


def app(mods, network=perceptron, records=8, change=lambda name, step: step):
    """A ClientApp that takes one step of SGD on its own table and empties the message that it was sent."""
    found = ClientApp(mods=mods)

    @found.train()
    def train(message: Message, context: Context) -> Message:
        model = network()
        model.load_state_dict(message.content["arrays"].to_torch_state_dict())
        x = table(records, seed=int(context.node_config["partition-id"]))
        functional.cross_entropy(model(x), torch.arange(records) % 2).backward()
        back = {n: (p - change(n, 0.1 * p.grad)).detach() for n, p in model.named_parameters()}
        message.content["arrays"] = ArrayRecord()
        content = {"arrays": ArrayRecord(back), "metrics": MetricRecord({"num-examples": records})}
        return Message(RecordDict(content), reply_to=message)

    @found.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return Message(RecordDict({"metrics": MetricRecord({"loss": 0.5})}), reply_to=message)

    return found


def replies(found, network=perceptron, nodes=2, kind="train"):
    torch.manual_seed(0)
    grid = LocalGrid(found, nodes, {}, lambda message, reply: None)
    content = RecordDict({"arrays": ArrayRecord(network().state_dict())})
    return list(grid.send_and_receive([Message(content, node, kind) for node in grid.get_node_ids()]))


def noise(name, step):
    return step + 0.1 * torch.randn_like(step)


def test_a_leaking_update_is_refused_with_the_reason_in_one_line():
    for reply in replies(app([fedinv.gate(perceptron)])):
        assert "fedinv gate: " in reply.error.reason and " of 8 records can be read off it" in reply.error.reason
        assert "\n" not in reply.error.reason


def test_an_update_under_noise_leaves_as_it_is():
    plain = [reply.content["arrays"]["0.weight"].numpy() for reply in replies(app([], change=lambda n, step: step))]
    torch.manual_seed(0)
    noisy = replies(app([fedinv.gate(perceptron)], change=noise))
    assert all(not reply.has_error() for reply in noisy)
    assert all(
        not np.allclose(one, reply.content["arrays"]["0.weight"].numpy())
        for one, reply in zip(plain, noisy, strict=True)
    )


def test_up_to_the_limit_records_may_be_read():
    assert all(not reply.has_error() for reply in replies(app([fedinv.gate(perceptron, limit=1.0)])))


@pytest.mark.parametrize("known", ["records", "of the context", "schema"])
def test_who_knows_the_columns_reads_what_nobody_else_does(known):
    wide = {"network": narrow, "records": 16}
    withheld = fedinv.gate(narrow, seconds=0.3, unfinished="send")
    assert not any(reply.has_error() for reply in replies(app([withheld], **wide), narrow))
    own = torch.cat([table(16, seed=0), table(16, seed=1)])
    given = {
        "records": {"knows": own},
        "of the context": {"knows": lambda context: table(16, seed=int(context.node_config["partition-id"]))},
        "schema": {"knows": fedinv_schema(own)},
    }[known]
    knowing = fedinv.gate(narrow, seconds=20.0, **given)
    assert all(reply.has_error() for reply in replies(app([knowing], **wide), narrow))


@pytest.mark.parametrize("records", [1, 4])
def test_records_unlike_the_known_ones_are_read_too(records):
    known = table(16, seed=2)
    known[:, :3] *= 0.01
    known[:, 3:7] = torch.eye(4)[0]  # one category alone
    for reply in replies(app([fedinv.gate(perceptron, knows=known)], records=records)):
        assert f" of {records} records can be read off it" in reply.error.reason


def fedinv_schema(inputs):
    from fedinv.task.foreign.encoded import schema_of_inputs

    return schema_of_inputs(inputs).model_dump(mode="json")


def test_of_a_network_that_no_attack_applies_to_nothing_is_known():
    refused = replies(app([fedinv.gate(Recurrent, example=table(2))], Recurrent), Recurrent)
    assert all("nothing is known of what it tells" in reply.error.reason for reply in refused)
    sent = replies(app([fedinv.gate(Recurrent, example=table(2), unknown="send")], Recurrent), Recurrent)
    assert not any(reply.has_error() for reply in sent)


def test_time_that_is_over_ends_the_attacks_and_is_answered_as_asked():
    wide = {"network": narrow, "records": 16}
    given = {"seconds": 0.02, "limit": 0.9}
    sending = fedinv.gate(narrow, unfinished="send", **given)
    assert not any(reply.has_error() for reply in replies(app([sending], **wide), narrow))
    for reply in replies(app([fedinv.gate(narrow, **given)], **wide), narrow):
        assert "did not end in time" in reply.error.reason


def wide_network():
    return nn.Sequential(nn.Linear(WIDTH, 600), nn.ReLU(), nn.Linear(600, 600), nn.ReLU(), nn.Linear(600, 2))


def test_more_records_than_attacks_take_on_are_answered_as_unfinished():
    many = {"network": wide_network, "records": 520}
    for reply in replies(app([fedinv.gate(wide_network, seconds=60)], **many), wide_network, nodes=1):
        assert re.search(r"not attacked to the end \(5.. records, the attack tries 1 to 512\)", reply.error.reason)
    for options in ({"unfinished": "send"}, {"limit": 1.0}):
        (reply,) = replies(app([fedinv.gate(wide_network, seconds=60, **options)], **many), wide_network, nodes=1)
        assert not reply.has_error()


@pytest.mark.parametrize(
    ("network", "change", "reason"),
    [
        (Recurrent, None, "do not fit the network"),
        (narrow, None, "0.weight"),
        (lambda: 1 / 0, None, "could not be judged: ZeroDivisionError"),
        ("nowhere.task:Net", None, "nowhere"),
        (perceptron, lambda n, step: step * float("nan"), "not finite"),
    ],
)
def test_a_gate_that_cannot_judge_stays_shut(network, change, reason):
    found = app([fedinv.gate(network)], change=change or (lambda name, step: step))
    for reply in replies(found):
        assert reply.error.reason.startswith("fedinv gate: ") and reason in reply.error.reason


def test_replies_without_arrays_pass():
    assert not any(reply.has_error() for reply in replies(app([fedinv.gate(perceptron)]), kind="evaluate"))


def test_records_that_are_no_table_keep_it_shut():
    found = app([fedinv.gate(perceptron, knows=lambda context: torch.zeros(1, WIDTH))])
    assert all("knows: records of the shape (1, 23)" in reply.error.reason for reply in replies(found))


def test_ray_may_send_the_gate_to_another_process():
    from ray import cloudpickle

    again = cloudpickle.loads(cloudpickle.dumps(app([fedinv.gate(perceptron)])))
    assert all(reply.has_error() for reply in replies(again))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"limit": 1.5}, "limit: is 1.5"),
        ({"seconds": 0.0}, "seconds: is 0"),
        ({"unknown": "ask"}, "unknown: is 'ask'"),
        ({"knows": {"columns": []}}, "schema: "),
    ],
)
def test_wrong_arguments_are_named(wrong, said):
    with pytest.raises(RequestError, match=said):
        fedinv.gate(perceptron, **wrong)


def test_what_an_attack_holds_for_right_counts_though_it_is_not_verified():
    from fedinv.results.app_verdict import UpdateVerdict, refusal

    told = {"round": 1, "client": 0, "claimed": 1, "least": 32, "layer": "a", "inputs": "record", "attack": ""}
    one = UpdateVerdict(**told, verified=0, told=31, labels={}, mismatch=None, seconds=1.0, notes=[])
    assert refusal(one, 0.01) == "31 of 32 records can be read off it (96.9 %, limit 1 %, 0 of them verified)"
    assert not refusal(one, 0.97)


def test_a_recording_is_read_with_what_is_known_of_its_columns(tmp_path):
    torch.manual_seed(0)
    network, x = narrow(), table(16)
    sent = {name: tensor.detach().clone() for name, tensor in network.named_parameters()}
    functional.cross_entropy(network(x), torch.arange(16) % 2).backward()
    np.savez(tmp_path / "sent.npz", **{name: tensor.numpy() for name, tensor in sent.items()})
    np.savez(tmp_path / "back.npz", **{n: (sent[n] - 0.1 * p.grad).numpy() for n, p in network.named_parameters()})
    fedinv.import_files(tmp_path / "sent.npz", [tmp_path / "back.npz"], out=tmp_path / "rec")
    (withheld,) = fedinv.attack_recording(tmp_path / "rec", network, seconds=0.3).updates
    (known,) = fedinv.attack_recording(tmp_path / "rec", network, seconds=20.0, knows=table(64, seed=0)).updates
    assert (withheld.read, known.read > 8) == (0, True)
    with pytest.raises(RequestError, match="--knows: records of the shape"):
        fedinv.attack_recording(tmp_path / "rec", network, knows=table(1))
