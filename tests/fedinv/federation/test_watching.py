import pytest

from fedinv.errors import RequestError
from fedinv.federation.agreement import Agreement
from fedinv.federation.watching import MOST, with_watch
from fedinv.scenario.reading import loads

SKEWED = 'partition = { kind = "by-column", column = "sex" }'


def changed(text, partition="", clients=4, watch=""):
    text = text.replace("records = 200", f"records = 200\n{partition}").replace("clients = 4", f"clients = {clients}")
    return text.replace("watch = { rounds = [1, 2], clients = 2 }", f"watch = {{ rounds = [1]{watch} }}")


def test_where_clients_are_unlike_all_are_watched_or_the_smallest(tiny):
    few, many = changed(tiny, SKEWED, 5), changed(tiny, 'partition = { kind = "quantity" }', 20)
    assert (loads(few).attacker.watch.clients, loads(few).attacker.watch.choose) == (5, "first")
    assert (loads(many).attacker.watch.clients, loads(many).attacker.watch.choose) == (MOST, "smallest")
    again = loads(loads(many).to_toml())
    assert again == loads(many)
    assert Agreement.model_validate(again.model_dump(mode="json")).attacker == again.attacker


def test_what_the_scenario_says_holds_and_alike_clients_stand_for_each_other(tiny):
    assert loads(changed(tiny, SKEWED, 5, ", clients = 2")).attacker.watch.clients == 2
    assert loads(changed(tiny)).attacker.watch.clients == 1
    rounds = changed(tiny, SKEWED, 20).replace("rounds = 3", "rounds = 3\nclients_per_round = 3")
    assert loads(rounds).attacker.watch.clients == 3


@pytest.mark.parametrize("document", [None, [], {"data": 3}, {"data": {"partition": "x"}, "federation": {}}])
def test_what_is_no_scenario_is_left_to_the_checks(document):
    assert with_watch(document) == document


def test_drawn_clients_have_no_smallest(tiny):
    with pytest.raises(RequestError, match="none is smallest"):
        loads(changed(tiny, 'partition = { kind = "drawn" }', 4, ', choose = "smallest"'))
