"""Scenario files with anything in them: each is a scenario that could be begun, or is refused in one line."""

import copy
import os
import shutil
import tomllib
from pathlib import Path

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from fedinv import api, plugins
from fedinv.errors import RequestError
from fedinv.judge.truth import population_of
from fedinv.runs import run, sizes
from fedinv.scenario.reading import loads
from fedinv.scenario.scenario import Scenario

EXTRAS = [
    '[[attacks]]\nkind = "exact"\n',
    '[[attacks]]\nkind = "labels"\n[[defenses]]\nkind = "top-k"\nkeep = 0.2\n',
    '[[attacks]]\nkind = "membership"\nmethod = "loss"\n[[defenses]]\nkind = "secagg-plus"\n',
    '[[attacks]]\nkind = "row-space"\n[[defenses]]\nkind = "masking"\n',
]

NUMBERS = [
    0,
    -1,
    1,
    2,
    10**9,
    10**12,
    10**18,
    2**63 - 1,
    2**63,
    2**64,
    10**30,
    -(10**30),
    10**4000,
    0.0,
    -0.0,
    0.5,
    -1.5,
    5e-324,
    1e308,
    -1e308,
    float("nan"),
    float("inf"),
    float("-inf"),
]
TEXTS = [
    "",
    " ",
    "nan",
    "1",
    "é",
    "\u202e",
    "😀" * 10,
    "a" * 100_000,
    "../../..",
    "a/b",
    ".",
    "a\nb",
    "\0",
    "\x1b[31mred",
    "<script>alert(1)</script>",
    "[bold]x[/]",
    "%s%n",
    "{0}",
    "~nosuchuser",
    "/dev/zero",
    "a" * 300,
    "\ud800",
]
VALUES = st.one_of(
    st.sampled_from(NUMBERS),
    st.sampled_from(TEXTS),
    st.sampled_from(
        [True, False, [], {}, [[]], [{}], [None], {"kind": "x"}, [{"kind": "exact"}], [1] * 5000, [10**18]]
    ),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.recursive(
        st.integers() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    ),
)


def places(document, before=()):
    """The keys that lead to each value of a document."""
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [found for key, value in items for found in ((*before, key), *places(value, (*before, key)))]


MILD = st.sampled_from(
    [0, 1, 2, 3, 4, 7, 0.0, 1e-3, 0.05, 0.5, 1.0, 3.0, 1e4, 1e30, True, False, [], [1], [2, 3], "x", "auto"]
)
"""Values with which a scenario is small enough to be run to its end."""


@st.composite
def documents(draw, bases, values=VALUES):
    """A scenario's document with up to three keys changed, removed or added, or a plugin's keys drawn."""
    document = copy.deepcopy(draw(st.sampled_from(bases)))
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from(places(document)))
        table = document
        for key in way:
            table = table[key]
        how = draw(st.sampled_from(["change", "change", "change", "remove", "add", "plugin"]))
        if how == "change":
            table[last] = copy.deepcopy(draw(values))
        elif how == "remove":
            del table[last]
        elif how == "add" and isinstance(table, dict):
            table[
                draw(st.sampled_from(["kind", "path", "x", "", "__class__", "a.b", "self"]) | st.text(max_size=5))
            ] = copy.deepcopy(draw(values))
        elif how == "plugin":
            group = draw(st.sampled_from(["attacks", "defenses", "datasets"]))
            kind = draw(st.sampled_from(sorted(plugins.available(group))))
            keys = sorted(set(plugins.load(group, kind).model_fields) - {"kind", "source", "partition"})
            drawn = (
                {key: copy.deepcopy(draw(values)) for key in draw(st.lists(st.sampled_from(keys), max_size=2))}
                if keys
                else {}
            )
            if group == "datasets":
                document["data"] = {"source": kind, **drawn}
            else:
                document[group] = [{"kind": kind, **drawn}]
        if not isinstance(document, dict) or not places(document):
            break
    return document


@pytest.fixture(scope="module")
def bases(shared_tiny):
    return [loads(shared_tiny + extra).model_dump(mode="json", exclude_none=True) for extra in EXTRAS]


def begun(source):
    """A scenario that was loaded, and checked as it is before a run."""
    scenario = api.load(source)
    run.check(scenario, "inline")
    return scenario


def test_documents_with_anything_in_them(bases, law, examples):
    @examples(150)
    @given(documents(bases))
    def holds(document):
        found = law(lambda: begun(document))
        if found is not None:
            assert isinstance(found, Scenario)
            assert loads(found.to_toml()).model_dump(mode="json") == found.model_dump(mode="json")

    holds()


def test_scenarios_run_to_their_end_or_end_in_one_line(bases, law, examples, tmp_path):
    @examples(5)
    @given(documents(bases, MILD))
    def holds(document):
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        found = law(lambda: begun(document))
        if found is None:
            return
        small = sizes.parameters(found, population_of(found)) < 300_000
        if small and found.data.source == "hospital" and all(a.kind in QUICK for a in found.attacks):
            done = law(lambda: api.run(found, out=tmp_path / "run", progress=False))
            assert done is None or (done.report.is_file() and isinstance(repr(done), str))

    holds()


