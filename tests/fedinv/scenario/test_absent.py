import pytest

from fedinv import plugins
from fedinv.errors import RequestError
from fedinv.scenario.reading import loads
from fedinv.scenario.short_form import plugin


def refused(text):
    with pytest.raises(RequestError) as caught:
        loads(text)
    said = str(caught.value)
    assert "\n" not in said
    return said


@pytest.mark.parametrize(
    ("place", "asked"),
    [
        *(("training", f'algorithm = "{one}"') for one in ("fednova", "scaffold", "fedopt", "krum")),
        *(("training", f'optimizer = "{one}"') for one in ("nadam", "lion", "lbfgs", "SGDM")),
        *(("training", f"{one} = 1") for one in ("sample_weights", "focal_loss", "label_smoothing", "loss")),
        *(("training", f"{one} = 1") for one in ("max_grad_norm", "clip", "early_stopping", "server_lr", "scaffold")),
        *(("model", f"{one} = 1") for one in ("norm", "batch_norm", "layernorm", "dropout", "path", "module", "class")),
        *(
            ("model", f'kind = "{one}"')
            for one in ("resnet18", "transformer", "lstm", "xgboost", "own", "torch.nn.Module")
        ),
        *(("federation", f"{one} = 1") for one in ("aggregation", "fraction_fit", "server_optimizer", "topology")),
    ],
)
def test_what_others_have_and_fedinv_has_not_is_said_to_be_absent_and_nothing_else_is_offered(tiny, place, asked):
    key = asked.split(" = ")[0]
    kept = [line for line in tiny.splitlines() if not line.startswith(f"{key} =")]
    at = kept.index(f"[{place}]") + 1
    if place == "model" and key == "kind":
        kept = [line for line in kept if not line.startswith("hidden")]
    said = refused("\n".join([*kept[:at], asked, *kept[at:]]))
    assert f"{place}.{key}: " in said
    assert "is not there" in said
    assert "nothing else is there" in said or "see fedinv list defenses" in said
    assert "did you mean" not in said


@pytest.mark.parametrize("key", ["dropouts", "dropout_rate", "stragglers"])
def test_a_key_that_is_called_otherwise_is_named(tiny, key):
    assert "write federation.dropout" in refused(tiny.replace("rounds = 3", f"rounds = 3\n{key} = 0.1"))


@pytest.mark.parametrize(
    ("asked", "right"),
    [
        *((f"{one} = 1", "write training.proximal") for one in ("mu", "proximal_mu", "fedprox")),
        *((f"{one} = 1", "write training.schedule") for one in ("scheduler", "lr_schedule", "lr_decay", "warmup")),
        *((f"{one} = 1", "write training.optimizer = {") for one in ("nesterov", "betas", "eps")),
        *((f"{one} = 1", "write training.class_weights") for one in ("class_weight", "pos_weight", "balanced")),
        ('class_weights = "balanced"', "write class_counts = [900, 100]"),
        ('schedule = "exponential"', "(known: constant, step, cosine, linear): write training.schedule"),
        ('optimizer = "sdg"', "training.optimizer: unknown 'sdg' (did you mean 'sgd'?)"),
        ('optimizer = { kind = "adamm" }', "training.optimizer.kind: unknown kind 'adamm' (did you mean 'adam'?)"),
        ('optimizer = "adam"\nmomentum = 0.9', "leave momentum out, or write optimizer = { kind = "),
        ('optimizer = { kind = "sgd", nesterov = true }', "write momentum = 0.9 beside it"),
        ('algorithm = "fedsgd"\nproximal = 0.1', "proximal: fedsgd takes one step"),
        ('algorithm = "fedsgd"\nlocal_schedule = "cosine"', "local_schedule: fedsgd takes one step"),
        ('algorithm = "FedProx"', "write training.proximal"),
        ('algorithm = "fedadam"', 'write federation.strategy = "fedavgm", "fedadam" or "fedyogi"'),
        ('algorithm = "adam"', "write training.optimizer"),
        ("class_weights = [1, 2]\nclass_counts = [2, 1]", "write one of the two"),
        ('optimizer = { kind = "adam", lr = 0.1 }', "write training.lr"),
        ('optimizer = { kind = "sgd", momentum = 0.9 }', "write training.lr, training.momentum"),
        ('optimizer = { kind = "adam", beta = 0.1 }', "unknown key (did you mean 'betas'?)"),
        ('optimizer = "adamx"', "unknown 'adamx'"),
        ('optimizer = "nadam"', "'nadam' is not there (known: sgd, adam, adamw, rmsprop): clients train by"),
        ('optimizer = { kind = "adam", betas = [0.9, 1.0] }', "training.optimizer.betas.1: should be less than 1"),
        ("class_weights = [1.0, -1.0]", "training.class_weights"),
    ],
)
def test_what_is_there_under_another_name_is_named(tiny, asked, right):
    kept = "\n".join(line for line in tiny.splitlines() if not line.startswith(asked.split(" = ")[0] + " ="))
    assert right in refused(kept.replace("[training]", f"[training]\n{asked}"))


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("lrr = 0.05", "training.lrr: unknown key (did you mean 'lr'?)"),
        ("batchsize = 4", "did you mean 'batch_size'?"),
        ('algorithm = "fedavgg"', "did you mean 'fedavg'?"),
        ("optimiser = 1", "did you mean 'optimizer'?"),
    ],
)
def test_a_misspelling_is_still_a_misspelling(tiny, wrong, right):
    kept = "\n".join(line for line in tiny.splitlines() if not line.startswith(wrong.split(" = ")[0] + " ="))
    assert right in refused(kept.replace("[training]", f"[training]\n{wrong}"))


NAMES = sorted(
    (name, short) for attack in plugins.loaded("attacks").values() for name, short in attack.known_as.items()
)


@pytest.mark.parametrize(("name", "short"), NAMES)
def test_a_name_from_a_paper_leads_to_the_attack(tiny, name, short):
    table = plugin("attacks", short)
    loads(tiny + "[[attacks]]\n" + "\n".join(f'{key} = "{value}"' for key, value in table.items()))
    assert f"(that is {short})" in refused(tiny + f'[[attacks]]\nkind = "{name.upper()}"\n')
    with pytest.raises(RequestError, match=f"that is {short}"):
        plugin("attacks", name)


def test_the_first_attack_on_gradients_is_known_by_its_name():
    assert "dlg" in dict(NAMES)


@pytest.mark.parametrize(
    ("name", "right"), [("Größe Köln", "'Groesse-Koeln'"), ("études", "'etudes'"), ("-x", "'x'"), ("a b", "'a-b'")]
)
def test_a_name_with_other_letters_is_refused_with_the_name_to_write(tiny, name, right):
    assert f"write {right}" in refused(tiny.replace('"tiny"', f'"{name}"'))
