"""Turns one update-level defense (one that overrides `protect`) into a Flower mod for a ClientApp of your own."""

import hashlib
import logging
import math
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, RecordDict
from flwr.common.constant import ErrorCode
from torch import Tensor

from fedinv.defense import Defense, Participation, PrivacyEvent, Sending, Update
from fedinv.errors import RequestError, nearest
from fedinv.federation import wire
from fedinv.federation.reply_codes import DECLINED
from fedinv.federation.streams import stream
from fedinv.privacy import ledger as ledgers

from . import arrays

Mod = Callable[[Message, Context, Callable[[Message, Context], Message]], Message]
Arrays = Mapping[str, Array]

STATE = "fedinv.defend"
"""The node state's record in which the mods of an app count their messages and keep the client's ledger."""

_INSTEAD = "or have fedinv's own ClientApp do it, by a scenario and `fedinv run`"
_BEYOND = {
    "carry": f"is a protocol of several messages with a server of fedinv's: use Flower's SecAgg+ workflow, {_INSTEAD}",
    "wrap_training": f"replaces local training, of which a mod sees the result alone: train so in your app, {_INSTEAD}",
    "clipping": f"clips gradients while training, which a mod does not see: train so in your app, {_INSTEAD}",
    "wrap_network": f"changes the network that is trained, which a mod does not see: change it in your app, {_INSTEAD}",
    "masks": f"changes the network that is trained, which a mod does not see: change it in your app, {_INSTEAD}",
    "augment": f"changes the batches trained on, which a mod does not see: change them in your app, {_INSTEAD}",
}
"""Hooks of a defense that a mod cannot carry out: why, and what to do instead."""


@dataclass(frozen=True)
class Plan:
    """How one mod protects every message."""

    defense: Defense
    seed: int | None
    rounds: int | None
    record: str | None
    sends: Literal["weights", "update"]
    buffers: Literal["keep", "reset"] | None
    events: tuple[PrivacyEvent, ...]
    """What each message is charged to the client's ledger; empty for a defense that claims no privacy."""

    @property
    def memory(self) -> str:
        """Name of the node state's record that holds what the defense remembers; other settings have another."""
        settings = hashlib.sha256(self.defense.model_dump_json().encode()).hexdigest()[:8]
        return f"{STATE}.{self.defense.kind}.{settings}"


def as_mod(
    defense: Defense,
    *,
    seed: int | None,
    rounds: int | None = None,
    record: str | None = None,
    sends: Literal["weights", "update"] = "weights",
    buffers: Literal["keep", "reset"] | None = None,
) -> Mod:
    """A Flower mod that passes what a ClientApp sends after training through one update-level defense.

    Messages of the category "train" are protected; evaluate and query messages pass untouched, and so do error
    replies, metrics and every other record of a reply: no claim covers those. The defense sees the update, local minus
    global, in float32 (float64 where the app's arrays are); what is sent has the types of the app's own arrays. Only
    parameters are protected. BatchNorm's running statistics, known by their names, and entries that are no floating
    point are buffers, and are sent exactly as trained by a defense that claims no privacy.

    seed: decides all that is drawn, along with the client (its partition-id, else its node id), the round (the
        config's "server-round", else a decimal group id, else a count) and how many messages of it were protected
        before, so that nothing is drawn twice whatever round the server names. Whoever knows the seed can take the
        noise off: give a number in simulations, and None where a real server must not know, which draws from the
        operating system.
    rounds: how many messages of one client are protected in the whole run; needed where noise is calibrated for an
        epsilon. A message beyond the budget is answered by an error reply before it is trained on.
    record: name of the reply's ArrayRecord; needed where a reply has several. The others pass untouched, and are
        refused where the defense claims privacy.
    sends: whether the app replies with its new weights, as Flower's strategies expect, or with an update.
    buffers: needed where a defense that claims privacy meets a model with buffers, which it neither clips nor noises.
        "keep" sends them as trained, outside the claim; "reset" sends them as they were received (zeros in an
        update), so that they tell nothing and the server's stay what they are.

    A reply that cannot be protected is not sent: an error reply goes out instead and says why. Raises RequestError
    for a defense that is more than `protect`, and for noise to be calibrated over an unknown number of rounds.
    """
    if reason := unfit(defense):
        raise RequestError(f"{defense.kind}: {reason}")
    if seed is not None and (not isinstance(seed, int) or seed < 0):
        raise RequestError(f"seed: must be a whole number from 0, or None for noise that nobody can repeat, not {seed}")
    if rounds is not None and rounds < 1:
        raise RequestError(f"rounds: must be 1 or more, not {rounds}")
    for key, value, known in (("sends", sends, ("weights", "update")), ("buffers", buffers, ("keep", "reset", None))):
        if value not in known:
            raise RequestError(f"{key}: must be {' or '.join(map(repr, known))}, not {value!r}")
    events = defense.privacy_events(Participation(rounds=rounds or 1))
    budgeted = any(event.budget is not None for event in events)
    if rounds is None and budgeted and events != defense.privacy_events(Participation(rounds=2)):
        raise RequestError(
            f"{defense.kind}: its epsilon is a budget over the whole run: say how many rounds a client may take part "
            "in, as rounds=10, or set noise_multiplier"
        )
    plan = Plan(defense, seed, rounds, record, sends, buffers, events)

    def mod(message: Message, context: Context, call_next: Callable[[Message, Context], Message]) -> Message:
        if message.metadata.message_type.partition(".")[0] != "train":
            return call_next(message, context)
        return _protected(plan, message, context, call_next)

    return mod


