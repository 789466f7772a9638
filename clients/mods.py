"""Defenses on the wire: the mod of our own ClientApp, and any update-level defense as a mod for yours."""

from collections.abc import Callable

from flwr.app import ArrayRecord, Context, Message

from fedinv.defense import Defense, Sending
from fedinv.federation import wire
from fedinv.federation.streams import stream
from fedinv.federation.training import Participation

Mod = Callable[[Message, Context, Callable[[Message, Context], Message]], Message]


def as_mod(defense: Defense, *, seed: int, taken: Participation = Participation()) -> Mod:  # noqa: B008
    """Turn an update-level defense into a Flower mod for a ClientApp of your own.

    The reply holds either new weights, as Flower's strategies expect, or an update; the defense sees the update, local
    minus global, either way. It assumes nothing but one ArrayRecord in the message and one in the reply. A defense
    that sums over the cohort (masking) needs fedinv's own server and is refused. `taken` is needed where noise is
    calibrated for an epsilon over a number of rounds; keeping count of what was spent is then the caller's.
    """
    if defense.secure_aggregation or defense.for_sum:
        raise ValueError(f"{defense.kind}: the plain Flower strategies cannot add up masked updates")
    if defense.by_server:
        raise ValueError(f"{defense.kind}: is carried out by the server, wrap Flower's strategy instead")

    def mod(message: Message, context: Context, call_next: Callable[[Message, Context], Message]) -> Message:
        sent = wire.unpack(_arrays(message))
        reply = call_next(message, context)
        if reply.has_error():
            return reply
        name, arrays = next(iter(reply.content.array_records.items()))
        weights = wire.unpack(arrays)
        update = {key: weight - sent[key] for key, weight in weights.items()}
        round_ = int(message.metadata.group_id) if message.metadata.group_id.isdecimal() else 0
        client = int(context.node_config.get("partition-id", context.node_id))
        examples = [int(str(m["num-examples"])) for m in reply.content.metric_records.values() if "num-examples" in m]
        kept = f"{defense.kind}-memory"
        memory = wire.unpack(context.state.array_records.get(kept, ArrayRecord()))
        sending = Sending(
            client=client,
            round=round_,
            cohort=(client,),
            records=examples[0] if examples else 1,
            seed=seed,
            rng=stream(seed, defense.kind, client, round_),
            taken=taken,
            memory=memory,
        )
        protected = defense.protect(update, sending)
        if memory:
            context.state[kept] = wire.pack(memory)
        reply.content[name] = wire.pack({key: sent[key] + change for key, change in protected.items()})
        return reply

    return mod


def _arrays(message: Message) -> ArrayRecord:
    return next(iter(message.content.array_records.values()))
