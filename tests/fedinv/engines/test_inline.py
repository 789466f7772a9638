import json
from pathlib import Path

import pytest
import torch
from flwr.app import Message
from torch.nn.functional import cross_entropy

from fedinv.data.batches import local_batches
from fedinv.data.population import population
from fedinv.defense import Defense
from fedinv.engines import inline
from fedinv.errors import RunError
from fedinv.federation import ring
from fedinv.judge.truth import population_of
from fedinv.scenario.reading import loads
from fedinv.storage import files, observations
from fedinv.task.models import build

FEEDBACK = '[[defenses]]\nkind = "top-k"\n[[defenses]]\nkind = "sign"\n'
DP = '[[defenses]]\nkind = "dp-sgd"\nnoise_multiplier = 1.0\nclip = 1.0\n'
SERVER_STEP = 'rounds = 3\nstrategy = "fedadam"'
MASKING = '[[defenses]]\nkind = "masking"\n'


def final(folder: Path) -> dict[str, torch.Tensor]:
    last = files.read_json(folder / "checkpoint" / "progress.json")["round"]
    return files.read_tensors(folder / "checkpoint" / f"model-{last:04}.safetensors")[0]


def same(a, b, tolerance=0.0):
    assert list(a) == list(b)
    assert all(float((a[k] - b[k]).abs().max()) <= tolerance for k in a)


OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "rmsprop": torch.optim.RMSprop}


def by_hand(scenario, rounds):
    """FedAvg by torch.optim and nothing of ours but the batches: the reference."""
    people = population(scenario.data, scenario.seed, scenario.federation.clients, 6)
    schema, training = people.table.schema, scenario.training
    network = build(scenario.model, schema.shape, schema.outputs, scenario.seed)
    for round_ in range(1, rounds + 1):
        start = {k: v.clone() for k, v in network.state_dict().items()}
        total = {k: torch.zeros_like(v, dtype=torch.float64) for k, v in start.items()}
        for client, share in enumerate(people.shares):
            network.load_state_dict(start)
            lr, decay = training.lr, training.weight_decay
            if training.schedule.kind == "step":
                lr *= 0.5 ** (round_ - 1)
            if training.optimizer.kind == "sgd":
                sgd = torch.optim.SGD(network.parameters(), lr, momentum=training.momentum, weight_decay=decay)
            else:
                sgd = OPTIMIZERS[training.optimizer.kind](network.parameters(), lr, weight_decay=decay, eps=1e-5)
            inputs, labels = people.inputs[share], people.labels[share]
            for batch in local_batches(training.settings, len(share), "shuffle", scenario.seed, client, round_):
                sgd.zero_grad()
                cross_entropy(network(inputs[batch]), labels[batch]).backward()
                sgd.step()
            for k, v in network.state_dict().items():
                total[k] += (v - start[k]) / len(people.shares)
        network.load_state_dict({k: start[k] + total[k] for k in start})
    return network.state_dict()


@pytest.mark.parametrize(
    "extra",
    [
        "",
        "momentum = 0.9\n",
        "weight_decay = 0.1\n",
        'optimizer = { kind = "adam", eps = 1e-5 }\nschedule = { kind = "step", every = 1, by = 0.5 }\n',
        'optimizer = { kind = "adamw", eps = 1e-5 }\n',
        'optimizer = { kind = "rmsprop", eps = 1e-5 }\n',
    ],
)
@pytest.mark.parametrize("algorithm", ["fedavg", "fedsgd"])
def test_training_is_fedavg_as_written_by_hand(tiny, tmp_path, extra, algorithm):
    lr = 0.002 if "optimizer" in extra else 0.05
    text = tiny.replace("lr = 0.05\n", f"lr = {lr}\n{extra}").replace('"fedavg"', f'"{algorithm}"')
    inline.train(loads(text), tmp_path)
    same(final(tmp_path), by_hand(loads(text), 3), 1e-6)


