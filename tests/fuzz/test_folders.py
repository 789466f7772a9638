"""A run's folder with one file changed by somebody: it is read, or the file is named; nothing else is touched."""

import copy
import json
import shutil
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedinv import api
from fedinv.outcomes import open_run

BITS = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 7)), min_size=1, max_size=20)
VALUES = st.one_of(
    st.sampled_from(
        [
            None,
            True,
            -1,
            0,
            10**12,
            2**63,
            10**400,
            1e308,
            float("nan"),
            float("inf"),
            "",
            "x",
            "../../x",
            "<script>",
            "\ud800",
            "\x1b[31m",
            "a" * 10_000,
            [],
            {},
            [None],
            [[]],
            {"a": 1},
        ]
    ),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
)
JSON = ("results.json", "schema.json", "ledger.json", "provenance.json", "checkpoint/progress.json")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, shared_tiny):
    """A finished run of two attacks behind a defense."""
    text = shared_tiny.replace("rounds = 3", "rounds = 2").replace("[1, 2], clients = 2", "[2], clients = 1")
    text += '[[attacks]]\nkind = "exact"\nfall_back = false\n[[attacks]]\nkind = "labels"\n'
    text += '[[defenses]]\nkind = "top-k"\n'
    return api.run(text, out=tmp_path_factory.mktemp("fuzz") / "run", progress=False).folder


def places(document, before=()):
    items = (
        document.items()
        if isinstance(document, dict)
        else enumerate(document[:3])
        if isinstance(document, list)
        else ()
    )
    return [found for key, value in items for found in ((*before, key), *places(value, (*before, key)))]


@st.composite
def json_damage(draw, text):
    """A JSON document's text with one or two of its values changed or removed."""
    document = json.loads(text)
    for _ in range(draw(st.integers(1, 2))):
        found = places(document)
        if not found:
            break
        *way, last = draw(st.sampled_from(found))
        table = document
        for key in way:
            table = table[key]
        if isinstance(table, dict) and draw(st.booleans()):
            del table[last]
        else:
            table[last] = copy.deepcopy(draw(VALUES))
    return json.dumps(document).encode()


@st.composite
def tensor_damage(draw, content):
    """A safetensors file with its header changed."""
    size = struct.unpack("<Q", content[:8])[0]
    header, body = json.loads(content[8 : 8 + size]), content[8 + size :]
    how = draw(st.sampled_from(["facts", "facts", "names", "drop", "header", "numbers"]))
    told = header["__metadata__"]
    if how == "facts":
        told["fedinv"] = draw(json_damage(told["fedinv"])).decode()
    elif how == "names":
        told["names"] = draw(st.sampled_from(['["x"]', "{}", "[]", "5", "[[]]", "", '["0.weight"]', "[1, 2]"]))
    elif how == "drop":
        del header[draw(st.sampled_from(sorted(header)))]
    elif how == "numbers":
        body = draw(st.sampled_from([b"\xff" * len(body), b"\0" * len(body), body[::-1]]))
    else:
        header = json.loads(draw(json_damage(json.dumps(header))))
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


@st.composite
def byte_damage(draw, content):
    how = draw(st.sampled_from(["cut", "flip", "empty", "zeros", "append", "garbage"]))
    if how == "flip":
        changed = bytearray(content)
        for at, bit in draw(BITS):
            changed[at % len(changed)] ^= 1 << bit
        return bytes(changed)
    changes = {
        "cut": content[: draw(st.integers(0, len(content)))],
        "empty": b"",
        "zeros": bytes(len(content)),
        "append": content + b"\xff" * 100,
        "garbage": draw(st.binary(max_size=300)),
    }
    return changes[how]


@st.composite
def damage(draw, root):
    """A file of the run and its changed content; None for a folder in its place."""
    paths = sorted(
        path
        for path in root.rglob("*")
        if path.is_file() and path.suffix not in (".png", ".html") and path.name != ".lock"
    )
    path = draw(st.sampled_from(paths))
    content = path.read_bytes()
    ways = [byte_damage(content), st.none()]
    if path.suffix == ".json":
        ways += [json_damage(content)] * 4
    if path.suffix == ".safetensors":
        ways += [tensor_damage(content)] * 4
    return path.relative_to(root), draw(st.one_of(ways))


def outside(home):
    return sorted(str(path.relative_to(home)) for path in home.iterdir())


def test_a_changed_folder_is_read_or_named(finished, law, examples, tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)

    @examples(25)
    @given(damage(finished), st.sampled_from(["report", "attack", "run"]))
    def holds(changed, command):
        folder, (path, content) = home / "run", changed
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(finished, folder)
        (folder / path).unlink()
        if content is None:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(content)
        if command == "report":
            law(lambda: open_run(folder).render())
        elif command == "attack":
            law(lambda: open_run(folder).attack("labels"))
        else:
            if path != Path("results.json"):
                (folder / "results.json").unlink()
            law(lambda: api.run(folder, progress=False))
        assert outside(home) == ["run"]

    holds()
