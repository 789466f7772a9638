from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.supercore.task_identity import TaskIdentity
from torch import nn

from fedinv import plugins, roles
from fedinv.defend_mod import defend
from fedinv.defense import Defense, Participation, Sending
from fedinv.errors import RequestError
from fedinv.federation import wire
from fedinv.federation.reply_codes import DECLINED
from fedinv.federation.streams import stream
from fedinv.privacy import ledger as ledgers

as_mod = roles.load("clients", "mods").as_mod

KINDS = list(plugins.available("defenses"))
NOISE = "clip-noise:clip=0.5:noise_multiplier=1"
CLIPPED = "clip-noise:clip=0.01:noise_multiplier=0"


@pytest.fixture(autouse=True)
def identity():
    """What Flower's runtime sets before it makes a message."""
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1


def network(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))


def record(tensors: dict[str, torch.Tensor]) -> ArrayRecord:
    return ArrayRecord({name: Array(tensor.numpy(force=True)) for name, tensor in tensors.items()})


@dataclass
class App:
    """A Flower app as others write them, with a protocol of its own, that notes down what it trained."""

    mods: list
    per_function: bool = False
    reply: str = "weights"
    made: ClientApp = field(init=False)
    trained: list[dict[str, torch.Tensor]] = field(default_factory=list)

    def __post_init__(self):
        self.made = ClientApp(mods=None if self.per_function else self.mods)
        own = self.mods if self.per_function else []
        self.made.train(mods=own)(self.train)
        self.made.train("probe", mods=own)(self.train)
        self.made.evaluate(mods=own)(self.evaluate)
        self.made.query(mods=own)(self.query)

    def train(self, message, context):
        net = network()
        received = {k: torch.from_numpy(a.numpy()) for k, a in message.content["model"].items()}
        net.load_state_dict(received)
        generator = torch.Generator().manual_seed(context.node_id)
        x, y = torch.randn(16, 4, generator=generator) * 3 + 1, torch.randint(2, (16,), generator=generator)
        sgd = torch.optim.SGD(net.parameters(), 0.1)
        for _ in range(3):
            sgd.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            sgd.step()
        self.trained.append({k: v.clone() for k, v in net.state_dict().items()})
        sent = net.state_dict()
        if self.reply == "update":
            sent = {k: p.detach() - received[k] for k, p in net.named_parameters()}
        message.content["model"] = ArrayRecord()  # an app may use up what it was sent
        metrics = MetricRecord({"n": 16, "train-loss": 0.5, "per-class": [1.0, 2.0]})
        return Message(RecordDict({"trained": record(sent), "numbers": metrics}), reply_to=message)

    def evaluate(self, message, context):
        scores = ArrayRecord({"scores": Array(np.arange(5.0))})
        return Message(RecordDict({"numbers": MetricRecord({"accuracy": 0.5}), "scores": scores}), reply_to=message)

    def query(self, message, context):
        return Message(RecordDict({"raw": message.content["model"]}), reply_to=message)


def context(node: int = 7, **node_config) -> Context:
    return Context(run_id=1, node_id=node, node_config=node_config, state=RecordDict(), run_config={})


def message(content: RecordDict | None = None, *, kind: str = "train", group: str = "", round_: int | None = 1):
    content = RecordDict({"model": record(network().state_dict())}) if content is None else content
    if round_ is not None:
        content["config"] = ConfigRecord({"lr": 0.1, "server-round": round_})
    return Message(content, 5, kind, group_id=group)


def echo(content: RecordDict):
    """An app that replies with this, whatever it is asked."""
    return lambda asked, _: Message(RecordDict(dict(content.items())), reply_to=asked)


def passed(mod, sent: dict, received: dict, **told) -> Message:
    """The reply of an app that was sent some arrays, and has trained others."""
    asked = message(RecordDict({"arrays": ArrayRecord(dict(sent))}), **told)
    return mod(asked, context(), echo(RecordDict({"arrays": ArrayRecord(dict(received))})))


