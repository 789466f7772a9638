from pathlib import Path

import pytest

from fedinv.lab.look import Look, look
from fedinv.lab.settings import Settings, scenario_of
from fedinv.runs.run import quiet

SMALL = {"clients": 2, "batch_size": 2, "epochs": 0, "network": "medium"}
"""A federation that is trained and attacked in a fraction of a second."""


def looked_at(folder: Path, **chosen) -> Look:
    return look(scenario_of(Settings(**{**SMALL, **chosen})), folder / "run", quiet)


@pytest.fixture(scope="session")
def small_look(tmp_path_factory) -> Look:
    return looked_at(tmp_path_factory.mktemp("lab"))
