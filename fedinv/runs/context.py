"""What an attack on a finished training is handed, and the model that came of it."""

from pathlib import Path

from torch import nn

from fedinv.attack import Observation
from fedinv.data.population import Population
from fedinv.judge.truth import auxiliary
from fedinv.runs import attack_runner
from fedinv.scenario.scenario import Scenario
from fedinv.storage import files, observations
from fedinv.task.models import load


def trained(scenario: Scenario, folder: Path, people: Population) -> Observation:
    """The trained model, as the server has it in the end."""
    rounds = scenario.federation.rounds
    weights, _ = files.read_tensors(folder / "checkpoint" / f"model-{rounds:04}.safetensors")
    return observations.trained(weights, rounds, scenario.federation.clients, sum(people.holds.values()))


def trained_network(scenario: Scenario, folder: Path, people: Population) -> nn.Sequential:
    """The same as a network that can be asked, in evaluation mode."""
    schema = people.table.schema
    return load(scenario.model, schema.shape, schema.outputs, trained(scenario, folder, people).last.sent).eval()


def granted(scenario: Scenario, folder: Path, people: Population) -> attack_runner.Handed:
    """What the scenario grants every attack on this run: the trained model, auxiliary records, and clients' sizes."""
    return attack_runner.Handed(
        trained(scenario, folder, people), auxiliary=auxiliary(scenario, people), holds=people.holds
    )