def drawn(mod, state: Context, size: int = 50, **told) -> torch.Tensor:
    """What the mod adds to an update of zeros."""
    zeros = RecordDict({"arrays": ArrayRecord({"w": Array(np.zeros(size, np.float32))})})
    reply = mod(message(RecordDict(dict(zeros.items())), **told), state, echo(zeros))
    return torch.from_numpy(reply.content["arrays"]["w"].numpy())


def refusal(reply: Message) -> str:
    assert reply.has_error()
    assert reply.error.code == ErrorCode.MOD_FAILED_PRECONDITION
    assert "\n" not in reply.error.reason
    return reply.error.reason


def accepted(kind: str) -> Defense | None:
    """The defense if it is one of the update; None where it is refused."""
    defense = plugins.load("defenses", kind)()
    try:
        as_mod(defense, seed=1)
    except RequestError:
        return None
    return defense


# --- which defenses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_defense_is_refused_with_a_line_exactly_where_it_is_more_than_protect(kind):
    defense = plugins.load("defenses", kind)()
    hooks = {"wrap_network", "augment", "wrap_training", "masks", "clipping", "carry"}
    more = {hook for hook in hooks if getattr(type(defense), hook) is not getattr(Defense, hook)}
    flags = [defense.secure_aggregation, defense.for_sum, defense.by_server, defense.one_weight]
    alone = type(defense).protect is not Defense.protect and not more and not any(flags)
    if alone:
        assert callable(as_mod(defense, seed=1))
        return
    with pytest.raises(RequestError, match=f"^{kind}: ") as refused:
        as_mod(defense, seed=1)
    why, instead = str(refused.value).split(": ", 2)[1:]
    assert why and instead and "\n" not in str(refused.value)


def test_both_kinds_of_defense_are_there():
    assert {k for k in KINDS if accepted(k)} >= {"clip-noise", "top-k", "sign", "quantize", "prune-gradient"}
    assert not any(accepted(k) for k in ("dp-sgd", "dropout", "mixup", "masking", "central-dp", "secagg-plus"))


def test_a_defense_that_changes_nothing_is_refused():
    class Idle(Defense):
        kind: str = "idle"

    with pytest.raises(RequestError, match="idle: changes nothing"):
        as_mod(Idle(), seed=1)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if accepted(kind)])
def test_the_update_that_is_sent_is_what_protect_makes_of_it(kind):
    defense, state, memory = accepted(kind), context(**{"partition-id": 3}), {}
    app = App([defend(kind, seed=11, sends="update")], reply="update")
    for answered, round_ in enumerate((1, 2, 3)):
        reply = app.made(message(round_=round_), state)
        sent = network().state_dict()
        update = {k: app.trained[-1][k] - sent[k] for k, _ in network().named_parameters()}
        rng = stream(11, "defend", kind, "partition", 3, round_, answered)
        sending = Sending(client=3, round=round_, cohort=(3,), records=1, seed=11, rng=rng, memory=memory)
        expected = defense.protect(update, sending)
        assert list(reply.content["trained"]) == list(expected)
        for name, array in reply.content["trained"].items():
            assert torch.equal(torch.from_numpy(array.numpy()), expected[name])
            assert array.dtype == "float32"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if accepted(kind)])
def test_weights_are_what_was_sent_plus_the_protected_update(kind):
    told = {"seed": 11, "buffers": "keep"}
    weights, update = App([defend(kind, **told)]), App([defend(kind, sends="update", **told)], reply="update")
    new = weights.made(message(), context()).content["trained"]
    change = update.made(message(), context()).content["trained"]
    sent = network().state_dict()
    for name, array in change.items():
        expected = (sent[name].double() + torch.from_numpy(array.numpy()).double()).float()
        assert torch.equal(torch.from_numpy(new[name].numpy()), expected)


