import re

import pytest
import torch
from flwr.app import Error, Message
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, RECORD_KEY_STATE, Key

from fedinv.attack import Knowledge
from fedinv.data.population import population
from fedinv.engines import inline
from fedinv.errors import RequestError, RunError
from fedinv.federation import ring, wire
from fedinv.scenario.reading import loads
from fedinv.storage import files, observations

SECAGG = '[[defenses]]\nkind = "secagg-plus"\n'
MASKING = '[[defenses]]\nkind = "masking"\n'
OPENING = '[server]\nkind = "malicious"\nunmask = true\n'
OPENING_TABLE = '[server]\nkind = "malicious"\n[[server.deviations]]\nkind = "unmask"\n'


@pytest.fixture
def six(tiny):
    """Six clients, one round."""
    text = tiny.replace("clients = 4", "clients = 6").replace("rounds = 3", "rounds = 1")
    return text.replace("rounds = [1, 2], clients = 2", "rounds = [1], clients = 6")


def model(folder):
    progress = files.read_json(folder / "checkpoint" / "progress.json")
    return files.read_tensors(folder / "checkpoint" / f"model-{progress['round']:04}.safetensors")[0], progress


def singles(folder):
    return {o.clients[0]: o.last for o in observations.read(folder / "observations") if len(o.clients) == 1}


def distance(one, other):
    assert list(one) == list(other)
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def mean_of(plain, clients):
    """The model after a round with these clients only, from the updates that an undefended run shows."""
    chosen = [plain[c] for c in clients]
    mean = wire.weighted_mean([e.received for e in chosen], [float(e.records) for e in chosen])
    return {name: tensor + mean[name] for name, tensor in chosen[0].sent.items()}


def drop(monkeypatch, stage, nodes, silent=False, round_="1"):
    """Let these clients fail in a stage of the protocol, or not answer at all."""
    execute, pull, lost = inline.InlineGrid._execute, inline.InlineGrid.pull_messages, set()

    def hit(message):
        configs = message.content.config_records.get(RECORD_KEY_CONFIGS, {})
        dropped = message.metadata.group_id == round_ and message.metadata.dst_node_id - 1000 in nodes
        return dropped and configs.get(Key.STAGE) == stage

    def failing(self, message):
        if not hit(message):
            return execute(self, message)
        lost.add(message.metadata.message_id)
        return Message(Error(3, "the line is dead"), reply_to=message)

    def silenced(self, ids):
        return [r for r in pull(self, ids) if not silent or r.metadata.reply_to_message_id not in lost]

    monkeypatch.setattr(inline.InlineGrid, "_execute", failing)
    monkeypatch.setattr(inline.InlineGrid, "pull_messages", silenced)


def test_the_sum_is_that_of_masking_up_to_quantization_and_no_update_is_seen(tiny, tmp_path):
    unequal = tiny.replace("records = 200", 'records = 200\npartition = { kind = "quantity" }')
    unequal = unequal.replace("records_per_client = 6\n", "records_per_client = 40\n")
    for name, defense in (("plain", ""), ("masking", MASKING), ("secagg", SECAGG)):
        inline.train(loads(unequal + defense), tmp_path / name)
    records = {c: e.records for c, e in singles(tmp_path / "plain").items()}
    assert records[0] != records[1]
    masking, secagg = model(tmp_path / "masking")[0], model(tmp_path / "secagg")[0]
    parameters = sum(t.numel() for t in secagg.values())
    up = model(tmp_path / "secagg")[1]["bytes_up"]
    assert 3 * 4 * 8 * parameters + 3 * 4 * 4 * 100 < up < 1.2 * 3 * 4 * 8 * parameters  # vectors, keys and shares
    moved = distance(singles(tmp_path / "plain")[0].sent, model(tmp_path / "plain")[0])
    assert 0 < distance(masking, secagg) < 5e-5 < moved
    ours, theirs = (observations.read(tmp_path / d / "observations") for d in ("secagg", "masking"))
    assert [(o.clients, o.last.round) for o in ours] == [(o.clients, o.last.round) for o in theirs]
    assert distance(ours[2].last.received, theirs[2].last.received) < 5e-5
    stored, _ = files.read_tensors(tmp_path / "secagg" / "observations" / "round-001-client-0000.safetensors")
    vector, true = (
        torch.cat([t.flatten().double() for t in u.values()]) for u in (stored, singles(tmp_path / "plain")[0].received)
    )
    assert ring.is_ring(stored)
    assert abs(float(torch.corrcoef(torch.stack([vector, true]))[0, 1])) < 0.1
    assert float((vector / 2**32).mean()) == pytest.approx(0.5, abs=0.03)
    assert float((vector / 2**32).std()) == pytest.approx(12**-0.5, rel=0.05)


