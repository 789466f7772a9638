"""Maps what an update of a run of fedinv's tells, layer by layer."""

import math
from pathlib import Path

import numpy as np

from fedinv.errors import RequestError
from fedinv.results.leak_map import LeakMap
from fedinv.runs.own_apps.leak_map import leak_map, probe
from fedinv.scenario.reading import read
from fedinv.storage import files, observations
from fedinv.storage.run_folder import RunFolder
from fedinv.task.foreign.layers import MADE_UP
from fedinv.task.foreign.update import Origin
from fedinv.task.models import build
from fedinv.task.schema import Schema


def map_of_run(folder: Path, place: int) -> LeakMap:
    """The map of one of a run's observations. Raises RequestError where it is no run or has no such observation."""
    if not RunFolder(folder).scenario.is_file():
        raise RequestError(f"{folder}: is neither a recording, as fedinv record makes, nor a run of fedinv's")
    scenario = read(str(folder))
    schema, seen = files.read_model(Schema, RunFolder(folder).schema), observations.read(RunFolder(folder).observations)
    if not 0 <= place < len(seen):
        raise RequestError(f"{folder}: holds {len(seen)} observations, there is no number {place}")
    model = scenario.model.fitted(schema)
    network = build(model, schema.shape, schema.outputs, scenario.seed)
    example = schema.draw(MADE_UP, np.random.default_rng(0))
    one, settings = seen[place], scenario.training.settings
    steps = 1 if settings.algorithm == "fedsgd" else settings.epochs * math.ceil(one.last.records / settings.batch_size)
    origin = Origin(model, settings.optimizer.linear, steps == 1, schema.width)
    known = None if scenario.model.sources else origin
    return leak_map(probe(network, one.last, example), one.clients[0], one.last.records, origin=known)
