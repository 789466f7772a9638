import numpy as np
import pytest
import torch

from clients.training import job, stacked
from clients.training.cohort import Cohort, why_alone
from fedinv.data.population import population
from fedinv.federation import wire
from fedinv.scenario.reading import loads
from fedinv.task.models import build, state
from fedinv.task.networks.convolutional import Convnet, Lenet
from fedinv.task.networks.perceptron import Logistic, Mlp

TEXT = """
name = "ragged"
seed = 5
[data]
source = "hospital"
records = 300
partition = { kind = "quantity", exponent = 1.0 }
[model]
kind = "mlp"
hidden = [12, 7]
[federation]
clients = 9
rounds = 2
[training]
algorithm = "fedavg"
epochs = 2
batch_size = 8
lr = 0.1
"""
DP = '[[defenses]]\nkind = "dp-sgd"\nnoise_multiplier = 0.7\nclip = 0.5\n'
DROPOUT = '[[defenses]]\nkind = "dropout"\nrate = 0.4\n'


def setting(text):
    scenario = loads(text)
    people = population(scenario.data, scenario.seed, scenario.federation.clients, None)
    network = build(scenario.model, people.schema.shape, people.schema.outputs, scenario.seed)
    return scenario, people, wire.pack(state(network))


def apart(one, other):
    assert list(one) == list(other)
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.parametrize(
    ("old", "new", "defenses"),
    [
        ("", "", ""),
        ("lr = 0.1", "lr = 0.1\nmomentum = 0.9", ""),
        ("lr = 0.1", "lr = 0.1\nweight_decay = 0.2", ""),
        ("lr = 0.1", "lr = 0.1\nmomentum = 0.9\nweight_decay = 0.2", DP),
        ("lr = 0.1", 'lr = 0.003\noptimizer = "adam"\nlocal_schedule = "cosine"\nproximal = 0.5', ""),
        ("lr = 0.1", 'lr = 0.003\noptimizer = { kind = "adam", amsgrad = true }\nclass_weights = [1, 3]', DROPOUT),
        ("lr = 0.1", 'lr = 0.003\noptimizer = "adamw"\nweight_decay = 0.1\nschedule = "cosine"', DP),
        ("lr = 0.1", 'lr = 0.003\noptimizer = "rmsprop"\nmomentum = 0.5', ""),
        ("lr = 0.1", 'optimizer = { kind = "sgd", nesterov = true }\nmomentum = 0.9\nproximal = 1.0', DP),
        ("lr = 0.1", 'class_counts = [900, 100]\nlocal_schedule = { kind = "linear", over = 3 }', DP),
        ('"fedavg"', '"fedsgd"\noptimizer = { kind = "adam", eps = 1e-5 }', ""),
        ('"fedavg"', '"fedsgd"', ""),
        ('"fedavg"', '"fedsgd"', DP),
        ("[12, 7]", '[12, 7]\nactivation = "gelu"', ""),
        ("[12, 7]", '[12, 7]\nactivation = "tanh"', DROPOUT),
        ("[12, 7]", '[9]\nactivation = "sigmoid"', DP),
        ("[12, 7]", '[9]\nactivation = "leaky-relu"', ""),
        ('"mlp"\nhidden = [12, 7]', '"logistic"', ""),
        ('"mlp"\nhidden = [12, 7]', '"logistic"', DP),
        ("", "", DROPOUT),
        pytest.param("", "", DP.replace("noise_multiplier = 0.7", "epsilon = 5.0"), marks=pytest.mark.slow),
        ("", "", DP.replace("noise_multiplier = 0.7", "noise_multiplier = 0.0")),
        ("", "", DP + 'mode = "hooks"\n'),
    ],
)
def test_clients_trained_together_are_as_if_trained_one_by_one(old, new, defenses, monkeypatch):
    scenario, people, arrays = setting(TEXT.replace(old, new) + defenses)
    assert why_alone(scenario) is None
    sizes = {people.held(client) for client in range(9)}
    assert len(sizes) > 5
    monkeypatch.setattr(stacked, "CHUNK_BYTES", 4 * sum(t.numel() for t in wire.unpack(arrays).values()) * 4)
    cohort = Cohort(scenario, torch.device("cpu"))
    everyone = list(range(9))
    for round_ in (1, 2):
        for client in everyone:
            together = cohort.update(client, round_, everyone, arrays)
            by_itself = job.train(scenario, people, client, round_, wire.unpack(arrays))
            assert max(float(t.abs().max()) for t in by_itself.values()) > 1e-3
            assert apart(together, by_itself) <= 1e-5