# --- which messages --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_function", [False, True])
@pytest.mark.parametrize("kind", ["train", "train.probe", "evaluate", "query"])
def test_train_messages_alone_are_touched(kind, per_function):
    app = App([defend("top-k:keep=0.1", seed=1)], per_function)
    reply = app.made(message(kind=kind), state := context())
    if kind == "evaluate":
        assert reply.content["numbers"]["accuracy"] == 0.5
        assert reply.content["scores"]["scores"].numpy().tolist() == [0, 1, 2, 3, 4]
    elif kind == "query":
        expected = record(network().state_dict())
        assert {k: a.data for k, a in reply.content["raw"].items()} == {k: a.data for k, a in expected.items()}
    else:
        sent = network().state_dict()
        received = {k: torch.from_numpy(a.numpy()) for k, a in reply.content["trained"].items()}
        changed = sum(int((received[k] != sent[k]).sum()) for k, _ in network().named_parameters())
        assert changed == round(0.1 * sum(p.numel() for p in network().parameters()))
        assert dict(reply.content["numbers"]) == {"n": 16, "train-loss": 0.5, "per-class": [1.0, 2.0]}
    assert bool(len(state.state)) == kind.startswith("train")


def test_an_error_reply_passes_as_it_is():
    def fails(asked, _):
        return Message(Error(4711, "no records today"), reply_to=asked)

    reply = defend(NOISE, seed=1)(message(), state := context(), fails)
    assert (reply.error.code, reply.error.reason) == (4711, "no records today")
    assert not len(state.state)


def test_a_reply_without_arrays_passes_as_it_is():
    reply = defend(NOISE, seed=1)(message(), context(), echo(RecordDict({"m": MetricRecord({"loss": 1.0})})))
    assert reply.content["m"]["loss"] == 1.0


# --- buffers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nameless", [False, True])
def test_buffers_come_back_exactly_as_trained(nameless):
    """By torch's names, and by position as an app on NumPyClient sends them."""
    net = network()
    net(torch.randn(8, 4, generator=torch.Generator().manual_seed(1)) * 5)
    sent, trained = network().state_dict(), net.state_dict()
    names = {name: str(at) if nameless else name for at, name in enumerate(sent)}
    apart = [names[name] for name, _ in net.named_buffers()]
    was = record({names[k]: v for k, v in sent.items()})
    draws = torch.Generator().manual_seed(2)
    moved = {k: v + torch.rand(v.shape, generator=draws) if v.is_floating_point() else v for k, v in trained.items()}
    has = record({names[k]: v for k, v in moved.items()})
    reply = passed(defend("sign", seed=1), was, has)
    assert len(apart) == 3
    for name, array in reply.content["arrays"].items():
        untouched = (array.dtype, array.shape, array.data) == (has[name].dtype, has[name].shape, has[name].data)
        assert untouched == (name in apart)
    assert [reply.content["arrays"][name].dtype for name in apart] == ["float32", "float32", "int64"]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if accepted(kind)])
def test_a_claim_of_privacy_needs_a_word_about_buffers(kind):
    defense = accepted(kind)
    claims = type(defense).privacy_events is not Defense.privacy_events
    reply = App([defend(kind, seed=1)]).made(message(), state := context())
    if not claims:
        assert not reply.has_error()
        return
    reason = refusal(reply)
    assert "'1.num_batches_tracked', '1.running_mean', '1.running_var'" in reason
    assert 'buffers="reset"' in reason and 'buffers="keep"' in reason
    assert not len(state.state)


def test_a_count_after_other_arrays_than_two_vectors_of_one_length_is_no_batchnorm():
    was = {"0": Array(np.zeros(3)), "1": Array(np.zeros(4)), "2": Array(np.array(1))}
    has = {"0": Array(np.full(3, 9.0)), "1": Array(np.full(4, 2.0)), "2": Array(np.array(5))}
    reply = passed(defend("top-k:keep=0.01:error_feedback=false", seed=1), was, has)
    assert [float(array.numpy().max()) for array in reply.content["arrays"].values()] == [9, 0, 5]


