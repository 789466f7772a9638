import csv
import re
import subprocess
import sys
from html import escape, unescape
from html.parser import HTMLParser
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from fedinv.errors import RunError
from fedinv.report import render
from fedinv.report.frames import measured
from fedinv.results.run import Results
from fedinv.storage import files

HOSTILE = "<script>alert(1)</script>"
LEAKED = ("exact", "static", 0.0, 0.97)
HELD = ("exact", "static", 3.0, 1.0)
NOTHING = ("exact", "static", 1.0, 0.0)
SUM = ("other", "adaptive", 0.4, 1.0, "sum")


class Parsed(HTMLParser):
    """Elements in order, and the visible text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"[\s\u00a0]+", " ", "".join(self.words).replace("\u2060", ""))


@pytest.fixture
def leaked(fabricate) -> Path:
    return fabricate(LEAKED, SUM)


def test_the_page_is_one_file_that_reaches_for_nothing(leaked):
    page = render(leaked).read_text(encoding="utf-8")
    for tag, attributes in Parsed(page).elements:
        assert tag not in ("script", "iframe", "object", "embed", "base")
        for name in ("src", "href", "srcset", "action"):
            assert attributes.get(name, "data:").startswith(("data:", "#")), (tag, attributes)
        assert not [name for name in attributes if name.startswith("on")]
    assert "url(" not in page
    assert "@import" not in page


@pytest.mark.usefixtures("drawn_plots")
def test_the_measures_are_a_table_in_three_formats(leaked):
    render(leaked)
    wanted = list(measured(Results.model_validate_json((leaked / "results.json").read_text())))
    assert {one["measure"] for one in wanted} >= {"field_accuracy", "recovered", "exact", "reidentified"}
    assert pq.read_table(leaked / "results.parquet").to_pylist() == wanted
    with (leaked / "results.csv").open(newline="") as text:
        rows = list(csv.DictReader(text))
    assert [(row["attack"], row["measure"], float(row["value"]), int(row["count"])) for row in rows] == [
        (one["attack"], one["measure"], one["value"], one["count"]) for one in wanted
    ]
    lines = [line for line in (leaked / "results.tex").read_text().splitlines() if line.endswith(r"\\")]
    assert len(lines) == 1 + len(wanted)
    found = next(one for one in wanted if (one["attack"], one["measure"]) == ("exact", "recovered"))
    value, low, high, guess = (f"{100 * found[key]:.1f}" for key in ("value", "low", "high", "guess"))
    assert rf"exact & static & client & recovered & {value} [{low}, {high}] & {guess} & {found['count']} \\" in lines


@pytest.mark.usefixtures("drawn_plots")
def test_hostile_names_and_values_are_shown_and_harmless(leaked):
    page = render(leaked).read_text(encoding="utf-8")
    assert HOSTILE not in page
    text = Parsed(page).text
    for place in ("smoker", "I10", "invented people", "a note", "not finite", "outcome"):
        assert f"{place} {HOSTILE}" in text, place
    assert f"traced to: Maria {HOSTILE} Huber" in text


def test_the_sentence_stands_on_top(leaked):
    headline = files.read_json(leaked / "results.json")["headline"]
    page = render(leaked).read_text(encoding="utf-8")
    body = unescape(page[page.index("<body>") :]).replace("\u00a0", " ")
    assert f"<h1>{headline}</h1>" in body
    assert body.index(headline) < body.index("<main>")


def test_rates_carry_count_interval_and_guess(leaked):
    text = Parsed(render(leaked).read_text(encoding="utf-8")).text
    assert re.search(r"30 of 32 \(93\.8 %, 95 % CI \d+\.\d\u2013\d+\.\d\) ?guess 0\.0 %", text)


def test_right_and_wrong_fields_differ_by_symbol_and_word(fabricate):
    page = render(fabricate(("exact", "static", 0.4, 1.0))).read_text(encoding="utf-8")
    cell = r'<td class="(leaked|missed)"><span aria-hidden="true">(.)</span><span class="hidden">(\w+): '
    marked = re.findall(cell, page)
    assert set(marked) == {("leaked", "✓", "right"), ("missed", "✗", "wrong")}


@pytest.mark.usefixtures("drawn_plots")
@pytest.mark.slow
def test_the_plots_are_on_disk_and_in_the_page(leaked):
    page = render(leaked).read_text(encoding="utf-8")
    images = [attributes for tag, attributes in Parsed(page).elements if tag == "img"]
    names = {f"{name}.{form}" for name in ("leakage", "utility", "columns", "confidence") for form in ("png", "svg")}
    assert {path.name for path in (leaked / "plots").iterdir()} == names
    assert len(images) == 4
    assert all(image["alt"] for image in images)


@pytest.mark.usefixtures("drawn_plots")
@pytest.mark.slow
def test_rendering_twice_gives_the_same_bytes(leaked):
    assert render(leaked).read_bytes() == render(leaked).read_bytes()


def test_a_run_without_attacks_says_so(fabricate):
    text = Parsed(render(fabricate()).read_text(encoding="utf-8")).text
    assert "No attack was run, so nothing is known" in text
    assert "The scenario lists no attack." in text


def test_an_attack_that_claims_nothing(fabricate):
    folder = fabricate(NOTHING)
    text = Parsed(render(folder).read_text(encoding="utf-8")).text
    assert "No attack claimed a single record." in text
    assert "sure of its" not in text
    assert not (folder / "plots" / "confidence.png").exists()


def test_each_attacks_confidence_is_held_against_the_truth(fabricate):
    text = Parsed(render(fabricate(LEAKED, ("other", "static", 3.0, 1.0))).read_text(encoding="utf-8")).text
    assert re.search(r"exact \(static\): \d+\.\d % sure of its 30 claims on average, 100\.0 % right in full", text)
    assert "other (static): 60.0 % sure of its 32 claims on average, 0.0 % right in full: it is too sure" in text


def test_the_people_shown_are_of_an_attack_that_claimed_some(fabricate):
    text = Parsed(render(fabricate(NOTHING, ("other", "static", 3.0, 1.0))).read_text(encoding="utf-8")).text
    assert "records that other (static) claimed" in text


def test_a_defended_run_shows_guarantee_and_price(fabricate):
    text = Parsed(render(fabricate(HELD, defended=True)).read_text(encoding="utf-8")).text
    assert "ε = 6.9 per record" in text
    assert "undefended 0.863" in text


def test_records_of_another_state_of_the_run_are_refused(leaked):
    results = files.read_json(leaked / "results.json")
    results["attacks"] = results["attacks"][::-1][:1] + results["attacks"]
    files.write_json(leaked / "results.json", results)
    with pytest.raises(RunError, match="records.parquet: is not of the same state"):
        render(leaked)


@pytest.mark.parametrize("name", ["results.json", "records.parquet", "schema.json"])
def test_a_missing_file_is_named(leaked, name):
    (leaked / name).unlink()
    with pytest.raises(RunError, match=name):
        render(leaked)


def test_importing_the_report_is_cheap():
    code = "import sys, fedinv.report; print(sorted({'matplotlib', 'pyarrow', 'jinja2', 'torch'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


WIDTH = 400
CHECK = """<!DOCTYPE html><title>check</title><body style="margin:0">
<iframe srcdoc="{page}" style="width:{width}px;height:2000px;border:0"></iframe>
<script>
onload = () => {{
  const view = document.querySelector("iframe").contentWindow, root = view.document.documentElement;
  const images = [...view.document.images];
  const drawn = images.filter(image => image.complete && image.naturalWidth > 0);
  const h1 = view.document.querySelector("h1");
  document.body.dataset.seen =
    [view.innerWidth, root.scrollWidth, images.length, drawn.length, h1.offsetHeight].join(" ");
}};
</script>"""


def look(start, chromium: str, page: str, folder: Path) -> tuple[list[int], list[str]]:
    """Open a page in a frame as wide as a phone: [width, width of the content, images, images drawn, height of the
    sentence] and what the browser's console says."""
    check = folder / "check.html"
    check.write_text(CHECK.format(page=escape(page), width=WIDTH), encoding="utf-8")
    quiet = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    quiet += ["--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--no-sandbox"]
    profile = f"--user-data-dir={folder / 'profile'}"
    command = [chromium, "--headless", *quiet, profile, "--enable-logging=stderr", "--v=0", "--dump-dom"]
    seen = start([*command, check.as_uri()]).ended()
    assert seen.returncode == 0, seen.stderr
    found = re.search(r'data-seen="([\d ]+)"', seen.stdout)
    assert found, seen.stdout[-500:] + seen.stderr[-2000:]
    console = [line for line in seen.stderr.splitlines() if "CONSOLE" in line]
    return [int(number) for number in found[1].split()], console


@pytest.mark.usefixtures("drawn_plots")
@pytest.mark.parametrize("columns", [6, 28])
@pytest.mark.slow
def test_a_browser_shows_it_on_a_phone_without_scrolling_sideways(start, chromium, fabricate, tmp_path, columns):
    page = render(fabricate(LEAKED, SUM, defended=True, columns=columns)).read_text(encoding="utf-8")
    (width, content, images, drawn, sentence), console = look(start, chromium, page, tmp_path)
    assert console == []
    assert width == WIDTH
    assert content <= WIDTH
    assert images == drawn == 4
    assert sentence > 0


def test_the_browser_would_tell(start, chromium, leaked, tmp_path):
    page = render(leaked).read_text(encoding="utf-8")
    spoiled = page + '<div style="width:1000px">wide</div><script>console.error("ran")</script>'
    (_, content, *_), console = look(start, chromium, spoiled, tmp_path)
    assert content >= 1000
    assert len(console) == 1
    assert "Content Security Policy" in console[0]  # the page's own policy keeps a script from running
