import importlib.util
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytest.importorskip("marimo", reason="marimo is not installed: pip install 'fedinv[lab]'")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
HOME = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def export():
    spec = importlib.util.spec_from_file_location("lessons_export", HOME / "lessons/export.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_a_page_takes_the_front_end_from_beside_it(export):
    page = '<script src="https://cdn.jsdelivr.net/npm/@marimo-team/frontend@0.25.2/dist/assets/index.js"></script>'
    assert export.with_own_front_end(page) == '<script src="./marimo/assets/index.js"></script>'


@pytest.mark.slow
def test_a_lesson_is_exported_as_a_notebook(export, tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    lesson = tmp_path / "1.py"
    lesson.write_text("import marimo\napp = marimo.App()\n@app.cell\ndef _():\n    6 * 7\n    return\n")
    monkeypatch.setattr(export, "STATIC", tmp_path)
    written = nbformat.read(export.export(lesson, "ipynb", "--include-outputs"), 4)
    nbformat.validate(written)
    assert "42" in str([cell.get("outputs") for cell in written.cells])


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the path to look at the page with")
def test_an_exported_lesson_shows_its_outputs_and_asks_nobody(export, tmp_path, monkeypatch):
    import marimo

    monkeypatch.setattr(export, "STATIC", tmp_path)
    (tmp_path / "marimo").symlink_to(Path(marimo.__file__).parent / "_static")
    page = export.export(next((HOME / "lessons").glob("01*.py")), "html")
    page.write_text(export.with_own_front_end(page.read_text(encoding="utf-8")), encoding="utf-8")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    own = f"http://127.0.0.1:{server.server_port}/"
    try:
        with playwright.sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            shown = browser.new_page()
            shown.set_default_timeout(600_000)
            asked = []
            shown.on("request", lambda request: asked.append(request.url))
            shown.goto(own + page.name)
            shown.wait_for_selector("text=The server divided two numbers")
            assert [url for url in asked if not url.startswith((own, "data:", "blob:"))] == []
            browser.close()
    finally:
        server.shutdown()
        server.server_close()