def test_observations_are_what_was_sent_in_the_watched_rounds(tiny, tmp_path):
    inline.train(loads(tiny), tmp_path)
    seen = observations.read(tmp_path / "observations")
    assert [(o.last.round, o.clients) for o in seen] == [(1, (0,)), (1, (1,)), (2, (0,)), (2, (1,))]
    assert len(seen[2].exchanges) == 2
    assert all(o.last.records == 6 for o in seen)
    people = population(loads(tiny).data, 3, 4, 6)
    initial = build(loads(tiny).model, people.table.schema.shape, 2, 3).state_dict()
    same(seen[0].last.sent, dict(initial))


def test_masking_hides_each_update_and_changes_nothing_in_the_sum(tiny, tmp_path):
    inline.train(loads(tiny), tmp_path / "plain")
    inline.train(loads(tiny + MASKING), tmp_path / "masked")
    same(final(tmp_path / "plain"), final(tmp_path / "masked"), 1e-6)
    plain = observations.read(tmp_path / "plain" / "observations")
    masked = observations.read(tmp_path / "masked" / "observations")
    single = [o for o in masked if len(o.clients) == 1]
    total = [o for o in masked if len(o.clients) > 1]
    assert [o.clients for o in total] == [(0, 1, 2, 3)] * 2
    assert total[0].last.records == 24
    first, hidden = (torch.cat([t.flatten() for t in o.last.received.values()]) for o in (plain[0], single[0]))
    assert abs(float(torch.corrcoef(torch.stack([first, hidden]))[0, 1])) < 0.1
    stored, _ = files.read_tensors(tmp_path / "masked" / "observations" / "round-001-client-0000.safetensors")
    assert ring.is_ring(stored)


def test_the_ledger_holds_every_round_of_every_client(tiny, tmp_path):
    inline.train(loads(tiny + DP), tmp_path)
    ledger = files.read_json(tmp_path / "ledger.json")["clients"]
    assert sorted(ledger) == ["0", "1", "2", "3"]
    (event,) = ledger["0"]
    assert (event["steps"], event["sampling_rate"]) == (3 * 2 * 2, 4 / 6)


@pytest.mark.parametrize("extra", ["", DP, MASKING, FEEDBACK, SERVER_STEP])
@pytest.mark.parametrize("stop_after", [1, 5, 7])
def test_a_run_that_was_stopped_ends_as_an_unbroken_one(tiny, tmp_path, extra, stop_after):
    scenario = loads(tiny.replace("rounds = 3", extra) if extra == SERVER_STEP else tiny + extra)
    inline.train(scenario, tmp_path / "whole")
    left = stop_after

    def stop(_):
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        inline.train(scenario, tmp_path / "broken", stop)
    inline.train(scenario, tmp_path / "broken")
    same(final(tmp_path / "whole"), final(tmp_path / "broken"))
    assert (tmp_path / "whole/ledger.json").read_text() == (tmp_path / "broken/ledger.json").read_text()
    seen = [sorted(p.name for p in (tmp_path / d / "observations").iterdir()) for d in ("whole", "broken")]
    assert seen[0] == seen[1]


class Misbehaving(Defense):
    """Client 2 does what it is told in round 2."""

    kind: str = "misbehaving"
    how: str
    always: bool = False

    def protect(self, update, sending):
        if sending.client != 2 or (sending.round != 2 and not self.always):
            return update
        if self.how == "raise":
            raise RuntimeError("the cat ate my records\nand more")
        name = next(iter(update))
        if self.how == "nan":
            return {**update, name: update[name] * float("nan")}
        if self.how == "shape":
            return {**update, name: update[name][:1]}
        return {k: v for k, v in update.items() if k != name}


def misbehave(monkeypatch, scenario, how, **kwargs):
    """Let the client app read a scenario whose defense is not among the plugins."""
    from fedinv import roles

    app = roles.load("clients", "app")
    bad = scenario.model_copy(update={"defenses": (*(Misbehaving(how=how, **kwargs),), *scenario.defenses)})
    monkeypatch.setattr(app, "_setting", lambda context: (bad, population_of(bad)))
    return scenario


