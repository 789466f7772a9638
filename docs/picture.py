"""Draws docs/report.png, the top of the demo's report as a browser shows it: `make picture`, half a minute.

Needs a Chromium that is installed. To be drawn again where the page or the demo's figures change.
"""

import argparse
import io
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

import fedinv
from fedinv.report.export.pdf import installed

WIDTH, HEIGHT = 1200, 1900
"""What is shown of the page, in its pixels."""
SHOWN = 900
"""Width of the picture, in pixels."""


def main() -> None:
    """Run the demo, print its verdict, and draw its page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("report.png"))
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as folder:
        demo = fedinv.load("hospital", attacks=["exact"])
        run = fedinv.run(demo, out=Path(folder) / "hospital", progress=False)
        print(run.results.headline)  # noqa: T201
        shot = Image.open(io.BytesIO(seen(run.report))).convert("RGB")
    small = shot.resize((SHOWN, SHOWN * shot.height // shot.width), Image.Resampling.LANCZOS)
    small.quantize(128).save(out, optimize=True)


def seen(page: Path) -> bytes:
    """The top of a page in the light color scheme, PNG."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=installed(), args=["--no-sandbox"])
        shown = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        shown.goto(page.as_uri())
        shot = shown.screenshot()
        browser.close()
    return shot


if __name__ == "__main__":
    main()