def test_the_same_run_twice_is_the_same_model(six, tmp_path):
    for name in "ab":
        inline.train(loads(six + SECAGG), tmp_path / name)
    assert distance(model(tmp_path / "a")[0], model(tmp_path / "b")[0]) == 0
    hidden = [singles(tmp_path / name)[0].received for name in "ab"]
    assert distance(*hidden) > 0  # fresh keys


@pytest.mark.parametrize("stage", ["setup", "share_keys", "collect_masked_vectors"])
@pytest.mark.parametrize(("shares", "silent"), [(5, False), (9, True)])
def test_who_drops_out_before_it_sent_its_vector_is_not_in_the_sum(six, tmp_path, monkeypatch, stage, shares, silent):
    inline.train(loads(six), tmp_path / "plain")
    drop(monkeypatch, stage, {2}, silent)
    text = six.replace("rounds = 1\n", "rounds = 1\nround_seconds = 0.1\n") if silent else six
    inline.train(loads(text + SECAGG + f"shares = {shares}\n"), tmp_path / "secagg")
    trained, progress = model(tmp_path / "secagg")
    others = [0, 1, 3, 4, 5]
    assert distance(trained, mean_of(singles(tmp_path / "plain"), others)) < 2e-5
    assert distance(trained, mean_of(singles(tmp_path / "plain"), range(6))) > 1e-3
    (one,) = progress["left_out"]
    assert one["client"] == 2
    assert ("did not reply in time" if silent else "the line is dead") in one["reason"]
    assert [o.clients for o in observations.read(tmp_path / "secagg" / "observations")][-1] == tuple(others)


def test_who_drops_out_after_it_sent_its_vector_is_in_the_sum(six, tmp_path, monkeypatch):
    inline.train(loads(six), tmp_path / "plain")
    drop(monkeypatch, "unmask", {0, 4})
    inline.train(loads(six + SECAGG), tmp_path / "secagg")
    trained, progress = model(tmp_path / "secagg")
    assert distance(trained, mean_of(singles(tmp_path / "plain"), range(6))) < 2e-5
    assert progress["left_out"] == []


@pytest.mark.parametrize("stage", ["setup", "share_keys", "collect_masked_vectors", "unmask"])
def test_when_too_many_drop_out_the_round_changes_nothing_and_says_so(six, tmp_path, monkeypatch, stage, caplog):
    inline.train(loads(six + SECAGG), tmp_path / "one")
    drop(monkeypatch, stage, {0, 1, 2}, round_="2")
    inline.train(loads(six.replace("rounds = 1\n", "rounds = 2\n") + SECAGG), tmp_path / "two")
    trained, progress = model(tmp_path / "two")
    assert distance(trained, model(tmp_path / "one")[0]) == 0
    assert [(one["round"], one["client"]) for one in progress["left_out"]] == [(2, c) for c in range(6)]
    assert not caplog.records  # Flower's own lines, in red: the reasons say it
    reasons = [one["reason"] for one in progress["left_out"]]
    assert all("came to no sum, 3 of 6 clients answered" in reason for reason in reasons[3:])
    assert all("line is dead" in reason or stage == "unmask" for reason in reasons[:3])


def test_an_update_beyond_the_clipping_range_is_refused_and_not_cut(six, tmp_path):
    with pytest.raises(RunError, match=r"reaches 0\.\d+, beyond clipping_range 0\.001"):
        inline.train(loads(six + SECAGG + "clipping_range = 0.001\n"), tmp_path)


def test_a_weight_above_the_largest_is_refused(six, tmp_path):
    with pytest.raises(RunError, match="weight 6 is above max_weight 5"):
        inline.train(loads(six + SECAGG + "max_weight = 5.0\n"), tmp_path)