def test_buffers_are_sent_as_they_were_received_or_kept_where_that_is_asked_for():
    asked, buffers = network().state_dict(), [name for name, _ in network().named_buffers()]
    for choice in ("reset", "keep"):
        app = App([defend(NOISE, seed=1, buffers=choice)])
        arrays = app.made(message(), context()).content["trained"]
        for name in buffers:
            expected = app.trained[0][name] if choice == "keep" else asked[name]
            assert torch.equal(torch.from_numpy(arrays[name].numpy()), expected)
        assert arrays["1.num_batches_tracked"].dtype == "int64"
    float_count = {"w": Array(np.zeros(3, np.float32)), "n": Array(np.array(4, np.int64))}
    reply = passed(defend(NOISE, seed=1, sends="update", buffers="reset"), float_count, float_count)
    assert (reply.content["arrays"]["n"].dtype, int(reply.content["arrays"]["n"].numpy())) == ("int64", 0)


def test_whole_numbers_in_no_buffer_are_refused_by_a_claim_and_left_alone_without_one():
    was, has = ({"w": Array(np.ones(3, np.float32)), "table": Array(np.array([n, n]))} for n in (1, 5))
    assert "'table'" in refusal(passed(defend(NOISE, seed=1), was, has))
    reply = passed(defend("top-k", seed=1), was, has)
    assert reply.content["arrays"]["table"].numpy().tolist() == [5, 5]


# --- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
def test_arrays_keep_their_type_and_the_norm_holds(dtype):
    rng = np.random.default_rng(0)
    was = rng.normal(size=(20, 5)).astype(dtype)
    has = (was + rng.normal(size=(20, 5))).astype(dtype)
    reply = passed(defend(CLIPPED, seed=1), {"w": Array(was)}, {"w": Array(has)})
    sent = reply.content["arrays"]["w"]
    assert (sent.numpy().dtype, sent.shape) == (np.dtype(dtype), (20, 5))
    moved = np.linalg.norm(sent.numpy().astype(np.float64) - was.astype(np.float64))
    rounding = np.finfo(np.dtype(dtype)).eps * np.linalg.norm(was.astype(np.float64))
    assert 0 < moved <= 0.01 + rounding
    exact = passed(defend(CLIPPED, seed=1, sends="update"), {"w": Array(was)}, {"w": Array(has)})
    update = exact.content["arrays"]["w"].numpy().astype(np.float64)
    assert np.linalg.norm(update) == pytest.approx(0.01, rel=2e-3 if dtype == "float16" else 1e-6)


def bfloat16(tensor: torch.Tensor) -> Array:
    """As the type's NumPy extension is stored: two bytes each that NumPy knows no number for."""
    values = tensor.bfloat16().view(torch.int16).numpy().view("V2")
    return Array("bfloat16", tuple(tensor.shape), "numpy.ndarray", Array(values).data)


def test_bfloat16_stays_bfloat16():
    was = torch.randn(40, generator=torch.Generator().manual_seed(0)).bfloat16()
    has = was + 1
    reply = passed(defend("top-k:keep=0.5", seed=1), {"w": bfloat16(was)}, {"w": bfloat16(has)})
    sent = reply.content["arrays"]["w"]
    values = torch.from_numpy(sent.numpy().view(np.int16).copy()).view(torch.bfloat16)
    assert (sent.dtype, sent.shape, sent.numpy().dtype) == ("bfloat16", (40,), np.dtype("V2"))
    assert set(np.flatnonzero((values != was).numpy())) <= set(np.flatnonzero((values == has).numpy()))
    assert 0 < int((values != was).sum()) <= 40


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (Array("float32", (1,), "mine", b"\0\0\0\0"), "'w' is serialized as 'mine'"),
        (Array("bfloat16", (1,), "numpy.ndarray", Array(np.zeros(1)).data), "'w' is declared bfloat16 and holds"),
        (Array("float8_e4m3", (1,), "numpy.ndarray", Array(np.zeros(1, np.uint8)).data), "'w' holds uint8"),
        (Array(np.zeros(1, np.longdouble)), "'w' holds float128"),
    ],
)
def test_arrays_that_cannot_be_read_are_not_sent(array, words):
    assert words in refusal(passed(defend("top-k", seed=1), {"w": array}, {"w": array}))


