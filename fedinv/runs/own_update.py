"""Attacks one update that a caller provides, behind the same wall as a scenario's attacks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, get_args

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from fedinv import plugins
from fedinv.attack import Attack, Claim, Exchange, Knowledge, Observation, Progress, Sample
from fedinv.defend_mod import defense_of
from fedinv.defense import Defense
from fedinv.errors import RequestError, RunError, nearest
from fedinv.federation.streams import sealed_stream
from fedinv.federation.training import Participation
from fedinv.runs.attack_runner import as_perceptron
from fedinv.runs.run import parse_attack
from fedinv.runs.wall import check_reach, wall
from fedinv.scenario.mistakes import explain
from fedinv.scenario.short_form import plugin
from fedinv.task.loss import Loss
from fedinv.task.models import DEFAULT, AnyModel, Model, build, perceptron, state, unsuited
from fedinv.task.optimizers import AnyOptimizer, AnySchedule
from fedinv.task.schema import Schema
from fedinv.task.threads import one_thread

Arrays = Mapping[str, Any] | Sequence[Any]
"""Tensors or arrays by parameter name, or in the order of the network's parameters."""
EXPLAINED = 0.05
"""A claim of all records is accepted if its relative mismatch, 0 to 1, is below this."""
SURE = 0.9
"""A claim of all records is accepted too if its mean confidence, 0 to 1, is above this."""
GIVEN = ("model", "schema")
"""Fields of Knowledge that are parameters of their own in `knowledge`."""


def model_of(model: AnyModel | Mapping[str, Any]) -> AnyModel:
    """The model that a table such as {"kind": "mlp", "hidden": [64]} declares. Raises RequestError naming the key."""
    if isinstance(model, AnyModel):
        return model
    if not isinstance(model, Mapping):
        raise RequestError(f'model: is a {type(model).__name__}, write a table such as {{"kind": "{DEFAULT.kind}"}}')
    kinds = {one.model_fields["kind"].default: one for one in get_args(AnyModel)}
    kind = model.get("kind")
    if kind not in kinds:
        raise RequestError(f"model.kind: unknown kind {kind!r}{nearest(str(kind), kinds)}")
    try:
        found: AnyModel = TypeAdapter[Any](Model).validate_python(dict(model))
    except ValidationError as error:
        raise RequestError(f"model: {explain(error, kinds[kind], model)}") from None
    return found


def schema_of(schema: Schema | Mapping[str, Any] | None) -> Schema | None:
    """The schema that a JSON document declares; None stays None. Raises RequestError naming the key that is wrong."""
    if schema is None or isinstance(schema, Schema):
        return schema
    if not isinstance(schema, Mapping):
        raise RequestError(f"schema: is a {type(schema).__name__}, give a fedinv Schema or the table of a schema.json")
    try:
        return Schema.model_validate(dict(schema))
    except ValidationError as error:
        raise RequestError(f"schema: {explain(error, Schema, schema)}") from None


def exchange(update: Arrays, sent: Arrays, model: AnyModel, schema: Schema | None, records: int) -> Exchange:
    """The one exchange of a client that was sent these weights and answered with this update.

    Parameters get the names that fedinv's own network gives them: arrays are matched to them by position, the update's
    to the weights' by name where both have names. Raises RequestError naming the array that does not fit.
    """
    if isinstance(records, bool) or not isinstance(records, int) or records < 1:
        raise RequestError(f"records: {records!r} is not the number of examples behind the update, 1 or more")
    weights, changes = _named(sent, "sent"), _named(update, "update")
    if isinstance(sent, Mapping) and isinstance(update, Mapping):
        for name in changes:
            if name not in weights:
                raise RequestError(f"update: {name!r} is no parameter that was sent{nearest(name, weights)}")
        missing = [name for name in weights if name not in changes]
        if missing:
            raise RequestError(f"update: the parameter {missing[0]!r} is missing")
        changes = {name: changes[name] for name in weights}
    expected = _expected(model, schema, list(weights.values()))
    return Exchange(1, _fitted(weights, expected, "sent"), _fitted(changes, expected, "update"), records)


