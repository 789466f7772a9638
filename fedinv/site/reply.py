"""Judges a reply by a site's policy, and builds the one that leaves: no object of the app's is sent on."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from numpy.typing import NDArray

from fedinv.errors import plain
from fedinv.recording import content
from fedinv.recording.lines import reported_records
from fedinv.site.flower import Refused
from fedinv.site.policy import AllowedMetric, Policy, finite
from fedinv.site.update import bounded

Arrays = Mapping[str, NDArray[Any]]
"""Arrays by name; by record and name, as "arrays/w", where there are several records of them."""
Read = Callable[[Arrays, Arrays, int | None], float | str]
"""Function that returns the share of its records that can be read off an update, 0 to 1, or a reason why that cannot be
found out, given the weights that were sent, those that would leave, and the number of records that the app reports."""
Values = dict[str, Any]
"""Values of a record of metrics or of a configuration, by name."""

OLDER = ("parameters", "num_examples", "metrics", "status", "loss")
"""Endings of the names of records in Flower's older interface, as "fitres.parameters"."""
NAMES = frozenset(("arrays", "metrics", *(f"{kind}res.{part}" for kind in ("fit", "evaluate") for part in OLDER)))
"""Names of records that every app may use: those of Flower's documentation and of its older interface."""
LARGEST_CODE = 4
"""Largest status code of Flower's older interface."""


@dataclass(frozen=True)
class Passed:
    """A reply that may leave."""

    records: RecordDict
    """Records that are sent, all built anew: by name, arrays in the order sent down, metrics in the policy's order."""
    noised: bool
    """Whether noise was added to its arrays."""
    share: float | None
    """Share of its records that the attacks read off it; None where it was not attacked."""


def vetted(policy: Policy, kind: str, sent: RecordDict, reply: RecordDict, read: Read | None = None) -> Passed:
    """The reply that leaves in place of an app's to a message of this kind, as "train". Raises Refused.

    `read` attacks an update; without it none is attacked.
    """
    short = kind.partition(".")[0]
    if short not in policy.reply.messages:
        raise Refused("messages of this kind are not answered", f"{plain(kind, 40)!r}: add it to reply.messages")
    _check_records(policy, sent, reply)
    values = {
        name: _numbers(policy, name, record)
        for name, record in reply.items()
        if isinstance(record, MetricRecord | ConfigRecord)
    }
    down, back = _arrays(sent.array_records), _arrays(reply.array_records)
    if not back:
        return Passed(_built(reply, {}, values), False, None)
    if short != "train":
        raise Refused("only a training may send arrays back", f"{len(back)} arrays came with {plain(kind, 40)!r}")
    _check_arrays(policy, down, back)
    order = {name: place for place, name in enumerate(down)}
    back = {name: back[name] for name in sorted(back, key=lambda name: (order.get(name, len(order)), name))}
    _check_finite(back, "an array holds numbers that are not finite")
    leaving = bounded(down, back, policy.update)
    _check_finite(leaving, "an array is too small a type for its numbers with noise")
    share = None if read is None else _attacked(policy, down, leaving, values, read)
    return Passed(_built(reply, leaving, values), policy.update.noise_multiplier > 0, share)


def _check_records(policy: Policy, sent: RecordDict, reply: RecordDict) -> None:
    if len(reply) > policy.reply.records:
        raise Refused("it holds too many records", f"{len(reply)}, at most {policy.reply.records}: reply.records")
    allowed = NAMES.union(policy.reply.names, sent)
    for name in reply:
        if name not in allowed:
            raise Refused("a record has a name that is not allowed", f"{plain(name, 80)!r}: add it to reply.names")


def _numbers(policy: Policy, record: str, values: Mapping[str, Any]) -> Values:
    """A record's values in the policy's order, each of them allowed. Raises Refused."""
    if record in NAMES and record.endswith(".status"):
        return _status(policy, values)
    for name in values:
        if name not in policy.metrics:
            shown = plain(name, 80)
            raise Refused(
                "a metric is not allowed", f'{shown!r}: write {shown} = "float" or {shown} = "int" under [metrics]'
            )
    return {name: _number(rule, name, values[name]) for name, rule in policy.metrics.items() if name in values}


def _number(rule: AllowedMetric, name: str, value: Any) -> Any:
    """The value of a metric that leaves. Raises Refused."""
    if rule.send is not None:
        return rule.send
    numbers = value if isinstance(value, list) else [value]
    if len(numbers) > rule.items or (isinstance(value, list) and rule.items == 1):
        raise Refused("a metric holds too many numbers", f"{name}: at most {rule.items}, raise metrics.{name}.items")
    types = int if rule.type == "int" else (int, float)
    if not all(isinstance(one, types) and not isinstance(one, bool) for one in numbers):
        raise Refused("a metric is of a type that is not allowed", f"{name}: must be of type {rule.type}")
    if not all(map(finite, numbers)):
        raise Refused("a metric is not finite", name)
    if any(rule.least is not None and one < rule.least for one in numbers):
        raise Refused("a metric is out of its bounds", f"{name}: must be at least {rule.least}, metrics.{name}.least")
    if any(rule.most is not None and one > rule.most for one in numbers):
        raise Refused("a metric is out of its bounds", f"{name}: must be at most {rule.most}, metrics.{name}.most")
    return value


