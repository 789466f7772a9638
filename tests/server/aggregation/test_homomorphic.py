import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord, Error, Message

from fedinv.data.population import population
from fedinv.defense_terms import homomorphic
from fedinv.defense_terms.homomorphic import RECORD
from fedinv.engines import inline
from fedinv.errors import RequestError, RunError
from fedinv.federation import ring, wire
from fedinv.scenario.reading import loads
from fedinv.storage import files, observations

CKKS = '[[defenses]]\nkind = "homomorphic"\n'

pytestmark = pytest.mark.skipif(not homomorphic.installed(), reason="TenSEAL is not installed")


@pytest.fixture
def four(tiny):
    """Four clients of unequal weight, one round."""
    text = tiny.replace("records = 200", 'records = 200\npartition = { kind = "quantity" }')
    text = text.replace("records_per_client = 6\n", "records_per_client = 40\n").replace("rounds = 3", "rounds = 1")
    return text.replace("rounds = [1, 2], clients = 2", "rounds = [1], clients = 4")


def model(folder):
    progress = files.read_json(folder / "checkpoint" / "progress.json")
    return files.read_tensors(folder / "checkpoint" / f"model-{progress['round']:04}.safetensors")[0], progress


def singles(folder):
    return {o.clients[0]: o.last for o in observations.read(folder / "observations") if len(o.clients) == 1}


def distance(one, other):
    assert list(one) == list(other)
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def mean_of(plain, clients):
    chosen = [plain[c] for c in clients]
    mean = wire.weighted_mean([e.received for e in chosen], [float(e.records) for e in chosen])
    return {name: tensor + mean[name] for name, tensor in chosen[0].sent.items()}


def intercept(monkeypatch, change):
    """Let `change` replace a client's reply; it is given the stage, the client and the honest reply."""
    execute = inline.InlineGrid._execute

    def changed(self, message):
        reply = execute(self, message)
        record = message.content.config_records.get(RECORD, {})
        return change(record.get("stage"), message.metadata.dst_node_id - 1000, reply, message) or reply

    monkeypatch.setattr(inline.InlineGrid, "_execute", changed)


def dead(message):
    return Message(Error(3, "the line is dead"), reply_to=message)


def test_the_sum_is_the_plain_weighted_mean_and_no_update_is_seen(four, tmp_path):
    inline.train(loads(four), tmp_path / "plain")
    inline.train(loads(four + CKKS), tmp_path / "ckks")
    plain, seen = singles(tmp_path / "plain"), singles(tmp_path / "ckks")
    assert len({e.records for e in plain.values()}) > 1
    assert distance(model(tmp_path / "plain")[0], model(tmp_path / "ckks")[0]) < 2e-6
    assert distance(plain[0].sent, model(tmp_path / "ckks")[0]) > 1e-3
    (total,) = (o.last for o in observations.read(tmp_path / "ckks" / "observations") if len(o.clients) > 1)
    assert distance(total.received, {n: model(tmp_path / "plain")[0][n] - plain[0].sent[n] for n in total.sent}) < 2e-6
    for client, exchange in seen.items():
        stored, _ = files.read_tensors(tmp_path / f"ckks/observations/round-001-client-{client:04}.safetensors")
        assert ring.is_ring(stored)
        both = [torch.cat([t.flatten() for t in u.values()]) for u in (exchange.received, plain[client].received)]
        assert abs(float(torch.corrcoef(torch.stack(both))[0, 1])) < 0.1


def test_all_bytes_are_counted(four, tmp_path):
    inline.train(loads(four), tmp_path / "plain")
    inline.train(loads(four + CKKS), tmp_path / "ckks")
    parameters = sum(t.numel() for t in model(tmp_path / "plain")[0].values())
    up = model(tmp_path / "ckks")[1]["bytes_up"]
    least = 4 * 30 * parameters + 8 * parameters + 100_000  # ciphertexts, the opened sum, the public key
    assert least < up < 2 * least


def test_the_secret_key_never_leaves_its_holder_and_opens_once(four, tmp_path, monkeypatch):
    kept, sent, states = [], [], []

    def watch(stage, client, reply, message):
        sent.append((stage, client, message, reply))

    intercept(monkeypatch, watch)
    keys = homomorphic.keys
    monkeypatch.setattr(homomorphic, "keys", lambda bits: kept.append(keys(bits)) or kept[-1])
    write = inline.NodeStates.write
    monkeypatch.setattr(
        inline.NodeStates,
        "write",
        lambda s, r: states.append([n for n in range(1000, 1004) if RECORD in s.read(n)]) or write(s, r),
    )
    inline.train(loads(four + CKKS), tmp_path)
    ((secret, public),) = kept
    assert [(stage, client) for stage, client, _, _ in sent if stage != "encrypt" and stage] == [
        ("keys", 0),
        ("open", 0),
    ]
    assert states[0] == [1000]
    assert states[-1] == []
    blobs = [
        value
        for _, _, *both in sent
        for message in both
        for record in message.content.config_records.values()
        for one in record.values()
        for value in (one if isinstance(one, list) else [one])
        if isinstance(value, bytes)
    ]
    assert public in blobs
    assert secret not in blobs
    ciphertexts = next(m.content[RECORD]["ciphertexts"] for stage, _, m, _ in sent if stage == "open")
    with pytest.raises(Exception, match="secret_key"):
        homomorphic.decrypt(public, ciphertexts)
    assert np.isfinite(homomorphic.decrypt(secret, ciphertexts)).all()


