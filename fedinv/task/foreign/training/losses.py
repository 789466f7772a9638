"""Losses of apps: those that are shipped, by name, and an app's own, with the form of targets that each takes."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from fedinv.errors import RequestError, nearest, plain
from fedinv.task.foreign.factory import load_object
from fedinv.task.foreign.training.spec import table

Form = Literal["classes", "one-hot", "column", "flat"]
"""How targets are handed over: int64 (n,), float (n, classes), float (n, 1) or float (n,)."""
Objective = Callable[[Tensor, Tensor], Tensor]
"""A loss: the mean, a tensor of one number, from outputs (n, ...) and targets."""


@dataclass(frozen=True)
class AppLoss:
    """A loss that an app's training makes small."""

    name: str
    """Name in messages."""
    objective: Objective
    """The loss of outputs and targets."""
    numbers: bool | None = None
    """Whether targets are numbers, True, or classes, False; None: not known."""
    chances: bool = False
    """Whether the slope by each logit is a positive multiple of the class' chance less 1 for the label's class, 0 for
    others, as of cross-entropy and binary cross-entropy."""


def cross_entropy(class_weights: list[float] | None = None, label_smoothing: float = 0.0) -> Objective:
    """Cross-entropy of logits, as torch's: with `class_weights` a mean over weights, with `label_smoothing` 0 to 1."""
    weight = None if class_weights is None else torch.tensor([float(one) for one in class_weights])

    def objective(outputs: Tensor, targets: Tensor) -> Tensor:
        weights = None if weight is None else weight.to(outputs)
        return functional.cross_entropy(outputs, targets, weights, label_smoothing=float(label_smoothing))

    return objective


def _bce() -> Objective:
    return functional.binary_cross_entropy


def _bce_with_logits(pos_weight: float | None = None) -> Objective:
    """Binary cross-entropy of one logit; `pos_weight` multiplies the part of records of class 1."""
    weight = None if pos_weight is None else torch.tensor(float(pos_weight))

    def objective(outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.binary_cross_entropy_with_logits(
            outputs, targets, pos_weight=None if weight is None else weight.to(outputs)
        )

    return objective


def _mse() -> Objective:
    return functional.mse_loss


SHIPPED: Mapping[str, tuple[Callable[..., Objective], tuple[str, ...], bool]] = {
    "cross-entropy": (cross_entropy, ("class_weights", "label_smoothing"), False),
    "bce": (_bce, (), False),
    "bce-with-logits": (_bce_with_logits, ("pos_weight",), False),
    "mse": (_mse, (), True),
}
"""The losses by name: what makes each, the keys that it takes, and whether its targets are numbers."""


def read_loss(given: "str | Objective", project: Path | None = None) -> AppLoss:
    """The loss that a name such as "cross-entropy:label_smoothing=0.1" or "app.task:loss" means, or a callable itself.

    Of a class, as torch.nn.MSELoss, an instance is made. Raises RequestError for an unknown name or key, naming the
    nearest, and where an app's loss cannot be imported or made.
    """
    if not isinstance(given, str):
        return _own(given, getattr(given, "__name__", type(given).__name__))
    kind, _, rest = given.partition(":")
    if kind in SHIPPED:
        make, known, numbers = SHIPPED[kind]
        settings = table(rest, "--loss")
        for key in settings:
            if key not in known:
                raise RequestError(f"--loss: {kind} has no key {key!r}{nearest(key, known) or ', it takes none'}")
        try:
            return AppLoss(kind, make(**settings), numbers, not numbers and not settings.get("label_smoothing"))
        except (TypeError, ValueError):
            raise RequestError(f"--loss: {given!r} cannot be read, as the values of its keys are no numbers") from None
    if not rest:
        raise RequestError(
            f"--loss: unknown loss {given!r}{nearest(given, SHIPPED)}; write one of {', '.join(SHIPPED)}, or where "
            "your own is, as app.task:loss"
        )
    return _own(load_object(given, project, "--loss"), given)


def _own(found: Any, name: str) -> AppLoss:
    try:
        made = found() if isinstance(found, type) else found
    except Exception as error:
        raise RequestError(f"--loss: {name} cannot be made without arguments: {plain(str(error), 200)}") from None
    if not callable(made):
        raise RequestError(f"--loss: {name} is a {type(made).__name__}, name a function of outputs and targets")
    numbers = True if isinstance(made, torch.nn.MSELoss | torch.nn.L1Loss | torch.nn.SmoothL1Loss) else None
    return AppLoss(name, made, numbers)


def usual_loss(outputs: Tensor) -> AppLoss:
    """The loss taken for an app's where none is named, by its outputs (n, ...) on an example.

    Cross-entropy; of a single output binary cross-entropy, on a chance where all are between 0 and 1.
    """
    if outputs.ndim > 1 and outputs.shape[-1] > 1:
        return read_loss("cross-entropy")
    chances = bool(((outputs >= 0) & (outputs <= 1)).all())
    return read_loss("bce" if chances else "bce-with-logits")


def shaped(values: Tensor, form: Form, outputs: int) -> Tensor:
    """Classes or numbers (n,) as targets of a form."""
    if form == "classes":
        return values.long()
    if form == "one-hot":
        return functional.one_hot(values.long(), outputs).float()
    return values.float()[:, None] if form == "column" else values.float()


def fitting_form(call: Callable[[Tensor], object], outputs: Tensor, numbers: bool | None, what: str) -> Form:
    """The form of targets that a call, of a loss or of a training, takes for such outputs (n, ...), n at least 2.

    `call` is given targets of each form in turn; the first that neither raises nor warns is taken, as torch warns of
    shapes that it broadcasts. Raises RequestError beginning with `what` where there is none.
    """
    wide = outputs.ndim > 1 and outputs.shape[-1] > 1
    forms: tuple[Form, ...] = ("classes", "one-hot") if wide else ("column", "flat", "classes")
    if not wide and outputs.ndim == 1:
        forms = ("flat", "column", "classes")
    if numbers and wide:
        raise RequestError(f"{what}: the network has {outputs.shape[-1]} outputs, and numbers are read of one alone")
    values, said = torch.arange(len(outputs)) % 2, ""
    for form in forms[: 2 if numbers else None]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                call(shaped(values, form, outputs.shape[-1] if wide else 1))
        except RequestError:
            raise
        except Exception as error:  # the app's own code may raise anything
            said = said or f"{type(error).__name__}: {plain(str(error), 200)}"
            continue
        return form
    raise RequestError(
        f"{what}: does not take the network's outputs, of the shape {tuple(outputs.shape)}, with targets as "
        f"{' or '.join(forms)} ({said})"
    )


def loss_form(loss: AppLoss, outputs: Tensor) -> Form:
    """The form of targets that a loss takes for such outputs. Raises RequestError where it takes none."""

    def call(targets: Tensor) -> None:
        value = loss.objective(outputs, targets)
        if not isinstance(value, Tensor) or value.numel() != 1:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise RequestError(f"--loss: {loss.name} gives {shape}, not the mean as a tensor of one number")

    return fitting_form(call, outputs, loss.numbers, f"--loss: {loss.name}")
