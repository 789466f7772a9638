"""The risk card as a page: one self-contained HTML file."""

from pathlib import Path

from fedinv.report.html import rendered
from fedinv.results.assessment import Assessment, effect
from fedinv.results.wording import by_reason, hits, metric_text, metric_value, not_to_the_end, percent
from fedinv.storage import files
from fedinv.storage.run_folder import StudyFolder


def render(assessed: Assessment, folder: Path) -> Path:
    """Write assessment.html into the assessment's folder, and return its path."""
    values = {
        "card": assessed,
        "base": assessed.leaks[0],
        "effect": effect,
        "metric": metric_text(assessed.leaks[0].utility),
        "metric_value": metric_value,
        "by_reason": by_reason,
        "ended": not_to_the_end({one.change: one.unfinished for one in assessed.leaks}),
    }
    page = rendered("assessment.html.j2", {"percent": percent, "hits": hits}, values)
    path = StudyFolder(folder).assessment_page
    files.write(path, page)
    return path
