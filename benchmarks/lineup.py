"""How often a line-up of ten is right behind DP-SGD, beside the theoretical bound, for epsilon 1, 4 and 8."""

import time
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from fedinv import plugins, roles
from fedinv.attack import Answer, Attack, Exchange, Observation, Question, Sample
from fedinv.data.population import Population
from fedinv.federation.training import Job
from fedinv.judge.truth import population_of
from fedinv.privacy.reconstruction_bound import reconstruction_bound
from fedinv.results.intervals import clopper_pearson
from fedinv.scenario.reading import read
from fedinv.scenario.scenario import Scenario
from fedinv.task.models import build, state

TRIALS = 1000
BATCH = 8
NOISES = {1: 3.7307, 4: 1.0812, 8: 0.6003}
"""Noise multiplier of one Gaussian step for each epsilon, at delta 1e-5."""


def main() -> None:
    """Hospital, MLP 32, one step on a batch of 8, fresh weights, people and noise in each trial; one torch thread."""
    torch.set_num_threads(1)
    attack = plugins.load("attacks", "line-up")(kind="line-up")
    assert isinstance(attack, Attack)
    for epsilon, noise in NOISES.items():
        scenario = read(
            "hospital",
            [
                "model.hidden=[32]",
                "training.algorithm=fedsgd",
                f"training.batch_size={BATCH}",
                f"training.records_per_client={BATCH}",
                f'defenses=[{{kind="dp-sgd",noise_multiplier={noise},clip=1.0}}]',
            ],
        )
        people, begun = population_of(scenario), time.process_time()
        named = sum(_trial(scenario, people, attack, trial) for trial in range(TRIALS))
        low, high = clopper_pearson(named, TRIALS)
        print(
            f"epsilon {epsilon}: named {named / TRIALS:.3f} [{low:.3f}, {high:.3f}] of {TRIALS}, guess 0.100, "
            f"theory at most {reconstruction_bound(0.1, noise):.3f}  CPU {time.process_time() - begun:.1f} s"
        )


def _trial(scenario: Scenario, people: Population, attack: Attack, trial: int) -> bool:
    rng = np.random.default_rng(trial)
    drawn = rng.choice(len(people.labels), 9 + BATCH, replace=False)
    candidates, others = drawn[:10], drawn[10:]
    place, schema = int(rng.integers(10)), people.table.schema
    batch = np.append(others, candidates[place])
    network = build(scenario.model.fitted(schema), schema.shape, schema.outputs, trial)
    sent = {name: weight.clone() for name, weight in state(network).items()}
    every = (np.arange(BATCH),)
    job = Job(network, people.inputs[batch], people.labels[batch], every, scenario.training.settings, rng)
    training = scenario.defenses[0].wrap_training(roles.load("clients", "training.plain_training").plain_training)
    seen = Observation((0,), (Exchange(1, sent, training(job), BATCH),))
    question = Question(people=_sample(people, candidates), others=_sample(people, others))
    knows = replace(scenario.knowledge(schema, adaptive=True), question=question)
    answer = attack.run(seen, knows, rng, lambda _: None)
    return isinstance(answer, Answer) and int(answer.scores.argmax()) == place


def _sample(people: Population, rows: NDArray[np.int64]) -> Sample:
    return Sample(people.inputs[rows], people.labels[rows])
