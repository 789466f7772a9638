"""The site: every page is made, every link leads somewhere, and it needs nothing but the disk."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import sync_playwright

import fedinv
from fedinv import plugins
from fedinv.scenario.explanation import explanation

ROOT = Path(__file__).parents[2]
GROUPS: tuple[plugins.Group, ...] = ("attacks", "defenses", "deviations", "detectors", "datasets")
CUT = "all => all.filter(one => one.scrollWidth > one.clientWidth).map(one => one.textContent)"
"""Finds tables that must be scrolled to be read."""


class Read(HTMLParser):
    """Links, assets and anchors of one page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.assets: list[str] = []
        self.anchors: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.anchors |= {given[key] for key in ("id", "name") if given.get(key)}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        elif tag == "link" and given.get("href"):
            self.assets.append(given["href"])
        if given.get("src"):
            self.assets.append(given["src"])


@pytest.mark.slow
def test_the_site_is_whole_and_needs_nothing_but_the_disk(tmp_path):
    # one test, as each worker that runs one of several would build the site anew
    site = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    pages = {path: Read(path) for path in sorted(site.rglob("*.html")) if path.name != "404.html"}
    assert len(pages) > 80
    assert [f"{page.relative_to(site)}: {to}" for page, to, lost in links(pages) if lost] == []
    every_plugin_has_a_page_that_says_what_explain_says(pages, site)
    every_public_name_and_every_key_of_a_scenario_has_its_place(pages, site)
    examples_are_code_and_no_markup_of_docstrings_is_left(site)
    every_lesson_is_listed_and_can_be_read(pages, site)
    a_browser_searches_it_and_asks_nobody(site)


def links(pages: dict[Path, Read]) -> Iterator[tuple[Path, str, bool]]:
    for page, read in pages.items():
        for to in (*read.links, *read.assets):
            parts = urlsplit(to)
            if parts.scheme or parts.netloc:
                yield page, to, to in read.assets or parts.scheme not in ("https", "mailto")
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            anchor = unquote(parts.fragment)
            # those with two underscores are made by the theme's script
            lost = target in pages and anchor and not anchor.startswith("__") and anchor not in pages[target].anchors
            yield page, to, not target.is_file() or bool(lost)


def every_plugin_has_a_page_that_says_what_explain_says(pages, site):
    for group in GROUPS:
        for kind in plugins.available(group):
            anchors = pages[site / group / f"{kind}.html"].anchors
            assert {setting.name for setting in explanation(kind).settings} <= anchors, kind


def every_public_name_and_every_key_of_a_scenario_has_its_place(pages, site):
    python = {anchor for page, read in pages.items() if page.parent.name == "python" for anchor in read.anchors}
    assert {name for name in fedinv.__all__ if not any(one.endswith(f".{name}") for one in python)} == set()
    reference = (site / "reference/scenario.html").read_text(encoding="utf-8")
    schema = json.loads((ROOT / "scenarios/scenario.schema.json").read_text(encoding="utf-8"))
    for name in (
        "Attacker",
        "Watch",
        "TrainingTable",
        "Federation",
        "Server",
        "JudgeTable",
        "Dirichlet",
        "Mlp",
        "AdamW",
    ):
        for key in schema["$defs"][name]["properties"]:
            assert f"<code>{key}</code>" in reference, f"{name}.{key}"


def examples_are_code_and_no_markup_of_docstrings_is_left(site):
    text = (site / "reference/python/functions.html").read_text(encoding="utf-8")
    assert "<blockquote" not in text
    assert "``" not in text
    assert text.count('class="gp"') > 20  # prompts of examples


def every_lesson_is_listed_and_can_be_read(pages, site):
    lessons = sorted((ROOT / "lessons").glob("[0-9]*.py"))
    assert len(lessons) >= 8
    listed = (site / "lessons/index.html").read_text(encoding="utf-8")
    assert len(re.findall(r"<td>About \d+ minutes</td>", listed)) == len(lessons)
    for lesson in lessons:
        assert f"{lesson.stem}.html" in pages[site / "lessons/index.html"].links
        shown = (site / f"lessons/{lesson.stem}.html").read_text(encoding="utf-8")
        heading = re.search(r"# (\d\. .+)", lesson.read_text(encoding="utf-8"))[1]
        assert shown.count("<h1") == 1 and f">{heading}<" in re.sub("<a .*?</a>", "", shown)
        assert "solution_1" in re.sub("<.*?>", "", shown)
    assert "lessons/index.html" in pages[site / "index.html"].links


def a_browser_searches_it_and_asks_nobody(site):
    chromium = shutil.which("chromium")
    if chromium is None:
        if os.environ.get("CI"):
            pytest.fail("chromium is not installed, and CI must search the site")
        pytest.skip("chromium is not installed")
    asked, said = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 400, "height": 800}, color_scheme="dark")
        page.on("request", lambda one: asked.append(one.url))
        page.on("console", lambda one: said.append(one.text))
        page.on("pageerror", lambda one: said.append(str(one)))
        page.goto((site / "index.html").as_uri() + "?q=imprint")
        page.wait_for_selector(".md-search-result__item a", state="attached", timeout=300_000)
        found = page.eval_on_selector_all(".md-search-result__item a", "all => all.map(one => one.href)")
        widths, cut = [], {}
        for name in (
            "index",
            "kinds",
            "figures",
            "lessons/index",
            "attacks/exact",
            "reference/scenario",
            "reference/python/functions",
        ):
            page.goto((site / f"{name}.html").as_uri())
            widths.append(page.evaluate("document.documentElement.scrollWidth"))
            cut[name] = page.eval_on_selector_all(".md-typeset__scrollwrap", CUT)
        browser.close()
    assert any("deviations/imprint.html" in one for one in found)
    assert said == []
    assert asked and not [url for url in asked if not re.match("(file|data|blob):", url)]
    assert max(widths) <= 400
    assert (cut["index"], cut["figures"]) == ([], [])  # what one looks at on a phone


def test_a_link_to_nowhere_would_be_found(tmp_path):
    page = tmp_path / "page.html"
    page.write_text(
        '<a href="gone.html">x</a><a href="#gone">y</a><script src="https://cdn.test/x.js"></script><p id=a>'
    )
    assert [to for _, to, at in links({page: Read(page)}) if at] == ["gone.html", "#gone", "https://cdn.test/x.js"]
