"""The ClientApp: holds one partition's records, trains on them, and sends what the defenses let out."""

import json
from collections.abc import Callable
from functools import lru_cache

import torch
from flwr.app import ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedinv import wire
from fedinv.data.population import Population, population
from fedinv.defense import Job, LocalTraining, Sending, State
from fedinv.models import load
from fedinv.sampling import local_batches
from fedinv.scenario import Scenario, loads, read
from fedinv.streams import stream

from .training import plain_sgd

app = ClientApp()


def protect(message: Message, context: Context, call_next: Callable[[Message, Context], Message]) -> Message:
    """Flower mod: pass the update through the scenario's defenses, in the order listed, before it is sent."""
    reply = call_next(message, context)
    scenario, client = _scenario(context), _client(context)
    if reply.has_error() or not scenario.defenses:
        return reply
    config = message.content.config_records["config"]
    round_ = int(config["round"])  # type: ignore[arg-type]
    update = wire.unpack(reply.content.array_records["update"])
    for position, defense in enumerate(scenario.defenses):
        sending = Sending(
            client=client,
            round=round_,
            cohort=tuple(config["cohort"]),  # type: ignore[arg-type]
            records=int(reply.content.metric_records["metrics"]["num-examples"]),  # type: ignore[arg-type]
            seed=scenario.seed,
            rng=stream(scenario.seed, "protect", position, client, round_),
        )
        update = defense.protect(update, sending)
    reply.content["update"] = wire.pack(update)
    return reply


@app.train(mods=[protect])
def train(message: Message, context: Context) -> Message:
    """Train locally on the received model and reply with the update, local minus global."""
    scenario, client = _scenario(context), _client(context)
    people = _population(scenario)
    rows = torch.from_numpy(people.shares[client])
    round_ = int(message.content.config_records["config"]["round"])  # type: ignore[arg-type]
    training = scenario.training.settings
    state = _state(context)
    schema = people.table.schema
    weights = wire.unpack(message.content.array_records["arrays"])
    job = Job(
        network=load(scenario.model, schema.shape, schema.outputs, weights),
        inputs=people.inputs[rows],
        labels=people.labels[rows],
        batches=local_batches(training, len(rows), scenario.sampling, scenario.seed, client, round_),
        training=training,
        rng=stream(scenario.seed, "training", client, round_),
        state=state,
    )
    run: LocalTraining = plain_sgd
    for defense in scenario.defenses:
        run = defense.wrap_training(run)
    update = run(job)
    state["rounds"] = str(int(state.get("rounds", "0")) + 1)
    context.state["fedinv"] = ConfigRecord(dict(state))
    examples = len(rows) if training.algorithm == "fedavg" else min(training.batch_size, len(rows))
    content = RecordDict({"update": wire.pack(update), "metrics": MetricRecord({"num-examples": examples})})
    return Message(content, reply_to=message)


@app.query("register")
def register(message: Message, context: Context) -> Message:
    """Tell the server which partition this node holds, and the data dictionary that all clients agreed on."""
    schema = _population(_scenario(context)).table.schema.model_dump_json()
    content = RecordDict({"node": ConfigRecord({"partition-id": _client(context), "schema": schema})})
    return Message(content, reply_to=message)


@app.query("ledger")
def ledger(message: Message, context: Context) -> Message:
    """Tell what privacy was charged to this client so far; it depends on no record."""
    state = _state(context)
    events = [
        vars(event)
        for defense in _scenario(context).defenses
        for event in defense.privacy_events(state, int(state.get("rounds", "0")))
    ]
    return Message(RecordDict({"ledger": ConfigRecord({"events": json.dumps(events)})}), reply_to=message)


@lru_cache(maxsize=8)
def _read(text: str) -> Scenario:
    return loads(text) if "\n" in text else read(text)


def _scenario(context: Context) -> Scenario:
    return _read(str(context.run_config["scenario"]))


def _client(context: Context) -> int:
    return int(context.node_config["partition-id"])


def _population(scenario: Scenario) -> Population:
    return population(scenario.data, scenario.seed, scenario.federation.clients, scenario.training.records_per_client)


def _state(context: Context) -> State:
    record = context.state.config_records.get("fedinv")
    return {} if record is None else {key: str(value) for key, value in record.items()}
