import shutil
import stat

import pytest

from fedinv.errors import RequestError, RunError
from fedinv.report.export import pdf

PAGE = "<!DOCTYPE html><title>x</title><p>leaked</p>"


@pytest.fixture
def page(tmp_path):
    (tmp_path / "report.html").write_text(PAGE)
    return tmp_path / "report.html"


def a_browser(folder, script):
    path = folder / "bin/chromium"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_a_page_is_printed_by_the_browser_that_is_installed(page, tmp_path, monkeypatch):
    script = 'for one in "$@"; do case "$one" in --print-to-pdf=*) echo "%PDF by $*" > "${one#*=}";; esac; done'
    found = a_browser(tmp_path, script)
    monkeypatch.setattr(shutil, "which", lambda name: found if name == "chromium" else None)
    made = pdf.printed(page, tmp_path / "report.pdf").read_text()
    assert made.startswith("%PDF")
    assert page.as_uri() in made
    assert "MAP * ~NOTFOUND" in made  # nothing is fetched


def test_without_a_browser_it_says_which_ones_it_looks_for(page, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(RequestError, match="--pdf: needs one of chromium.*none is installed"):
        pdf.printed(page, tmp_path / "report.pdf")
    assert not (tmp_path / "report.pdf").exists()


def test_a_browser_that_fails_is_one_line(page, tmp_path, monkeypatch):
    found = a_browser(tmp_path, "echo long story >&2; echo no display >&2; exit 3")
    monkeypatch.setattr(shutil, "which", lambda name: found)
    with pytest.raises(RunError, match="did not print the page; it said: no display"):
        pdf.printed(page, tmp_path / "report.pdf")


def test_the_real_browser_prints_it(chromium, page, tmp_path):
    assert pdf.printed(page, tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
