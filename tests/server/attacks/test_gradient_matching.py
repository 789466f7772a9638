from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch.nn.functional import cross_entropy

from fedinv.attack import Exchange, Knowledge, Observation
from fedinv.task.columns import Categorical, Continuous
from fedinv.task.models import build
from fedinv.task.networks.perceptron import Mlp
from fedinv.task.optimizers import Adam, AdamW, RmsProp
from fedinv.task.schema import Schema
from server.attacks.gradient_matching import GradientMatching
from server.inversion.recompute import recompute_update

SCHEMA = Schema(
    columns=(
        Continuous(name="age", mean=50, std=15, low=18, high=95, mode=45, integer=True),
        Categorical(name="sex", values=("f", "m"), frequencies=(0.5, 0.5)),
        Categorical(name="ward", values=tuple("abcdef"), frequencies=(0.3, 0.2, 0.2, 0.1, 0.1, 0.1)),
        Continuous(name="weight", mean=75, std=12, low=40, high=140, mode=72),
        Categorical(name="blood", values=("0", "a", "b", "ab"), frequencies=(0.4, 0.4, 0.1, 0.1)),
    ),
    label="ill",
    classes=("no", "yes"),
)
MODEL = Mlp(hidden=(64, 64))
KNOWS = Knowledge(
    model=MODEL, loss="cross-entropy", schema=SCHEMA, algorithm="fedsgd", lr=0.1, batch_size=4, epochs=1, defenses=()
)
ATTACK = GradientMatching()


def _silent(share):
    assert 0 <= share <= 1


def _records(n, seed):
    rng = np.random.default_rng(seed)
    return SCHEMA.encode(SCHEMA.decode(SCHEMA.draw(n, rng))), torch.from_numpy(rng.integers(0, 2, n))


def _see(n=4, seed=0, steps=1, lr=0.1):
    """An observation of plain training, full batches, and the records behind it."""
    x, y = _records(n, seed)
    network = build(MODEL, SCHEMA.shape, 2, seed)
    sent = {k: p.detach().clone() for k, p in network.named_parameters()}
    update = {k: torch.zeros_like(p) for k, p in sent.items()}
    for _ in range(steps):
        gradients = torch.autograd.grad(cross_entropy(network(x), y), list(network.parameters()))
        with torch.no_grad():
            for (name, p), g in zip(network.named_parameters(), gradients, strict=True):
                update[name] -= lr * g
                p -= lr * g
    return Observation((3,), (Exchange(1, sent, update, n),)), x, y


def _change(seen, change):
    last = seen.last
    return Observation(seen.clients, (replace(last, received={k: change(t) for k, t in last.received.items()}),))


def _fields_right(claimed, truth):
    a, b = SCHEMA.decode(claimed), SCHEMA.decode(truth)
    right = np.stack(
        [
            np.abs(a[c.name][:, None] - b[c.name]) <= 0.319 * c.std
            if isinstance(c, Continuous)
            else a[c.name][:, None] == b[c.name]
            for c in SCHEMA.columns
        ],
        -1,
    )
    rows, columns = linear_sum_assignment(-right.sum(-1))
    return right[rows, columns].mean()


@pytest.mark.parametrize("n", [1, 4])
def test_an_undefended_fedsgd_update_gives_up_all_fields(n):
    seen, x, y = _see(n, seed=n)
    claim = ATTACK.run(seen, KNOWS, np.random.default_rng(0), _silent)
    assert _fields_right(claim.records, x) == 1
    assert claim.records.dtype == torch.float32
    assert torch.equal(claim.labels.bincount(minlength=2), y.bincount(minlength=2))
    assert float(claim.confidence.min()) > 0.8
    assert claim.mismatch is not None
    assert claim.mismatch < 0.2


@pytest.mark.parametrize(
    ("attack", "n"),
    [
        (GradientMatching(preset="dlg", iterations=600, restarts=2), 1),
        (GradientMatching(preset="idlg", iterations=600, restarts=2), 1),
        (GradientMatching(preset="inverting-gradients", iterations=600, restarts=4), 2),
        (GradientMatching(preset="see-through", iterations=600, restarts=4), 2),
        (GradientMatching(preset="tableak", restarts=12), 4),
        (GradientMatching(preset="fedinv"), 5),
    ],
    ids=lambda value: getattr(value, "preset", value),
)
def test_each_preset_finds_what_its_paper_says(attack, n):
    seen, x, y = _see(n, seed=n)
    claim = attack.run(seen, replace(KNOWS, batch_size=n), np.random.default_rng(0), _silent)
    assert _fields_right(claim.records, x) >= 0.95
    assert torch.equal(claim.labels.sort().values, y.sort().values)
    assert claim.fields.shape == (n, len(SCHEMA.columns))