@pytest.mark.parametrize("how", ["error", "garbage", "short", "metrics"])
def test_any_client_but_the_holder_of_the_key_may_drop_out(four, tmp_path, monkeypatch, how):
    inline.train(loads(four), tmp_path / "plain")

    def spoil(stage, client, reply, message):
        if stage != "encrypt" or client != 2:
            return None
        if how == "error":
            return dead(message)
        if how == "metrics":
            del reply.content["metrics"]
        else:
            whole = reply.content[RECORD]["ciphertexts"]
            reply.content[RECORD] = ConfigRecord({"ciphertexts": [b"nothing"] if how == "garbage" else whole[:-1]})
        return None

    intercept(monkeypatch, spoil)
    inline.train(loads(four + CKKS), tmp_path / "ckks")
    trained, progress = model(tmp_path / "ckks")
    assert distance(trained, mean_of(singles(tmp_path / "plain"), [0, 1, 3])) < 2e-6
    assert [one["client"] for one in progress["left_out"]] == [2]


def test_the_next_client_makes_the_keys_where_the_first_does_not_answer(four, tmp_path, monkeypatch):
    inline.train(loads(four), tmp_path / "plain")
    intercept(monkeypatch, lambda stage, client, reply, message: dead(message) if client == 0 and stage else None)
    inline.train(loads(four + CKKS), tmp_path / "ckks")
    assert distance(model(tmp_path / "ckks")[0], mean_of(singles(tmp_path / "plain"), [1, 2, 3])) < 2e-6


def test_without_the_holder_of_the_key_a_round_changes_nothing_and_says_so(four, tmp_path, monkeypatch):
    two = four.replace("rounds = 1\n", "rounds = 2\n")
    inline.train(loads(four + CKKS), tmp_path / "one")

    def lose(stage, client, reply, message):
        return dead(message) if stage == "open" and message.metadata.group_id == "2" else None

    intercept(monkeypatch, lose)
    inline.train(loads(two + CKKS), tmp_path / "two")
    trained, progress = model(tmp_path / "two")
    assert distance(trained, model(tmp_path / "one")[0]) < 2e-6
    assert [(one["round"], one["client"]) for one in progress["left_out"]] == [(2, c) for c in range(4)]
    assert all("did not open it (the line is dead)" in one["reason"] for one in progress["left_out"])


def test_an_update_beyond_what_can_be_opened_is_refused(four, tmp_path):
    large = four.replace('"fedavg"\nepochs = 2', '"fedsgd"').replace("lr = 0.05", "lr = 1e5")
    with pytest.raises(RunError, match="reaches .* beyond the 32 of which"):
        inline.train(loads(large + CKKS + "scale_bits = 46\n"), tmp_path)


def test_a_server_that_asks_for_the_bare_update_gets_none(four, tmp_path, monkeypatch):
    from fedinv import roles

    package = roles.load("server", "aggregation.homomorphic")

    def plainly(grid, messages, timeout, agreement):
        return package.Gathered(list(grid.send_and_receive(messages, timeout=timeout)))

    monkeypatch.setattr(package, "gather", plainly)
    with pytest.raises(RunError, match="asks for an update that is not encrypted"):
        inline.train(loads(four + CKKS), tmp_path)


def test_without_tenseal_the_scenario_says_what_to_install(tiny, monkeypatch):
    monkeypatch.setattr(homomorphic, "installed", lambda: False)
    with pytest.raises(RequestError, match=r"pip install 'fedinv\[homomorphic\]'") as caught:
        loads(tiny + CKKS + "rounding_bits = 21\n")
    assert "\n" not in str(caught.value)


def test_encrypted_vectors_add_up():
    secret, public = homomorphic.keys(40)
    vectors = [np.random.default_rng(i).normal(0, 3, 5000) for i in range(3)]
    total = homomorphic.Sum(public, 5000)
    for vector in vectors:
        total.add(homomorphic.encrypt(public, vector))
    assert np.abs(homomorphic.decrypt(secret, total.ciphertexts()) - sum(vectors)).max() < 1e-7
    for bad in (
        [b"nothing"],
        homomorphic.encrypt(public, vectors[0])[:-1],
        homomorphic.encrypt(public, vectors[0][:4999]),
    ):
        with pytest.raises(ValueError, match="ciphertexts"):
            total.add(bad)
    assert np.abs(homomorphic.decrypt(secret, total.ciphertexts()) - sum(vectors)).max() < 1e-7
    most = homomorphic.largest(40, 3)
    edge = homomorphic.Sum(public, 2048)
    for _ in range(3):
        edge.add(homomorphic.encrypt(public, np.full(2048, most)))
    assert np.abs(homomorphic.decrypt(secret, edge.ciphertexts()) - 3 * most).max() < 1e-6


def test_the_attacker_knows_the_size_of_the_rounding(four, tmp_path):
    from fedinv import roles

    answer = roles.load("server", "countermeasures.aggregation.homomorphic")
    scenario = loads(four + CKKS + "rounding_bits = 10\n")
    inline.train(loads(four), tmp_path / "plain")
    inline.train(scenario, tmp_path / "ckks")
    schema = population(scenario.data, scenario.seed, 4, 40).table.schema
    (told,) = scenario.knowledge(schema, adaptive=True, records=6).defenses
    (total,) = (o.last for o in observations.read(tmp_path / "ckks" / "observations") if len(o.clients) > 1)
    exact = mean_of(singles(tmp_path / "plain"), range(4))
    off = torch.cat([(total.received[n] + total.sent[n] - exact[n]).flatten() for n in exact])
    assert answer.rounding(total, told, None) == pytest.approx(float(off.std()), rel=0.15)