@pytest.mark.parametrize(
    ("how", "words"),
    [("raise", "the cat ate"), ("nan", "non-finite"), ("shape", "shape"), ("name", "'0.weight' is missing")],
)
def test_a_client_that_fails_is_left_out_and_the_run_goes_on(tiny, tmp_path, monkeypatch, how, words):
    inline.train(misbehave(monkeypatch, loads(tiny), how), tmp_path)
    (one,) = files.read_json(tmp_path / "checkpoint" / "progress.json")["left_out"]
    assert (one["round"], one["client"]) == (2, 2)
    assert words in one["reason"]
    assert "\n" not in one["reason"]
    assert all(bool(torch.isfinite(t).all()) for t in final(tmp_path).values())


def test_a_masked_round_without_one_client_changes_nothing(tiny, tmp_path, monkeypatch):
    inline.train(misbehave(monkeypatch, loads(tiny + MASKING), "nan"), tmp_path)
    left_out = files.read_json(tmp_path / "checkpoint" / "progress.json")["left_out"]
    assert {one["client"] for one in left_out if one["round"] == 2} == {0, 1, 2, 3}
    assert all(float(t.abs().max()) < 10 for t in final(tmp_path).values())


def test_when_nobody_can_be_used_the_run_fails_in_one_line(tiny, tmp_path, monkeypatch):
    scenario = loads(tiny.replace("clients = 4", "clients = 3"))
    misbehave(monkeypatch, scenario, "raise", always=True)
    monkeypatch.setattr(Misbehaving, "protect", lambda self, update, sending: 1 / 0)
    with pytest.raises(RunError, match="no client's update could be used.*ZeroDivisionError"):
        inline.train(scenario, tmp_path)


def test_clients_are_drawn_by_partition_and_not_by_node(tiny, tmp_path):
    scenario = loads(tiny.replace("rounds = 3", "rounds = 3\nclients_per_round = 2"))
    calls = []
    inline.train(scenario, tmp_path, calls.append)
    assert calls == [1, 1, 2, 2, 3, 3]


def test_no_message_holds_a_label_or_a_record(tiny, tmp_path, monkeypatch):
    replies: list[Message] = []
    execute = inline.InlineGrid._execute
    monkeypatch.setattr(inline.InlineGrid, "_execute", lambda s, m: replies.append(execute(s, m)) or replies[-1])
    inline.train(loads(tiny), tmp_path)
    sent = [r for r in replies if r.metadata.message_type == "train"]
    assert len(sent) == 12
    for reply in sent:
        assert {k: list(v) for k, v in reply.content.items()} == {
            "update": ["0.weight", "0.bias", "2.weight", "2.bias", "4.weight", "4.bias"],
            "metrics": ["num-examples", "weight"],
        }
    schema = json.loads((tmp_path / "schema.json").read_text())
    assert set(schema) == {"columns", "label", "classes", "target"}


def test_what_all_clients_take_to_zero_is_zero_in_the_model(tiny, tmp_path):
    inline.train(loads(tiny + '[[defenses]]\nkind = "small-model"\nkeep = 0.25\n'), tmp_path)
    shares = [float((t != 0).double().mean()) for t in final(tmp_path).values() if t.ndim == 2]
    assert all(share == pytest.approx(0.25, abs=0.01) for share in shares)


@pytest.mark.parametrize("defenses", ["", DP])
def test_memory_is_flat_and_nothing_is_kept_of_who_is_not_watched(tiny, tmp_path, defenses):
    many = tiny.replace("records = 200", 'records = 200\npartition = { kind = "drawn", each = 6 }')
    many = many.replace("clients = 4\nrounds = 3", "clients = 400\nclients_per_round = 5\nrounds = 3")
    inline.train(loads(many + defenses), tmp_path)
    watched = {path.name for path in (tmp_path / "observations").iterdir()}
    assert len(watched) == 2 * (1 + 2)
    assert sorted(path.name for path in (tmp_path / "checkpoint").iterdir()) == sorted(
        ["model-0003.safetensors", "progress.json", *(["nodes.sqlite"] if defenses else [])]
    )
    assert len(files.read_json(tmp_path / "ledger.json")["clients"]) <= 15  # those that took part, of 400
