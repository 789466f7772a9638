"""The ClientApp: trains on one client's records and replies with the update after all defenses."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial

from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fedinv.data.population import Population
from fedinv.defense import CallNext, Carrying, Defense, Sending
from fedinv.federation import wire
from fedinv.federation.agreement import round_dropouts
from fedinv.federation.reply_codes import DECLINED, DISTRUSTED, DROPPED
from fedinv.federation.streams import stream
from fedinv.privacy import ledger as ledgers
from fedinv.scenario.reading import loads, read
from fedinv.scenario.scenario import Scenario
from fedinv.task.schema import Schema

from . import hooks, received, vetted
from .training import job
from .training.clipped_training import clipped_training
from .training.cohort import Cohort
from .training.plain_training import plain_training


def protect(message: Message, context: Context, call_next: Callable[[Message, Context], Message]) -> Message:
    """Flower mod: apply the scenario's defenses to the update, in the order listed, before it is sent."""
    reply = call_next(message, context)
    (scenario, people), client = _setting(context), _client(context)
    protecting = [(at, d) for at, d in enumerate(scenario.defenses) if type(d).protect is not Defense.protect]
    small = any(defense.compresses for defense in scenario.defenses)
    if reply.has_error() or not (protecting or small):
        return reply
    config = wire.record(message.content, "config", ConfigRecord)
    round_ = int(config["round"])  # type: ignore[arg-type]
    update = wire.unpack(wire.record(reply.content, "update", ArrayRecord))
    metrics = wire.record(reply.content, "metrics", MetricRecord)
    for position, defense in protecting:
        kept = f"memory-{position}"
        memory = wire.unpack(context.state.array_records.get(kept, ArrayRecord()))
        sending = Sending(
            client=client,
            round=round_,
            cohort=tuple(config["cohort"]),  # type: ignore[arg-type]
            records=int(metrics["num-examples"]),  # type: ignore[arg-type]
            seed=scenario.hidden,
            rng=stream(scenario.hidden, "protect", position, client, round_),
            weight=float(metrics["weight"]),  # type: ignore[arg-type]
            taken=scenario.participation(people.held(client)),
            memory=memory,
        )
        update = hooks.protected(defense, update, sending)
        if memory:
            context.state[kept] = wire.pack(memory)
    reply.content["update"] = wire.pack_small(update) if small else wire.pack(update)
    return reply


def carry(message: Message, context: Context, call_next: CallNext) -> Message:
    """Flower mod: answer a message of a defense whose protocol takes several; the client trains in one of them."""
    (scenario, people), client, round_ = _setting(context), _client(context), message.metadata.group_id
    for position, defense in enumerate(scenario.defenses):
        if type(defense).carry is Defense.carry:
            continue
        rng = stream(scenario.hidden, "carry", position, client, round_)
        carrying = Carrying(scenario.participation(people.held(client)), rng)
        call_next = partial(hooks.carried, defense, call_next=call_next, carrying=carrying)
    return call_next(message, context)


def client_app(cohort: Cohort | None = None) -> ClientApp:
    """Make the ClientApp; with a `cohort`, for engines of one process, it trains a round's clients together."""
    made = ClientApp()
    made.train(mods=[carry, protect])(partial(_train, cohort=cohort))
    made.query("register")(_register)
    made.query("ledger")(_ledger_of)
    made.query("vetting")(_vetting_of)
    return made


