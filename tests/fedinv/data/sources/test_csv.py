import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from fedinv.data.sources.csv import Csv
from fedinv.errors import RequestError
from fedinv.task.columns import Categorical, Continuous

HEADER = "who,age,weight,ward,flag,ill\n"
ROWS = "".join(
    f"0{i},{20 + i},{50 + i / 3:.2f},{('a', 'b', 'c')[i % 3]},{i % 2},{('no', 'yes')[i % 4 == 0]}\n" for i in range(60)
)
START = "".join(ROWS.splitlines(keepends=True)[:30])
CLINIC = Path(__file__).parents[4] / "scenarios" / "data" / "clinic.csv"


@pytest.fixture
def load(tmp_path):
    def load(content=HEADER + ROWS, seed=1, **keys):
        path = tmp_path / "t.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return Csv(**{"source": "csv", "path": path, "label": "ill", "identify": ("who",)} | keys).load(seed)

    return load


def test_types_are_inferred(load):
    people = load()
    kinds = {c.name: (type(c), c.integer if isinstance(c, Continuous) else c.values) for c in people.schema.columns}
    assert kinds == {
        "age": (Continuous, True),
        "weight": (Continuous, False),
        "ward": (Categorical, ("a", "b", "c")),
        "flag": (Categorical, ("0", "1")),
    }
    assert people.schema.classes == ("no", "yes")
    assert people.labels.sum() == 15
    assert people.identities["who"][:2].tolist() == ["00", "01"]
    assert people.notes == ()
    assert people.schema.decode(people.schema.encode(people.columns))["age"].tolist() == people.columns["age"].tolist()


def test_types_can_be_overridden(load):
    people = load(
        HEADER + START,
        categorical=("age",),
        continuous=("flag",),
        drop=("weight",),
        sensitive=("ward",),
    )
    kinds = {c.name: type(c) for c in people.schema.columns}
    assert kinds == {"age": Categorical, "ward": Categorical, "flag": Continuous}
    assert [c.name for c in people.schema.columns if c.sensitive] == ["ward"]


def test_gaps_are_filled_and_said(load):
    people = load(HEADER + ROWS + "x,,NA,,,yes\ny,1,1.0,a,0,\n")
    assert len(people) == 61
    last = {name: values[-1] for name, values in people.columns.items()}
    assert last["age"] == np.round(np.median(np.arange(20, 80)))
    assert last["weight"] == pytest.approx(np.median(people.columns["weight"][:60]))
    assert (last["ward"], last["flag"]) == ("(missing)", "(missing)")
    assert "1 of 62 rows have no 'ill' and were dropped" in people.notes
    assert "age: 1 of 61 values are missing and became the median" in people.notes
    assert "ward: 1 of 61 values are missing and became '(missing)'" in people.notes


def test_columns_without_information_are_dropped_and_said(load):
    people = load(
        ",age,same,none,one,ill\n" + "".join(f"{i},{i},x,,{7 if i % 2 else ''},{i % 2}\n" for i in range(9)),
        identify=(),
    )
    assert people.schema.names == ("age", "one")
    assert set(people.notes) == {
        "column 1 of the file has no name and was dropped",
        "same: holds the same value in every row and was dropped",
        "none: holds no value and was dropped",
        "one: 5 of 9 values are missing and became '(missing)'",
    }


def test_a_text_among_numbers_is_said(load):
    assert (
        "age: holds 'old' among numbers and was read as categories" in load(HEADER + START + "x,old,1,a,0,no\n").notes
    )


def test_infinity_counts_as_missing(load):
    people = load(HEADER + ROWS + "x,inf,-inf,a,0,no\n")
    assert np.isfinite(people.columns["age"]).all()
    assert np.isfinite(people.columns["weight"]).all()


def test_a_part_is_drawn_by_the_seed(load):
    part, same, other = load(records=20), load(records=20), load(records=20, seed=2)
    assert len(part) == 20
    assert part.identities["who"].tolist() == same.identities["who"].tolist() != other.identities["who"].tolist()


def test_numeric_classes_are_in_the_order_of_numbers(load):
    people = load("a,y\n" + "".join(f"{i},{i % 12}\n" for i in range(48)), label="y", identify=())
    assert people.schema.classes == tuple(str(i) for i in range(12))
    assert people.labels.tolist() == [i % 12 for i in range(48)]


