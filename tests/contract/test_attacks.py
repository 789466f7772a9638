"""What every attack keeps, built in or of another package: found by its kind, never listed here."""

import json
import types
import typing
from dataclasses import fields, replace
from functools import cache

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from fedinv import plugins
from fedinv.attack import Attack, Claim, Knowledge
from fedinv.errors import RequestError
from fedinv.runs.claim_checks import wrong
from fedinv.runs.run import parse_attack
from fedinv.runs.wall import wall

from .conftest import CLASSES, NUMBER, flattened, observed

KINDS = tuple(plugins.available("attacks"))
ENOUGH = 4
"""Iterations, restarts, draws ... of an attack here, or the least that its bounds allow: one record more than there are
in the update, so that a limit on the batch's size does not end the attack."""


@cache
def attack_class(kind):
    return plugins.load("attacks", kind)


def made(kind, **settings):
    return attack_class(kind).model_validate({"kind": kind, **settings})


def quick(kind):
    """The settings of an attack that takes no time: every whole number as small as `ENOUGH` or its bounds allow."""
    settings = {}
    for name, field in attack_class(kind).model_fields.items():
        if int in _types(field.annotation) and bool not in _types(field.annotation):
            low = max((m.ge for m in field.metadata if hasattr(m, "ge")), default=0)
            high = min((m.le for m in field.metadata if hasattr(m, "le")), default=ENOUGH)
            least = min(max(low, ENOUGH), max(high, low))
            settings[name] = least if field.default is None else min(least, field.default)
    return settings


def variants(kind, whole=True):
    """The attack as it is by default, and with every other choice of each setting that is a choice.

    Not `whole`: without the settings whose default is None, which only override what another setting says.
    """
    yield made(kind, **quick(kind))
    for name, field in attack_class(kind).model_fields.items():
        if field.default is None and not whole:
            continue
        choices = [True, False] if bool in _types(field.annotation) else _choices(field.annotation)
        for choice in choices:
            if name != "kind" and choice not in (field.default, "cuda"):
                yield made(kind, **quick(kind), **{name: choice})


def _types(annotation):
    return set(typing.get_args(annotation)) | {annotation}


def _choices(annotation):
    """The words of a Literal, also of one beside None."""
    if typing.get_origin(annotation) is typing.Literal:
        return typing.get_args(annotation)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [choice for part in typing.get_args(annotation) for choice in _choices(part)]
    return []


VARIANTS = [variant for kind in KINDS for variant in variants(kind)]
MODES = [variant for kind in KINDS for variant in variants(kind, whole=False)]
DEFAULTS = [made(kind, **quick(kind)) for kind in KINDS]


def name_of(attack):
    changed = {
        k: v
        for k, v in attack.model_dump().items()
        if v != quick(attack.kind).get(k, type(attack).model_fields[k].default)
    }
    return "-".join([attack.kind, *(f"{key}={value}" for key, value in changed.items())])


def run(attack, seen, knows, seed=0):
    """The claim, right in form and made without a change to what was given."""
    before = flattened((seen, knows))
    shares = []
    with wall():
        claim = attack.run(seen, knows, np.random.default_rng(seed), shares.append)
    assert flattened((seen, knows)) == before, "what was given was changed"
    schema = knows.schema or CLASSES
    fault = wrong(claim, attack.asks, knows.question, schema)
    assert fault is None, fault
    found = claim.records if isinstance(claim, Claim) else claim.scores
    assert len(found) or claim.notes, "nothing is claimed, and the notes do not say why"
    assert all(note.strip() and "\n" not in note for note in claim.notes)
    assert all(0 <= share <= 1 for share in shares)
    return claim


def claimed(claim):
    return len(claim.records if isinstance(claim, Claim) else claim.scores)


def given(attack, **change):
    """The observation, changed as the case has it, and all knowledge."""
    seen, knows = observed(sees=attack.sees, **change)
    return seen, knows


@pytest.mark.parametrize("kind", KINDS)
def test_an_attack_is_made_by_its_kind_alone_frozen_and_read_back_as_it_was(kind):
    attack = made(kind)
    assert isinstance(attack, Attack)
    assert type(attack).__doc__
    again = type(attack).model_validate(json.loads(attack.model_dump_json()))
    assert again == attack
    assert hash(again) == hash(attack)
    with pytest.raises(ValidationError):
        attack.kind = "another"
    assert attack.asks in typing.get_args(typing.get_type_hints(type(attack).asks.fget)["return"])
    assert attack.sees in ("update", "model")


@pytest.mark.parametrize("kind", KINDS)
def test_an_attack_adapts_to_defenses_that_exist(kind):
    assert attack_class(kind).adapts_to <= set(plugins.available("defenses"))


@pytest.mark.parametrize("attack", VARIANTS, ids=name_of)
def test_the_same_seed_gives_the_same_claim_and_nothing_that_was_given_is_changed(attack):
    found = []
    for time in (1, 2):
        torch.manual_seed(time)  # nothing may come from the global generators
        np.random.seed(time)  # noqa: NPY002
        seen, knows = given(attack)
        found.append(run(attack, seen, knows))
    assert flattened(found[0]) == flattened(found[1])