def test_a_cohort_whose_sum_wraps_around_is_refused(tiny):
    text = tiny.replace("records = 200", "records = 6000").replace("clients = 4", "clients = 1024")
    with pytest.raises(RequestError, match="more than 1023 wraps around") as caught:
        loads(text + SECAGG)
    assert "\n" not in str(caught.value)
    assert loads(text + SECAGG + "quantization_bits = 21\n")
    assert loads(text.replace("1024", "1023") + SECAGG)


def test_a_client_insists_on_the_terms_of_the_scenario(six, tmp_path, monkeypatch):
    from fedinv import roles

    protocol = roles.load("server", "aggregation.secagg_plus")
    honest = protocol._arguments
    monkeypatch.setattr(protocol, "_arguments", lambda *a: {**honest(*a), "reconstruction_threshold": 2})
    with pytest.raises(RunError, match="threshold = 2 and not 4 as agreed"):
        inline.train(loads(six + SECAGG), tmp_path)


def test_no_secret_of_a_round_stays_with_a_client(six, tmp_path, monkeypatch):
    states = []
    monkeypatch.setattr(
        inline.NodeStates,
        "write",
        lambda self, r: states.append({n: list(self.read(n)) for n in range(1000, 1006)}),
    )
    inline.train(loads(six + SECAGG), tmp_path)
    assert all(RECORD_KEY_STATE in kept for kept in states[0].values())
    assert not any(RECORD_KEY_STATE in kept for kept in states[-1].values())


@pytest.mark.parametrize("opening", [OPENING, OPENING_TABLE])
def test_a_server_that_lists_everybody_twice_opens_every_update(six, tmp_path, opening):
    inline.train(loads(six), tmp_path / "plain")
    inline.train(loads(six + opening + SECAGG), tmp_path / "opened")
    plain, opened = singles(tmp_path / "plain"), singles(tmp_path / "opened")
    assert sorted(opened) == list(range(6))
    assert all(distance(plain[c].received, opened[c].received) < 2e-5 for c in plain)
    assert distance(model(tmp_path / "plain")[0], model(tmp_path / "opened")[0]) < 2e-5


def test_clients_that_look_at_the_lists_refuse_to_open(six, tmp_path):
    inline.train(loads(six + SECAGG + "check_lists = true\n"), tmp_path / "honest")
    assert model(tmp_path / "honest")[1]["used"] == 6
    with pytest.raises(RunError, match="both as present and as dropped out"):
        inline.train(loads(six + OPENING + SECAGG + "check_lists = true\n"), tmp_path / "opened")
    assert all(ring.is_ring(files.read_tensors(p)[0]) for p in (tmp_path / "opened").rglob("round-001-client-*"))


def test_only_a_malicious_server_opens(tiny):
    with pytest.raises(RequestError, match="unmask.*malicious"):
        loads(tiny + "[server]\nunmask = true\n" + SECAGG)
    for key, opening in (("unmask", OPENING), ("deviations: 'unmask'", OPENING_TABLE)):
        with pytest.raises(RequestError, match=f"server.{key}: .*nothing to unmask.*: secagg-plus$"):
            loads(tiny + opening)
    assert not loads(tiny + OPENING + SECAGG).undefended().server.unmask
    assert not loads(tiny + OPENING_TABLE + SECAGG).undefended().server.deviations


def test_updates_are_opened_in_the_rounds_that_are_named_alone(six, tmp_path):
    text = six.replace("rounds = 1\n", "rounds = 2\n").replace(
        "rounds = [1], clients = 6", "rounds = [1, 2], clients = 6"
    )
    inline.train(loads(text + OPENING_TABLE + "rounds = [2]\n" + SECAGG), tmp_path)
    seen = [one.last for one in observations.read(tmp_path / "observations") if len(one.clients) == 1]
    masked = [(one.round, float(one.received["0.weight"].abs().max()) > 100) for one in seen]
    assert sorted(masked) == [(1, True)] * 6 + [(2, False)] * 6
    assert distance(seen[0].sent, seen[-1].sent) > 0  # training goes on


