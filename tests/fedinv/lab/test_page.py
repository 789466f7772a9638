"""The page in a real browser: one server and one browser for all tests, which follow one another on the same page."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("marimo", reason="marimo is not installed: pip install 'fedinv[lab]'")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the path to look at the page with"),
    pytest.mark.slow,
]
BOUND = 600_000
"""Milliseconds within which anything happens, on a machine that may be busy with other things."""
SELECTS = ("scenario", "batch", "epochs", "network", "optimizer", "crowd", "server", "defense")
"""The page's selections, in the order in which they stand."""


class Page:
    """The lab in a browser, with what it asked for and complained of."""

    def __init__(self, page, address):
        self.page, self.requests, self.errors = page, [], []
        page.set_default_timeout(BOUND)
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        page.goto(address)
        page.wait_for_selector(".fl-says")

    def choose(self, control, title):
        self.page.locator("marimo-dropdown select").nth(SELECTS.index(control)).select_option(label=title)

    def wait_for_toml(self, part):
        """The scenario is shown after it has run."""
        self.page.wait_for_function(
            "part => [...document.querySelectorAll('.fl-toml')].some(one => one.textContent.includes(part))", arg=part
        )

    def text(self, selector):
        return self.page.locator(selector).first.inner_text()


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HOME": str(tmp_path_factory.mktemp("home"))}
    environment.pop("PYTEST_CURRENT_TEST", None)
    code = "from fedinv.cli import main; main()"
    server = subprocess.Popen(
        [sys.executable, "-c", code, "lab", "--no-browser"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[3],
    )
    try:
        said = server.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+/\?access_token=\S+", said).group()
        with playwright.sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            yield Page(browser.new_page(viewport={"width": 1200, "height": 900}), address)
            browser.close()
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(timeout=BOUND / 1000)
        server.stdout.close()


def test_it_opens_with_people_beside_their_reconstructions(lab):
    assert "64 of 64 patient records in full" in lab.text(".fl-says")
    assert lab.page.locator(".fl-card h3").count() >= 3
    assert "guess" in lab.text(".fl-card thead >> nth=-1")
    assert lab.page.locator("img.fl-update").count() == 1


def test_every_selection_and_slider_changes_the_scenario_that_is_run(lab):
    for control, title, written in [
        ("scenario", "Bank: loan applicants", 'source = "bank"'),
        ("batch", "2", "batch_size = 2"),
        ("epochs", "1", "epochs = 1"),
        ("network", "narrow: one layer of 32", "    32,\n"),
        ("optimizer", "adam", 'kind = "adam"'),
        ("optimizer", "sgd", 'kind = "sgd"'),
        ("epochs", "one step (FedSGD)", 'algorithm = "fedsgd"'),
        ("server", "malicious: trap weights", 'kind = "trap-weights"'),
        ("server", "curious: follows the protocol, and looks", 'kind = "curious"'),
        ("crowd", "secure aggregation: masks", 'kind = "masking"'),
        ("crowd", "every update by itself", "defenses = []"),
        ("defense", "dp-sgd", 'kind = "dp-sgd"'),
    ]:
        lab.choose(control, title)
        lab.wait_for_toml(written)
    assert "epsilon after round 1:" in lab.page.locator(".fl-curve").first.get_attribute("aria-label")
    assert "epsilon = 100.0" not in lab.text(".fl-toml")
    lab.page.get_by_role("slider").nth(1).press("Home")
    lab.wait_for_toml("epsilon = 100.0")
    lab.page.get_by_role("slider").nth(0).press("Home")
    lab.wait_for_toml("clients = 2\n")
    lab.choose("defense", "none")
    lab.wait_for_toml("defenses = []")


def test_what_contradicts_itself_is_said_in_a_line(lab):
    lab.choose("network", "convolutional: LeNet (images)")
    lab.page.wait_for_selector(".fl-refused")
    assert "reads images" in lab.text(".fl-refused")
    lab.choose("network", "medium: one layer of 256")
    lab.page.wait_for_selector(".fl-says")


def test_a_record_forms_step_by_step(lab):
    lab.page.get_by_role("button", name="Watch a record form").click()
    lab.page.wait_for_selector(".fl strong:text-is('The claim')")
    last = lab.page.get_by_role("slider").last
    last.press("Home")
    lab.page.wait_for_selector("text=Step 1 of")
