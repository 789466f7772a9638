"""Holds what is claimed of an app's updates against the records that were behind them, by the judge of scenarios.

Where nothing is known of how the app's records are made, each input of the attacked layer is a column of numbers, with
the statistics of the true records themselves: the guess then knows more than any attacker does, which favors it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedinv import plugins
from fedinv.attack import Claim, Exchange, Observation
from fedinv.data import table_files
from fedinv.data.cells.notation import plain_numbers
from fedinv.data.population import Population
from fedinv.data.sources.csv import labeled_table
from fedinv.data.table import Table
from fedinv.errors import RequestError
from fedinv.judge.guess import CONSTANT, Guess, Guesses
from fedinv.judge.verdict import Case, judge
from fedinv.results.app_verdict import AppVerdict, UpdateVerdict
from fedinv.results.judged import Judged
from fedinv.runs import own_update
from fedinv.runs.own_apps.leak_map import Probed, leak_map
from fedinv.runs.own_apps.reading import undone
from fedinv.runs.own_apps.targets import Given, Target, how_trained, probed_target
from fedinv.runs.own_apps.verifying import known_to
from fedinv.runs.own_records import files as given_files
from fedinv.runs.own_records import row_space
from fedinv.runs.own_records.files import Layout, Records
from fedinv.runs.own_update import schema_of
from fedinv.scenario.scenario import JudgeTable
from fedinv.storage import paths
from fedinv.task.columns import Image, fit_continuous
from fedinv.task.foreign.encoded import schema_of_inputs
from fedinv.task.foreign.layers import made_up
from fedinv.task.foreign.part import Part, last_part
from fedinv.task.schema import Schema

WIDEST = 64
"""Columns of a table up to which every guess of the judge is tried; of wider ones only the constant one, as fitting
others would take minutes."""
CLASSES = 10_000
"""Labels from 0 below this are classes; others are not compared."""


@dataclass(frozen=True)
class Truth:
    """The records behind the updates of a recording."""

    records: Records
    """Records, with the update that each is behind."""
    schema: Schema | None
    """Data dictionary by which a table of texts was encoded; None where inputs were given as numbers."""
    notes: tuple[str, ...] = ()
    """How the file was read."""

    def of(self, place: int) -> Records:
        """The records behind one update, by its place."""
        held = self.records
        if held.update is None:
            return held
        chosen = held.update == place
        return Records(held.inputs[chosen], None if held.labels is None else held.labels[chosen])


def read(source: Any, given: Given, updates: int, project: str | Path | None) -> Truth:
    """Read the records behind `updates` updates: what `files.read` takes, or a table of texts that can be encoded.

    Raises RequestError for what cannot be used, and where it is not said which update a record is behind.
    """
    layout = layout_of(given)
    found = _of_texts(source, layout) or Truth(
        given_files.read(source, layout, "--truth", None if project is None else Path(project)), None
    )
    where = found.records.update
    if where is None and updates > 1:
        raise RequestError(
            f"--truth: there are {updates} updates: say which of them each record is behind, counted from 0, by an "
            "array 'update' or a first column 'update', or by a function that returns inputs, labels and updates"
        )
    if where is not None and (int(where.min()) < 0 or int(where.max()) >= updates):
        raise RequestError(f"--truth: 'update' counts from 0 to {updates - 1}, as there are {updates} updates")
    return found


def layout_of(given: Given) -> Layout:
    """The form in which a network takes its records. Raises RequestError where no made-up ones fit it."""
    example = made_up(given.network) if given.example is None else given.example
    return Layout(tuple(example.shape[1:]), example.dtype)


def schema_of_records(source: Any, given: Given, project: str | Path | None) -> Schema:
    """What every record must fit, by a schema or by records of the kind. Raises RequestError, one line, for others."""
    if isinstance(source, Schema | Mapping):
        found = schema_of(source)
        assert found is not None
        return found
    where = None if project is None else Path(project)
    records = given_files.read(source, layout_of(given), "--knows", where)
    try:
        return schema_of_inputs(records.inputs.flatten(1))
    except ValueError as error:
        raise RequestError(f"--knows: {error}") from None


def held_against(
    verdict: AppVerdict, given: Given, targets: Sequence[Target], truth: Truth, claims: Mapping[int, Claim]
) -> AppVerdict:
    """The verdict with the claims on every update judged of which true records are known.

    `claims` are the verified ones, by the update's place. Where fewer records verified themselves than there are,
    attacks are run once more by an attacker who knows how many there are, and all that they claim is judged.
    """
    found = []
    for place, target in enumerate(targets):
        records = truth.of(place)
        if len(records):
            found.append(_judged(given, target, truth, records, claims.get(place), place, verdict.updates[place]))
    return verdict.model_copy(update={"judged": found})


def _judged(
    given: Given,
    target: Target,
    truth: Truth,
    records: Records,
    verified: Claim | None,
    place: int,
    read: UpdateVerdict,
) -> Judged:
    probed = probed_target(given.network, given.example, target, how_trained(given))
    part = last_part(probed.layers, {name: tuple(tensor.shape) for name, tensor in probed.update.items()})
    sure = 0 if verified is None else len(verified.records)
    empty = Judged(
        update=place,
        round=target.exchange.round,
        client=target.client,
        records=len(records),
        inputs=read.inputs,
        attack=read.attack,
        claimed=sure,
        right=0,
        verified=sure,
        verified_right=0,
        labels_right=None,
        fields=None,
        recovered=None,
        exact=None,
        notes=list(truth.notes),
    )
    if part is None:
        return empty.model_copy(update={"notes": [*empty.notes, "no layer of the network can be attacked"]})
    claim, attack, of_records = verified, read.attack, read.inputs == "record"
    if sure < len(records):
        other, other_kind = _claimed(given, part, probed, target, len(records))
        if of_records and (back := undone(given, probed, part, len(records))) is not None and len(other.records):
            own = back.records(other.records)
            other = Claim(torch.zeros(0, 1), torch.zeros(0)) if own is None else replace(other, records=own)
        if len(other.records) > sure:
            claim, attack = other, other_kind
    truly = _true(probed, None if of_records else part, records, truth.schema)
    notes = [*empty.notes, *([] if of_records else [f"judged are the {part.fed} that enter the layer"])]
    result = empty.model_copy(update={"notes": notes, "attack": attack})
    return _compared(result, truly, claim, verified)


@dataclass(frozen=True)
class _True:
    """The true records as people of a scenario, in the inputs of the attacked layer."""

    people: Population
    labeled: bool
    """Whether they came with labels that are classes."""
    center: Tensor
    """Inputs of the layer at the schema's zero."""
    scale: Tensor
    """Inputs of the layer for each of the schema's standard deviations."""

    def claim(self, claim: Claim | None) -> Claim:
        """A claim in the layer's inputs as one in the schema's."""
        if claim is None or not len(claim.records):
            return Claim(torch.zeros(0, self.people.schema.width), torch.zeros(0))
        return replace(claim, records=((claim.records.double() - self.center) / self.scale).float())