def _train(message: Message, context: Context, cohort: Cohort | None) -> Message:
    """Train locally on the received model and reply with the update, local minus global.

    A client that drops out of the round replies with the error DROPPED instead, one that was sent what cannot be
    trained on with DISTRUSTED, and one whose privacy budget is spent with DECLINED; none is charged for the round.
    """
    (scenario, people), client = _setting(context), _client(context)
    try:
        asked = received.order(message.content)
        schema = people.schema
        arrays, _ = received.weights(message.content, scenario.model.fitted(schema), schema.shape, schema.outputs)
    except received.UnfitError as error:
        return Message(Error(DISTRUSTED, f"refused the round: the server {error}"), reply_to=message)
    round_ = asked.round
    if client in round_dropouts(scenario.federation, scenario.seed, round_):
        return Message(Error(DROPPED, "dropped out of the round, as the scenario has it"), reply_to=message)
    records = people.held(client)
    taken = scenario.participation(records)
    events = hooks.events((defense for defense in scenario.defenses if not defense.by_server), taken)
    ledger = _ledger(context)
    refused = ledgers.overspent(ledger, events)
    if refused is not None:
        return Message(Error(DECLINED, refused), reply_to=message)
    decided = vetted.Vetted()
    if scenario.vetting:
        sent = wire.unpack(arrays)
        found, look = vetted.findings(scenario, people, client, asked, sent, context)
        vetted.note(context, round_, found)
        decided = vetted.decided(found)
    if decided.refusal is not None:
        return Message(Error(DISTRUSTED, decided.refusal), reply_to=message)
    update = None
    if cohort is not None and decided.clip is None:
        update = cohort.update(client, round_, asked.cohort, arrays)
    if update is None:
        run = plain_training if decided.clip is None else clipped_training(decided.clip)
        update = job.train(scenario, people, client, round_, wire.unpack(arrays), run)
    if scenario.vetting:
        vetted.remember(context, round_, scenario.vetting, sent, update)
        if decided.few is not None:
            update = vetted.rows_dropped(update, sent, look, decided.few)
    if events:
        context.state["fedinv"] = ConfigRecord({"ledger": ledgers.write(ledgers.charge(ledger, events))})
    examples = records if scenario.training.algorithm == "fedavg" else min(scenario.training.batch_size, records)
    weight = 1.0 if any(defense.one_weight for defense in scenario.defenses) else float(examples)
    metrics = MetricRecord({"num-examples": examples, "weight": weight})
    return Message(RecordDict({"update": wire.pack(update), "metrics": metrics}), reply_to=message)


def _register(message: Message, context: Context) -> Message:
    """Reply with the number of the client that this node is, and the schema that all clients agreed on."""
    schema = _written(_setting(context)[1].schema)
    content = RecordDict({"node": ConfigRecord({"partition-id": _client(context), "schema": schema})})
    return Message(content, reply_to=message)


def _ledger_of(message: Message, context: Context) -> Message:
    """Reply with the privacy charged to this client so far, which depends on no record.

    Defenses that the server carries out are charged for all rounds: a client might have been drawn for each.
    """
    (scenario, _), charged = _setting(context), _ledger(context)
    for defense in scenario.defenses:
        if defense.by_server:
            once = hooks.events([defense], scenario.participation(1))
            charged = ledgers.charge(charged, [replace(e, steps=e.steps * scenario.federation.rounds) for e in once])
    events = ledgers.write(charged)
    return Message(RecordDict({"ledger": ConfigRecord({"events": events})}), reply_to=message)


def _vetting_of(message: Message, context: Context) -> Message:
    """Reply with what this client's detectors found of the weights that it was sent, over all rounds."""
    return Message(RecordDict({"vetting": vetted.reports(context)}), reply_to=message)


@lru_cache(maxsize=8)
def _read(text: str) -> Scenario:
    return loads(text) if "\n" in text else read(text)


def _setting(context: Context) -> tuple[Scenario, Population]:
    scenario = _read(str(context.run_config["scenario"]))
    return scenario, job.population_of(scenario)


@lru_cache(maxsize=2)
def _written(schema: Schema) -> str:
    return schema.model_dump_json()


def _client(context: Context) -> int:
    return int(context.node_config["partition-id"])


def _ledger(context: Context) -> ledgers.Ledger:
    if "fedinv" not in context.state:
        return ()
    return ledgers.read(str(wire.record(context.state, "fedinv", ConfigRecord)["ledger"]))


app = client_app()
