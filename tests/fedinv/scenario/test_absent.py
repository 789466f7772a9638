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
        *(
            ("training", f'algorithm = "{one}"')
            for one in ("fedadam", "FedProx", "fedyogi", "scaffold", "fedopt", "adam")
        ),
        *(("training", f'optimizer = "{one}"') for one in ("adam", "adamw", "rmsprop", "lbfgs", "SGDM")),
        *(
            ("training", f"{one} = 1")
            for one in ("class_weight", "class_weights", "pos_weight", "label_smoothing", "loss")
        ),
        *(("training", f"{one} = 1") for one in ("scheduler", "lr_schedule", "lr_decay", "warmup", "nesterov", "mu")),
        *(
            ("training", f"{one} = 1")
            for one in ("max_grad_norm", "clip", "early_stopping", "proximal_mu", "server_lr")
        ),
        *(("model", f"{one} = 1") for one in ("norm", "batch_norm", "layernorm", "dropout", "path", "module", "class")),
        *(
            ("model", f'kind = "{one}"')
            for one in ("resnet18", "transformer", "lstm", "xgboost", "own", "torch.nn.Module")
        ),
        *(("federation", f"{one} = 1") for one in ("strategy", "fraction_fit", "server_optimizer", "topology")),
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