def _status(policy: Policy, values: Mapping[str, Any]) -> Values:
    """The status of Flower's older interface: a code and a text. Raises Refused."""
    code, text = values.get("code"), values.get("message")
    if set(values) != {"code", "message"} or type(code) is not int or not 0 <= code <= LARGEST_CODE:
        raise Refused("the status is none of Flower's", "of the older interface: a code from 0 to 4 and a message")
    if text not in policy.reply.texts:
        raise Refused("the status holds a text that is not allowed", "add it to reply.texts, letter for letter")
    return {"code": code, "message": text}


def _arrays(records: Mapping[str, ArrayRecord]) -> dict[str, NDArray[Any]]:
    """All arrays of a message. Raises Refused for one that is no plain array of numbers."""
    several, found = len(records) > 1, dict[str, NDArray[Any]]()
    for record, arrays in records.items():
        for part in content.of_record(arrays):
            name = content.full_name(record, part.name, several)
            if part.form:
                raise Refused("an array is no array of numbers in numpy's format", plain(name, 80))
            found[name] = np.frombuffer(part.data, np.dtype(part.dtype)).reshape(part.shape)
    return found


def _check_arrays(policy: Policy, down: Arrays, back: Arrays) -> None:
    """Raise Refused for an array that may not be sent back, and where one must be that is not there."""
    rules = policy.arrays.allow
    allowed = {name: (array.shape, array.dtype.name) for name, array in down.items()}
    if rules is not None:
        allowed = {rule.name: (rule.shape, rule.dtype) for rule in rules}
    for name, array in back.items():
        if name not in allowed:
            where = "it was not sent down" if rules is None else "add it to arrays.allow"
            raise Refused("an array is not allowed", f"{plain(name, 80)!r}: {where}")
        if (array.shape, array.dtype.name) != allowed[name]:
            shape, dtype = allowed[name]
            raise Refused(
                "an array has another shape or type than is allowed",
                f"{plain(name, 80)!r}: {array.dtype.name} {array.shape}, not {dtype} {shape}",
            )
    missing = [name for name in down if name not in back] if rules is None else []
    if missing:
        raise Refused("arrays that were sent down did not come back", f"{plain(missing[0], 80)!r}: write arrays.allow")


def _check_finite(arrays: Arrays, rule: str) -> None:
    for name, array in arrays.items():
        if array.dtype.kind in "fc" and not np.isfinite(array).all():
            raise Refused(rule, plain(name, 80))


def _attacked(policy: Policy, down: Arrays, leaving: Arrays, values: Mapping[str, Values], read: Read) -> float:
    """The share of its records that can be read off an update. Raises Refused where that is above the limit."""
    rules = policy.gate
    if rules is None:
        raise Refused("the update could not be attacked", "there is no [gate]")
    weights = leaving
    if policy.update.sends == "changes":
        weights = {name: down[name] + array if name in down else array for name, array in leaving.items()}
    found = read(down, weights, rules.records or _claimed(values.values()))
    if isinstance(found, str):
        raise Refused("the update could not be attacked", plain(found))
    if not found <= rules.limit:
        share = f"at least {100 * found:.1f} % can be read, gate.limit is {100 * rules.limit:g} %"
        raise Refused("more of its records can be read off the update than this site allows", share)
    return found


def _claimed(records: Iterable[Values]) -> int | None:
    """Number of records that the app reports; None where it reports none."""
    found = reported_records(records)
    return found if found is not None and found >= 1 else None


def _built(reply: RecordDict, arrays: Arrays, values: Mapping[str, Values]) -> RecordDict:
    """New records of the same names and sorts, by name, so that their order tells nothing."""
    several, built = len(reply.array_records) > 1, RecordDict()
    for name in sorted(reply):
        record = reply[name]
        if isinstance(record, ArrayRecord):
            mine = {one: content.full_name(name, one, several) for one in record}
            place = {key: at for at, key in enumerate(arrays)}
            listed = sorted(mine, key=lambda one: place[mine[one]])
            built[name] = ArrayRecord({one: Array(np.ascontiguousarray(arrays[mine[one]])) for one in listed})
        elif isinstance(record, MetricRecord):
            built[name] = MetricRecord(values[name])
        else:
            built[name] = ConfigRecord(values[name])
    return built