def _compared(empty: Judged, truly: _True, claim: Claim | None, verified: Claim | None) -> Judged:
    """The verdict on a claim, and on the verified part of it."""
    people, rows = truly.people, np.arange(len(truly.people.labels))
    schema, tolerance = people.schema, JudgeTable().tolerance
    guesses = _constant(schema) if schema.image is None and len(schema.columns) > WIDEST else None
    case, rng = Case(truly.claim(claim), rows, (0,)), np.random.default_rng(0)
    (verdict,), rates = judge([case], people, tolerance, rng, guesses)
    sure, sure_right = truly.claim(verified), 0
    if len(sure.records):
        (other,), _ = judge([Case(sure, rows, (0,))], people, tolerance, rng, _constant(schema))
        sure_right = int(other.recovered.sum())
    labels = case.claim.labels
    labels_right = None
    if labels is not None and truly.labeled:
        claimed = labels[torch.from_numpy(verdict.match.claim[verdict.recovered])].double().numpy()
        labels_right = int((claimed == people.table.labels[verdict.recovered]).sum())
    return empty.model_copy(
        update={
            "claimed": len(case.claim.records),
            "right": int(verdict.recovered.sum()),
            "verified_right": sure_right,
            "labels_right": labels_right,
            "fields": rates.field_accuracy,
            "recovered": rates.recovered,
            "exact": rates.exact,
            "images": rates.images,
        }
    )


def _claimed(given: Given, part: Part, probed: Probed, target: Target, count: int) -> tuple[Claim, str]:
    """The claim with most expected right records of the attacks that apply, knowing how many records there are."""
    named = dict(zip(("sent", "received"), part.rename(probed.sent, probed.update), strict=True))
    mapped = leak_map(probed, target.client, count)
    row = next(one for one in mapped.layers if one.name == part.layers[0].name)
    knows = known_to(target, part, count)
    seen = Observation((0,), (Exchange(target.exchange.round, named["sent"], named["received"], count),))
    best, kind = Claim(torch.zeros(0, 1), torch.zeros(0)), ""
    for one in (name for name in own_update.in_turn() if name in row.applies):
        attack = plugins.loaded("attacks")[one](kind=one)
        limits = {"seconds": given.seconds, "fall_back": False}
        limits = {name: value for name, value in limits.items() if name in type(attack).model_fields}
        claim = own_update.invert(seen, knows, attack.model_copy(update=limits), 0, lambda _: None)
        if float(claim.confidence.sum()) > float(best.confidence.sum()):
            best, kind = claim, one
    return best, kind


