"""The ClientApp: holds one partition's records, trains on them, and sends what the defenses let out."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch import nn

from fedinv import wire
from fedinv.canaries import plant, planted_update
from fedinv.data.population import Population, population
from fedinv.defense import Augment, Batch, CallNext, Carrying, Defense, Job, LocalTraining, Sending
from fedinv.federation import DECLINED
from fedinv.models import load
from fedinv.sampling import local_batches
from fedinv.scenario import Scenario, loads, read
from fedinv.streams import stream

from . import ledger as ledgers
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
    metrics = reply.content.metric_records["metrics"]
    for position, defense in enumerate(scenario.defenses):
        kept = f"memory-{position}"
        memory = wire.unpack(context.state.array_records.get(kept, ArrayRecord()))
        sending = Sending(
            client=client,
            round=round_,
            cohort=tuple(config["cohort"]),  # type: ignore[arg-type]
            records=int(metrics["num-examples"]),  # type: ignore[arg-type]
            seed=scenario.seed,
            rng=stream(scenario.seed, "protect", position, client, round_),
            weight=float(metrics["weight"]),  # type: ignore[arg-type]
            taken=scenario.participation(len(_population(scenario).shares[client])),
            memory=memory,
        )
        update = defense.protect(update, sending)
        if memory:
            context.state[kept] = wire.pack(memory)
    small = any(defense.compresses for defense in scenario.defenses)
    reply.content["update"] = wire.pack_small(update) if small else wire.pack(update)
    return reply


def carry(message: Message, context: Context, call_next: CallNext) -> Message:
    """Flower mod: let a defense that is a protocol of several messages answer, and have the client trained in one."""
    scenario, client, round_ = _scenario(context), _client(context), message.metadata.group_id
    for position, defense in enumerate(scenario.defenses):
        rng = stream(scenario.seed, "carry", position, client, round_)
        carrying = Carrying(scenario.participation(len(_population(scenario).shares[client])), rng)
        call_next = partial(defense.carry, call_next=call_next, carrying=carrying)
    return call_next(message, context)


@app.train(mods=[carry, protect])
def train(message: Message, context: Context) -> Message:
    """Train locally on the received model and reply with the update, local minus global.

    A client whose privacy budget is spent replies with an error of its own code instead, and stays out of the round.
    """
    scenario, client = _scenario(context), _client(context)
    people = _population(scenario)
    rows = torch.from_numpy(people.shares[client])
    taken = scenario.participation(len(rows))
    ledger = _ledger(context)
    events = [e for defense in scenario.defenses if not defense.by_server for e in defense.privacy_events(taken)]
    refused = ledgers.overspent(ledger, events)
    if refused is not None:
        return Message(Error(DECLINED, refused), reply_to=message)
    round_ = int(message.content.config_records["config"]["round"])  # type: ignore[arg-type]
    training = scenario.training.settings
    schema = people.table.schema
    weights = wire.unpack(message.content.array_records["arrays"])
    network = load(scenario.model, schema.shape, schema.outputs, weights)
    inputs, labels = people.inputs[rows], people.labels[rows]
    batches = local_batches(training, len(rows), scenario.sampling, scenario.seed, client, round_)
    if scenario.audit.plant == "records":
        unusual = scenario.server.overflow
        planted = plant(inputs, labels, network, scenario.seed, client, unusual)
        inputs, labels, batches = planted.inputs, planted.labels, planted.drawn(batches)
    for position, defense in enumerate(scenario.defenses):
        network = defense.wrap_network(network, stream(scenario.seed, "network", position, client, round_))
    job = Job(
        network=network,
        inputs=inputs,
        labels=labels,
        batches=batches,
        training=training,
        rng=stream(scenario.seed, "training", client, round_),
        augment=_augment(scenario, network, client, round_),
        taken=taken,
    )
    run: LocalTraining = plain_sgd
    for defense in scenario.defenses:
        run = defense.wrap_training(run)
    update = run(job)
    if scenario.audit.plant == "clients":
        update = planted_update(update, scenario.seed, client)
    context.state["fedinv"] = ConfigRecord({"ledger": ledgers.write(ledgers.charge(ledger, events))})
    examples = len(rows) if training.algorithm == "fedavg" else min(training.batch_size, len(rows))
    weight = 1.0 if any(defense.one_weight for defense in scenario.defenses) else float(examples)
    metrics = MetricRecord({"num-examples": examples, "weight": weight})
    return Message(RecordDict({"update": wire.pack(update), "metrics": metrics}), reply_to=message)


@app.query("register")
def register(message: Message, context: Context) -> Message:
    """Tell the server which partition this node holds, and the data dictionary that all clients agreed on."""
    schema = _population(_scenario(context)).table.schema.model_dump_json()
    content = RecordDict({"node": ConfigRecord({"partition-id": _client(context), "schema": schema})})
    return Message(content, reply_to=message)


@app.query("ledger")
def ledger(message: Message, context: Context) -> Message:
    """Tell what privacy was charged to this client so far; it depends on no record.

    What the server carries out is charged for all rounds: a client pays for those in which it might have been drawn.
    """
    scenario, charged = _scenario(context), _ledger(context)
    for defense in scenario.defenses:
        if defense.by_server:
            once = defense.privacy_events(scenario.participation(1))
            charged = ledgers.charge(charged, [replace(e, steps=e.steps * scenario.federation.rounds) for e in once])
    events = ledgers.write(charged)
    return Message(RecordDict({"ledger": ConfigRecord({"events": events})}), reply_to=message)


def _augment(scenario: Scenario, network: nn.Sequential, client: int, round_: int) -> Augment | None:
    """What all defenses do to a batch, in the order listed; None where none of them does anything."""
    changing = [
        (defense, stream(scenario.seed, "augment", position, client, round_))
        for position, defense in enumerate(scenario.defenses)
        if type(defense).augment is not Defense.augment
    ]
    if not changing:
        return None

    def augment(batch: Batch) -> Batch:
        for defense, rng in changing:
            batch = defense.augment(batch, network, rng)
        return batch

    return augment


@lru_cache(maxsize=8)
def _read(text: str) -> Scenario:
    return loads(text) if "\n" in text else read(text)


def _scenario(context: Context) -> Scenario:
    return _read(str(context.run_config["scenario"]))


def _client(context: Context) -> int:
    return int(context.node_config["partition-id"])


def _population(scenario: Scenario) -> Population:
    return population(scenario.data, scenario.seed, scenario.federation.clients, scenario.training.records_per_client)


def _ledger(context: Context) -> ledgers.Ledger:
    record = context.state.config_records.get("fedinv")
    return ledgers.read("" if record is None else str(record["ledger"]))