def unfit(defense: Defense) -> str | None:
    """Why a defense is no mod for a stranger's app, and what to do instead; None where it is one."""
    if defense.by_server:
        return "is carried out by the server: wrap Flower's strategy in DifferentialPrivacyServerSideFixedClipping"
    if defense.secure_aggregation:
        return f"hides updates from all but a server of fedinv's: use Flower's SecAgg+ workflow, {_INSTEAD}"
    if defense.for_sum:
        return f"protects the sum alone, under a secure aggregation: take one that protects each update, {_INSTEAD}"
    if defense.one_weight:
        return f"needs all clients to count alike in the mean, which the strategy decides: use another, {_INSTEAD}"
    for hook, reason in _BEYOND.items():
        if getattr(type(defense), hook) is not getattr(Defense, hook):
            return reason
    if type(defense).protect is Defense.protect:
        return f"changes nothing of an update, so that a mod would protect nothing: use another, {_INSTEAD}"
    return None


def _protected(
    plan: Plan, message: Message, context: Context, call_next: Callable[[Message, Context], Message]
) -> Message:
    ledger, answered = _kept(context)
    if declined := ledgers.overspent(ledger, plan.events):
        return Message(Error(DECLINED, declined), reply_to=message)
    # read before the app runs, which may change the message
    sent = {name: dict(record.items()) for name, record in message.content.array_records.items()}
    round_ = _round(message, answered)
    reply = call_next(message, context)
    if reply.has_error() or not reply.content.array_records:
        return reply
    try:
        name = _name(plan, reply.content)
        received, base = reply.content.array_records[name], _base(plan, name, sent)
        update = _update(plan, received, base, _covered(plan, received, base))
        # counted anew: a mod within this one has protected the message before
        ledger, answered = _kept(context)
        sending = _sending(plan, context, round_, answered, reply.content)
        changed = _checked(plan.defense.protect(dict(update), sending), update)
    except _UnfitReplyError as fault:
        reason = f"fedinv.defend({plan.defense.kind}): {fault}"
        logging.getLogger("flwr").error(reason)
        return Message(Error(ErrorCode.MOD_FAILED_PRECONDITION, reason), reply_to=message)
    if sending.memory:
        context.state[plan.memory] = wire.pack(sending.memory)
    charged = ledgers.write(ledgers.charge(ledger, plan.events))
    context.state[STATE] = ConfigRecord({"messages": answered + 1, "ledger": charged})
    reply.content[name] = ArrayRecord(
        {key: _outgoing(plan, array, base.get(key), changed.get(key)) for key, array in received.items()}
    )
    return reply


def _name(plan: Plan, content: RecordDict) -> str:
    """Name of the reply's record that is protected."""
    names = list(content.array_records)
    if plan.record is not None and plan.record not in names:
        raise _UnfitReplyError(f"the reply has no ArrayRecord {plan.record!r}{nearest(plan.record, names)}")
    if plan.record is None and len(names) > 1:
        raise _UnfitReplyError(f"the reply has the ArrayRecords {_listed(names)}: say which is protected, by record=")
    if plan.events and len(names) > 1:
        others = [name for name in names if name != plan.record]
        raise _UnfitReplyError(
            f"the reply's ArrayRecords {_listed(others)} would be sent as they are, and the privacy claim would not "
            "cover them: send one ArrayRecord alone"
        )
    return plan.record or names[0]


def _base(plan: Plan, name: str, sent: Mapping[str, Arrays]) -> Arrays:
    """The arrays that the server sent of which the reply's are new values."""
    if name in sent:
        return sent[name]
    if len(sent) == 1:
        return next(iter(sent.values()))
    if plan.sends == "update":
        return {}
    if not sent:
        raise _UnfitReplyError(
            'the message has no ArrayRecord that the weights could be compared with: write sends="update" if the app '
            "replies with an update"
        )
    raise _UnfitReplyError(
        f"the message has the ArrayRecords {_listed(sent)} and the reply {name!r}: send back what was received under "
        "its own name"
    )


