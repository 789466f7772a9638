"""The page's controls, as marimo's elements; the only module beside the page and the server that imports marimo."""

from collections.abc import Mapping, Sequence
from typing import Any

import marimo as mo

from fedinv.lab.menu import NO_DEFENSE, OfferedScenario, menu
from fedinv.lab.settings import MOST_CLIENTS, MOST_EPOCHS, MOST_RECORDS
from fedinv.task.optimizers import KINDS

BATCHES = (1, 2, 4, 8, 16, 32, 64, MOST_RECORDS)
"""Batch sizes that the page offers."""
EPOCHS = (0, 1, 2, 5, 10, MOST_EPOCHS)
"""Local epochs that the page offers; 0 is one step."""


def scenario_choice() -> mo.ui.dropdown:
    """The choice of a scenario."""
    offered = menu().scenarios
    return mo.ui.dropdown({one.title: one.name for one in offered}, value=offered[0].title, label="Scenario")


def setting_controls(base: OfferedScenario, which: str) -> mo.ui.dictionary:
    """The controls of one setting, beginning at the scenario's own values; `which` distinguishes two of them."""
    offered = menu()
    start, called = base.start, f" ({which})" if which else ""
    networks = {one.title: one.name for one in offered.networks}
    defenses = {"none": NO_DEFENSE} | {one.kind: one.kind for one in offered.defenses}
    return mo.ui.dictionary(
        {
            "batch_size": _numbers(BATCHES, start["batch_size"], f"Records in a batch{called}"),
            "epochs": _numbers(EPOCHS, start["epochs"], f"Local epochs{called}", {0: "one step (FedSGD)"}),
            "network": mo.ui.dropdown(networks, value=_title(networks, base.network), label=f"Network{called}"),
            "optimizer": mo.ui.dropdown(list(KINDS), value=next(iter(KINDS)), label=f"Optimizer{called}"),
            "clients": mo.ui.slider(
                2, MOST_CLIENTS, value=start["clients"], label=f"Clients{called}", debounce=True, show_value=True
            ),
            "crowd": _titled(offered.crowds, f"Who sees an update{called}"),
            "server": _titled(offered.servers, f"Server{called}"),
            "defense": mo.ui.dropdown(defenses, value="none", label=f"Defense{called}"),
            "strength": mo.ui.slider(
                0, 1, step=0.05, value=0.5, label=f"Its strength{called}", debounce=True, show_value=True
            ),
        }
    )


def laid_out(setting: mo.ui.dictionary) -> mo.Html:
    """The controls of one setting beside one another, on as many lines as the width of the page needs."""
    return mo.hstack(list(setting.elements.values()), wrap=True, justify="start", align="end", gap=1.2)


def label_choice(columns: Sequence[str]) -> mo.ui.dropdown:
    """The choice of the column that is predicted; the last one at first, which it often is."""
    return mo.ui.dropdown(list(columns), value=columns[-1] if columns else None, label="Column to predict")


def _numbers(offered: Sequence[int], start: int, label: str, words: Mapping[int, str] | None = None) -> mo.ui.dropdown:
    named = {(words or {}).get(one, str(one)): one for one in offered}
    return mo.ui.dropdown(named, value=(words or {}).get(start, str(start)), label=label)


def _titled(choices: Sequence[Any], label: str) -> mo.ui.dropdown:
    return mo.ui.dropdown({one.title: one.name for one in choices}, value=choices[0].title, label=label)


def _title(named: Mapping[str, str], name: str) -> str:
    return next(title for title, one in named.items() if one == name)
