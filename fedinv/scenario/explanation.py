"""Explanations of attacks, defenses, data sets and scenario keys, made of the docstrings in the code."""

import inspect
import re
import sys
import types
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

from annotated_types import Ge, Gt, Interval, Le, Lt, MaxLen, MinLen
from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo

from fedinv import plugins
from fedinv.attack import Attack
from fedinv.data.dataset import Dataset
from fedinv.defense import Defense
from fedinv.errors import RequestError, nearest
from fedinv.federation.agreement import Server
from fedinv.scenario.descriptions import descriptions
from fedinv.scenario.reading import GROUPS
from fedinv.scenario.scenario import Scenario

PAPER = re.compile(r"(?:(?<=[(\s])|^)((?:[A-Z][\w\u2019-]+(?:, | and | et al\. | ))+(?:19|20)\d\d[a-z]?(?:, [^);:]+)?)")
"""Pattern of a citation, such as "Phong et al. 2018, section 3"."""


class Fact(BaseModel):
    """One line on a property of a plugin, such as what it needs or claims."""

    model_config = ConfigDict(frozen=True)

    name: str
    """Name of the property: "needs", "claims", "adapts to", "holds" or "paper"."""
    says: str
    """Value of the property, as a phrase."""


class Setting(BaseModel):
    """One key with its type, bounds, default and description."""

    model_config = ConfigDict(frozen=True)

    name: str
    """Name of the key."""
    form: str
    """Type and bounds in words, such as "number, above 0"."""
    default: str | None
    """Default value as TOML; None where a value must be given."""
    says: str
    """Description of the key with its unit and consequence; empty where it is not documented."""


class Explanation(BaseModel):
    """The explanation of one name."""

    model_config = ConfigDict(frozen=True)

    name: str
    """The name that is explained."""
    what: str
    """Sort of the name: an attack, a defense, a data set, a scenario's table, a scenario's key or a setting."""
    text: tuple[str, ...]
    """Paragraphs of text."""
    facts: tuple[Fact, ...] = ()
    """Properties of a plugin; empty for keys."""
    settings: tuple[Setting, ...] = ()
    """Keys of a plugin or table, or the one key that is explained."""


def explanation(name: str) -> Explanation:
    """Explain a kind (`exact`), a kind's setting (`top-k.keep`) or a scenario's key (`training.lr`).

    Raises RequestError for a name that is none of these, naming the nearest.
    """
    kind, _, key = name.partition(".")
    for group in _GROUPS:
        if kind in plugins.available(group) and not (group == "datasets" and key in ("", "source") and kind == "data"):
            model = plugins.load(group, kind)
            return _setting(name, model, key) if key else _plugin(group, kind, model)
    return _key(name)


_GROUPS: tuple[plugins.Group, ...] = ("attacks", "defenses", "datasets", "deviations", "detectors")
_WHAT = {
    "attacks": "an attack",
    "defenses": "a defense",
    "datasets": "a data set",
    "deviations": "a deviation",
    "detectors": "a detector",
}


def _plugin(group: plugins.Group, kind: str, model: type[BaseModel]) -> Explanation:
    said = _paragraphs(model.__doc__ if model.__doc__ else "")
    module = inspect.getdoc(sys.modules[model.__module__]) or ""
    text = (*(_paragraphs(module) if module.split("\n")[0] not in " ".join(said) else ()), *said)
    papers = dict.fromkeys(found.strip().rstrip(".,:") for one in text for found in PAPER.findall(one))
    facts = (*_facts(model), *([Fact(name="paper", says="; ".join(papers))] if papers else []))
    return Explanation(
        name=kind,
        what=_WHAT[group],
        text=text,
        facts=facts,
        settings=tuple(_settings(model, ("kind", "source"))),
    )


def _facts(model: type[BaseModel]) -> Iterator[Fact]:
    """Properties of a plugin that follow from its class."""
    if issubclass(model, Attack):
        default: Any = cast(Any, model).model_construct()
        sees = "the trained model" if default.sees == "model" else "each update that the server watches"
        yield Fact(name="needs", says=f"{sees}; of a client's rounds {'the last' if model.last_only else 'each'}")
        yield Fact(name="claims", says=default.asks)
        answered = ", ".join(sorted(model.adapts_to)) or "no defense"
        yield Fact(name="adapts to", says=answered)
    elif issubclass(model, Defense):
        formal = model.privacy_events is not Defense.privacy_events
        private = "differential privacy, charged to each client's ledger" if formal else "no differential privacy"
        hidden = "; hides single updates in their sum" if model.secure_aggregation else ""
        yield Fact(name="claims", says=private + hidden)
        needs = [
            *(["a gradient of each record"] if model.per_record else []),
            *(["a secure aggregation right after it"] if model.for_sum else []),
            *(["two clients or more in a round"] if model.secure_aggregation else []),
            *(["a server that carries it out"] if model.by_server else []),
        ]
        yield Fact(name="needs", says="; ".join(needs) or "nothing")
    elif issubclass(model, Dataset):
        yield Fact(name="holds", says=f"{'images' if model.images else 'a table'}; records are {model.people}")