def _covered(plan: Plan, received: Arrays, base: Arrays) -> tuple[str, ...]:
    """Names of the entries that the defense changes. Raises where the others are a leak, or nobody knows what from."""
    apart = arrays.buffers(received)
    for key, array in received.items():
        if key not in base and (base or plan.sends == "weights"):
            raise _UnfitReplyError(f"the reply has {key!r}, which the server did not send{nearest(key, base)}")
        if base and tuple(array.shape) != tuple(base[key].shape):
            raise _UnfitReplyError(
                f"the reply's {key!r} has shape {tuple(array.shape)}, and the server sent {tuple(base[key].shape)}"
            )
    for key in base:
        if key not in received and not (plan.sends == "update" and key in arrays.buffers(base)):
            raise _UnfitReplyError(f"the reply lacks {key!r}, which the server sent: send all that was received")
    if apart and plan.events and plan.buffers is None:
        raise _UnfitReplyError(
            f"the model has buffers, {_listed(apart)}, which are neither clipped nor noised: the privacy claim would "
            'not cover them. Write buffers="reset" to send them as they were received, buffers="keep" to send them as '
            "trained and outside the claim, or take layers without them, as GroupNorm"
        )
    covered = tuple(key for key in received if key not in apart)
    if not covered:
        raise _UnfitReplyError("the reply has no floating-point parameter that could be protected")
    return covered


def _update(plan: Plan, received: Arrays, base: Arrays, covered: tuple[str, ...]) -> Update:
    """Local minus global, of what is covered."""
    update = {}
    for key in covered:
        try:
            update[key] = arrays.tensor(received[key])
            if plan.sends == "weights":
                update[key] = update[key] - arrays.tensor(base[key]).to(update[key].dtype)
        except ValueError as error:
            raise _UnfitReplyError(f"{key!r} {error}") from None
    return update


def _checked(changed: Update, update: Update) -> Update:
    """What a defense made of an update, if it has the same entries."""
    if changed.keys() != update.keys():
        raise _UnfitReplyError(f"it returned {_listed(changed)} for an update of {_listed(update)}")
    for key, tensor in changed.items():
        if tensor.shape != update[key].shape or not tensor.is_floating_point():
            raise _UnfitReplyError(f"it returned {tensor.dtype} of shape {tuple(tensor.shape)} for {key!r}")
    return changed


def _outgoing(plan: Plan, array: Array, base: Array | None, change: Tensor | None) -> Array:
    """One array of the reply as it is sent; `change` is None for a buffer."""
    if change is None:
        if plan.buffers != "reset":
            return array
        return arrays.zeros(array) if plan.sends == "update" else cast(Array, base)
    if plan.sends == "weights":
        # in double precision, so that the result is rounded once, to the app's own type
        change = arrays.tensor(cast(Array, base)).double() + change.double()
    return arrays.like(array, change)


def _sending(plan: Plan, context: Context, round_: int, answered: int, content: RecordDict) -> Sending:
    kind, client = _client(context)
    drawn = (plan.defense.kind, kind, client, round_, answered)
    return Sending(
        client=client,
        round=round_,
        cohort=(client,),
        records=_examples(content),
        seed=plan.seed if plan.seed is not None else secrets.randbits(64),
        rng=np.random.default_rng() if plan.seed is None else stream(plan.seed, "defend", *drawn),
        taken=Participation(rounds=plan.rounds or 1),
        memory=wire.unpack(context.state.array_records.get(plan.memory, ArrayRecord())),
    )


def _client(context: Context) -> tuple[str, int]:
    """What tells this client from all others, and of which kind that is: its partition, else its node."""
    given = context.node_config.get("partition-id")
    if given is None:
        return "node", context.node_id
    if isinstance(given, int):
        return "partition", given
    if str(given).isdecimal():
        return "partition", int(str(given))
    return "name", int.from_bytes(hashlib.sha256(str(given).encode()).digest()[:8], "big")


def _round(message: Message, answered: int) -> int:
    """The round as the server's strategy names it, else the number of this client's message, from 1."""
    for config in message.content.config_records.values():
        named = config.get("server-round")
        if isinstance(named, int) and not isinstance(named, bool):
            return named
    group = message.metadata.group_id
    return int(group) if group.isdecimal() else answered + 1


def _examples(content: RecordDict) -> int:
    """Number of examples that the reply tells of, by either of Flower's names for it; 1 where it tells none."""
    for metrics in content.metric_records.values():
        for key in ("num-examples", "num_examples"):
            count = metrics.get(key)
            if isinstance(count, int | float) and math.isfinite(count):
                return max(1, int(count))
    return 1


def _kept(context: Context) -> tuple[ledgers.Ledger, int]:
    """What the client was charged so far, and how many of its messages were protected."""
    if STATE not in context.state:
        return (), 0
    kept = wire.record(context.state, STATE, ConfigRecord)
    return ledgers.read(str(kept["ledger"])), int(cast(int, kept["messages"]))


def _listed(names: Iterable[str]) -> str:
    """The first three of some names, and how many there are."""
    names = sorted(names)
    return ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


class _UnfitReplyError(Exception):
    """The reply cannot be protected, and must not be sent."""
