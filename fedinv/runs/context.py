"""A finished training: everything that attacks and judge need of it, in one value."""

import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from torch import nn

from fedinv.attack import Observation, Question, Sample
from fedinv.data.population import Population
from fedinv.errors import RunError
from fedinv.judge.truth import auxiliary, population_of
from fedinv.scenario.scenario import Scenario
from fedinv.storage import files, observations
from fedinv.storage.checkpoints import Progress
from fedinv.storage.run_folder import RunFolder
from fedinv.task.models import load, shapes
from fedinv.task.schema import Schema


@dataclass(frozen=True)
class Grants:
    """What an attacker gets beside observations and public settings, as far as the scenario grants it."""

    ask: Callable[[Observation], Question | None] = lambda _: None
    """Function that returns the question about an observation; None where the attack claims records or classes."""
    auxiliary: Sample | None = None
    """Records of the same population that no client holds; None where the scenario grants none."""
    holds: Mapping[int, int] = field(default_factory=dict)
    """Number of records by client, from which the noise that was calibrated for it follows."""


def with_secret(scenario: Scenario, folder: RunFolder) -> Scenario:
    """The scenario with a secret: its own, else the one in the folder, which is drawn and written where there is none.

    Raises RunError for a folder that cannot be written or whose secret is damaged.
    """
    if scenario.secret is not None:
        return scenario
    if not folder.secret.is_file():
        files.write(folder.secret, secrets.token_hex(16) + "\n")
        folder.secret.chmod(0o600)
    drawn = folder.secret.read_text(encoding="utf-8", errors="replace").strip()
    if not SECRET.fullmatch(drawn):
        raise RunError(f"{folder.secret}: is damaged, run again in another folder")
    return scenario.model_copy(update={"secret": drawn})


SECRET = re.compile("[0-9a-f]{32}")
"""Pattern of a run's secret."""


@dataclass(frozen=True)
class TrainedRun:
    """A scenario that was trained in its folder. Each file is read at most once."""

    scenario: Scenario
    folder: RunFolder

    @property
    def people(self) -> Population:
        """All people's records, and which client holds whose."""
        return population_of(self.scenario)

    @cached_property
    def schema(self) -> Schema:
        """The data dictionary that the server received. Raises RunError naming a file that is damaged."""
        return files.read_model(Schema, self.folder.schema)

    @cached_property
    def seen(self) -> tuple[Observation, ...]:
        """The observation of each watched client and round, by round; within a round clients first, the sum last.

        Those that speak of more records than there are left out: no claim could be judged. Raises RunError naming a
        file that is damaged.
        """
        there = sum(self.people.holds.values())
        found = observations.read(self.folder.observations)
        return tuple(one for one in found if all(exchange.records <= there for exchange in one.exchanges))

    def check_files(self) -> None:
        """Raise RunError, naming the file, where one is not of these records, this network or this federation."""
        federation, mine, found = self.scenario.federation, self.people.schema, self.schema
        if (found.shape, found.outputs, found.names) != (mine.shape, mine.outputs, mine.names):
            raise files.damaged(self.folder.schema, ValueError("it is not the data dictionary of these records"))
        fits = shapes(self.scenario.model.fitted(mine), mine.shape, mine.outputs)
        for seen in self.seen:
            last = seen.last
            if max(seen.clients) >= federation.clients or last.round > federation.rounds:
                wrong = f"round {last.round} and client {max(seen.clients)} are not of this federation"
                raise files.damaged(self.folder.observations, ValueError(wrong))
            observations.check_weights(self.folder.observations, last.sent, fits)
        observations.check_weights(self.folder.model(federation.rounds), self.model.last.sent, fits)

    @cached_property
    def progress(self) -> Progress:
        """How the training went. Raises RunError naming a file that is missing or damaged."""
        return files.read_model(Progress, self.folder.progress)

    @cached_property
    def model(self) -> Observation:
        """The trained model, as an observation of all clients. Raises RunError naming a file that is damaged."""
        rounds = self.scenario.federation.rounds
        weights, _ = files.read_tensors(self.folder.model(rounds))
        return observations.trained(weights, rounds, self.scenario.federation.clients, sum(self.people.holds.values()))

    def network(self) -> nn.Sequential:
        """A new network with the trained model's weights, in evaluation mode."""
        schema = self.people.table.schema
        return load(self.scenario.model.fitted(schema), schema.shape, schema.outputs, dict(self.model.last.sent)).eval()

    def grants(self, ask: Callable[[Observation], Question | None]) -> Grants:
        """What the scenario grants an attack on this run, with the function that asks its questions."""
        return Grants(ask, auxiliary(self.scenario, self.people), self.people.holds)

    @cached_property
    def undefended(self) -> "TrainedRun | None":
        """The same federation without defenses; None where the scenario has none."""
        if not self.scenario.defenses:
            return None
        return TrainedRun(self.scenario.undefended(), self.folder.undefended)
