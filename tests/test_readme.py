import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from benchmarks.__main__ import NAMES, listed
from fedinv import plugins
from fedinv.cli import app
from fedinv.runs import run
from fedinv.scenario.reading import loads, read
from fedinv.storage import documents

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
(TABLE,) = re.findall(r"```toml\n(.*?)```", README, re.S)


def docs(name: str) -> str:
    """Text of a page in docs/."""
    return (ROOT / f"docs/{name}.md").read_text(encoding="utf-8")


(SCENARIO,) = re.findall(r"```toml\n(.*?)```", docs("scenarios"), re.S)


def test_it_is_read_in_two_minutes():
    assert len(README.split()) < 900


def test_the_scenario_shown_is_valid():
    assert loads(SCENARIO).defenses[0].kind == "dp-sgd"


def test_ten_lines_take_in_a_table_never_seen(tmp_path):
    rng = np.random.default_rng(0)
    labs = [f"lab{i}" for i in range(16)]
    rows = [",".join(["name,born,ward,fever,weight,hiv", *labs, "died"])]
    for i in range(150):
        fever, weight = rng.normal(38, 1), rng.normal(75, 12) if rng.random() > 0.1 else ""
        died = "yes" if fever + rng.normal() > 38.5 else "no"
        ward, hiv = rng.choice(["A", "B", "C"]), rng.choice(["pos", "neg"], p=[0.1, 0.9])
        who = f"Person {i},{rng.integers(1930, 2010)},{ward},{fever:.1f},{weight},{hiv}"
        rows.append(",".join([who, *(f"{x:.2f}" for x in rng.normal(5, 2, len(labs))), died]))
    (tmp_path / "patients.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "mine.toml").write_text(TABLE)
    assert len(TABLE.splitlines()) <= 10
    scenario = read(str(tmp_path / "mine.toml"))
    results = run.run(scenario, run.open_folder(scenario, tmp_path / "run"))
    assert results.attacks[0].recovered.value > 0.9
    assert results.attacks[0].reidentified is None  # no column is declared to be known elsewhere
    assert any("weight" in note and "missing" in note for note in results.notes)
    assert (tmp_path / "run/report.html").is_file()


def test_the_python_that_is_shown_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(import fedinv\n\nscenario.*?)```", docs("python"), re.S)
    found = {}
    exec(compile(code, "docs/python.md", "exec"), found)
    assert "the server rebuilt 40 of 40 biopsy records in full" in capsys.readouterr().out
    assert [one.kind for one in found["run"].results.inferences] == ["labels"]
    assert len(found["claim"].records) == 8
    assert found["claim"].mismatch < 1e-3


def test_everything_on_offer_is_named_in_the_tables_that_list_it():
    kinds, scenarios = docs("kinds"), docs("scenarios")
    for group in ("attacks", "defenses", "deviations", "detectors", "datasets"):
        for kind in plugins.available(group):
            assert re.search(rf"^\| [^|]*`{kind}`[^|]* \|", kinds, re.M), kind
    for name in documents.shipped():
        assert f"| `{name}` |" in scenarios, name
    for source in plugins.available("datasets"):
        assert source in SCENARIO


def test_every_command_is_named():
    listed = docs("commands")
    commands = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert len(commands) > 10
    assert {name for name in commands if f"fedinv {name}" not in listed} == set()


def test_the_first_page_leads_to_every_guide():
    guides = {path.name for path in (ROOT / "docs").glob("*.md")}
    linked = set(re.findall(r"\]\(docs/([\w-]+\.md)", README))
    for page in guides & linked:
        linked |= set(re.findall(r"\]\(([\w-]+\.md)", docs(page.removesuffix(".md"))))
    assert guides - linked == set()


def test_the_benchmarks_that_are_named_are_there():
    assert all(find_spec(f"benchmarks.{name}") for name in NAMES)
    assert all(listed(name).startswith(name) and len(listed(name).split()) > 4 for name in NAMES)
    pages = [README, *(path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md"))]
    lines = [names for page in pages for names in re.findall(r"-m benchmarks ([a-z_ ]+)", page)]
    named = {name for names in lines for name in names.split()}
    assert named <= set(NAMES)
    assert "simulation" in named


def _anchors(page):
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def test_every_link_to_a_file_or_a_heading_leads_there():
    links = 0
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md")]:
        for to in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            if not to.startswith(("https://", "http://", "mailto:")):
                path, _, anchor = to.partition("#")
                target = page.parent / path if path else page
                assert target.exists(), f"{page.name}: {to}"
                assert not anchor or target.suffix != ".md" or anchor in _anchors(target), f"{page.name}: {to}"
                links += 1
    assert links > 20