@pytest.mark.parametrize("spoil", ["shape", "range", "none"])
def test_a_vector_that_cannot_be_added_drops_its_client_out(six, tmp_path, monkeypatch, spoil):
    inline.train(loads(six), tmp_path / "plain")
    execute = inline.InlineGrid._execute

    def spoiled(self, message):
        reply = execute(self, message)
        if reply.has_content() and message.metadata.dst_node_id == 1003:
            configs = reply.content.config_records.get(RECORD_KEY_CONFIGS, {})
            if Key.MASKED_PARAMETERS in configs:
                vector = list(configs[Key.MASKED_PARAMETERS])
                if spoil == "shape":
                    configs[Key.MASKED_PARAMETERS] = vector[:-1]
                elif spoil == "range":
                    configs[Key.MASKED_PARAMETERS] = [vector[0], vector[1][:-1] + b"\x7f", *vector[2:]]
                else:
                    del configs[Key.MASKED_PARAMETERS]
        return reply

    monkeypatch.setattr(inline.InlineGrid, "_execute", spoiled)
    inline.train(loads(six + SECAGG), tmp_path / "secagg")
    trained, progress = model(tmp_path / "secagg")
    assert [one["client"] for one in progress["left_out"]] == [3]
    assert re.search("masked vector|cannot read", progress["left_out"][0]["reason"])
    assert distance(trained, mean_of(singles(tmp_path / "plain"), [0, 1, 2, 4, 5])) < 2e-5


@pytest.mark.parametrize("stop_after", [1, 5, 7])
def test_a_run_that_was_stopped_ends_as_an_unbroken_one(tiny, tmp_path, stop_after):
    scenario, left = loads(tiny + SECAGG), stop_after
    inline.train(scenario, tmp_path / "whole")

    def stop(_):
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        inline.train(scenario, tmp_path / "broken", stop)
    inline.train(scenario, tmp_path / "broken")
    assert distance(model(tmp_path / "whole")[0], model(tmp_path / "broken")[0]) == 0
    assert (tmp_path / "whole/ledger.json").read_text() == (tmp_path / "broken/ledger.json").read_text()


def test_progress_counts_a_client_once_a_round(six, tmp_path):
    calls = []
    inline.train(loads(six + SECAGG), tmp_path, calls.append)
    assert calls == [1] * 6


def test_a_client_whose_budget_is_spent_declines_behind_it_too(six, tmp_path):
    noise = '[[defenses]]\nkind = "clip-noise"\nnoise_multiplier = 1.8\nepsilon = 7.0\n'
    inline.train(loads(six.replace("rounds = 1\n", "rounds = 2\n") + noise + SECAGG), tmp_path)
    progress = model(tmp_path)[1]
    assert [one["round"] for one in progress["left_out"]] == [2] * 6
    assert all(one["reason"].startswith("declined: clip-noise") for one in progress["left_out"])
    ledger = files.read_json(tmp_path / "ledger.json")["clients"]
    assert all(sum(event["steps"] for event in events) == 1 for events in ledger.values())


def test_the_attacker_knows_the_size_of_the_rounding(six, tmp_path):
    from fedinv import roles

    answer = roles.load("server", "countermeasures.aggregation.secagg_plus")
    scenario = loads(six + SECAGG)
    for name, text in (("plain", six), ("secagg", six + SECAGG)):
        inline.train(loads(text), tmp_path / name)
    schema = population(scenario.data, scenario.seed, 6, 6).table.schema
    (told,) = scenario.knowledge(schema, adaptive=True, records=6).defenses
    (total,) = (o.last for o in observations.read(tmp_path / "secagg" / "observations") if len(o.clients) > 1)
    exact = mean_of(singles(tmp_path / "plain"), range(6))
    off = torch.cat([(total.received[n] + total.sent[n] - exact[n]).flatten() for n in exact])
    updates = [torch.cat([t.flatten() for t in e.received.values()]) for e in singles(tmp_path / "plain").values()]
    off = off[torch.stack(updates).abs().amin(0) > 1e-5]  # zero is a level, and is not rounded
    assert len(off) > 100
    assert answer.rounding(total, told, Knowledge()) == pytest.approx(float(off.std()), rel=0.15)
    measured = answer.rounding(total, told, Knowledge(schema=schema))
    assert 0.5 * float(off.std()) < measured < 1.1 * float(off.std())
    assert float(off.mean().abs()) < 3 * float(off.std()) / len(off) ** 0.5  # as often up as down