def test_numbers_to_predict_are_trained_together_too(tmp_path):
    rng = np.random.default_rng(0)
    rows = "\n".join(",".join(f"{x:.3f}" for x in rng.normal(size=4)) for _ in range(80))
    (tmp_path / "t.csv").write_text("a,b,c,cost\n" + rows + "\n")
    source = f'source = "csv"\npath = "{tmp_path / "t.csv"}"\nlabel = "cost"\n'
    scenario, people, arrays = setting(TEXT.replace('source = "hospital"\nrecords = 300\n', source) + DP)
    assert people.labels.is_floating_point()
    cohort = Cohort(scenario, torch.device("cpu"))
    for client in range(9):
        together = cohort.update(client, 1, range(9), arrays)
        assert apart(together, job.train(scenario, people, client, 1, wire.unpack(arrays))) <= 1e-5


@pytest.mark.parametrize("defenses", ["", DP, DROPOUT])
def test_an_update_does_not_depend_on_who_is_trained_beside(defenses, monkeypatch):
    scenario, _, arrays = setting(TEXT + defenses)
    updates = []
    for cohort, chunk_bytes in ((range(9), 10**9), ([3], 10**9), ([8, 3, 1], 1)):
        monkeypatch.setattr(stacked, "CHUNK_BYTES", chunk_bytes)
        updates.append(Cohort(scenario, torch.device("cpu")).update(3, 1, list(cohort), arrays))
    assert apart(updates[0], updates[1]) <= 1e-6
    assert apart(updates[0], updates[2]) <= 1e-6


def test_each_client_is_trained_from_the_weights_that_it_was_sent():
    scenario, people, arrays = setting(TEXT)
    other = wire.pack({name: 2 * tensor for name, tensor in wire.unpack(arrays).items()})
    cohort = Cohort(scenario, torch.device("cpu"))
    for client, sent in ((0, arrays), (1, other), (2, arrays)):
        together = cohort.update(client, 1, range(9), sent)
        if sent is other:  # trained on its own, by whoever asked
            assert together is None
        else:
            assert apart(together, job.train(scenario, people, client, 1, wire.unpack(sent))) <= 1e-5


def test_records_whose_gradient_is_not_finite_are_dropped_together_as_alone():
    scenario, people, arrays = setting(TEXT + DP)
    people.inputs[people.shares[4][:3], 0] = float("inf")
    try:
        cohort = Cohort(scenario, torch.device("cpu"))
        together = cohort.update(4, 1, range(9), arrays)
        alone = job.train(scenario, people, 4, 1, wire.unpack(arrays))
        assert apart(together, alone) <= 1e-5
    finally:
        population.cache_clear()


@pytest.mark.parametrize(
    ("old", "new", "defense", "why"),
    [
        ("", "", "mixup", "'mixup' changes each batch"),
        ("", "", "soteria", "'soteria' changes the network"),
        ("", "", "small-model", "'small-model' changes the training"),
        ("", "", 'dropout"\n[[defenses]]\nkind = "dp-sgd', "several defenses"),
        ('"hospital"\nrecords = 300', '"digits"', None, "'convnet' is no perceptron"),
    ],
)
def test_what_cannot_be_stacked_is_trained_one_by_one_and_says_why(old, new, defense, why):
    text = TEXT.replace(old, new)
    if defense is None:
        text = text.replace('"mlp"\nhidden = [12, 7]', '"convnet"\nchannels = [4]')
    scenario = loads(text + (f'[[defenses]]\nkind = "{defense}"\n' if defense else ""))
    assert why in why_alone(scenario)


@pytest.mark.parametrize("how", ["momentum = 0.9", 'optimizer = "adam"\nlocal_schedule = "cosine"\nproximal = 0.1'])
@pytest.mark.parametrize("defenses", ["", DP, DROPOUT])
def test_no_step_leaves_the_device_before_the_end(how, defenses):
    scenario, people, arrays = setting(TEXT.replace("lr = 0.1", f"lr = 0.1\n{how}\nclass_weights = [1, 2]") + defenses)
    network = job.network(scenario, people, wire.unpack(arrays))
    jobs = job.stacked_jobs(scenario, people, range(9), 1, network)
    (chunk,) = stacked.chunks(jobs, torch.device("meta"))
    # tensors of the meta device refuse to meet the CPU's; its updates cannot be fetched, which is the very last step
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
        stacked.train([jobs[i] for i in chunk], torch.device("meta"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("defenses", ["", DP, DROPOUT])
def test_a_gpu_gives_the_same_updates(defenses):
    scenario, people, arrays = setting(TEXT + defenses)
    cohort = Cohort(scenario, torch.device("cuda"))
    for client in range(9):
        together = cohort.update(client, 1, range(9), arrays)
        assert apart(together, job.train(scenario, people, client, 1, wire.unpack(arrays))) <= 1e-5


@pytest.mark.parametrize("model", [Mlp(hidden=(4, 3)), Logistic(), Lenet(), Convnet(channels=(4,))])
def test_the_models_that_say_that_they_are_perceptrons_are_those_that_can_be_stacked(model):
    assert stacked.stackable(build(model, (1, 8, 8), 3, seed=1)) == model.perceptron
