"""Engines that run the same two Flower apps, one module each with `train(scenario, out, on_reply, options)`."""

from dataclasses import dataclass
from pathlib import Path

from fedinv.scenario.scenario import Scenario
from fedinv.storage.run_folder import RunFolder


@dataclass(frozen=True)
class Options:
    """Settings of an engine beside the scenario: where to run, never what to compute."""

    ray_address: str | None = None
    """Address of a running Ray cluster, as host:port; None starts Ray on this machine."""
    client_cpus: int = 1
    """CPUs that Ray reserves for each client that trains."""
    client_gpus: float = 0.0
    """GPUs that Ray reserves for each client that trains; 0.5 lets two clients share one."""
    deployment: Path = Path(".fedinv")
    """Folder in which `fedinv up` records what it started."""
    superlink: str | None = None
    """Address of a running SuperLink's Control API, as host:port; None uses the one that `fedinv up` started."""
    root_certificates: Path | None = None
    """Certificate of the authority that signed that SuperLink's; without it the connection is not encrypted."""
    resumable: bool = True
    """Whether the inline engine stores after each round what clients keep, so that a stopped training can go on.
    Without it, whoever trains clears the folder of a training that was stopped."""


DEFAULT = Options()
"""Settings of an engine for which nothing was chosen."""


def start_over(scenario: Scenario, out: Path) -> None:
    """Discard a stopped training, so that it starts with its first round, where a defense may need lost client states.

    For engines that cannot restore what clients keep between rounds; without defenses clients keep nothing.
    """
    if scenario.defenses:
        RunFolder(out).forget_training()
