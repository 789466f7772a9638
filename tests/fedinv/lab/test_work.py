from concurrent.futures import ThreadPoolExecutor, wait
from threading import Event

import pytest

from fedinv import api
from fedinv.lab import work
from fedinv.lab.settings import Settings, scenario_of
from fedinv.lab.work import SupersededError, Task, Workshop, followed


@pytest.fixture
def shop(tmp_path):
    """A workshop with a single worker, in this process."""
    with ThreadPoolExecutor(1) as executor:
        yield Workshop(executor, tmp_path)


def test_stages_are_shown_until_there_are_outcomes(tmp_path):
    with ThreadPoolExecutor(2) as executor:
        may_end, shown = Event(), []

        def slow(folder):
            work._noting(folder, "training")(0.5)
            assert may_end.wait(600)
            return "slow"

        folders = [tmp_path / name for name in "ab"]
        for folder in folders:
            folder.mkdir()
        tasks = [
            Task(folders[0], executor.submit(lambda: "quick")),
            Task(folders[1], executor.submit(slow, folders[1])),
        ]

        def show(stages):
            shown.append(stages)
            if stages[1] == ("training", 0.5):
                may_end.set()

        assert followed(tasks, show, lambda: False) == ["quick", "slow"]
    assert shown[-1][1] == ("training", 0.5)


def test_a_run_that_nobody_waits_for_any_more_ends_in_the_midst_of_an_attack(shop):
    long = {"kind": "gradient-matching", "iterations": 100_000, "patience": 0, "work": 1e9, "simulate": 0}
    scenario = scenario_of(Settings(clients=2, batch_size=4, epochs=1, network="medium"))
    task = shop.look(api.load(scenario.to_toml(), attacks=[long]))
    waiting = shop.look(scenario)
    at_work = []

    def show(stages):
        at_work.append(stages[0][0].startswith("attack"))

    assert followed([task, waiting], show, lambda: any(at_work)) is None
    wait([task.future], timeout=600)
    assert isinstance(task.future.exception(timeout=0), SupersededError)
    assert waiting.future.cancelled()
    assert not (task.folder / "run" / "results.json").exists()
