"""The paths of all files in a run's folder, and in that of a comparison, a replication, an assessment or an audit.

runs/<scenario>-<n>/
scenario.toml secret provenance.json schema.json auxiliary.safetensors asked.safetensors
results.{json,csv,parquet,tex} records.parquet report.html log.jsonl plots/*.png vetting.json
observations/round-001-{sent,client-0003,sum}.safetensors
checkpoint/{progress.json,model-0005.safetensors,server-0005.safetensors,nodes.sqlite} ledger.json
claims/<attack>/round-001-client-0003.safetensors
undefended/    the same federation without defenses
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from fedinv.errors import RequestError, RunError
from fedinv.storage import lock


@dataclass(frozen=True)
class RunFolder:
    """The paths of one run; asking for a path neither creates nor reads it."""

    root: Path
    """The run's folder."""

    @property
    def scenario(self) -> Path:
        """The scenario with every default written out, TOML."""
        return self.root / "scenario.toml"

    @property
    def secret(self) -> Path:
        """The run's secret, 32 hexadecimal digits, where its scenario does not give one; readable by its owner."""
        return self.root / "secret"

    @property
    def schema(self) -> Path:
        """The data dictionary that the server received, JSON."""
        return self.root / "schema.json"

    @property
    def auxiliary(self) -> Path:
        """The records that the attacker was granted, safetensors; there only where a malicious server needs them."""
        return self.root / "auxiliary.safetensors"

    @property
    def asked(self) -> Path:
        """The people whom a malicious server asks about while it trains, safetensors; there only where it does."""
        return self.root / "asked.safetensors"

    @property
    def provenance(self) -> Path:
        """Digests of scenario, records and code that the run was made from, JSON."""
        return self.root / "provenance.json"

    @property
    def results(self) -> Path:
        """The outcome, JSON; a run that has it is finished."""
        return self.root / "results.json"

    def table(self, ending: str) -> Path:
        """One row a measure of the outcome, as "csv", "parquet" or "tex"."""
        return self.root / f"results.{ending}"

    @property
    def records(self) -> Path:
        """One row a true record and attack, with the record claimed for it, Parquet."""
        return self.root / "records.parquet"

    @property
    def report(self) -> Path:
        """The page for people, HTML."""
        return self.root / "report.html"

    @property
    def log(self) -> Path:
        """Events of the run with their times, one JSON object a line."""
        return self.root / "log.jsonl"

    @property
    def engine_log(self) -> Path:
        """The output of Ray and Flower's simulation, kept only where the training failed."""
        return self.root / "ray.log"

    @property
    def flower_run(self) -> Path:
        """The id of the run of Flower that trains on a deployment, JSON; none after it ended."""
        return self.root / "flower-run.json"

    @property
    def observations(self) -> Path:
        """The folder of what the server sent and received in the watched rounds."""
        return self.root / "observations"

    @property
    def ledger(self) -> Path:
        """The privacy events charged to each client, JSON; written last in a training: a run that has it is trained."""
        return self.root / "ledger.json"

    @property
    def vetting(self) -> Path:
        """What the clients' detectors found of the weights that were sent, JSON; only where the scenario has any."""
        return self.root / "vetting.json"

    @property
    def checkpoint(self) -> Path:
        """The folder of files from which a stopped training resumes."""
        return self.root / "checkpoint"

    @property
    def progress(self) -> Path:
        """The number of the last finished round, and the bytes, seconds and clients left out until then, JSON."""
        return self.checkpoint / "progress.json"

    @property
    def nodes(self) -> Path:
        """The states that clients keep between rounds, SQLite."""
        return self.checkpoint / "nodes.sqlite"

    @property
    def undefended(self) -> "RunFolder":
        """The run of the same federation without defenses."""
        return RunFolder(self.root / "undefended")

    @property
    def is_trained(self) -> bool:
        """Whether the training is complete."""
        return self.ledger.is_file()

    @property
    def is_finished(self) -> bool:
        """Whether the run was trained, attacked and judged."""
        return self.results.is_file()

    def model(self, round_: int) -> Path:
        """The global model after a round, safetensors."""
        return self.checkpoint / f"model-{round_:04}.safetensors"

    def server_memory(self, round_: int) -> Path:
        """What the server's strategy remembers after a round, safetensors; none where it only averages."""
        return self.checkpoint / f"server-{round_:04}.safetensors"

    def claim(self, label: str, round_: int, client: str) -> Path:
        """The claim of an attack, named by its plan's label, on one observation, safetensors.

        `client` is "client-0003" for a single client's update, "sum" or "model".
        """
        return self.root / "claims" / label / f"round-{round_:03}-{client}.safetensors"

    def plot(self, name: str, form: str = "png") -> Path:
        """One plot of the report, as PNG, SVG or PDF."""
        return self.root / "plots" / f"{name}.{form}"

    def clear(self) -> None:
        """Remove all that the folder holds but the lock on it. Raises RunError naming what cannot be removed."""
        try:
            for path in self.root.iterdir() if self.root.is_dir() else ():
                if path.name in lock.NAMES:
                    continue
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        except OSError as error:
            raise RunError(f"{self.root}: cannot be emptied ({error.strerror})") from error

    def forget_training(self) -> None:
        """Remove a stopped training's checkpoint and observations, so that it starts again with its first round."""
        for folder in (self.checkpoint, self.observations):
            shutil.rmtree(folder, ignore_errors=True)

    def finished(self) -> "RunFolder":
        """The folder itself. Raises RequestError where it holds no finished run."""
        if not self.is_finished:
            raise RequestError(f"{self.root}: holds no finished run; start one with fedinv run")
        return self


@dataclass(frozen=True)
class StudyFolder:
    """The paths of a study of several runs; asking for a path neither creates nor reads it."""

    root: Path
    """The study's folder."""

    @property
    def audit(self) -> Path:
        """The outcome of an audit, JSON."""
        return self.root / "audit.json"

    @property
    def assessment(self) -> Path:
        """The outcome of an assessment, JSON."""
        return self.root / "assessment.json"

    @property
    def assessment_page(self) -> Path:
        """The risk card, HTML."""
        return self.root / "assessment.html"

    def comparison(self, ending: str) -> Path:
        """A comparison's matrix as "json", "csv", "parquet", "tex" or "html"."""
        return self.root / f"comparison.{ending}"

    def plot(self, name: str, form: str) -> Path:
        """One plot of the study as "png", "svg" or "pdf"."""
        return self.root / "plots" / f"{name}.{form}"

    def duel(self, ending: str) -> Path:
        """Deviations against detectors as "json", "csv", "parquet", "tex" or "html"."""
        return self.root / f"duel.{ending}"

    def replication(self, ending: str) -> Path:
        """What a scenario's runs with several seeds give, as "json", "csv", "parquet", "tex" or "html"."""
        return self.root / f"replication.{ending}"

    def run(self, name: str) -> RunFolder:
        """The paths of one of the study's runs, in a folder of that name."""
        return RunFolder(self.root / name)