def _true(probed: Probed, part: Part | None, records: Records, schema: Schema | None) -> _True:
    """The records, or what they feed into a part of the network."""
    inputs = records.inputs.flatten(1).double()
    if part is not None:
        schema = None
        layer, weights = part.layers[0], probed.forward(len(records))
        together = layer.mixed and not probed.undone
        inputs = row_space.inputs_of(probed.network, weights, layer.name, records.inputs, together).double()
    labels, labeled = _labels(records)
    center, scale = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    if schema is None:
        shape = tuple(records.inputs.shape[1:]) if part is None else (inputs.shape[1],)
        schema = _schema(inputs, shape, tuple(map(str, range(max(2, int(labels.max()) + 1)))))
        # an image has one mean and deviation for all of its inputs
        center, scale = (
            torch.tensor([getattr(one, name) for one in schema.columns], dtype=torch.float64)
            for name in ("mean", "std")
        )
    encoded = (inputs - center) / scale
    people = Population(
        table=Table(schema=schema, columns=schema.decode(encoded), labels=labels),
        inputs=encoded.float(),
        labels=torch.from_numpy(labels),
        shares=(np.arange(len(labels)),),
        holdout=np.empty(0, np.int64),
    )
    return _True(people, labeled, center, scale)


def _labels(records: Records) -> tuple[NDArray[np.int64], bool]:
    """Labels (n,) as classes, and whether they are; zeros where there are none or they are other numbers."""
    given = records.labels
    if given is None or not bool(((given == given.round()) & (given >= 0) & (given < CLASSES)).all()):
        return np.zeros(len(records), np.int64), False
    return given.long().numpy(), True


def _schema(inputs: Tensor, shape: tuple[int, ...], classes: tuple[str, ...]) -> Schema:
    """Every input as a column of numbers, or all of them as an image, with the statistics of the true records."""
    values = inputs.double().numpy()
    if len(shape) == 3 and shape[0] in (1, 3):
        low, high = float(values.min()), float(values.max())
        image = Image(
            name="image",
            channels=shape[0],
            down=shape[1],
            across=shape[2],
            mean=float(values.mean()),
            std=float(values.std()) or 1.0,
            low=low,
            high=high if high > low else low + 1,
        )
        return Schema(columns=(image,), label="label", classes=classes)
    columns = tuple(fit_continuous(f"input {place}", column) for place, column in enumerate(values.T))
    return Schema(columns=columns, label="label", classes=classes)


def _constant(schema: Schema) -> Guesses:
    guess = (Guess(CONSTANT, lambda count, _: schema.guess(count), random=False),)
    return Guesses(guess, guess, guess)


def _of_texts(source: Any, layout: Layout) -> Truth | None:
    """A table of people, texts among its cells, encoded as the records of a scenario; None for anything else.

    Raises RequestError where a cell holds no value: a scenario would fill it, and the app may have fed something else.
    """
    if not isinstance(source, str | Path) or layout.schema is not None:
        return None
    path = paths.given(source)
    if path.suffix == ".npz" or not path.is_file():
        return None
    mark = given_files.delimiter(path)
    texts = dict(table_files.read(path, mark).texts)
    for name, cells in texts.items():
        given_files.refuse_gaps(name, cells, path)
    update = given_files.updates(texts, path)
    names = list(texts)
    if len(names) < 2 or all(plain_numbers(texts[name]) is not None for name in names[:-1]):
        return None
    try:
        table = labeled_table(path, names[-1], mark, () if update is None else (given_files.UPDATE,))
    except RequestError as error:
        raise RequestError(f"--truth: {error}; or give the network's inputs as numbers") from None
    if table.schema.width != layout.width:
        why = f" ({'; '.join(table.notes)})" if table.notes else ""
        raise RequestError(
            f"--truth: {path} encodes to {table.schema.width} inputs{why}, and the network has {layout.width}: give "
            "the network's inputs as numbers, or name a function that prepares them, as app.task:mine"
        )
    inputs = table.schema.encode(table.columns).reshape(-1, *layout.shape)
    labels = torch.from_numpy(np.asarray(table.labels, np.float64))
    note = (
        "the table was encoded as a scenario's: numbers standardized by its own mean and deviation, categories one-hot"
    )
    return Truth(Records(inputs, labels, update), table.schema, (note, *table.notes))