def _optimized(optimizer, n=4, weight_decay=0.0, steps=1):
    """An observation of a client's training by an optimizer, full batches, what is known of it, and the records."""
    plain, x, y = _see(n, seed=1)
    sent = plain.last.sent
    how = {"lr": 0.01, "optimizer": optimizer, "weight_decay": weight_decay, "epochs": steps}
    knows = replace(KNOWS, algorithm="fedsgd" if steps == 1 else "fedavg", batch_size=n, **how)
    received = recompute_update(knows, sent, x, y, np.random.default_rng(0))
    return Observation((3,), (Exchange(1, sent, received, n),)), knows, x


@pytest.mark.parametrize(("optimizer", "weight_decay"), [(Adam(), 0.0), (AdamW(), 0.1)])
def test_a_single_adaptive_step_gives_its_records_up_by_the_signs(optimizer, weight_decay):
    seen, knows, truth = _optimized(optimizer, 2, weight_decay)
    claim = ATTACK.model_copy(update={"restarts": 4, "iterations": 100}).run(
        seen, knows, np.random.default_rng(0), _silent
    )
    assert any("gradients' signs" in note for note in claim.notes)
    assert _fields_right(claim.records, truth) > 0.8


@pytest.mark.parametrize("optimizer", [Adam(), RmsProp()])
def test_several_adaptive_steps_are_matched_by_their_signs_and_unrolled(optimizer):
    seen, knows, truth = _optimized(optimizer, 2, 0.0, 3)
    quick = ATTACK.model_copy(update={"restarts": 4, "iterations": 100})
    fitted, by_signs = (
        one.run(seen, knows, np.random.default_rng(0), _silent)
        for one in (quick, quick.model_copy(update={"simulate": 0}))
    )
    assert any("own steps" in note for note in fitted.notes)
    assert fitted.mismatch < by_signs.mismatch
    assert _fields_right(fitted.records, truth) > 0.9


def test_decay_that_an_adaptive_optimizer_mixes_in_leaves_no_signs():
    seen, knows, _ = _optimized(Adam(), 4, 0.1, 1)
    assert "scales each entry of a step by itself" in _nothing(seen, knows)


def test_a_key_overrides_the_presets():
    seen, _, _ = _see(1)
    short = GradientMatching(preset="tableak", iterations=1, restarts=1)
    assert short.run(seen, KNOWS, np.random.default_rng(0), _silent).mismatch > 0.2
    with pytest.raises(ValueError, match="tableak"):
        GradientMatching(preset="tabelak")


def test_polished_numbers_are_exact():
    seen, x, _ = _see(2, seed=2)
    rough, fine = (
        GradientMatching(polish=steps).run(seen, KNOWS, np.random.default_rng(0), _silent) for steps in (0, 200)
    )
    apart = [torch.cdist(x, claim.records).min(1).values.max() for claim in (rough, fine)]
    assert float(apart[1]) < 0.1 * float(apart[0])
    assert fine.mismatch < 0.1 * rough.mismatch


def test_regression_targets_are_searched_along():
    x, y = _records(1, 3)[0], torch.tensor([[0.7]])
    network = build(MODEL, SCHEMA.shape, 1, 0)
    gradients = torch.autograd.grad(torch.nn.functional.mse_loss(network(x), y), list(network.parameters()))
    names = [name for name, _ in network.named_parameters()]
    sent = {name: p.detach() for name, p in network.named_parameters()}
    update = {name: -0.1 * g for name, g in zip(names, gradients, strict=True)}
    knows = replace(KNOWS, loss="squared-error", batch_size=1)
    claim = ATTACK.run(Observation((0,), (Exchange(1, sent, update, 1),)), knows, np.random.default_rng(0), _silent)
    assert _fields_right(claim.records, x) == 1
    assert claim.labels.dtype == torch.float32


def test_fedavg_gives_up_most_fields():
    seen, x, _ = _see(4, seed=2, steps=5)
    knows = replace(KNOWS, algorithm="fedavg", epochs=5)
    claim = ATTACK.run(seen, knows, np.random.default_rng(0), _silent)
    assert _fields_right(claim.records, x) >= 0.95
    assert any("several local steps" in note for note in claim.notes)


