"""The files from which a stopped training resumes, and the ledger that ends it: what each may hold, and no more."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from fedinv.privacy.events import PrivacyEvent
from fedinv.results.run import LeftOutClient, VettedRound
from fedinv.storage import files
from fedinv.storage.run_folder import RunFolder
from fedinv.strict import Strict


class Progress(Strict):
    """How far a training came."""

    round: int = Field(gt=0)
    """Number of the last finished round, from 1."""
    bytes_up: int = Field(ge=0)
    """Bytes that clients sent until then."""
    used: int = Field(ge=0)
    """Number of updates that entered the global model until then."""
    seconds: float = Field(ge=0)
    """Seconds that the rounds took until then."""
    left_out: tuple[LeftOutClient, ...]
    """Clients whose replies were not used."""
    server_memory: bool = False
    """Whether the server's strategy remembers something of the rounds, which is in a file beside the model."""


class Charges(Strict):
    """The privacy events charged to each client over all rounds."""

    clients: dict[Annotated[str, Field(pattern=r"^\d{1,9}$")], tuple[PrivacyEvent, ...]]
    """Events by the client's number."""
    silent: tuple[int, ...] = ()
    """Clients that took part and did not say what they were charged."""

    @property
    def fields(self) -> dict[str, list[dict[str, object]]]:
        """The fields of each client's events, by client."""
        return {client: [vars(event) for event in events] for client, events in self.clients.items()}


class ClientScores(Strict):
    """What a client's detectors made of the weights of one round."""

    client: int
    """Number of the client."""
    round: int
    """Round, counted from 1."""
    scores: tuple[float | None, ...]
    """Score of each detector, in the order of the scenario; None of one that lacked what it looks at."""


class Vetting(Strict):
    """What the clients' detectors found of the weights that were sent."""

    found: tuple[VettedRound, ...] = ()
    """Detectors in the order of the scenario, each round by round."""
    scores: tuple[ClientScores, ...] = ()
    """Scores of each client's detectors in each round that it looked at."""


def read_progress(folder: RunFolder, rounds: int) -> Progress | None:
    """How far the training of so many rounds came; None where no round was finished.

    Raises RunError naming a file that is damaged.
    """
    if not folder.progress.is_file():
        return None
    found = files.read_model(Progress, folder.progress)
    if found.round > rounds:
        raise files.damaged(folder.progress, ValueError(f"round {found.round} of {rounds}"))
    return found


def write_vetting(path: Path, found: Vetting) -> None:
    """Write what the clients' detectors found. Raises RunError naming the file."""
    files.write_json(path, found.model_dump(mode="json"))


def read_vetting(path: Path) -> Vetting:
    """What the clients' detectors found; nothing where there is no such file. Raises RunError for a damaged one."""
    return files.read_model(Vetting, path) if path.is_file() else Vetting()


def write_charges(path: Path, charges: Charges) -> None:
    """Write the ledger, the last file of a training. Raises RunError naming the file."""
    files.write_json(path, {"clients": charges.fields, "silent": list(charges.silent)})


def read_charges(path: Path) -> Charges:
    """The ledger of a training. Raises RunError naming the file when it is missing or damaged."""
    return files.read_model(Charges, path)
