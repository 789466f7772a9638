"""The risk card as a page: one self-contained HTML file."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from fedinv.results.assessment import Assessment, effect
from fedinv.results.wording import hits, metric_text, percent
from fedinv.storage import files


def render(assessed: Assessment, folder: Path) -> Path:
    """Write assessment.html beside the runs it tells of, and return its path."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "hits": hits}
    page = environment.get_template("assessment.html.j2").render(
        card=assessed, base=assessed.leaks[0], effect=effect, metric=metric_text(assessed.leaks[0].utility)
    )
    path = folder / "assessment.html"
    files.write(path, page)
    return path
