"""Where the same two Flower apps can run: one file an engine, each with `train(scenario, out, on_reply, options)`."""

from dataclasses import dataclass
from pathlib import Path

from fedinv.scenario.scenario import Scenario
from fedinv.storage.run_folder import RunFolder


@dataclass(frozen=True)
class Options:
    """What an engine may be told beside the scenario: where to run, never what to compute."""

    ray_address: str | None = None
    """Of a Ray cluster that is there, as host:port; Ray is started on this machine where absent."""
    client_cpus: int = 1
    """CPUs that Ray keeps for each client that trains."""
    client_gpus: float = 0.0
    """GPUs likewise; 0.5 lets two clients share one."""
    deployment: Path = Path(".fedinv")
    """Where `fedinv up` notes down what it started."""
    superlink: str | None = None
    """The Control API of a SuperLink that is there, as host:port, instead of that of `fedinv up`."""
    root_certificates: Path | None = None
    """The certificate of the authority that signed that SuperLink's; without it the connection is not encrypted."""


DEFAULT = Options()


def start_over(scenario: Scenario, out: Path) -> None:
    """Have a stopped training begin again where what its clients remember of it is lost, and a defense may need it."""
    if scenario.defenses:
        RunFolder(out).forget_training()
