"""What every defense keeps, built in or of another package: found by its kind, never listed here."""

import json
import math
from functools import cache

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from clients import hooks
from clients.training.plain_training import plain_training
from fedinv import plugins
from fedinv.data.canaries import LENGTH
from fedinv.defense import Defense, Job, Participation, PrivacyEvent, Sending
from fedinv.engines import inline
from fedinv.errors import RequestError
from fedinv.federation.training import Training
from fedinv.scenario.compatibility import stacking
from fedinv.scenario.reading import parse
from fedinv.storage import files, observations

KINDS = tuple(plugins.available("defenses"))
PARTS = [Participation(), Participation(records=6, batch_size=4, steps=4, rounds=3, clients=5, cohort=3)]
CLOSE = 2e-4
"""Share of the model's change by which a federation of neutral settings may differ: what fine quantization costs."""

ADAPTIVE = {
    "lr": 0.01,
    "optimizer": {"kind": "adam", "eps": 1e-2},
    "weight_decay": 0.01,
    "proximal": 0.1,
    "local_schedule": "cosine",
    "class_weights": [1.0, 2.0],
}
"""Keys of [training] that change every part of a local step; a large eps, as Adam magnifies rounding otherwise."""


@cache
def defense_class(kind):
    return plugins.load("defenses", kind)


def made(kind, **settings):
    return defense_class(kind).model_validate({"kind": kind, **settings})


def stack(*defenses):
    """The defenses, and a secure aggregation behind those whose promise is for the sum alone."""
    documents = [d.model_dump(mode="json", exclude_none=True) for d in defenses]
    if any(d.for_sum for d in defenses) and not any(d.secure_aggregation for d in defenses):
        documents.append({"kind": next(k for k in KINDS if defense_class(k).secure_aggregation and _plain(k))})
    return documents


def _plain(kind):
    """Whether a secure aggregation is one message a round: the quickest to train behind."""
    return defense_class(kind).carry is Defense.carry


def federation(defenses, **training):
    """A scenario whose every local step takes all of a client's records, however they are drawn."""
    settings = {"algorithm": "fedavg", "epochs": 2, "batch_size": 6, "records_per_client": 6, "lr": 0.05, **training}
    document = {
        "name": "contract",
        "seed": 3,
        "data": {"source": "hospital", "records": 60},
        "model": {"kind": "mlp", "hidden": [12, 8]},
        "federation": {"clients": 3, "rounds": 2},
        "training": settings,
        "attacker": {"watch": {"rounds": [1, 2], "clients": 1}},
        "defenses": defenses,
    }
    return parse(document, "contract")


def trained(scenario, folder):
    inline.train(scenario, folder)
    assert files.read_json(folder / "checkpoint" / "progress.json")["left_out"] == []
    return files.read_tensors(folder / "checkpoint" / "model-0002.safetensors")[0]


def usable(kind):
    """The default federation of a defense; the test is skipped where what the defense needs is not installed."""
    try:
        return federation(stack(made(kind)))
    except RequestError as error:
        pytest.skip(str(error))


def bits(tensors):
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}


