import pytest

from fedinv import plugins
from fedinv.errors import RequestError
from fedinv.lab.menu import NO_DEFENSE, defense, menu, named
from fedinv.lab.settings import Settings, checked, header, scenario_of, toml
from fedinv.scenario.reading import parse
from fedinv.storage import documents

HOSTILE = '<img src=x onerror="alert(1)">'


def of(**chosen):
    return scenario_of(Settings(**chosen))


def outcome(**chosen):
    """The kind of the network, or the line that refuses it."""
    try:
        return of(**chosen).model.kind
    except RequestError as refusal:
        return str(refusal)


def table(folder, names=("age", "ward", "ill")):
    rows = [f"{20 + i},{'ab'[i % 2]},{'yes' if i % 3 else 'no'}" for i in range(60)]
    path = folder / "mine.csv"
    quoted = [f'"{name.replace(chr(34), chr(34) * 2)}"' for name in names]
    path.write_text("\n".join([",".join(quoted), *rows]) + "\n")
    return path


@pytest.mark.parametrize("base", [one for one in menu().scenarios if not one.own], ids=lambda one: one.name)
def test_each_offered_scenario_is_valid_with_the_values_it_starts_from(base):
    scenario = of(scenario=base.name, **base.start)
    assert scenario.name == base.name and scenario.federation.clients == base.start["clients"]
    assert len(scenario.attacks) >= 1


def test_a_grid_behind_secagg_plus_has_room_for_updates_of_few_records():
    assert of(crowd="secagg-plus", server="grid").defenses[0].clipping_range == 64
    assert of(crowd="secagg-plus").defenses[0].clipping_range == 8


@pytest.mark.parametrize("choice", menu().servers, ids=lambda one: one.name)
def test_each_offered_server_deviates_as_it_says(choice):
    scenario = of(server=choice.name)
    assert [one.kind for one in scenario.server.deviations] == ([choice.deviation] if choice.deviation else [])
    assert any(type(one).reads_deviations for one in scenario.attacks) == (choice.deviation is not None)


@pytest.mark.parametrize("choice", menu().crowds, ids=lambda one: one.name)
def test_each_offered_crowd_is_a_secure_sum_or_none(choice):
    found = of(crowd=choice.name).defenses
    assert [one.kind for one in found] == list(choice.defenses)
    assert all(one.secure_aggregation for one in found)


@pytest.mark.parametrize("choice", menu().networks, ids=lambda one: one.name)
def test_each_offered_network_is_trained_on_some_scenario(choice):
    tried = [base.name for base in menu().scenarios if not base.own]
    built = {name: outcome(scenario=name, network=choice.name) for name in tried}
    assert choice.model["kind"] in built.values()
    assert all(found == choice.model["kind"] or "reads images" in found for found in built.values())


@pytest.mark.parametrize("choice", [one for one in menu().defenses if one.key], ids=lambda one: one.kind)
def test_a_strength_moves_the_setting_that_is_offered_with_the_defense(choice):
    weak, strong = (of(defense=choice.kind, strength=share).defenses[0] for share in (0.0, 1.0))
    assert (getattr(weak, choice.key), getattr(strong, choice.key)) == (choice.weakest, choice.strongest)
    assert weak.kind == choice.kind


def test_every_defense_that_there_is_can_be_chosen():
    crowds = {kind for crowd in menu().crowds for kind in crowd.defenses}
    sums = {kind for kind, one in plugins.loaded("defenses").items() if one.secure_aggregation}
    assert {one.kind for one in menu().defenses} | crowds | sums == set(plugins.available("defenses"))
    assert defense(NO_DEFENSE) is None


def test_what_is_not_on_the_menu_is_refused_in_one_line():
    for chosen in ({"scenario": "nowhere"}, {"network": "deep"}, {"server": "kind"}, {"defense": "hope"}):
        with pytest.raises(RequestError, match="is not on the menu"):
            of(**chosen)
    with pytest.raises(KeyError):
        named(menu().networks, "deep")


@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        ({"clients": 1}, "lab: clients: "),
        ({"batch_size": 10**9}, "lab: batch_size: "),
        ({"strength": float("nan")}, "lab: strength: "),
        ({"program": "x"}, "lab: program: "),
    ],
)
def test_values_that_no_control_offers_are_refused_in_one_line(chosen, says):
    with pytest.raises(RequestError, match=says) as refusal:
        checked(chosen)
    assert "\n" not in str(refusal.value)


def test_the_optimizer_brings_its_usual_learning_rate_and_one_step_is_fedsgd():
    assert of(optimizer="adam").training.lr == 0.001
    assert of(epochs=0).training.algorithm == "fedsgd"
    assert (of(epochs=2).training.algorithm, of(epochs=2).training.epochs) == ("fedavg", 2)


def test_what_contradicts_itself_is_refused_by_the_scenario_s_own_validation():
    with pytest.raises(RequestError, match="reads images"):
        of(network="convolutional")


def test_the_toml_is_a_file_that_gives_the_same_scenario():
    scenario = of(defense="dp-sgd", crowd="masks", batch_size=4)
    assert parse(documents.loads(toml(scenario), "copied"), "copied") == scenario


def test_an_own_csv_is_read_from_where_it_lies(tmp_path):
    own = next(base for base in menu().scenarios if base.own)
    path = table(tmp_path, names=("age", HOSTILE, "ill"))
    assert header(str(path)).columns == ("age", HOSTILE, "ill")
    scenario = of(scenario=own.name, path=str(path), label="ill", clients=2)
    assert (scenario.data.path, scenario.data.label) == (path, "ill")


def test_an_own_csv_of_semicolons_is_read_by_them(tmp_path):
    path = table(tmp_path)
    path.write_text(path.read_text().replace(",", ";"))
    assert (header(str(path)).delimiter, header(str(path)).columns) == (";", ("age", "ward", "ill"))


def test_a_file_that_is_no_table_is_refused_without_a_cell_of_it(tmp_path):
    path = tmp_path / "page.csv"
    path.write_text("<html>secret</html>")
    with pytest.raises(RequestError, match="is a web page") as refusal:
        header(str(path))
    assert "secret" not in str(refusal.value)