def _key(name: str) -> Explanation:
    """The explanation of a scenario's key or table; of [data], [[attacks]] and [[defenses]] over all plugins.

    Raises RequestError for a key that does not exist, naming the nearest.
    """
    place: list[type[BaseModel]] = [Scenario]
    steps = name.split(".")
    for depth, step in enumerate(steps):
        if step.isdecimal():
            continue
        known = {key for model in place for key in model.model_fields}
        if step not in known:
            raise RequestError(f"explain {name}: there is no {step!r}{nearest(step, {*known, *_others(depth)})}")
        holders = [model for model in place if step in model.model_fields]
        place = [inner for model in holders for inner in _tables(model, step)]
    what = "a scenario's key" if not place else "a scenario's table"
    text = [_paragraphs(model.__doc__ or "") for model in place]
    said = [(one.says,) for one in _of_each(holders, steps[-1]) if one.says]
    if not place:
        return Explanation(name=name, what=what, text=(), settings=_of_each(holders, steps[-1]))
    keys = dict.fromkeys(key for model in place for key in model.model_fields)
    settings = [one for key in keys for one in _of_each([model for model in place if key in model.model_fields], key)]
    if any(one.name.startswith("kind (") for one in settings):  # the tables of one key, each under its kind
        settings = [one for one in settings if not one.name.startswith("kind (")]
        named = [_form(model.model_fields["kind"]) if "kind" in model.model_fields else None for model in place]
        text = [(f"{kind}: {lines[0]}", *lines[1:]) if kind else lines for kind, lines in zip(named, text, strict=True)]
    return Explanation(
        name=name,
        what=what,
        text=tuple(dict.fromkeys(line for lines in (*said, *text) for line in lines)),
        settings=tuple(settings),
    )


def _of_each(models: Sequence[type[BaseModel]], key: str) -> tuple[Setting, ...]:
    """One key of several tables: once where all agree, else once a table with the table's kind in its name."""
    found = {model: _described(model, key) for model in models}
    if len(set(found.values())) == 1:
        return (found[models[0]],)
    kinds = {model: model.model_fields.get("source", model.model_fields.get("kind")) for model in models}
    return tuple(
        one.model_copy(update={"name": f"{key} ({', '.join(get_args(field.annotation)) if field else model.__name__})"})
        for model, one in found.items()
        for field in [kinds[model]]
    )


def _setting(name: str, model: type[BaseModel], key: str) -> Explanation:
    if key not in model.model_fields:
        raise RequestError(f"explain {name}: there is no {key!r}{nearest(key, model.model_fields)}")
    return Explanation(name=name, what="a setting", text=(), settings=(_described(model, key),))


def _others(depth: int) -> set[str]:
    """Kinds of plugins, which an unknown first step of a name may be meant for; empty for later steps."""
    return {kind for group in _GROUPS for kind in plugins.available(group)} if depth == 0 else set()


def _tables(model: type[BaseModel], key: str) -> list[type[BaseModel]]:
    """The tables that a key may hold; for those of plugins, as [[attacks]], every plugin's."""
    holders = {"": Scenario, "server": Server}
    for group, table, _ in GROUPS:
        holder, _, last = table.rpartition(".")
        if model is holders[holder] and key == last:
            return [plugins.load(group, kind) for kind in plugins.available(group)]
    return list(_models(model.model_fields[key].annotation))


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) not in (Literal, None):
        for inner in get_args(annotation):
            yield from _models(inner)


def _settings(model: type[BaseModel], but: Sequence[str]) -> Iterator[Setting]:
    for key in model.model_fields:
        if key not in but:
            yield _described(model, key)


def _described(model: type[BaseModel], key: str) -> Setting:
    field = model.model_fields[key]
    default = None if field.is_required() else _toml(field.get_default(call_default_factory=True))
    return Setting(name=key, form=_form(field), default=default, says=descriptions(model).get(key, ""))


def _form(field: FieldInfo) -> str:
    bounds = [text for one in field.metadata for text in _bounds(one)]
    return ", ".join([_type(field.annotation), *bounds])


def _type(annotation: Any) -> str:
    """A type in words, such as "whole number" or "list of text"."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        bounds = [text for one in inner[1:] for text in _bounds(one)]
        return " ".join([_type(inner[0]), *bounds])
    if origin is Literal:
        return " or ".join(f'"{one}"' for one in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_type(one) for one in inner if one is not type(None)))
    if origin in (tuple, list):
        return f"list of {_type(inner[0])}" if inner else "list"
    names = {int: "whole number", float: "number", bool: "true or false", str: "text"}
    return names.get(annotation, "table")


def _bounds(one: Any) -> Iterator[str]:
    if isinstance(one, (Gt, Interval)) and one.gt is not None:
        yield f"above {one.gt}"
    if isinstance(one, (Ge, Interval)) and one.ge is not None:
        yield f"at least {one.ge}"
    if isinstance(one, (Lt, Interval)) and one.lt is not None:
        yield f"below {one.lt}"
    if isinstance(one, (Le, Interval)) and one.le is not None:
        yield f"at most {one.le}"
    if isinstance(one, MinLen):
        yield f"{one.min_length} or more of them"
    if isinstance(one, MaxLen):
        yield f"{one.max_length} of them at most"
    if isinstance(one, FieldInfo):
        for inner in one.metadata:
            yield from _bounds(inner)


def _toml(value: Any) -> str:
    if isinstance(value, BaseModel):
        written = value.model_dump(mode="json", exclude_none=True)
        return "{ " + ", ".join(f"{key} = {_toml(one)}" for key, one in written.items()) + " }"
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + " }"
    return f'"{value}"' if isinstance(value, str) else str(value)


def _paragraphs(doc: str) -> tuple[str, ...]:
    parts = [part for part in inspect.cleandoc(doc).split("\n\n") if part.strip()]
    return tuple(part.rstrip() if part.startswith(" ") else " ".join(part.split()) for part in parts)
