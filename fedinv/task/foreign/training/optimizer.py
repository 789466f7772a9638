"""Optimizers of apps: by name and keys, or what makes the app's own, and what their steps are made of."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from fedinv.errors import RequestError, nearest, plain
from fedinv.task.foreign.factory import load_object
from fedinv.task.foreign.training.spec import table

MakeOptimizer = Callable[[Iterable[torch.nn.Parameter]], torch.optim.Optimizer]
"""Makes the optimizer of some parameters, anew for each training."""
NAMED: Mapping[str, type[torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "rmsprop": torch.optim.RMSprop,
}
"""The optimizers by name: torch's."""


@dataclass(frozen=True)
class Steps:
    """What the local steps of an app are made of, as seen of its optimizer."""

    kind: str
    """Name of the optimizer's class; empty where none was seen."""
    count: int = 1
    """Number of its steps for each pass over a single batch."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of its first group of parameters, as lr and momentum."""

    @property
    def linear(self) -> bool:
        """Whether the update is a sum of the steps' gradients with fixed factors."""
        return self.kind in ("", "SGD")

    def number(self, key: str) -> float:
        """A setting that is a number; 0 where there is none."""
        value = self.settings.get(key, 0.0)
        return float(value) if isinstance(value, int | float | torch.Tensor) else 0.0


def read_optimizer(given: "str | MakeOptimizer", project: Path | None = None) -> MakeOptimizer:
    """What makes the optimizer that a text means, as "sgd:lr=0.1,momentum=0.9" or "app.task:optimizer".

    Keys are those of torch's class; the learning rate must be named. Raises RequestError for an unknown name or key,
    naming the nearest, a value that torch refuses, and where an app's own cannot be imported or makes none.
    """
    if not isinstance(given, str):
        return _checked(given, getattr(given, "__name__", type(given).__name__))
    kind, _, rest = given.partition(":")
    if kind not in NAMED:
        if not rest:
            raise RequestError(
                f"--optimizer: unknown optimizer {given!r}{nearest(given, NAMED)}; write one of {', '.join(NAMED)} "
                "with its keys, as sgd:lr=0.1, or where yours is made, as app.task:optimizer"
            )
        return _checked(load_object(given, project, "--optimizer"), given)
    settings, known = table(rest, "--optimizer"), list(inspect.signature(NAMED[kind]).parameters)[1:]
    for key in settings:
        if key not in known:
            raise RequestError(f"--optimizer: {kind} has no key {key!r}{nearest(key, known)}")
        if isinstance(settings[key], str):
            raise RequestError(f"--optimizer: {key} is {settings[key]!r}, write a number, true or false, as {key}=0.1")
    if "lr" not in settings:
        raise RequestError(f"--optimizer: {kind} needs its learning rate, write {kind}:lr=0.1")
    return _checked(lambda parameters: NAMED[kind](parameters, **settings), given)


def _checked(make: Any, name: str) -> MakeOptimizer:
    if not callable(make):
        raise RequestError(f"--optimizer: {name} is a {type(make).__name__}, name a function of the parameters")
    try:
        made = make([torch.nn.Parameter(torch.ones(1))])
    except Exception as error:
        raise RequestError(f"--optimizer: {name} failed: {type(error).__name__}: {plain(str(error), 200)}") from None
    if not isinstance(made, torch.optim.Optimizer):
        raise RequestError(f"--optimizer: {name} gives a {type(made).__name__}, not a torch optimizer")
    return make  # type: ignore[no-any-return]


def steps_of(make: MakeOptimizer) -> Steps:
    """What the steps of an optimizer are made of."""
    made = make([torch.nn.Parameter(torch.ones(1))])
    return Steps(type(made).__name__, 1, _settings(made))


@contextmanager
def watching() -> Iterator[list[Steps]]:
    """Collects what each step of any torch optimizer is made of, within a block."""
    seen: list[Steps] = []

    def look(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        seen.append(Steps(type(optimizer).__name__, 1, _settings(optimizer)))

    handle = register_optimizer_step_pre_hook(look)
    try:
        yield seen
    finally:
        handle.remove()


def _settings(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    return {key: value for key, value in optimizer.param_groups[0].items() if key != "params"}