# --- the shape of a reply --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("has", "words"),
    [
        ({"w": 3, "bias": 1, "extra": 2}, "'extra', which the server did not send"),
        ({"w": 3}, "lacks 'bias'"),
        ({"w": 2, "bias": 1}, "'w' has shape (2,), and the server sent (3,)"),
    ],
)
@pytest.mark.parametrize("sends", ["weights", "update"])
def test_arrays_that_are_not_those_sent_are_refused_by_name(has, words, sends):
    was = {name: Array(np.zeros(size, np.float32)) for name, size in {"w": 3, "bias": 1}.items()}
    received = {name: Array(np.zeros(size, np.float32)) for name, size in has.items()}
    assert words in refusal(passed(defend("top-k", seed=1, sends=sends), was, received))


def test_of_several_records_the_named_one_is_protected():
    w, other = Array(np.arange(1.0, 10.0, dtype=np.float32)), Array(np.full(4, 7.0))
    zero = Array(np.zeros(9, np.float32))
    asked = {"model": ArrayRecord({"w": zero}), "controls": ArrayRecord({"c": other})}
    both = echo(RecordDict({"model": ArrayRecord({"w": w}), "controls": ArrayRecord({"c": other})}))
    unsaid = defend("top-k", seed=1)(message(RecordDict(dict(asked))), context(), both)
    assert "'controls', 'model': say which" in refusal(unsaid)
    wrong = defend("top-k", seed=1, record="modle")(message(RecordDict(dict(asked))), context(), both)
    assert "did you mean 'model'?" in refusal(wrong)
    reply = defend("top-k:keep=0.3", seed=1, record="model")(message(RecordDict(dict(asked))), context(), both)
    assert reply.content["controls"]["c"].data == other.data
    assert reply.content["model"]["w"].numpy().tolist() == [0.0] * 6 + [7.0, 8.0, 9.0]
    claimed = defend(NOISE, seed=1, record="model")(message(RecordDict(dict(asked))), context(), both)
    assert "'controls' would be sent as they are" in refusal(claimed)


def test_weights_need_something_to_compare_them_with_and_an_update_does_not():
    has = RecordDict({"delta": ArrayRecord({"w": Array(np.full(4, 3.0, np.float32))})})
    reply = defend("top-k", seed=1)(message(RecordDict()), context(), echo(has))
    assert 'sends="update"' in refusal(reply)
    reply = defend(CLIPPED, seed=1, sends="update")(message(RecordDict()), context(), echo(has))
    assert np.linalg.norm(reply.content["delta"]["w"].numpy()) == pytest.approx(0.01, rel=1e-5)


@pytest.mark.parametrize(
    ("metrics", "told"),
    [({"num-examples": 32.0}, 32), ({"num_examples": 8}, 8), ({"n": 3, "loss": [0.1]}, 1), ({"num-examples": [4]}, 1)],
)
def test_metrics_of_any_name_are_passed_and_examples_are_told_where_they_are_named(metrics, told):
    seen = []

    class Spy(Defense):
        kind: str = "spy"

        def protect(self, update, sending):
            seen.append(sending)
            return update

    content = RecordDict({"a": ArrayRecord({"w": Array(np.zeros(2, np.float32))}), "m": MetricRecord(metrics)})
    asked = message(RecordDict({"a": content["a"]}))
    reply = as_mod(Spy(), seed=1)(asked, context(), echo(content))
    assert dict(reply.content["m"]) == metrics
    assert seen[0].records == told


