import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fedinv import plugins, roles
from fedinv.federation.training import Job, Participation, Training
from fedinv.privacy.claims import epsilon
from fedinv.scenario import loads
from fedinv.task.models import build
from fedinv.task.networks.ft_transformer import FtTransformer
from fedinv.task.networks.perceptron import Mlp
from fedinv.task.networks.signals import SignalConvnet
from fedinv.task.networks.tabular import Tabular
from fedinv.task.networks.transformer import Decoder, Encoder

DpSgd = roles.load("clients", "defenses.noise.dp_sgd").DpSgd
plain_training = roles.load("clients", "training.plain_training").plain_training


def job(batches, *, momentum=0.0, seed=0, inputs=None, size=4):
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(16, 6, generator=generator) if inputs is None else inputs
    return Job(
        network=build(Mlp(hidden=(8,)), (6,), 2, seed=2),
        inputs=inputs,
        labels=torch.arange(16) % 2,
        batches=tuple(np.array(b, dtype=np.int64) for b in batches),
        training=Training("fedavg", 1, size, 0.1, momentum, 0.0),
        rng=np.random.default_rng(seed),
        taken=Participation(records=16, batch_size=size, steps=len(batches)),
    )


def train(defense, job):
    return defense.wrap_training(plain_training)(job)


def norm(update):
    return torch.cat([t.flatten() for t in update.values()]).norm()


def test_without_noise_and_with_a_huge_clip_it_is_plain_training():
    batches = [range(0, 4), range(4, 8), range(8, 12)]
    neutral = train(DpSgd(noise_multiplier=0.0, clip=1e6), job(batches, momentum=0.5))
    plain = plain_training(job(batches, momentum=0.5))
    assert all(torch.allclose(neutral[k], plain[k], atol=1e-6) for k in plain)


def people(source, **keys):
    table = plugins.load("datasets", source).model_validate({"source": source, **keys}).load(3)
    return table.schema, table.schema.encode(table.columns), torch.as_tensor(np.asarray(table.labels)).long()


NETWORKS = [
    (Mlp(hidden=(8,)), "hospital", {}),
    (Tabular(hidden=(8,)), "hospital", {}),
    (Tabular(hidden=(8, 8), norm="layer", residual=True, activation="silu", logits="one"), "hospital", {}),
    (Tabular(hidden=(32, 32), encoding="ordinal", norm="group", bias=False), "hospital", {}),
    (FtTransformer(width=8, heads=2, blocks=1), "hospital", {}),
    (FtTransformer(width=8, heads=2, blocks=2), "hospital", {}),
    (SignalConvnet(), "heartbeats", {}),
    (Decoder(width=8, heads=2), "clinical-notes", {"length": 8}),
    (Encoder(width=8, heads=2, norm="post"), "clinical-notes", {"length": 8}),
    (Decoder(width=8, heads=2, lora_rank=2), "clinical-notes", {"length": 8}),
]


@pytest.mark.parametrize(("model", "source", "keys"), NETWORKS, ids=lambda one: getattr(one, "kind", ""))
def test_in_every_network_each_records_gradient_is_clipped_by_itself(model, source, keys):
    schema, inputs, labels = people(source, **keys)
    network, clip, rows = build(model.fitted(schema), schema.shape, schema.outputs, 2), 0.05, [0, 1, 2, 3]
    trained = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
    total = {name: torch.zeros_like(weight) for name, weight in trained.items()}
    for row in rows:
        loss = torch.nn.functional.cross_entropy(network(inputs[[row]]), labels[[row]], reduction="sum")
        slopes = torch.autograd.grad(loss, list(trained.values()))
        factor = min(1.0, clip / float(torch.cat([slope.flatten() for slope in slopes]).norm()))
        for name, slope in zip(trained, slopes, strict=True):
            total[name] += factor * slope
    todo = job([rows])
    todo = replace(todo, network=network, inputs=inputs, labels=labels)
    update = train(DpSgd(noise_multiplier=0.0, clip=clip), todo)
    for name, sum_ in total.items():
        assert torch.allclose(update[name], -0.1 * sum_ / 4, atol=1e-6), name


def test_one_record_moves_the_sum_by_at_most_the_clip():
    defense = DpSgd(noise_multiplier=0.0, clip=0.01)
    update = train(defense, job([[3]], size=1))
    assert norm(update) == pytest.approx(0.1 * 0.01, rel=1e-3)


def test_the_noise_has_the_stated_standard_deviation():
    defense = DpSgd(noise_multiplier=3.0, clip=0.5)
    noise = torch.cat(
        [(t / 0.1).flatten() for seed in range(40) for t in train(defense, job([[]], seed=seed)).values()]
    )
    assert noise.std() == pytest.approx(3.0 * 0.5 / 4, rel=0.05)