def knowledge(model: AnyModel, schema: Schema | None, records: int, knows: Mapping[str, Any]) -> Knowledge:
    """The knowledge of the attack. Raises RequestError for an unknown field, naming the nearest, or a bad value.

    Without a loss it is the schema's, or cross-entropy. Defenses may be written as tables or as `top-k:keep=0.1`.
    """
    allowed = {field.name: _CHECKS[field.name] for field in fields(Knowledge) if field.name not in GIVEN}
    for name, value in knows.items():
        if name not in allowed:
            raise RequestError(f"{name}: an attack cannot know that{nearest(name, allowed)}")
        if value is not None and not allowed[name][0](value):
            raise RequestError(f"{name}: is {_shown(value)}, must be {allowed[name][1]}")
    told = {name: value for name, value in knows.items() if value is not None}
    given = {"loss": schema.loss if schema is not None else "cross-entropy", **told}
    for name, reads in _TABLES.items():
        if name in given:
            given[name] = reads.validate_python(given[name])
    if "class_weights" in given:
        given["class_weights"] = tuple(map(float, given["class_weights"]))
    if given.get("defenses") is not None:
        size = min(int(given.get("batch_size") or records), records)
        steps = 1 if given.get("algorithm") == "fedsgd" else int(given.get("epochs") or 1) * -(-records // size)
        taken = Participation(records=records, batch_size=size, steps=steps)
        given["defenses"] = tuple(defense_of(one).known(taken) for one in given["defenses"])
    return Knowledge(model=model if schema is None else model.fitted(schema), schema=schema, **given)


@one_thread()
def invert(seen: Observation, knows: Knowledge, attack: str | Attack, seed: int, progress: Progress) -> Claim:
    """The claim of one attack; with "auto" of several in turn, until one explains the update.

    Of several claims the one with the largest sum of confidences is returned. Raises RequestError for an unknown
    attack, RunError when an attack fails.
    """
    if attack != "auto":
        one = attack if isinstance(attack, Attack) else parse_attack(plugin("attacks", attack))
        return _claim(one, seen, knows, seed, progress)
    found: list[tuple[str, Claim]] = []
    kinds = [kind for kind in in_turn() if knows.model is None or _suits(kind, knows.model)]
    for position, kind in enumerate(kinds):
        one = parse_attack({"kind": kind}).beside(kinds)
        found.append((kind, _claim(one, seen, knows, seed, _part(progress, position, len(kinds)))))
        if _explains(found[-1][1], seen.last.records):
            break
    progress(1.0)
    chosen, best = max(found, key=lambda tried: float(tried[1].confidence.sum()))
    others = [f"{kind}: {note}" for kind, claim in found if kind != chosen for note in claim.notes]
    return replace(best, notes=(f"found by {chosen}", *best.notes, *others))


def in_turn() -> list[str]:
    """The kinds of the attacks that "auto" tries, in their order. Imports every attack."""
    places = {kind: attack.tried_in_turn for kind, attack in plugins.loaded("attacks").items()}
    return sorted((kind for kind, place in places.items() if place is not None), key=lambda kind: (places[kind], kind))


def _suits(kind: str, model: AnyModel) -> bool:
    attack: type[Attack] = plugins.loaded("attacks")[kind]
    return attack.suits(perceptron(model))


def _explains(claim: Claim, records: int) -> bool:
    if len(claim.records) < records:
        return False
    if claim.mismatch is not None and claim.mismatch < EXPLAINED:
        return True
    return float(claim.confidence.mean()) > SURE


def _claim(attack: Attack, seen: Observation, knows: Knowledge, seed: int, progress: Progress) -> Claim:
    if attack.asks != "records" or attack.sees != "update":
        raise RequestError(
            f"attack {attack.kind!r}: does not rebuild records from an update; use one of {', '.join(in_turn())}"
        )
    check_reach(type(attack))
    model = knows.model
    if model is not None and model.no_perceptron is not None and not attack.suits(model):
        reason = unsuited(attack.kind, model)
        return Claim(torch.zeros(0, 1), torch.zeros(0), notes=(reason,))
    seen, knows = as_perceptron(seen, knows)
    try:
        with wall():
            claim = attack.run(seen, knows, sealed_stream(seed, "attack", attack.kind, *seen.clients, 1), progress)
    except Exception as error:
        raise RunError(f"attack {attack.kind} failed: {type(error).__name__}: {error}") from error
    if not isinstance(claim, Claim):
        raise RunError(f"attack {attack.kind} failed: it gave a {type(claim).__name__} instead of a Claim")
    return claim


def _part(progress: Progress, position: int, parts: int) -> Progress:
    return lambda share: progress((position + share) / parts)


def _named(arrays: Arrays, what: str) -> dict[str, Tensor]:
    """Floating-point tensors by name, or by position where they have no names."""
    if isinstance(arrays, Mapping):
        pairs = {str(name): value for name, value in arrays.items()}
    elif isinstance(arrays, Sequence) and not isinstance(arrays, str):
        pairs = {str(position): value for position, value in enumerate(arrays)}
    else:
        raise RequestError(f"{what}: is a {type(arrays).__name__}, give arrays by parameter name or a list of arrays")
    found = {}
    for name, value in pairs.items():
        try:
            tensor = torch.as_tensor(np.asarray(value) if not isinstance(value, Tensor) else value).detach().cpu()
        except (TypeError, ValueError, RuntimeError):
            raise RequestError(f"{what}: {name!r} is a {type(value).__name__}, not an array of numbers") from None
        if tensor.is_floating_point():  # a batch normalization's count of batches is no parameter
            found[name] = tensor.float()
    if not found:
        raise RequestError(f"{what}: holds no array of floating-point numbers")
    return found


def _expected(model: AnyModel, schema: Schema | None, weights: Sequence[Tensor]) -> dict[str, torch.Size]:
    """The shapes of the network's parameters by name."""
    first, last = weights[0], weights[-1]
    try:
        known = model.sizes if schema is None else None
    except ValueError as error:
        raise RequestError(str(error)) from None
    if known is None and schema is None and model.images:
        raise RequestError(f"schema: is needed for the model {model.kind!r}, as it says how large an image is")
    if known is None and schema is None and (first.ndim != 2 or last.ndim < 1):
        raise RequestError(
            f"sent: its first array has the shape {tuple(first.shape)}, and a {model.kind} begins with a matrix "
            "(units, inputs)"
        )
    if schema is not None:
        model, shape, outputs = model.fitted(schema), schema.shape, schema.outputs
    else:
        shape, outputs = known or ((first.shape[1],), last.shape[0])
    try:
        return {name: tensor.shape for name, tensor in state(build(model, shape, outputs, 0)).items()}
    except ValueError as error:
        raise RequestError(f"model: {error}") from None


def _fitted(found: Mapping[str, Tensor], expected: Mapping[str, torch.Size], what: str) -> dict[str, Tensor]:
    if len(found) != len(expected):
        raise RequestError(
            f"{what}: {len(found)} arrays where the model has {len(expected)}: "
            + ", ".join(f"{name} {tuple(shape)}" for name, shape in expected.items())
        )
    for (name, tensor), (ours, shape) in zip(found.items(), expected.items(), strict=True):
        if tensor.shape != shape:
            raise RequestError(
                f"{what}: {name!r} has the shape {tuple(tensor.shape)}, and the model's {ours} has {tuple(shape)}"
            )
    return dict(zip(expected, found.values(), strict=True))


def _shown(value: Any) -> str:
    """A value as messages show it: arrays and other large ones by their type only, as they may hold people's data."""
    return repr(value) if isinstance(value, (str, int, float, bool)) else f"a {type(value).__name__}"


def _number(low: float, *, inclusive: bool = False) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        return value >= low if inclusive else value > low

    return check


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_defenses(value: Any) -> bool:
    if isinstance(value, str) or not isinstance(value, Sequence):
        return False
    return all(isinstance(one, (str, Mapping, Defense)) for one in value)


def _is_weights(value: Any) -> bool:
    plain = isinstance(value, Sequence) and not isinstance(value, str)
    return plain and len(value) > 1 and all(isinstance(one, (int, float)) and one > 0 for one in value)


def _is_table(reads: TypeAdapter[Any]) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        try:
            reads.validate_python(value)
        except ValidationError:
            return False
        return True

    return check


_TABLES: Mapping[str, TypeAdapter[Any]] = {
    "optimizer": TypeAdapter(AnyOptimizer),
    "schedule": TypeAdapter(AnySchedule),
}
"""Reads the fields of Knowledge that are tables of [training]."""
_CHECKS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "loss": (lambda value: value in get_args(Loss), " or ".join(map(repr, get_args(Loss)))),
    "algorithm": (lambda value: value in ("fedsgd", "fedavg"), "'fedsgd' (one step) or 'fedavg'"),
    "lr": (_number(0), "a learning rate above 0"),
    "batch_size": (_count, "a number of records, 1 or more"),
    "epochs": (_count, "a number of local epochs, 1 or more"),
    "momentum": (_number(0, inclusive=True), "a number from 0"),
    "weight_decay": (_number(0, inclusive=True), "a number from 0"),
    "optimizer": (
        _is_table(_TABLES["optimizer"]),
        "an optimizer such as 'adam' or {'kind': 'adam', 'eps': 1e-8}",
    ),
    "proximal": (_number(0, inclusive=True), "a number from 0, FedProx's mu"),
    "schedule": (
        _is_table(_TABLES["schedule"]),
        "a schedule such as 'cosine' or {'kind': 'step', 'every': 10}",
    ),
    "round_lrs": (lambda value: False, "left out: invert is given one update, of the learning rate lr"),
    "class_weights": (_is_weights, "a list of a weight above 0 for each class"),
    "defenses": (_is_defenses, 'a list of defenses, such as ["kind:key=value"]'),
    "auxiliary": (lambda value: isinstance(value, Sample), "a fedinv.attack.Sample"),
    "question": (lambda value: False, "left out: invert asks for records only"),
    "deviations": (lambda value: False, "left out: what a server of a scenario did is said there"),
}
"""For each field of Knowledge a check of its value, and the phrase that says what must be written."""
