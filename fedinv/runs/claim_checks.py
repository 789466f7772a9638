"""Checks what an attack returned before it is stored and judged: each fault is a phrase that says what to return."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fedinv.attack import Answer, Asks, Claim, Question
from fedinv.task.schema import Schema

CLAIMED: frozenset[Asks] = frozenset({"records", "classes"})
"""What is answered by a Claim; all else by an Answer."""


def wrong(found: object, asks: Asks, question: Question | None, schema: Schema) -> str | None:
    """What is wrong with an attack's claim or answer, and what to return instead; None where nothing is.

    A claim's records must be of the schema's width, even where the schema is withheld from the attack: it sees the
    width in the first layer. An answer's scores must have a row and a column for all that was asked, or no row at all.
    """
    if asks in CLAIMED:
        if not isinstance(found, Claim):
            return f"an attack that asks for {asks} returns a Claim, not {_type(found)}"
        return _wrong_claim(found, schema)
    if not isinstance(found, Answer):
        return f"an attack that asks for {asks} returns an Answer, not {_type(found)}"
    return _wrong_answer(found, asks, question, schema)


def _wrong_claim(claim: Claim, schema: Schema) -> str | None:
    count = len(claim.records) if isinstance(claim.records, Tensor) and claim.records.ndim else 0
    shares = "probabilities between 0 and 1"
    told = claim.labels
    return (
        # without records any width will do: an attack that knows nothing does not know the width
        _wrong_tensor("records", claim.records, torch.float32, (count, schema.width if count else None))
        or _wrong_tensor("confidence", claim.confidence, torch.float32, (count,))
        or (f"confidence must be {shares}" if _outside(claim.confidence) else None)
        or (None if told is None else _wrong_labels(told, count, schema))
        or (None if claim.fields is None else _wrong_fields(claim.fields, count, schema, shares))
        or (None if claim.checked is None else _wrong_tensor("checked", claim.checked, torch.bool, (count,)))
        or (None if claim.owners is None else _wrong_tensor("owners", claim.owners, torch.int64, (count,)))
        or _wrong_mismatch(claim.mismatch)
        or _wrong_notes(claim.notes)
    )


def _wrong_labels(labels: Tensor, count: int, schema: Schema) -> str | None:
    if not count and isinstance(labels, Tensor) and labels.shape == (0,):
        return None  # of no records any type will do: an attack may not know whether labels are classes
    if schema.target is not None:
        return _wrong_tensor("labels", labels, torch.float32, (count,))
    fault = _wrong_tensor("labels", labels, torch.int64, (count,))
    if fault is None and count and not bool(((labels >= 0) & (labels < schema.outputs)).all()):
        return f"labels must be classes from 0 to {schema.outputs - 1}, not {int(labels.min())} to {int(labels.max())}"
    return fault


def _wrong_fields(fields: Tensor, count: int, schema: Schema, shares: str) -> str | None:
    fault = _wrong_tensor("fields", fields, torch.float32, (count, schema.fields))
    return fault or (f"fields must be {shares}" if _outside(fields) else None)


def _wrong_mismatch(mismatch: Any) -> str | None:
    if mismatch is None:
        return None
    if isinstance(mismatch, bool) or not isinstance(mismatch, float | int):
        return f"mismatch must be a float or None, not {_type(mismatch)}"
    return None if 0 <= mismatch < float("inf") else f"mismatch must be finite and at least 0, not {mismatch}"


def _wrong_notes(notes: Any) -> str | None:
    if isinstance(notes, tuple) and all(isinstance(note, str) for note in notes):
        return None
    held = _type(notes) if not isinstance(notes, tuple) else "a tuple of something else"
    return f"notes must be a tuple of strings, write notes=('...',), not {held}"


def _wrong_answer(answer: Answer, asks: Asks, question: Question | None, schema: Schema) -> str | None:
    scores = answer.scores
    fault = _wrong_tensor("scores", scores, torch.float32, (None, None))
    if fault is None and len(scores):  # without rows: no answer
        fault = _wrong_tensor("scores", scores, torch.float32, _asked(asks, question, schema))
    return fault or _wrong_notes(answer.notes)


def _asked(asks: Asks, question: Question | None, schema: Schema) -> tuple[int | None, int | None]:
    """Rows and columns that an answer has; None where the question does not say how many."""
    people = None if question is None or question.people is None else len(question.people)
    options = None if question is None or question.options is None else len(question.options)
    shapes: Mapping[str, tuple[int | None, int | None]] = {
        "attribute": (people, options),
        "membership": (people, 1),
        "line-up": (1, people),
        "labels": (1, schema.outputs),
        "property": (1, 1),
    }
    return shapes.get(asks, (None, None))


def _wrong_tensor(name: str, found: Any, dtype: torch.dtype, shape: tuple[int | None, ...]) -> str | None:
    wanted = f"{name} must be a {str(dtype).removeprefix('torch.')} tensor of shape {_shape(shape)}"
    if not isinstance(found, Tensor):
        return f"{wanted}, not {_type(found)}"
    if found.dtype != dtype or found.device.type != "cpu":
        where = "" if found.device.type == "cpu" else f" on {found.device}, call .cpu()"
        return f"{wanted}, not {str(found.dtype).removeprefix('torch.')}{where}"
    if found.ndim != len(shape) or any(w not in (None, h) for w, h in zip(shape, found.shape, strict=True)):
        return f"{wanted}, not {_shape(tuple(found.shape))}"
    if found.requires_grad:
        return f"{name} must not require gradients, call .detach()"
    return None if bool(found.isfinite().all()) else f"{name} must be finite: leave out what is not a number"


def _outside(chances: Tensor) -> bool:
    """Whether one of the chances is no probability."""
    return not bool(((chances >= 0) & (chances <= 1)).all())


def _shape(shape: tuple[int | None, ...]) -> str:
    sides = ["any" if side is None else str(side) for side in shape]
    return f"({', '.join(sides)}{',' if len(sides) == 1 else ''})"


def _type(found: object) -> str:
    name = type(found).__name__
    return "None" if found is None else f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"
