from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from clients import hooks
from clients.training.plain_training import plain_training
from fedinv.blame import PluginError
from fedinv.defense import Carrying, Defense, Participation, Sending
from fedinv.federation.training import Batch, Job, Training

HERE = Path(__file__).name
UPDATE = {"0.weight": torch.ones(2, 3), "0.bias": torch.ones(2)}
BATCH = Batch(torch.zeros(4, 3), torch.full((4, 2), 0.5))


class Faulty(Defense):
    """Returns what it is told to from every hook, or fails."""

    kind: str = "faulty"

    def __init__(self, found=None, fails=False, **fields):
        super().__init__(**fields)
        object.__setattr__(self, "_answer", (found, fails))

    def _given(self):
        found, fails = self._answer
        if fails:
            raise KeyError("mask")
        return found

    def protect(self, update, sending):
        return self._given()

    def carry(self, message, context, call_next, carrying):
        return self._given()

    def augment(self, batch, network, rng):
        return self._given()

    def wrap_network(self, network, rng):
        return self._given()

    def wrap_training(self, training):
        return "nothing" if self._answer[0] == "nothing" else lambda job: self._given()

    def masks(self, rng):
        return self._given()

    def clipping(self, taken):
        return self._given()

    def privacy_events(self, taken):
        return self._given()


def network():
    return nn.Sequential(nn.Linear(3, 2))


def protect(defense):
    sending = Sending(client=0, round=1, cohort=(0,), records=4, seed=1, rng=np.random.default_rng(0))
    return hooks.protected(defense, UPDATE, sending)


def train(defense):
    settings = Training("fedavg", 1, 4, 0.1, 0, 0)
    rows = (np.arange(4),)
    job = Job(network(), BATCH.inputs, torch.zeros(4, dtype=torch.int64), rows, settings, np.random.default_rng(0))
    return hooks.wrapped_training(defense, plain_training)(job)


CALLS = {
    "protect": protect,
    "carry": lambda d: hooks.carried(
        d,
        None,
        None,
        lambda m, c: m,
        Carrying(Participation(), np.random.default_rng(0)),
    ),
    "augment": lambda d: hooks.augmented(d, BATCH, network(), np.random.default_rng(0)),
    "wrap_network": lambda d: hooks.wrapped_network(d, network(), np.random.default_rng(0)),
    "wrap_training": train,
    "masks": lambda d: hooks.masks(d, np.random.default_rng(0)),
    "clipping": lambda d: hooks.clipping(d, Participation()),
    "privacy_events": lambda d: hooks.events([d], Participation()),
}


def test_every_hook_of_a_defense_is_called_here():
    base = {name for name, member in vars(Defense).items() if callable(member) and not name.startswith("_")}
    # `misfit`, `known` and `exposure` are asked by the operator, `release` by tests/contract
    assert base - {"misfit", "known", "exposure", "release"} == set(CALLS)


@pytest.mark.parametrize("hook", CALLS)
def test_what_a_hook_raises_is_one_line_with_the_defenses_file_and_line(hook):
    with pytest.raises(PluginError) as caught:
        CALLS[hook](Faulty(fails=True))
    line = next(i for i, text in enumerate(Path(__file__).read_text().splitlines(), 1) if "raise Key" + "Error" in text)
    assert str(caught.value).startswith("defense 'faulty' failed at ")
    assert str(caught.value).endswith(f"{HERE}:{line}: KeyError: 'mask'")


@pytest.mark.parametrize(
    ("hook", "found", "said"),
    [
        ("protect", None, "a dict from each parameter's name to its tensor, not None"),
        ("protect", {"0.weight": UPDATE["0.weight"]}, "'0.bias' is missing"),
        ("protect", {**UPDATE, "x": UPDATE["0.bias"]}, "'x' is none of them"),
        (
            "protect",
            {**UPDATE, "0.bias": torch.ones(3)},
            r"'0.bias' as float32 of shape \(2,\), not float32 of shape \(3,\)",
        ),
        ("protect", {**UPDATE, "0.bias": torch.ones(2).half()}, r"not float16 of shape \(2,\)"),
        ("protect", {**UPDATE, "0.bias": torch.ones(2, dtype=torch.int64)}, "not int64"),
        ("carry", "message", "a Message, not a str"),
        ("augment", (BATCH.inputs, BATCH.targets), "a Batch, not a tuple"),
        ("augment", Batch(torch.zeros(4, 2), BATCH.targets), r"inputs like the batch's, float32 of shape \(4, 3\)"),
        ("augment", Batch(BATCH.inputs[:2], BATCH.targets), "one target for each input"),
        ("wrap_network", nn.Linear(3, 2), "an nn.Sequential, not a Linear"),
        ("wrap_network", nn.Sequential(nn.Linear(3, 4)), "with the parameters it was given"),
        ("wrap_training", "nothing", "a function from a job to its update, not a str"),
        ("wrap_training", {"0.weight": UPDATE["0.weight"]}, "an update of every parameter: '0.bias' is missing"),
        ("wrap_training", [], "a dict from each parameter's name to its tensor"),
        ("masks", 3, "a function of two sizes, or None, not a int"),
        ("clipping", 1.0, "a Clipping, or None, not a float"),
        ("privacy_events", [], "a tuple of PrivacyEvent, not a list"),
    ],
)
def test_what_a_hook_returns_wrong_is_said_with_the_file_and_what_to_return(hook, found, said):
    with pytest.raises(PluginError, match=rf"^defense 'faulty' \(.*{HERE}\): {hook} must return .*{said}"):
        CALLS[hook](Faulty(found))


def test_right_returns_pass_and_keep_the_order_of_the_parameters():
    assert list(protect(Faulty(dict(reversed(UPDATE.items()))))) == list(UPDATE)
    assert CALLS["augment"](Faulty(BATCH)) is BATCH
    assert CALLS["masks"](Faulty(None)) is None
    assert train(Faulty(UPDATE)) == UPDATE
    assert CALLS["privacy_events"](Faulty(())) == []


def test_what_the_training_inside_raises_about_another_defense_keeps_that_ones_name():
    def inner(job):
        raise PluginError("defense 'other' failed at other.py:1: ValueError: of its own")

    class Wrapping(Defense):
        kind: str = "wrapping"

        def wrap_training(self, training):
            return lambda job: training(job)

    with pytest.raises(PluginError, match=r"^defense 'other' failed at other\.py:1"):
        hooks.wrapped_training(Wrapping(), inner)(Job(network(), None, None, (), None, None))
