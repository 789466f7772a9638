"""What `fedinv.run`, `replicate`, `compare`, `duel`, `assess` and `audit` return: a folder and the results in it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedinv.errors import RequestError, RunError, plain

if TYPE_CHECKING:
    from fedinv.attack import Observation
    from fedinv.results.assessment import Assessment as AssessmentResults
    from fedinv.results.audit import Audit as AuditResults
    from fedinv.results.comparison import Comparison as ComparisonResults
    from fedinv.results.duel import Duel as DuelResults
    from fedinv.results.replication import Replication as ReplicationResults
    from fedinv.results.run import Results
    from fedinv.scenario.scenario import Scenario


@dataclass(frozen=True, repr=False)
class Run:
    """A finished run: its folder, and `results` as results.json has them. A notebook shows its verdict.

    >>> import fedinv
    >>> tiny = {"federation.rounds": 1, "attacker.watch.clients": 1}
    >>> run = fedinv.run(fedinv.load("breast-cancer", attacks=["exact"], **tiny), out="my-run", progress=False)
    >>> run.results.attacks[0].recovered.value
    1.0
    """

    folder: Path
    """Absolute path of the run's folder."""
    results: "Results"
    """Utility, privacy and every attack's rates, each with its count, 95 % interval and a guess without updates."""

    @property
    def scenario(self) -> "Scenario":
        """The resolved scenario that was run. Raises RequestError when scenario.toml is damaged.

        >>> import fedinv
        >>> fedinv.open_run("my-run").scenario.training.batch_size
        8
        """
        from fedinv.scenario.reading import read

        return read(str(self.folder / "scenario.toml"))

    @property
    def records(self) -> Any:
        """Every attacked record beside what was claimed of it: one row for each attack, variant and true record.

        A pandas DataFrame where pandas is installed, a pyarrow Table otherwise. Columns: attack, variant, target,
        round, client, person (row of the population), claimed, confidence (0 to 1), recovered, exact; `true:NAME`,
        `claimed:NAME` and `right:NAME` for each field, in the field's own unit. Raises RunError where the run holds no
        records, as no attack rebuilt any, or the file is damaged.

        >>> import fedinv
        >>> fedinv.open_run("my-run").records.shape[0]
        8
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        from fedinv.report.frames import frame

        path = self.folder / "records.parquet"
        if not path.is_file():
            raise RunError(f"{path}: is not there: no attack of this run set out to rebuild records")
        try:
            return frame(pq.read_table(path))
        except (OSError, pa.ArrowException) as error:
            raise RunError(f"{path}: is damaged ({type(error).__name__}): run again") from None

    @property
    def observations(self) -> "tuple[Observation, ...]":
        """What the server saw: one Observation for each watched client and round, by round and client, sums last.

        Each holds its exchanges, oldest first: `sent` and `received` are float32 tensors by parameter name, `received`
        is the update, local minus global. Raises RunError naming a file that is damaged.

        >>> import fedinv
        >>> seen = fedinv.open_run("my-run").observations
        >>> seen[0].last.received["0.weight"].shape
        torch.Size([256, 30])
        """
        from fedinv.storage import observations

        return observations.read(self.folder / "observations")

    @property
    def report(self) -> Path:
        """The path of report.html, which is written if it is not there.

        Raises RunError naming the file of the run that is missing or damaged.

        >>> import fedinv
        >>> fedinv.open_run("my-run").report.name
        'report.html'
        """
        path = self.folder / "report.html"
        return path if path.is_file() else self.render()

    def render(self, *, pdf: bool = False) -> Path:
        """Write report.html, its plots and results.csv, .parquet and .tex anew, and return the page's path.

        With `pdf` also report.pdf, whose path is returned instead, and plots/*.pdf: a Chromium or Chrome that is
        installed prints the page. Raises RequestError where there is none, RunError as `report`.

        >>> import fedinv
        >>> fedinv.open_run("my-run").render().is_file()
        True
        """
        from fedinv.report import render
        from fedinv.storage.lock import locked

        with locked(self.folder):
            return render(self.folder, pdf=pdf)

    def attack(self, kind: str, /, *, progress: bool = False, **settings: Any) -> "Run":
        """Attack what the server saw once more, and return the run with the new verdict in its results.

        `kind` and `settings` are those of one attack (see `fedinv.available("attacks")`); the run's folder is updated
        as well. `progress` shows bars on stderr. Raises RequestError for an unknown attack or setting, naming the
        nearest, and RunError when the attack fails.

        >>> import fedinv
        >>> again = fedinv.open_run("my-run").attack("labels")
        >>> [one.kind for one in again.results.inferences]
        ['labels']
        """
        from fedinv.report.terminal import bars
        from fedinv.runs.run import again
        from fedinv.storage.documents import change
        from fedinv.storage.lock import locked

        parameters: dict[str, Any] = {}
        for key, value in settings.items():
            change(parameters, key, value)
        with locked(self.folder), bars(progress) as steps:
            return Run(self.folder, again(self.folder, kind, parameters, steps))

    def to_frame(self) -> Any:
        """Every measure of every attack as a row: attack, variant, target, measure, value, low, high, guess, count.

        A pandas DataFrame where pandas is installed, a pyarrow Table otherwise. `low` and `high` bound the 95 %
        interval; `guess` is the same measure of a guess without the update.

        >>> import fedinv
        >>> "recovered" in list(fedinv.open_run("my-run").to_frame()["measure"].to_numpy())
        True
        """
        from fedinv.report.frames import frame, measured

        return frame(list(measured(self.results)))

    def _repr_html_(self) -> str:
        from fedinv.report.notebook import run_html

        return run_html(self.results, self.folder)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}: {self.results.headline})"


@dataclass(frozen=True, repr=False)
class Comparison:
    """Stacks of defenses under attacks: `results` as comparison.json has them. A notebook shows the heat map.

    >>> import fedinv
    >>> tiny = fedinv.load("breast-cancer", **{"federation.rounds": 1, "attacker.watch.clients": 1})
    >>> quick = {"attacks": ["exact"], "only": True, "jobs": 1, "progress": False}
    >>> found = fedinv.compare(tiny, defenses=[], out="compared/a", **quick)
    >>> found.results.rows[0].defenses
    'none'
    """

    folder: Path
    """Absolute path of the folder with comparison.json, .csv, .parquet and .html."""
    results: "ComparisonResults"
    """One row for each stack of defenses with its leaks and costs, and the recommendation."""

    @property
    def report(self) -> Path:
        """The path of comparison.html."""
        return self.folder / "comparison.html"

    def to_frame(self) -> Any:
        """One row for each stack, attack and variant, with the columns of comparison.csv.

        A pandas DataFrame where pandas is installed, a pyarrow Table otherwise. `leakage` is, of what a guesser gets
        wrong, the share that the attacker gets right; `utility_lost` is a difference of the metric, not in points.
        """
        from fedinv.report.comparison_page import lines
        from fedinv.report.frames import frame

        return frame(list(lines(self.results)))

    def _repr_html_(self) -> str:
        from fedinv.report.notebook import comparison_html

        return comparison_html(self.results, self.folder)

    def __repr__(self) -> str:
        return f"Comparison({str(self.folder)!r}: {self.results.recommendation})"


@dataclass(frozen=True, repr=False)
class Duel:
    """Deviations against detectors: `results` as duel.json has them.

    See `fedinv.duel` for an example.
    """

    folder: Path
    """Absolute path of the folder with duel.json, .csv, .parquet and .html."""
    results: "DuelResults"
    """What each detector sees of each deviation, what each deviation gets, and the recommendation."""

    @property
    def report(self) -> Path:
        """The path of duel.html."""
        return self.folder / "duel.html"

    def to_frame(self) -> Any:
        """One row for each detector and deviation, and for each evasion, with the columns of duel.csv.

        A pandas DataFrame where pandas is installed, a pyarrow Table otherwise. Shares are between 0 and 1; null where
        too few honest messages state the false-alarm rate.
        """
        from fedinv.report.duel.page import lines
        from fedinv.report.frames import frame

        return frame(list(lines(self.results)))

    def __repr__(self) -> str:
        return f"Duel({str(self.folder)!r}: {self.results.recommendation})"


@dataclass(frozen=True, repr=False)
class Replication:
    """A scenario's runs with several seeds: `results` as replication.json has them. A notebook shows their means.

    See `fedinv.replicate` for an example.
    """

    folder: Path
    """Absolute path of the folder with replication.json, replication.html and a run for each seed."""
    results: "ReplicationResults"
    """Every measure as a mean over the seeds with its standard deviation."""

    @property
    def report(self) -> Path:
        """The path of replication.html."""
        return self.folder / "replication.html"

    @property
    def runs(self) -> tuple[Run, ...]:
        """The run of each seed that succeeded. Raises RunError where its results are damaged."""
        return tuple(open_run(self.folder / name) for name in self.results.runs)

    def to_frame(self) -> Any:
        """One row for each measure and seed: attack, variant, target, measure, seed, value, guess, undefended.

        A pandas DataFrame where pandas is installed, a pyarrow Table otherwise. Null where nothing was measurable.
        """
        from fedinv.report.frames import frame, replicated

        return frame(list(replicated(self.results)))

    def _repr_html_(self) -> str:
        from fedinv.report.notebook import replication_html

        return replication_html(self.results, self.folder)

    def __repr__(self) -> str:
        return f"Replication({str(self.folder)!r}: {self.results.says})"


@dataclass(frozen=True, repr=False)
class Assessment:
    """A scenario varied one thing at a time: `results` as assessment.json has them. A notebook shows what was found.

    See `fedinv.assess` for an example.
    """

    folder: Path
    """Absolute path of the folder with assessment.json, assessment.html and a run for each variation."""
    results: "AssessmentResults"
    """Findings as sentences, the gravest first, and what each variation leaked."""

    @property
    def report(self) -> Path:
        """The path of assessment.html, the risk card."""
        return self.folder / "assessment.html"

    def to_frame(self) -> Any:
        """One row for each variation: axis, change, records, attribute, membership (AUC), utility, gap, run.

        A pandas DataFrame where pandas is installed, a pyarrow Table otherwise. Shares are between 0 and 1; null where
        no attack could tell.
        """
        from fedinv.report.frames import frame, leaks

        return frame(list(leaks(self.results)))

    def _repr_html_(self) -> str:
        from fedinv.report.notebook import assessment_html

        return assessment_html(self.results, self.folder)

    def __repr__(self) -> str:
        return f"Assessment({str(self.folder)!r}: {' '.join(self.results.findings[:1])})"


@dataclass(frozen=True, repr=False)
class Audit:
    """A claimed epsilon against canaries: `results` as audit.json has them. A notebook shows the verdict.

    See `fedinv.audit` for an example.
    """

    folder: Path
    """Absolute path of the folder with audit.json and the run that was trained with canaries."""
    results: "AuditResults"
    """The claim, the lower bounds by method, and the verdict."""

    @property
    def passed(self) -> bool:
        """False where a lower bound lies above the claimed epsilon; True proves nothing, it only fails to refute."""
        return self.results.verdict != "FAIL"

    def to_frame(self) -> Any:
        """One row for each method: method, lower_bound, claimed (both epsilons), right, guesses, verdict.

        A pandas DataFrame where pandas is installed, a pyarrow Table otherwise.
        """
        from fedinv.report.frames import bounds, frame

        return frame(list(bounds(self.results)))

    def _repr_html_(self) -> str:
        from fedinv.report.notebook import audit_html

        return audit_html(self.results, self.folder)

    def __repr__(self) -> str:
        return f"Audit({str(self.folder)!r}: {self.results.says})"


def open_run(folder: str | Path) -> Run:
    """Open a finished run's folder: its `results` are read, all else when it is asked for.

    Raises RequestError for a folder that holds no finished run, RunError for results that are damaged or of another
    version of fedinv.

    >>> import fedinv
    >>> fedinv.open_run("nowhere")
    Traceback (most recent call last):
    fedinv.errors.RequestError: nowhere: holds no finished run; start one with fedinv run
    """
    from fedinv.results.run import Results
    from fedinv.storage import files, paths

    path = paths.given(folder) / "results.json"
    if not path.is_file():
        raise RequestError(f"{plain(folder)}: holds no finished run; start one with fedinv run")
    return Run(path.parent.resolve(), files.read_model(Results, path))