def test_a_label_of_many_numbers_is_a_number_and_that_is_said(load):
    people = load(label="weight", drop=("ill",))
    target = people.schema.target
    assert people.schema.classes == ()
    assert (people.schema.outputs, people.schema.loss) == (1, "squared-error")
    assert "weight" not in people.schema.names
    assert (target.name, target.integer, target.low) == ("weight", False, 50.0)
    assert people.labels.tolist() == pytest.approx([round(50 + i / 3, 2) for i in range(60)])
    standardized = people.schema.encode_labels(people.labels)
    assert float(standardized.mean()) == pytest.approx(0, abs=1e-6)
    assert float(standardized.std(correction=0)) == pytest.approx(1, abs=1e-6)
    assert people.notes == ('weight: holds 60 numbers and is predicted as a number (data.task = "regression")',)


def test_a_label_of_few_numbers_is_a_number_where_it_is_asked_for(load):
    content = "a,y\n" + "".join(f"{i},{i % 12}\n" for i in range(48))
    people = load(content, label="y", identify=(), task="regression")
    assert people.schema.target.integer
    assert people.labels.tolist() == [float(i % 12) for i in range(48)]
    assert people.notes == ()


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "'; drop table people", "ünï ♥", "{{ 7*7 }}"])
def test_hostile_names_are_kept_as_they_are(load, name):
    people = load(HEADER.replace("age", name) + ROWS)
    assert people.schema.names[0] == name
    assert name in load(HEADER.replace("age", name) + ROWS + "x,,1,a,0,no\n").notes[0]


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + (HEADER + ROWS).encode(),
        (HEADER + ROWS).replace("\n", "\r\n"),
        "\n\n" + HEADER + ROWS,
        HEADER.replace("age", '" age\n"') + ROWS,
        HEADER + ROWS.replace(",a,", ", a ,"),
    ],
)
def test_harmless_variants_read_alike(load, content):
    people, plain = load(content), load()
    assert people.schema == plain.schema
    assert np.array_equal(people.labels, plain.labels)


def test_other_delimiters_can_be_named(load):
    assert load((HEADER + ROWS).replace(",", ";"), delimiter=";").schema == load().schema


MANY = "age,ill\n" + "".join(f"{i},{i % 2}\n" for i in range(60))