QUICK = ("exact", "labels", "row-space", "membership", "property", "line-up")
"""Attacks that take a moment on a small network."""

DAMAGE = [
    lambda text, at: text[:at],
    lambda text, at: text[:at] + "=" + text[at:],
    lambda text, at: text[:at] + '"' + text[at:],
    lambda text, at: text[:at] + "\0" + text[at:],
    lambda text, at: text + "\n[federation]\nclients = 3\n",
    lambda text, at: "a." * at + "b = 1\n" + text,
    lambda text, at: f"{text}\nx = {'[' * at * 9}{']' * at * 9}\n",
    lambda text, at: f"{text}\nx = {'{a=' * at * 9}1{'}' * at * 9}\n",
    lambda text, at: text.replace("seed = 3", "seed = " + "9" * (at * 20)),
    lambda text, at: text.replace("seed = 3", "seed = 0x" + "f" * at),
    lambda text, at: text.replace("0.05", "1e400"),
    lambda text, at: text.replace("\n", "\r"),
    lambda text, at: "\ufeff" + text,
    lambda text, at: text + text,
    lambda text, at: text.replace("name", '"name"', 1).replace("tiny", "ti\\u0000ny"),
]


def test_files_of_any_text(shared_tiny, law, examples, tmp_path):
    path = tmp_path / "s.toml"

    @examples(80)
    @given(
        st.one_of(
            st.builds(lambda how, at: how(shared_tiny, at).encode(), st.sampled_from(DAMAGE), st.integers(0, 600)),
            st.binary(max_size=300),
            st.sampled_from(["utf-16", "utf-32", "latin-1"]).map(lambda name: (shared_tiny + "# é").encode(name)),
        )
    )
    def holds(content):
        path.write_bytes(content)
        law(lambda: begun(path))

    holds()


def test_settings_of_any_text(law, examples):
    keys = st.sampled_from(
        ["name", "seed", "training.lr", "attacks.0.kind", "attacks.9.x", "data", "a." * 3000 + "b", ""]
    )

    @examples(60)
    @given(st.one_of(st.text(max_size=30), st.builds(lambda key, value: f"{key}={value}", keys, VALUES)))
    def holds(setting):
        law(lambda: api.load("hospital", **api.changes([setting])))

    holds()


@pytest.mark.parametrize(
    "text",
    [
        "~nosuchuser/x.toml",
        "a" * 300,
        "a" * 5000 + ".toml",
        "/".join(["a" * 200] * 50),
        "",
        "x\udcff.toml",
        "loop.toml",
        "dangling.toml",
        "fifo",
        "folder",
        "/dev/zero",
        "/dev/null",
        "/proc/self/mem",
    ],
)
def test_paths_that_are_none(law, tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    Path("loop.toml").symlink_to("loop.toml")
    Path("dangling.toml").symlink_to("nowhere")
    os.mkfifo("fifo")
    Path("folder").mkdir()
    assert law(lambda: begun(text)) is None
    table = {"source": "csv", "path": text, "label": "y"}
    assert (
        law(
            lambda: begun(
                {
                    **tomllib.loads(tomli_w.dumps({"name": "x", "data": table})),
                    "federation": {"clients": 2, "rounds": 1},
                    "training": {"algorithm": "fedavg"},
                }
            )
        )
        is None
    )


@pytest.mark.parametrize(
    "text", ["a" * 300, "a/" * 3000, "file", "file/x", "dangling", "loop", "~nosuchuser/x", "/proc/x", "/dev/null"]
)
def test_folders_that_are_none(law, tmp_path, monkeypatch, text, tiny):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    Path("loop").symlink_to("loop")
    Path("dangling").symlink_to("nowhere")
    scenario = loads(tiny)
    for command in (api.run, api.assess, api.compare):
        assert law(lambda command=command: command(scenario, out=text, progress=False)) is None


SIZES = [
    "clients = 1000000000",
    "rounds = 1000000000000",
    "hidden = [1000000000000000000]",
    "hidden = [1000000, 1000000]",
    "epochs = 1000000000000000",
]


@pytest.mark.parametrize("size", SIZES)
def test_sizes_that_no_machine_has_are_refused_with_what_to_lower(tiny, size):
    key = size.split(" ")[0]
    lines = [size if line.startswith(f"{key} ") else line for line in tiny.splitlines()]
    text = "\n".join(lines).replace(size, f"{size}\nclients_per_round = 2" if key == "clients" else size)
    if key == "clients":
        text = text.replace("records = 200", 'records = 200\npartition = { kind = "drawn", each = 6 }')
    with pytest.raises(RequestError, match="lower"):
        begun(text)
