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
HOSTILE = "<img src=x onerror=document.title='run'>"
SELECTS = ("scenario", "batch", "epochs", "network", "optimizer", "crowd", "server", "defense")
"""The page's selections, in the order in which they stand."""


class Page:
    """The lab in a browser, with what it asked for and complained of."""

    def __init__(self, page, address, runs):
        self.page, self.runs, self.requests, self.errors = page, runs, [], []
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
    environment["TMPDIR"] = str(tmp_path_factory.mktemp("runs"))
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
            page = browser.new_page(viewport={"width": 1200, "height": 900})
            yield Page(page, address, Path(environment["TMPDIR"]))
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


def test_a_change_during_a_run_ends_it(lab):
    lab.choose("batch", "16")
    lab.page.wait_for_selector("progress")
    lab.choose("batch", "4")
    lab.wait_for_toml("batch_size = 4\n")
    lab.page.wait_for_selector(".fl-says")
    ended = [path.parent for path in lab.runs.glob("fedinv-lab-*/*/superseded")]
    assert len(ended) == 1 and not (ended[0] / "run" / "results.json").exists()
    lab.choose("batch", "8")
    lab.wait_for_toml("batch_size = 8\n")


def test_every_selection_and_slider_changes_the_scenario_that_is_run(lab):
    lab.choose("scenario", "Bank: loan applicants")
    lab.wait_for_toml('source = "bank"')
    lab.page.get_by_role("slider").nth(0).press("Home")
    lab.wait_for_toml("clients = 2\n")
    for control, title, written in [
        ("batch", "2", "batch_size = 2"),
        ("optimizer", "adam", 'kind = "adam"'),
        ("epochs", "1", 'algorithm = "fedavg"'),
        ("epochs", "one step (FedSGD)", 'algorithm = "fedsgd"'),
        ("optimizer", "sgd", 'kind = "sgd"'),
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
    lab.choose("defense", "none")
    lab.wait_for_toml("defenses = []")
    lab.choose("network", "narrow: one layer of 32")
    lab.wait_for_toml("    32,\n")


def test_no_change_is_lost_that_is_made_while_it_computes(lab):
    for control, title in (("batch", "4"), ("optimizer", "adam"), ("epochs", "2"), ("batch", "8")):
        lab.choose(control, title)
    for written in ("batch_size = 8", 'kind = "adam"', "epochs = 2", 'algorithm = "fedavg"'):
        lab.wait_for_toml(written)
    for control, title in (("epochs", "one step (FedSGD)"), ("batch", "2"), ("optimizer", "sgd")):
        lab.choose(control, title)
    for written in ("batch_size = 2", 'kind = "sgd"', 'algorithm = "fedsgd"'):
        lab.wait_for_toml(written)


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


def test_two_settings_stand_side_by_side(lab):
    lab.page.get_by_role("switch").click()
    lab.page.wait_for_selector(".fl-kicker:text-is('Second setting')")
    assert lab.page.locator(".fl-says").count() == 2
    lab.page.get_by_role("switch").click()
    lab.page.wait_for_selector(".fl-kicker:text-is('This setting')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1200])
def test_no_line_is_cut_and_words_can_be_read(lab, width, scheme):
    lab.page.emulate_media(color_scheme=scheme)
    lab.page.set_viewport_size({"width": width, "height": 900})
    lab.page.wait_for_function(
        "dark => document.body.classList.contains('dark') === dark || "
        "(document.documentElement.classList.contains('dark') === dark)",
        arg=scheme == "dark",
    )
    wide = lab.page.evaluate(
        "[...document.querySelectorAll('.fl, .fl *')].filter(one => one.getBoundingClientRect().right > innerWidth + 1"
        " && !one.closest('.fl-toml')).length"
    )
    assert wide == 0
    assert lab.page.evaluate("document.documentElement.scrollWidth") <= width
    for selector in (".fl-says", ".fl-small", "td.fl-leaked, td.fl-held", ".fl-card thead th"):
        assert contrast(lab.page, selector) >= 4.5, selector


def test_a_dark_page_is_printed_on_white(lab):
    lab.page.emulate_media(color_scheme="dark", media="print")
    lab.page.wait_for_function("matchMedia('print').matches")
    for selector in (".fl-says", ".fl-small", "td.fl-leaked, td.fl-held", ".fl-card thead th", ".fl-toml"):
        assert contrast(lab.page, selector) >= 4.5, selector
        assert colors(lab.page, selector)[1][:3] == [255, 255, 255], selector
    lab.page.emulate_media(color_scheme="light", media="screen")


def test_every_control_is_reached_by_the_keyboard(lab):
    lab.page.set_viewport_size({"width": 1200, "height": 900})
    lab.page.evaluate("document.activeElement && document.activeElement.blur()")
    deepest = "(() => { let one = document.activeElement; while (one && one.shadowRoot && one.shadowRoot.activeElement)"
    deepest += (
        " one = one.shadowRoot.activeElement; return one ? one.tagName + (one.getAttribute('role') || '') : ''; })()"
    )
    reached = []
    for _ in range(40):
        lab.page.keyboard.press("Tab")
        reached.append(lab.page.evaluate(deepest))
    assert reached.count("SELECT") >= len(SELECTS)
    assert sum("slider" in one for one in reached) >= 2
    assert any("switch" in one for one in reached) and "PRE" in reached


def test_an_own_csv_is_read_here_and_its_names_stay_text(lab, tmp_path):
    path = tmp_path / "mine.csv"
    rows = [f"{20 + i},{'ab'[i % 2]},{'yes' if i % 3 else 'no'}" for i in range(80)]
    path.write_text("\n".join([f"age,{HOSTILE},ill", *rows]) + "\n")
    lab.choose("scenario", "A csv file of your own")
    lab.page.wait_for_selector("text=Name a csv file")
    lab.page.get_by_role("textbox").first.fill(str(path))
    lab.page.get_by_role("textbox").first.press("Enter")
    lab.wait_for_toml("mine.csv")
    assert "of 8 clients" in lab.text(".fl-says")
    assert HOSTILE in lab.page.locator(".fl-card").first.inner_text()
    assert lab.page.title() != "run" and lab.page.locator("img[src=x]").count() == 0
    assert str(tmp_path) in lab.text(".fl-toml")


def test_nothing_was_asked_of_anybody_else_and_no_error_was_logged(lab):
    assert len(lab.requests) > 10
    elsewhere = [url for url in lab.requests if not re.match(r"(http|ws)://127\.0\.0\.1:|data:|blob:", url)]
    assert elsewhere == []
    assert lab.errors == []


def colors(page, selector):
    """The color of the first such element, and of the first opaque ground behind it, as lists of four bytes."""
    return page.locator(selector).first.evaluate(
        """one => { const of = color => { const c = document.createElement('canvas').getContext('2d');
             c.fillStyle = color; c.fillRect(0, 0, 1, 1); return [...c.getImageData(0, 0, 1, 1).data]; };
           let behind = one, ground = [255, 255, 255, 255];
           while (behind) { const found = of(getComputedStyle(behind).backgroundColor);
             if (found[3] === 255) { ground = found; break; }
             behind = behind.parentElement || behind.getRootNode().host; }
           return [of(getComputedStyle(one).color), ground]; }"""
    )


def contrast(page, selector):
    """Ratio of the luminances, WCAG 2, of the first such element's color and of the ground behind it."""
    ink, ground = colors(page, selector)

    def luminance(color):
        parts = [part / 255 for part in color[:3]]
        red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    light, dark = sorted((luminance(ink), luminance(ground)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