def test_empty_batches_are_taken():
    update = train(DpSgd(noise_multiplier=1.0, clip=1.0), job([[], [1, 2], []]))
    assert norm(update) > 0


def test_each_local_step_is_charged():
    taken = Participation(records=16, batch_size=4, steps=12)
    (event,) = DpSgd(noise_multiplier=1.5, clip=1.0).privacy_events(taken)
    assert (event.steps, event.sampling_rate, event.noise_multiplier) == (12, 0.25, 1.5)
    (event,) = DpSgd().privacy_events(taken)
    assert event.noise_multiplier == 1.0


@pytest.mark.slow
def test_an_epsilon_calibrates_the_noise_for_the_whole_run():
    taken = Participation(records=32, batch_size=8, steps=4, rounds=5)
    (event,) = DpSgd(epsilon=8.0).privacy_events(taken)
    assert event.steps == 4
    spent = epsilon([replace(event, steps=20)], event.delta)
    assert 7.9 < spent <= 8.0
    (event,) = DpSgd(epsilon=8.0, noise_multiplier=0.5).privacy_events(taken)
    assert (event.noise_multiplier, event.budget) == (0.5, 8.0)


@pytest.mark.parametrize("mode", ["functorch", "ghost"])
def test_every_way_to_find_a_records_gradient_gives_the_same_update(mode):
    batches = [range(0, 4), range(4, 12), [3]]
    hooks = train(DpSgd(noise_multiplier=0.7, clip=0.3, mode="hooks"), job(batches, momentum=0.5))
    other = train(DpSgd(noise_multiplier=0.7, clip=0.3, mode=mode), job(batches, momentum=0.5))
    assert list(hooks) == list(other)
    assert all(torch.allclose(hooks[k], other[k], atol=1e-6) for k in hooks)


@pytest.mark.parametrize("mode", ["hooks", "functorch", "ghost"])
def test_the_guard_stops_a_record_that_overflows_and_its_absence_lets_it_through(mode):
    inputs = torch.randn(16, 6)
    inputs[0] = float("inf")
    guarded = train(DpSgd(noise_multiplier=1.0, clip=1.0, mode=mode), job([[0, 1]], inputs=inputs))
    assert all(bool(torch.isfinite(t).all()) for t in guarded.values())
    open_ = train(DpSgd(noise_multiplier=1.0, clip=1.0, guard=False, mode=mode), job([[0, 1]], inputs=inputs))
    assert not all(bool(torch.isfinite(t).all()) for t in open_.values())


def test_the_same_stream_gives_the_same_noise_and_nothing_rides_along():
    first, second = (train(DpSgd(noise_multiplier=1.0, clip=1.0), job([[0, 1]], seed=5)) for _ in range(2))
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert all(not vars(t) for t in first.values())


@pytest.mark.parametrize("mode", ["ghost", "hooks", "functorch"])
def test_what_another_defense_computes_of_a_batch_is_not_clipped(mode):
    adversarial = roles.load("clients", "defenses.training.adversarial_training").AdversarialTraining(
        radius=0.1, steps=2
    )
    todo, other = job([range(0, 4), range(4, 8)]), job([range(0, 4), range(4, 8)])

    def beside(network):
        return lambda batch: adversarial.augment(batch, network, np.random.default_rng(0))

    neutral = train(DpSgd(noise_multiplier=0.0, clip=1e6, mode=mode), replace(todo, augment=beside(todo.network)))
    plain = plain_training(replace(other, augment=beside(other.network)))
    assert all(torch.allclose(neutral[name], plain[name], atol=1e-6) for name in plain)


def test_what_is_sent_tells_nothing_of_a_record_count_by_its_scale():
    text = """
name = "small"
data = { source = "hospital", records = 40 }
federation = { clients = 3, rounds = 1 }
training = { algorithm = "fedavg", records_per_client = 4, batch_size = 64 }
"""
    scenario, spreads = loads(text), []
    for records in (3, 4):  # fewer than a batch holds
        taken = scenario.participation(records)
        one = replace(job([[]] * 300, size=64), taken=taken)
        moved = train(DpSgd(noise_multiplier=1.0, clip=0.5), one)
        spreads.append(float(torch.cat([(t / 0.1).flatten() for t in moved.values()]).std()))
        assert DpSgd().known(taken)["divisor"] == 4
    assert spreads[0] == spreads[1] == pytest.approx(300**0.5 * 0.5 / 4, rel=0.2)


@pytest.mark.slow
def test_opacus_is_imported_by_whom_it_trains_alone():
    code = (
        "import sys; from fedinv import plugins; plugins.load('defenses', 'dp-sgd')();"
        "assert 'torch' in sys.modules and 'opacus' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[4])
