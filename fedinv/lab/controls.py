"""The page's controls, as marimo's elements; the only module beside the page and the server that imports marimo."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import marimo as mo

from fedinv.lab.menu import NO_DEFENSE, OfferedScenario, menu
from fedinv.lab.settings import MOST_CLIENTS, MOST_EPOCHS, MOST_RECORDS
from fedinv.task.optimizers import KINDS

BATCHES = (1, 2, 4, 8, 16, 32, 64, MOST_RECORDS)
"""Batch sizes that the page offers."""
EPOCHS = (0, 1, 2, 5, 10, MOST_EPOCHS)
"""Local epochs that the page offers; 0 is one step."""
TITLES = {
    "batch_size": "Records in a batch",
    "epochs": "Local epochs",
    "network": "Network",
    "optimizer": "Optimizer",
    "clients": "Clients",
    "crowd": "Who sees an update",
    "server": "Server",
    "defense": "Defense",
    "strength": "Its strength",
}
"""Title of the control of each value of a setting, in the order of the page."""


@dataclass(frozen=True)
class SettingControls:
    """The controls of one setting.

    Each is an element by itself: of the elements of a `marimo.ui.dictionary`, two that are changed while the page is at
    work would lose one change, which the page went on showing.
    """

    elements: Sequence[Any]
    """A control for each of TITLES."""
    values: Callable[[], dict[str, Any]]
    """Return what is chosen, by the names of `Settings`, where it is not their default; a cell that calls it runs again
    after each change."""


def scenario_choice() -> mo.ui.dropdown:
    """The choice of a scenario."""
    offered = menu().scenarios
    return mo.ui.dropdown({one.title: one.name for one in offered}, value=offered[0].title, label="Scenario")


def setting_controls(base: OfferedScenario, which: str) -> SettingControls:
    """The controls of one setting, beginning at the scenario's own values; `which` distinguishes two of them."""
    offered = menu()
    start, called = base.start, f" ({which})" if which else ""
    networks = {one.title: one.name for one in offered.networks}
    defenses = {"none": NO_DEFENSE} | {one.kind: one.kind for one in offered.defenses}
    values, change = mo.state(dict[str, Any](start))

    def of(key: str) -> dict[str, Any]:
        """Keywords of the control that sets the value `key`, and of no other."""
        return {"label": f"{TITLES[key]}{called}", "on_change": lambda value: change({**values(), key: value})}

    elements = (
        _numbers(BATCHES, start["batch_size"], **of("batch_size")),
        _numbers(EPOCHS, start["epochs"], {0: "one step (FedSGD)"}, **of("epochs")),
        mo.ui.dropdown(networks, value=_title(networks, base.network), **of("network")),
        mo.ui.dropdown(list(KINDS), value=next(iter(KINDS)), **of("optimizer")),
        mo.ui.slider(2, MOST_CLIENTS, value=start["clients"], debounce=True, show_value=True, **of("clients")),
        _titled(offered.crowds, **of("crowd")),
        _titled(offered.servers, **of("server")),
        mo.ui.dropdown(defenses, value="none", **of("defense")),
        mo.ui.slider(0, 1, step=0.05, value=0.5, debounce=True, show_value=True, **of("strength")),
    )
    return SettingControls(elements, values)


def laid_out(setting: SettingControls) -> mo.Html:
    """The controls of one setting beside one another, on as many lines as the width of the page needs."""
    return mo.hstack(setting.elements, wrap=True, justify="start", align="end", gap=1.2)


def label_choice(columns: Sequence[str]) -> mo.ui.dropdown:
    """The choice of the column that is predicted; the last one at first, which it often is."""
    return mo.ui.dropdown(list(columns), value=columns[-1] if columns else None, label="Column to predict")


def _numbers(
    offered: Sequence[int], start: int, words: Mapping[int, str] | None = None, **shown: Any
) -> mo.ui.dropdown:
    named = {(words or {}).get(one, str(one)): one for one in offered}
    return mo.ui.dropdown(named, value=(words or {}).get(start, str(start)), **shown)


def _titled(choices: Sequence[Any], **shown: Any) -> mo.ui.dropdown:
    return mo.ui.dropdown({one.title: one.name for one in choices}, value=choices[0].title, **shown)


def _title(named: Mapping[str, str], name: str) -> str:
    return next(title for title, one in named.items() if one == name)