def test_without_schema_or_step_length_it_still_finds_records():
    seen, x, _ = _see(1, seed=5)
    claim = ATTACK.run(seen, replace(KNOWS, schema=None, lr=None), np.random.default_rng(0), _silent)
    assert _fields_right(claim.records, x) >= 0.8


def test_the_same_arguments_give_the_same_claim_and_leave_the_observation_alone():
    seen, _, _ = _see(4)
    before = [{k: t.clone() for k, t in part.items()} for part in (seen.last.sent, seen.last.received)]
    first, second = (ATTACK.run(seen, KNOWS, np.random.default_rng(7), _silent) for _ in range(2))
    assert torch.equal(first.records, second.records)
    assert torch.equal(first.confidence, second.confidence)
    for part, kept in zip((seen.last.sent, seen.last.received), before, strict=True):
        assert all(torch.equal(part[k], kept[k]) for k in kept)


def test_it_keeps_off_torchs_global_generator():
    seen, _, _ = _see(1)
    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    ATTACK.run(seen, KNOWS, np.random.default_rng(0), _silent)
    assert torch.equal(before, torch.random.get_rng_state())


def _nothing(seen, knows=KNOWS):
    claim = ATTACK.run(seen, knows, np.random.default_rng(0), _silent)
    assert claim.records.shape == (0, SCHEMA.width)
    assert len(claim.confidence) == len(claim.labels) == 0
    assert claim.notes[0].startswith("nothing claimed: ")
    return claim.notes[0]


@pytest.mark.parametrize("n", [1, 8])
def test_pure_noise_is_not_claimed_upon(n):
    generator = torch.Generator().manual_seed(n)
    seen, _, _ = _see(n)
    noise = _change(seen, lambda t: 0.1 * torch.randn(t.shape, generator=generator))
    assert "is chance" in _nothing(noise)


@pytest.mark.parametrize(
    "defense",
    [
        {"kind": "clip-noise", "clip": 1.0, "noise_multiplier": 1.0},
        {"kind": "dp-sgd", "clip": 1.0, "noise_multiplier": 40.0, "delta": 1e-5},
    ],
)
def test_known_noise_that_drowns_the_update_is_refused_at_once(defense):
    generator = torch.Generator().manual_seed(0)
    seen, _, _ = _see(4)
    noised = _change(seen, lambda t: t + torch.randn(t.shape, generator=generator))
    assert "known noise" in _nothing(noised, replace(KNOWS, defenses=(defense,)))


def test_weak_known_noise_is_seen_through():
    generator = torch.Generator().manual_seed(0)
    seen, x, _ = _see(2)
    noised = _change(seen, lambda t: t + 1e-4 * torch.randn(t.shape, generator=generator))
    knows = replace(KNOWS, defenses=({"kind": "clip-noise", "clip": 1.0, "noise_multiplier": 1e-4},))
    assert _fields_right(ATTACK.run(noised, knows, np.random.default_rng(0), _silent).records, x) >= 0.9


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (torch.zeros_like, "zero"),
        (lambda t: t * torch.nan, "not finite"),
        (lambda t: t + torch.inf, "not finite"),
        (lambda t: 8e6 * torch.randn(t.shape, generator=torch.Generator().manual_seed(0)), "masked"),
        (lambda t: t[:1], "fit"),
    ],
)
def test_updates_that_tell_nothing(change, reason):
    import re

    assert re.search(reason, _nothing(_change(_see()[0], change)))


def test_other_networks_and_withheld_knowledge():
    seen, _, _ = _see()
    assert "architecture is withheld" in _nothing(seen, replace(KNOWS, model=None))
    last = seen.last
    odd = {"scale": torch.ones(1)}
    named = replace(last, sent={**last.sent, **odd}, received={**last.received, **odd})
    assert "no chain" in _nothing(Observation((0,), (named,)))
    assert "records" in _nothing(Observation((0,), (replace(last, records=5000),)))
    assert "records" in _nothing(Observation((0,), (replace(last, records=0),)))
    assert "hinge" in _nothing(seen, replace(KNOWS, loss="hinge"))
    narrow = SCHEMA.model_copy(update={"columns": SCHEMA.columns[1:]})
    claim = ATTACK.run(seen, replace(KNOWS, schema=narrow), np.random.default_rng(0), _silent)
    assert "schema does not fit" in claim.notes[0]
    if not torch.cuda.is_available():
        claim = GradientMatching(device="cuda").run(seen, KNOWS, np.random.default_rng(0), _silent)
        assert "there is none" in claim.notes[0]
