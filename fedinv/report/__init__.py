"""A run's report: one self-contained HTML page and its plots."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedinv.results.run import Results


def render(folder: Path, results: "Results | None" = None) -> Path:
    """Write plots/*.png and report.html from a finished run's folder, each file atomically.

    `results` are given where results.json is still to be written: it comes last, so that no finished run lacks its
    report. Returns the page's path. Raises RunError naming the file that is missing, damaged or of another run, or that
    cannot be written.
    """
    from fedinv.report import run_page
    from fedinv.report.plots import run_plots
    from fedinv.report.reading import read_run
    from fedinv.storage import files
    from fedinv.storage.run_folder import RunFolder

    run, place = read_run(folder, results), RunFolder(folder)
    drawn = run_plots.draw(run)
    for name, png in drawn.items():
        files.write(place.plot(name), png)
    files.write(place.report, run_page.page(run, drawn))
    return place.report