def test_a_defense_that_returns_other_entries_is_refused_by_name():
    class Loses(Defense):
        kind: str = "loses"
        cut: bool = True

        def protect(self, update, sending):
            return {name: tensor[:1] for name, tensor in update.items()} if self.cut else {}

    arrays = {"w": Array(np.zeros(3, np.float32))}
    assert "shape (1,) for 'w'" in refusal(passed(as_mod(Loses(), seed=1), arrays, arrays))
    assert "'w'" in refusal(passed(as_mod(Loses(cut=False), seed=1), arrays, arrays))


# --- memory, rounds, clients, seeds ----------------------------------------------------------------------------------


def test_what_was_not_sent_is_remembered_for_each_client():
    mod = defend("top-k:keep=0.25", seed=1, sends="update")
    update = RecordDict({"a": ArrayRecord({"w": Array(np.array([4.0, 3.0, 0.0, 0.0], np.float32))})})
    one, other = context(1), context(2)

    def sent(state):
        return mod(message(RecordDict()), state, echo(update)).content["a"]["w"].numpy().tolist()

    assert [sent(one), sent(one), sent(other)] == [[4, 0, 0, 0], [0, 6, 0, 0], [4, 0, 0, 0]]


def test_mods_of_other_settings_remember_apart():
    update = echo(RecordDict({"a": ArrayRecord({"w": Array(np.array([4.0, 3.0, 2.0, 1.0]))})}))
    outer, inner = (defend(f"top-k:keep={keep}", seed=1, sends="update") for keep in (0.25, 0.5))
    state, sent = context(), []
    for _ in range(2):
        reply = outer(message(RecordDict()), state, lambda asked, state: inner(asked, state, update))
        sent.append(reply.content["a"]["w"].numpy().tolist())
    # inner: (4, 3, 0, 0), then (4, 3, 4, 2) to (4, 0, 4, 0); outer: 4, then (4, 3, 4, 0) to its two largest
    assert sent == [[4, 0, 0, 0], [4, 0, 4, 0]]


@pytest.mark.parametrize(
    ("told", "client"),
    [({}, 7), ({"partition-id": 3}, 3), ({"partition-id": "4"}, 4), ({"partition-id": "ward-a"}, None)],
)
def test_a_client_is_told_by_a_number(told, client):
    seen = []

    class Spy(Defense):
        kind: str = "spy"

        def protect(self, update, sending):
            seen.append(sending.client)
            return update

    drawn(as_mod(Spy(), seed=1), context(**told))
    drawn(as_mod(Spy(), seed=1), context(**(told and {"partition-id": "ward-b"})))
    assert all(isinstance(one, int) for one in seen)
    assert seen[0] == client if client is not None else seen[0] != seen[1]


def test_noise_never_repeats():
    """Over rounds, clients, and a server that names the same round twice or none."""
    mod, rows = defend(NOISE, seed=1), []
    for state in (context(1), context(2), context(9, **{"partition-id": 1}), context(9, **{"partition-id": 2})):
        for told in ({"round_": 1}, {"round_": 2}, {"round_": 1}, {"round_": None}, {"round_": None, "group": "3"}):
            rows.append(drawn(mod, state, **told))
    rows.append(drawn(mod, context(1), round_=7))
    rows.append(drawn(mod, context(1, **{"partition-id": "ward-a"})))
    rows.append(drawn(mod, context(1, **{"partition-id": "ward-b"})))
    rows.append(drawn(defend(NOISE, seed=2), context(1)))
    apart = torch.pdist(torch.stack(rows).double())
    assert float(apart.min()) > 1.0  # two draws of 50 are some 5 apart


