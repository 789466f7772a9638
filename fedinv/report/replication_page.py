"""A replication's files: JSON and tables for other programs, and an HTML page with a dot for each seed."""

from pathlib import Path

from fedinv.report.frames import REPLICATED, replicated, write_sheets
from fedinv.report.html import rendered
from fedinv.results.replication import Replication
from fedinv.results.wording import spread_text
from fedinv.storage import files
from fedinv.storage.run_folder import StudyFolder


def write(found: Replication, folder: Path) -> Path:
    """Write replication.json, .csv, .parquet, .tex and .html, and return the page's path."""
    from fedinv.report.export import latex
    from fedinv.report.plots import canvas
    from fedinv.report.plots.replication_plot import dots

    place = StudyFolder(folder)
    write_sheets(list(replicated(found)), REPLICATED, place.replication)
    files.write(place.replication("tex"), latex.replication_table(found))
    picture = canvas.embedded(dots(found)) if found.measures else None
    page = rendered("replication.html.j2", {"spread": spread_text}, {"found": found, "picture": picture})
    files.write(place.replication("html"), page)
    # last: where it is, so is its page, wherever a stop comes
    files.write_json(place.replication("json"), found.model_dump(mode="json"))
    return place.replication("html")