@pytest.mark.parametrize(
    ("content", "keys", "message"),
    [
        ("", {}, "is empty, give a CSV file with a header"),
        (" \n\n", {}, "is empty"),
        (HEADER, {}, "has a header but no rows"),
        (gzip.compress(ROWS.encode()), {}, "is a binary file"),
        ((HEADER + ROWS).encode("utf-16"), {}, "is a binary file"),
        ((HEADER + ROWS + "x,1,1,é,0,no\n").encode("latin-1"), {}, "no CSV text in UTF-8, save the file as such"),
        (b"\xe9" + (HEADER + ROWS * 900).encode(), {}, "no CSV text in UTF-8"),
        ((HEADER + ROWS * 900 + "x,1,1,é,0,no\n").encode("latin-1"), {}, "UTF-8, save the file as"),
        (HEADER + ROWS[:-14], {}, r"row 61 \(the header is row 1\) has . cells instead of 6: complete or remove it"),
        (HEADER + ROWS + "1,2,3,4,5,6,7\n", {}, "row 62 .* has 7 cells instead of 6"),
        (HEADER + '"x,1' + ROWS, {}, "cells instead of 6|quote left open"),
        ('"' + HEADER + ROWS, {}, "cut off, or a quote left open"),
        (HEADER.replace("age", "ward") + ROWS, {}, "column 'ward' occurs 2 times, rename all but one"),
        (HEADER + ROWS, {"label": "il"}, r"data.label: .* has no column 'il' \(did you mean 'ill'\?\)"),
        ((HEADER + ROWS).replace(",", ";"), {"identify": ()}, r"no column 'ill' .*is data.delimiter right\?"),
        (HEADER + ROWS, {"drop": ("wards",)}, r"data.drop: .* no column 'wards' \(did you mean 'ward'\?\)"),
        (HEADER + ROWS, {"categorical": ("agee",)}, r"data.categorical: .* \(did you mean 'age'\?\)"),
        (HEADER + ROWS, {"continuous": ("agee",)}, r"data.continuous: .* \(did you mean 'age'\?\)"),
        (HEADER + ROWS, {"sensitive": ("agee",)}, r"data.sensitive: .* \(did you mean 'age'\?\)"),
        (HEADER + ROWS, {"identify": ("whom",)}, r"data.identify: .* \(did you mean 'who'\?\)"),
        (HEADER + ROWS, {"drop": ("who",)}, "data.identify: column 'who' is in data.drop too"),
        (HEADER + ROWS, {"drop": ("ill",)}, "data.drop: column 'ill' is in data.label too"),
        (HEADER + ROWS, {"continuous": ("ward",)}, "data.continuous: column 'ward' .* holds 'a', which is no number"),
        (HEADER + ROWS, {"records": 61}, "data.records: 61 is more than the 60 rows"),
        (
            HEADER + ROWS,
            {"label": "age", "task": "classification"},
            r"60 different numbers, too many for classes: cut it into at most 20 ranges, or write data.task",
        ),
        (HEADER + ROWS, {"label": "ward", "task": "regression"}, "data.label: .* holds 'a', which is no number: regre"),
        (HEADER + ROWS.replace("yes", "7"), {"label": "ill", "task": "regression"}, "holds 'no', which is no number"),
        (HEADER + ",1,2,3,4,5\n,1,2,3,4,5\n", {"identify": (), "task": "regression"}, "holds one number, '5': two or"),
        (HEADER + ROWS + "x,1,1,a,0,1e200\n", {"task": "regression"}, "data.label"),
        (HEADER + ROWS.replace("yes", "no"), {}, "holds one class, 'no': two or more are needed"),
        (HEADER + "1,2,3,4,5,\n2,2,3,4,5,\n", {}, "holds no value: two or more are needed"),
        (
            HEADER.replace("ward", "note") + ROWS.replace("no\n", "x\n").replace("0", "n"),
            {"label": "who", "identify": ()},
            "60 different values, but a label",
        ),
        (HEADER + ROWS, {"drop": ("age", "weight", "ward", "flag")}, "no column is left to train on"),
        (
            MANY,
            {"categorical": ("age",), "identify": ()},
            "column 'age' holds 60 different texts, more than 50: list it",
        ),
        (MANY + "old,1\n", {"identify": ()}, "column 'age' holds 'old' among numbers: clear those cells"),
        (HEADER + ROWS + "x,1e200,1,a,0,no\n", {}, "column 'age' holds numbers beyond 1e.100: list it in data.drop"),
    ],
)
def test_unusable_input_is_one_line_that_says_what_to_do(load, content, keys, message):
    with pytest.raises(RequestError, match=message) as caught:
        load(content, **keys)
    assert "t.csv" in str(caught.value) or "data." in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_damaged_row_is_not_quoted(load):
    with pytest.raises(RequestError) as caught:
        load(HEADER + ROWS + "secret name,1\n")
    assert "secret" not in str(caught.value)


def test_a_missing_file_a_folder_and_a_forbidden_file_are_named(tmp_path):
    with pytest.raises(RequestError, match="nowhere.csv: there is no such file"):
        Csv(source="csv", path=tmp_path / "nowhere.csv", label="y").load(1)
    with pytest.raises(RequestError, match="is a folder, give a CSV file"):
        Csv(source="csv", path=tmp_path, label="y").load(1)
    closed = tmp_path / "closed.csv"
    closed.write_text(HEADER + ROWS)
    closed.chmod(0)
    if not os.access(closed, os.R_OK):
        with pytest.raises(RequestError, match="cannot be read"):
            Csv(source="csv", path=closed, label="ill").load(1)


def test_the_shipped_example_shows_every_case():
    people = Csv(
        source="csv", path=CLINIC, label="readmitted", identify=("patient", "birth_date"), sensitive=("hiv",)
    ).load(1)
    assert len(people) >= 400
    assert 12 <= len(people.schema.columns) <= 15
    assert any("missing and became the median" in note for note in people.notes)
    assert any("(missing)" in note for note in people.notes)
    rarest = min(min(c.frequencies) for c in people.schema.columns if isinstance(c, Categorical))
    assert rarest < 0.02
    assert {"patient", "birth_date"} == set(people.identities)
