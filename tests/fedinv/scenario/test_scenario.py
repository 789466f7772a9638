import re
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedinv import plugins
from fedinv.errors import RequestError, RunError
from fedinv.federation.agreement import Agreement
from fedinv.scenario.reading import loads, parse, read
from fedinv.storage import documents
from fedinv.task.columns import Categorical, Continuous
from fedinv.task.schema import Schema


def refused(text: str, *words: str) -> str:
    with pytest.raises(RequestError) as caught:
        loads(text)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    return message


def test_a_resolved_scenario_reads_back_equal(tiny):
    scenario = loads(tiny + '[[defenses]]\nkind = "clip-noise"\nclip = 1.0\nnoise_multiplier = 0.5\n')
    assert loads(scenario.to_toml()) == scenario


@pytest.mark.parametrize("name", sorted(documents.shipped()))
def test_every_shipped_scenario_is_valid_and_named_after_its_file(name):
    scenario = read(name)
    assert scenario.name == name
    assert scenario.attacks


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("epocs = 1", ("training.epocs", "did you mean 'epochs'")),
        ("lr = -1.0", ("training.lr", "greater than 0", "-1.0")),
        ('lr = "fast"', ("training.lr", "number", "'fast'")),
        ("momentum = 1.0", ("training.momentum", "less than 1")),
    ],
)
def test_a_wrong_key_or_value_is_named_with_its_place(tiny, wrong, words):
    line = re.compile(rf"^{wrong.split(' ')[0]} .*\n", re.M)
    refused(line.sub("", tiny).replace("[training]\n", f"[training]\n{wrong}\n"), "scenario:", *words)


def test_the_nearest_kind_is_suggested(tiny):
    refused(tiny + '[[defenses]]\nkind = "dp-sdg"\n', "defenses.0.kind", "did you mean 'dp-sgd'")
    refused(tiny + '[[attacks]]\nkind = "exakt"\n', "attacks.0.kind", "did you mean 'exact'")
    refused(tiny.replace('"hospital"', '"hospitl"'), "data.source", "did you mean 'hospital'")
    refused(tiny.replace('"mlp"', '"mpl"'), "model.kind", "mlp")
    refused(tiny.replace('"fedavg"', '"fedavgg"'), "training.algorithm", "did you mean 'fedavg'")


def test_unknown_keys_of_plugins_are_named_with_their_place(tiny):
    two = '[[defenses]]\nkind = "dp-sgd"\nclip = 1.0\nnoise_multiplier = 1.0\n[[defenses]]\nkind = "clip-noise"\n'
    refused(tiny + two + "clip = 1.0\nnoise_multiplyer = 1\n", "defenses.1.noise_multipl")
    refused(tiny.replace("records = 200", "recrods = 200"), "data.recrods", "did you mean 'records'")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("rounds = [1, 2]", "rounds = [9]", ("attacker.watch.rounds", "round 9")),
        ("clients = 2 }", "clients = 5 }", ("attacker.watch.clients", "5")),
        ("rounds = 3", "rounds = 3\nclients_per_round = 9", ("federation.clients_per_round", "9")),
        ("[federation]\nclients = 4\nrounds = 3\n", "", ("federation", "missing")),
    ],
)
def test_what_contradicts_itself_is_refused(tiny, old, new, words):
    assert old in tiny
    refused(tiny.replace(old, new), *words)


def test_masking_must_come_last(tiny):
    masked = '[[defenses]]\nkind = "masking"\n'
    loads(tiny + masked)
    refused(
        tiny.replace("clients = 4", "clients = 1").replace("clients = 2 }", "clients = 1 }") + masked, "at least two"
    )
    refused(tiny + masked + '[[defenses]]\nkind = "clip-noise"\nclip = 1.0\nnoise_multiplier = 1.0\n', "last")


def test_overrides_reach_tables_and_list_entries():
    scenario = read("hospital-dp", ["training.lr=0.25", "defenses.0.clip=2", "attacks=[]"])
    assert (scenario.training.lr, scenario.defenses[0].clip, scenario.attacks) == (0.25, 2.0, ())


@pytest.mark.parametrize("setting", ["training.lr", "=3", "defenses.7.clip=1", "defenses.x.clip=1", "seed.deep=1"])
def test_an_override_that_fits_nowhere_is_refused(setting):
    with pytest.raises(RequestError, match=re.escape(setting.partition("=")[0] if setting[0] != "=" else setting)):
        read("hospital-dp", [setting])


def test_files_that_are_not_there_or_not_toml(tmp_path):
    with pytest.raises(RequestError, match="did you mean 'hospital'"):
        read("hospitl")
    with pytest.raises(RequestError, match="no such scenario file"):
        read(str(tmp_path / "none.toml"))
    broken = tmp_path / "broken.toml"
    broken.write_text("name = \n")
    with pytest.raises(RequestError, match="broken.toml: not valid TOML: .*line 1"):
        read(str(broken))
    broken.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RequestError, match="cannot be read"):
        read(str(broken))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=8,
    ),
    st.sampled_from(["name", "seed", "data", "model", "federation", "training", "defenses", "attacker", "attacks"]),
)
def test_any_rubbish_in_any_table_gives_one_line(rubbish, table):
    document = tomllib.loads(documents.SHIPPED.joinpath("hospital.toml").read_text())
    document[table] = rubbish
    message = ""
    try:
        parse(document, "here")
    except RequestError as error:
        message = str(error)
    assert message.startswith("here: ") or not message
    assert "\n" not in message


