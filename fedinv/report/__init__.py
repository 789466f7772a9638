"""A run's report: one self-contained HTML page, its plots, and its measures as tables."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedinv.results.run import Results


def render(folder: Path, results: "Results | None" = None, *, pdf: bool = False) -> Path:
    """Write plots/*.png, plots/*.svg, results.csv, .parquet and .tex, and report.html, each file atomically.

    They are made from a finished run's folder. `results` are given where results.json is still to be written: it comes
    last, so that no finished run lacks its report. Returns the page's path; with `pdf` that of report.pdf, which a
    browser prints, beside plots/*.pdf. Raises RequestError where no browser is installed for that, RunError naming the
    file that is missing, damaged or of another run, or that cannot be written.
    """
    from fedinv.report import frames, run_page
    from fedinv.report.export import latex
    from fedinv.report.plots import canvas, run_plots
    from fedinv.report.reading import read_run
    from fedinv.storage import files
    from fedinv.storage.run_folder import RunFolder

    forms: tuple[canvas.Format, ...] = ("png", "svg", "pdf") if pdf else ("png", "svg")
    run, place = read_run(folder, results), RunFolder(folder)
    drawn = {name: canvas.drawn(plot, *forms) for name, plot in run_plots.draw(run).items()}
    for name, made in drawn.items():
        for form, content in made.items():
            files.write(place.plot(name, form), content)
    frames.write_sheets(list(frames.measured(run.results)), frames.MEASURED, place.table)
    files.write(place.table("tex"), latex.run_table(run.results))
    files.write(place.report, run_page.page(run, {name: made["svg"] for name, made in drawn.items()}))
    if not pdf:
        return place.report
    from fedinv.report.export.pdf import printed

    return printed(place.report, place.report.with_suffix(".pdf"))