def test_two_mods_of_one_kind_draw_apart():
    zeros = RecordDict({"arrays": ArrayRecord({"w": Array(np.zeros(500, np.float32))})})
    outer, inner = (defend("flower-local-dp:clip=100:epsilon=4.84481", seed=1) for _ in range(2))
    reply = outer(message(zeros), context(), lambda asked, state: inner(asked, state, echo(zeros)))
    both = torch.from_numpy(reply.content["arrays"]["w"].numpy())
    assert float(both.std()) == pytest.approx(2**0.5, rel=0.1)  # and 2 if the same noise were added twice


def test_the_same_seed_draws_the_same_and_none_never_does():
    told = {"round_": None, "group": "4"}
    assert torch.equal(drawn(defend(NOISE, seed=1), context(), **told), drawn(defend(NOISE, seed=1), context(), **told))
    fresh = [drawn(defend(NOISE, seed=None), context(), **told) for _ in range(2)]
    assert float((fresh[0] - fresh[1]).norm()) > 1.0
    assert float(fresh[0].std()) == pytest.approx(0.5, rel=0.5)


@pytest.mark.parametrize(
    ("told", "rounds"),
    [
        ({"round_": 5}, [5, 5]),
        ({"round_": 5, "group": "9"}, [5, 5]),
        ({"round_": None, "group": "9"}, [9, 9]),
        ({"round_": None, "group": "spring"}, [1, 2]),
    ],
)
def test_the_round_is_the_strategys_else_a_count(told, rounds):
    seen, state = [], context()

    class Spy(Defense):
        kind: str = "spy"

        def protect(self, update, sending):
            seen.append(sending)
            return update

    for _ in rounds:
        drawn(as_mod(Spy(), seed=1), state, **told)
    assert [sending.round for sending in seen] == rounds
    assert [sending.client for sending in seen] == [7, 7]


# --- budgets ---------------------------------------------------------------------------------------------------------


def test_an_epsilon_needs_the_number_of_rounds_and_ends_with_them():
    with pytest.raises(RequestError, match="clip-noise: its epsilon is a budget over the whole run: say how many"):
        defend("clip-noise:epsilon=8", seed=1)
    assert callable(defend("clip-noise:epsilon=8:noise_multiplier=2", seed=1))
    mod, state, asked = defend("clip-noise:epsilon=8", seed=1, rounds=3, buffers="reset"), context(), []
    app = App([mod])
    for round_ in range(1, 6):
        asked.append(app.made(message(round_=round_), state))
    assert [reply.has_error() for reply in asked] == [False, False, False, True, True]
    assert asked[3].error.code == DECLINED
    assert "budget of epsilon 8 is spent" in asked[3].error.reason
    assert len(app.trained) == 3  # what is not sent is not trained
    (event,) = ledgers.read(str(wire.record(state.state, "fedinv.defend", ConfigRecord)["ledger"]))
    assert (event.steps, event.mechanism) == (3, "clip-noise")


def test_noise_for_many_rounds_is_more_than_for_one():
    one, many = (drawn(defend("clip-noise:epsilon=8", seed=1, rounds=n), context(), 4000) for n in (1, 50))
    (event,) = plugins.load("defenses", "clip-noise")(epsilon=8).privacy_events(Participation(rounds=50))
    assert float(many.std()) == pytest.approx(event.noise_multiplier, rel=0.05)
    assert float(many.std()) > 3 * float(one.std())


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"seed": -1}, "seed: must be a whole number from 0"),
        ({"rounds": 0}, "rounds: must be 1 or more"),
        ({"sends": "gradients"}, "sends: must be 'weights' or 'update', not 'gradients'"),
        ({"buffers": "drop"}, "buffers: must be 'keep' or 'reset' or None, not 'drop'"),
    ],
)
def test_wrong_settings_are_refused(wrong, words):
    with pytest.raises(RequestError, match=words):
        defend("top-k", **{"seed": 1, **wrong})