def test_the_server_reads_its_part_alone(tiny):
    agreement = Agreement.model_validate(tomllib.loads(loads(tiny).to_toml()))
    assert agreement.federation.clients == 4
    assert not hasattr(agreement, "data")


def test_a_static_attack_is_never_told_of_the_defenses(tiny):
    column = Categorical(name="sex", values=("f", "m"), frequencies=(0.5, 0.5))
    schema = Schema(columns=(column,), label="ill", classes=("no", "yes"))
    scenario = loads(tiny + '[[defenses]]\nkind = "clip-noise"\nclip = 1.0\nnoise_multiplier = 0.5\n')
    assert scenario.knowledge(schema, adaptive=False).defenses is None
    assert scenario.knowledge(schema, adaptive=True).defense("clip-noise")["noise_multiplier"] == 0.5
    withheld = loads(tiny.replace("clients = 2 }", 'clients = 2 }\nknows = ["loss"]')).knowledge(schema, adaptive=True)
    assert (withheld.schema, withheld.model, withheld.lr, withheld.epochs) == (None, None, None, None)


def test_the_loss_is_that_of_the_label(tiny):
    column = Categorical(name="sex", values=("f", "m"), frequencies=(0.5, 0.5))
    target = Continuous(name="days", mean=5, std=2, low=0, high=20, mode=4)
    scenario = loads(tiny)
    for schema, loss in (
        (Schema(columns=(column,), label="ill", classes=("no", "yes")), "cross-entropy"),
        (Schema(columns=(column,), label="days", target=target), "squared-error"),
    ):
        assert scenario.knowledge(schema, adaptive=False).loss == loss
    withheld = loads(tiny.replace("clients = 2 }", 'clients = 2 }\nknows = ["schema"]')).knowledge(
        schema, adaptive=True
    )
    assert withheld.loss is None


def test_listing_reads_docstrings_only():
    assert all(plugin.summary for plugin in plugins.available("defenses").values())
    assert {"dp-sgd", "clip-noise", "masking"} <= set(plugins.available("defenses"))


DIGITS = """
name = "pictures"
data = { source = "digits", records = 100 }
model = { kind = "convnet", norm = "batch", channels = [4] }
federation = { clients = 2, rounds = 1 }
training = { algorithm = "fedavg" }
"""


def test_a_model_of_images_is_refused_on_a_table(tiny):
    table = re.sub(r"^hidden.*\n", "", tiny, flags=re.M)
    for kind in ("lenet", "convnet"):
        refused(
            table.replace('"mlp"', f'"{kind}"'), "model.kind", kind, "'hospital' holds a table", "use mlp or logistic"
        )
    assert loads(DIGITS).model.kind == "convnet"


def test_batch_normalization_is_refused_where_records_gradients_are_clipped():
    defense = '[[defenses]]\nkind = "dp-sgd"\nclip = 1.0\nnoise_multiplier = 1.0\n'
    refused(DIGITS + defense, "model.norm", "'dp-sgd'", 'use norm = "none"')
    assert loads(DIGITS.replace('"batch"', '"none"') + defense).defenses
    assert loads(DIGITS + defense.replace("dp-sgd", "clip-noise")).defenses


def stacked(tiny, *kinds):
    return loads(tiny + "".join(f'[[defenses]]\nkind = "{kind}"\n' for kind in kinds))


@pytest.mark.parametrize(
    ("kinds", "reason"),
    [
        (("masking", "masking"), "hidden only once"),
        (("masking", "top-k"), "must be the last"),
        (("clip-noise", "sign"), "mostly noise"),
        (("distributed-noise",), "protects the sum alone.*homomorphic, masking or secagg-plus"),
        (("distributed-noise", "top-k", "masking"), "protects the sum alone"),
        (("central-dp", "masking"), "needs to see each client's update"),
    ],
)
def test_stacks_that_make_no_sense_are_refused_with_the_reason(tiny, kinds, reason):
    with pytest.raises(RequestError, match=reason):
        stacked(tiny, *kinds)


@pytest.mark.parametrize(
    "kinds", [("dp-sgd", "top-k", "masking"), ("clip-noise", "quantize"), ("top-k", "quantize"), ("sign", "clip-noise")]
)
def test_stacks_that_make_sense_are_taken(tiny, kinds):
    assert [defense.kind for defense in stacked(tiny, *kinds).defenses] == list(kinds)


@pytest.mark.parametrize("hook", ["misfit", "known"])
def test_what_a_defense_gets_wrong_in_the_scenario_names_its_file_and_line(tiny, monkeypatch, hook):
    def failing(self, _):
        raise ZeroDivisionError("its own")

    kind = plugins.load("defenses", "top-k")
    monkeypatch.setattr(kind, hook, failing)
    text = tiny.replace("watch", 'knows = ["defenses"]\nwatch') + '[[defenses]]\nkind = "top-k"\n'
    if hook == "misfit":
        with pytest.raises(RequestError, match=r"scenario: defense 'top-k' failed at .*top_k\.py: ZeroDivisionError"):
            loads(text + "# misfit\n")
    else:
        with pytest.raises(RunError, match=r"^defense 'top-k' failed at .*top_k\.py: ZeroDivisionError: its own$"):
            loads(text).knowledge(None, adaptive=True)


@pytest.mark.parametrize("kind", [[[]], {"a": 1}, 5, 1.5, True])
def test_an_unknown_key_with_any_value_is_named(tiny, kind):
    document = loads(tiny).model_dump(mode="json", exclude_none=True)
    with pytest.raises(RequestError, match="kind: unknown key"):
        parse({**document, "kind": kind}, "x")