def change(before, after):
    """The largest difference of two models' weights."""
    return max(float((after[name] - tensor).abs().max()) for name, tensor in before.items())


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The weights before the first round, and after two rounds without any defense."""
    folder = tmp_path_factory.mktemp("plain")
    end = trained(federation([]), folder)
    return observations.read(folder / "observations")[0].exchanges[0].sent, end


@pytest.mark.parametrize("kind", KINDS)
def test_a_defense_is_made_by_its_kind_alone_frozen_and_read_back_as_it_was(kind):
    defense = made(kind)
    assert isinstance(defense, Defense)
    assert type(defense).__doc__
    again = type(defense).model_validate(json.loads(defense.model_dump_json()))
    assert again == defense
    assert hash(again) == hash(defense)
    with pytest.raises(ValidationError):
        defense.kind = "another"


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_updates_and_the_same_model(kind, plain, tmp_path):
    scenario = usable(kind)
    models, seen = [], []
    for run in (1, 2):
        torch.manual_seed(run)  # nothing may come from the global generators
        np.random.seed(run)  # noqa: NPY002
        models.append(trained(scenario, tmp_path / str(run)))
        paths = sorted((tmp_path / str(run) / "observations").iterdir())
        seen.append([bits(files.read_tensors(path)[0]) for path in paths])
    if defense_class(kind).unseeded is None:
        assert bits(models[0]) == bits(models[1])
        assert seen[0] == seen[1]
    else:
        assert seen[0] != seen[1], f"{kind}: is a function of the seed after all: take `unseeded` away"
        assert change(*models) <= CLOSE * change(plain[0], models[0])


@pytest.mark.parametrize("kind", KINDS)
def test_neutral_settings_train_the_model_of_no_defense(kind, plain, tmp_path):
    defense = defense_class(kind)
    if defense.neutral is None:
        assert defense.never_neutral, f"{kind}: say in `neutral` what changes nothing, or in `never_neutral` why not"
        return
    assert defense.never_neutral is None, f"{kind}: has neutral settings and says why it has none"
    usable(kind)
    start, end = plain
    found = trained(federation(stack(made(kind, **defense.neutral))), tmp_path)
    assert list(found) == list(end)
    moved, off = change(start, end), change(found, end)
    assert moved > 1e-3
    assert off <= CLOSE * moved, f"{kind}: {off / moved:.1e} of the model's change"


@pytest.fixture(scope="module")
def adaptive(tmp_path_factory):
    """The weights before the first round, and after two rounds by ADAPTIVE without any defense."""
    folder = tmp_path_factory.mktemp("adaptive")
    end = trained(federation([], **ADAPTIVE), folder)
    return observations.read(folder / "observations")[0].exchanges[0].sent, end


@pytest.mark.parametrize("kind", [kind for kind in KINDS if defense_class(kind).neutral is not None])
def test_neutral_settings_change_nothing_of_another_optimizer(kind, adaptive, tmp_path):
    usable(kind)
    start, end = adaptive
    found = trained(federation(stack(made(kind, **defense_class(kind).neutral)), **ADAPTIVE), tmp_path)
    moved, off = change(start, end), change(found, end)
    assert moved > 1e-3
    assert off <= 5 * CLOSE * moved, f"{kind}: {off / moved:.1e} of the model's change"


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_charged_to_the_ledger_is_a_function_of_the_participation(kind):
    for taken in PARTS:
        first, again = made(kind).privacy_events(taken), made(kind).privacy_events(taken)
        assert first == again
        assert isinstance(first, tuple)
        assert all(isinstance(event, PrivacyEvent) for event in first)
        assert json.dumps(made(kind).known(taken)) == json.dumps(made(kind).known(taken))
        assert made(kind).known(taken)["kind"] == kind


def sending(taken, seed=0):
    cohort = tuple(range(taken.cohort))
    return Sending(client=0, round=1, cohort=cohort, records=6, seed=1, rng=np.random.default_rng(seed), taken=taken)


def update(size):
    """An update of 20,000 entries with this norm."""
    entries = torch.randn(20_000, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    entries = (entries * size / entries.norm()).float()
    return {"0.weight": entries[:19_900].reshape(199, 100), "0.bias": entries[19_900:]}


def flat(tensors):
    return torch.cat([tensor.double().flatten() for tensor in tensors.values()])


@pytest.mark.parametrize("kind", KINDS)
def test_a_promised_norm_and_noise_are_there_exactly_and_are_what_is_charged_for(kind):
    taken, defense = PARTS[1], made(kind)
    charged, promised = defense.privacy_events(taken), defense.release(taken)
    if promised is None:
        told = defense.clipping(taken) is not None or defense.by_server
        assert not charged or told, f"{kind}: charges the ledger, so `release` or `clipping` must say what is released"
        return
    # the same draws of noise for two updates, whose difference is then without noise
    long, short, none = (
        flat(hooks.protected(defense, update(size), sending(taken))) for size in (50 * promised.norm, 1e-9, 0.0)
    )
    assert float((long - none).norm()) == pytest.approx(promised.norm, rel=1e-4)
    assert float((short - none).norm()) <= 1e-3 * promised.norm
    half = flat(hooks.protected(defense, update(promised.norm / 2), sending(taken)))
    assert float((half - none).norm()) == pytest.approx(promised.norm / 2, rel=1e-4)
    other = flat(hooks.protected(defense, update(0.0), sending(taken, seed=1)))
    for noise in (none, other):
        error = 5 * promised.noise / math.sqrt(2 * len(noise))
        assert abs(float(noise.square().mean().sqrt()) - promised.noise) <= error
        assert abs(float(noise.mean())) <= 5 * promised.noise / math.sqrt(len(noise)) + 1e-12
    if promised.noise:
        assert abs(float(torch.corrcoef(torch.stack([none, other]))[0, 1])) < 0.05
    (event,) = charged
    summed = promised.noise * (math.sqrt(taken.cohort) if defense.for_sum else 1)
    if defense.undercharged is None:
        assert event.noise_multiplier * promised.norm == pytest.approx(summed, rel=1e-6)
    else:
        assert event.noise_multiplier * promised.norm != pytest.approx(summed, rel=1e-3)


@pytest.mark.parametrize("kind", [k for k in KINDS if defense_class(k).clipping is not Defense.clipping])
def test_promised_clipping_of_each_record_and_its_noise_are_there_exactly(kind):
    defense, count = made(kind), 4
    taken = Participation(records=count, batch_size=count)
    promised = defense.clipping(taken)
    (event,) = defense.privacy_events(taken)
    assert promised.noise_multiplier == event.noise_multiplier
    quiet = type(defense).model_validate(
        {**defense.model_dump(), "kind": kind, **defense.neutral, "clip": promised.clip}
    )

    def step(chosen, seed):
        torch.manual_seed(2)
        network = nn.Sequential(nn.Linear(200, 100), nn.ReLU(), nn.Linear(100, 2))
        job = Job(
            network=network,
            inputs=LENGTH * torch.randn(count, 200, generator=torch.Generator().manual_seed(3)),
            labels=torch.tensor([0, 1, 0, 1]),
            batches=(np.arange(count),),
            training=Training("fedsgd", 1, count, 1.0, 0.0, 0.0),
            rng=np.random.default_rng(seed),
            taken=taken,
        )
        return flat(hooks.wrapped_training(chosen, plain_training)(job))

    exact = step(quiet, 0)
    # LENGTH makes every record's gradient longer than the norm; their mean can be no longer than it
    assert 0 < float(exact.norm()) <= promised.clip * (1 + 1e-4)
    noise = (step(defense, 1) - exact) * count / promised.clip
    assert float(noise.std()) == pytest.approx(event.noise_multiplier, rel=5 / math.sqrt(2 * len(noise)))


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_settings_are_refused_in_one_line_that_names_the_key(kind):
    with pytest.raises(RequestError, match=r"^contract: defenses\.0\.nonsense: unknown key") as caught:
        federation([{"kind": kind, "nonsense": 1}])
    assert "\n" not in str(caught.value)
    for name, field in defense_class(kind).model_fields.items():
        for limit in field.metadata:
            with pytest.raises(RequestError, match=rf"^contract: defenses\.0\.{name}: ") as caught:
                federation([{"kind": kind, name: just_beyond(limit)}])
            assert "\n" not in str(caught.value)


def just_beyond(limit):
    """A value just beyond a bound of a field."""
    name = type(limit).__name__.lower()
    bound = getattr(limit, name)
    return {"gt": bound, "ge": bound - 1, "lt": bound, "le": bound + 1}[name]


@pytest.mark.parametrize("kind", KINDS)
def test_beside_any_other_defense_it_is_taken_or_refused_in_one_line(kind):
    reasons = [stacking((made(kind), made(other))) for other in KINDS]
    assert all(reason is None or (reason and "\n" not in reason) for reason in reasons)
    if defense_class(kind).secure_aggregation:
        assert None not in reasons, "nothing can follow what hides the update"


@pytest.mark.parametrize("kind", KINDS)
def test_why_a_number_of_clients_does_not_fit_is_none_or_one_line(kind):
    for cohort in (1, 2, 10, 10**6):
        reason = made(kind).misfit(cohort)
        assert reason is None or (reason and "\n" not in reason)


def test_a_defense_whose_neutral_settings_do_something_fails(plain, tmp_path, monkeypatch):
    monkeypatch.setattr(defense_class("top-k"), "neutral", {"keep": 0.05})
    with pytest.raises(AssertionError, match="of the model's change"):
        test_neutral_settings_train_the_model_of_no_defense("top-k", plain, tmp_path)


def test_a_defense_that_adds_less_noise_than_it_promises_fails(monkeypatch):
    found = defense_class("broken-noise")
    promised = found.release
    monkeypatch.setattr(found, "release", lambda self, taken: promised(made("broken-noise", noise_share=0.9), taken))
    monkeypatch.setattr(
        found,
        "protect",
        lambda self, update, sending: made("clip-noise", noise_multiplier=0.5).protect(update, sending),
    )
    with pytest.raises(AssertionError):
        test_a_promised_norm_and_noise_are_there_exactly_and_are_what_is_charged_for("broken-noise")