@pytest.mark.parametrize("attack", MODES, ids=name_of)
def test_an_attack_that_knows_less_claims_less_and_never_fails(attack):
    seen, knows = given(attack)
    for field in fields(Knowledge):
        run(attack, seen, replace(knows, **{field.name: None}))
    claim = run(attack, seen, Knowledge())
    assert not claimed(claim) or isinstance(claim, Claim), "an answer to a question that was not asked"


@pytest.mark.parametrize("attack", DEFAULTS, ids=name_of)
def test_an_attack_meets_every_defense_that_it_is_told_of_and_never_fails(attack):
    for defense in sorted(type(attack).adapts_to):
        seen, knows = given(attack, defenses=(defense,))
        assert flattened(run(attack, seen, knows)) == flattened(run(attack, *given(attack, defenses=(defense,))))


@pytest.mark.parametrize("attack", MODES, ids=name_of)
def test_an_attack_on_a_label_that_is_a_number_never_fails(attack):
    run(attack, *given(attack, schema=NUMBER))


def _each(seen, change):
    """The observation with every tensor that came back changed."""
    last = seen.last
    return replace(seen, exchanges=(replace(last, received={n: change(t) for n, t in last.received.items()}),))


def _sent(seen, change):
    last = seen.last
    return replace(seen, exchanges=(replace(last, sent={n: change(t) for n, t in last.sent.items()}),))


def _masked(tensor):
    words = np.random.default_rng(3).integers(-(2**63), 2**63 - 1, size=tensor.shape)
    return torch.from_numpy(words)


def _some(value):
    def change(tensor):
        changed = tensor.clone()
        changed.view(-1)[0] = value
        return changed

    return change


SPOILED = {
    "zeros": lambda seen: _each(seen, torch.zeros_like),
    "NaN": lambda seen: _each(seen, _some(float("nan"))),
    "infinite": lambda seen: _each(seen, _some(float("inf"))),
    "masked": lambda seen: _each(seen, _masked),
    "cut short": lambda seen: _each(seen, lambda tensor: tensor[:1]),
    "nothing": lambda seen: replace(seen, exchanges=(replace(seen.last, received={}),)),
    "a parameter less": lambda seen: replace(
        seen, exchanges=(replace(seen.last, received=dict(list(seen.last.received.items())[1:])),)
    ),
}
"""Updates that tell nothing of any record."""
STRANGE = {
    "noise": lambda seen: _each(seen, lambda t: torch.randn(t.shape, generator=torch.Generator().manual_seed(1))),
    "huge": lambda seen: _each(seen, lambda t: 1e30 * t),
    "NaN was sent": lambda seen: _sent(seen, _some(float("nan"))),
    "another network was sent": lambda seen: _sent(seen, lambda tensor: tensor[:1]),
    "nothing was sent": lambda seen: replace(seen, exchanges=(replace(seen.last, sent={}),)),
    "no records": lambda seen: replace(seen, exchanges=(replace(seen.last, records=0),)),
    "many records": lambda seen: replace(seen, exchanges=(replace(seen.last, records=10_000),)),
    "a sum": lambda seen: replace(seen, clients=(0, 1, 2)),
    "the same twice": lambda seen: replace(seen, exchanges=(seen.last, replace(seen.last, round=3))),
}
"""Observations that are out of the ordinary."""


@pytest.mark.parametrize("case", SPOILED)
@pytest.mark.parametrize("attack", MODES, ids=name_of)
def test_of_an_update_that_tells_nothing_nothing_is_claimed_and_the_notes_say_why(attack, case):
    seen, knows = given(attack)
    claim = run(attack, SPOILED[case](seen), knows)
    # where the trained model is looked at, the update is nothing to it
    if attack.sees == "update":
        assert not claimed(claim), case
        assert claim.notes


@pytest.mark.parametrize("case", [*SPOILED, *STRANGE])
@pytest.mark.parametrize("attack", DEFAULTS, ids=name_of)
def test_whatever_is_observed_of_a_label_that_is_a_number_an_attack_never_fails(attack, case):
    seen, knows = given(attack, schema=NUMBER)
    run(attack, {**SPOILED, **STRANGE}[case](seen), knows)


@pytest.mark.parametrize("case", STRANGE)
@pytest.mark.parametrize("attack", MODES, ids=name_of)
def test_whatever_is_observed_an_attack_never_fails(attack, case):
    seen, knows = given(attack)
    run(attack, STRANGE[case](seen), knows)


@pytest.mark.parametrize("less", [(), ("schema",), ("lr",), ("schema", "algorithm")], ids="-".join)
@pytest.mark.parametrize("attack", [one for one in MODES if one.asks == "records"], ids=name_of)
def test_of_an_update_of_noise_no_record_counts_as_verified(attack, less):
    seen, knows = given(attack)
    size = float(torch.stack([t.std() for t in seen.last.received.values() if t.numel() > 1]).mean())
    for seed in range(3):
        drawn = torch.Generator().manual_seed(seed)

        def noise(tensor, drawn=drawn):
            return size * torch.randn(tensor.shape, generator=drawn)

        claim = run(attack, _each(seen, noise), replace(knows, **dict.fromkeys(less)))
        assert not claim.verified.any(), claim.notes


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_settings_are_refused_in_one_line_that_names_the_key(kind):
    with pytest.raises(RequestError, match=rf"^attack {kind}: nonsense: unknown key") as caught:
        parse_attack({"kind": kind, "nonsense": 1})
    assert "\n" not in str(caught.value)
