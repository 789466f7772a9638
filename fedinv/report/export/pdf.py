"""A page as PDF, printed by a browser that is installed, with the page's own print style."""

import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from fedinv.errors import RequestError, RunError, plain

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
"""Commands of the browsers that can print without a window, in the order in which they are tried."""
SECONDS = 300.0
"""Seconds after which a browser that does not end is stopped."""


def installed() -> str:
    """The path of a browser that can print and draw without a window. Raises RequestError where none is installed."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        raise RequestError(f"--pdf: needs one of {', '.join(BROWSERS[:3])} to print the page, and none is installed")
    return browser


def printed(page: Path, pdf: Path) -> Path:
    """Print a page into a PDF file and return its path; nothing is fetched.

    Raises RequestError where no browser is installed, RunError where it fails.
    """
    browser = installed()
    quiet = ["--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update"]
    quiet += ["--disable-sync", "--disable-dev-shm-usage", "--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND"]
    with TemporaryDirectory() as profile:
        made = Path(profile) / "page.pdf"
        where = [f"--user-data-dir={profile}", f"--print-to-pdf={made}", "--no-pdf-header-footer"]
        command = [browser, "--headless", *quiet, *where, page.resolve().as_uri()]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)  # noqa: S603
        except (OSError, subprocess.TimeoutExpired) as error:
            raise RunError(f"--pdf: {Path(browser).name} did not print the page: {plain(str(error))}") from None
        if done.returncode or not made.is_file():
            said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
            raise RunError(f"--pdf: {Path(browser).name} did not print the page; it said: {plain(said)}")
        content = made.read_bytes()
    from fedinv.storage import files

    files.write(pdf, content)
    return pdf
