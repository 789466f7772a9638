import bz2
import gzip
import os
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from fedinv.data import table_files
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


def test_a_text_among_numbers_is_refused_with_its_row_and_never_made_a_category(load):
    with pytest.raises(RequestError, match=r"'age' .* in 1 of 31 cells .* data.missing, .* data.categorical .* row 32"):
        load(HEADER + START + "x,old,1,a,0,no\n")
    assert (
        load(HEADER + START + "x,old,1,a,0,no\n", missing=("old",)).schema
        == load(HEADER + START + "x,,1,a,0,no\n").schema
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
    content = "a,y\n" + "".join(f"{i / 4},{i % 12}\n" for i in range(48))
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
PAIRS = "pressure,ill\n" + "".join(f"{100 + i}/{60 + i},{i % 2}\n" for i in range(60))


@pytest.mark.parametrize(
    ("content", "keys", "message"),
    [
        ("", {}, "is empty, give a CSV file with a header"),
        (" \n\n", {}, "is empty"),
        (HEADER, {}, "has a header but no rows"),
        (gzip.compress(ROWS.encode()), {}, "its first row holds values, not names"),
        ((HEADER + ROWS).encode("utf-16"), {}, "is a binary file"),
        ((HEADER + ROWS + "x,1,1,é,0,no\n").encode("latin-1"), {}, "no CSV text in UTF-8, save the file as such"),
        (b"\xe9" + (HEADER + ROWS * 900).encode(), {}, "no CSV text in UTF-8"),
        ((HEADER + ROWS * 900 + "x,1,1,é,0,no\n").encode("latin-1"), {}, "UTF-8, save the file as"),
        (gzip.compress((HEADER + ROWS).encode())[:-200], {}, "is packed and cannot be unpacked: is it cut off"),
        (b"PK\x03\x04" + ROWS.encode(), {}, "a zip archive or an Excel workbook, save its one table as CSV"),
        (b"PAR1" + ROWS.encode(), {}, "is a damaged Parquet file"),
        (HEADER + ROWS[:-14], {}, r"row 61 \(the header is row 1\) has . cells instead of 6: complete or remove it"),
        (HEADER + ROWS + "1,2,3,4,5,6,7\n", {}, "row 62 .* has 7 cells instead of 6"),
        (HEADER + "\n" + ROWS + "\n\n1,2,3,4,5,6,7\n", {}, "row 65 .* has 7 cells instead of 6"),
        (HEADER + '"x,1' + ROWS, {}, "cells instead of 6|quote left open"),
        ('"' + HEADER + ROWS, {}, "cut off, or a quote left open"),
        (
            HEADER.replace("age", "ward") + ROWS,
            {},
            "name of column 2 occurs 2 times, at column 4 too, rename all but one",
        ),
        (HEADER + ROWS, {"label": "il"}, r"data.label: .* has no column 'il' \(did you mean 'ill'\?\)"),
        (
            (HEADER + ROWS).replace(",", ";"),
            {"identify": ()},
            r"no column 'ill'.*is data.delimiter right\? Write data.delimiter = \";\"",
        ),
        (HEADER + ROWS, {"drop": ("wards",)}, r"data.drop: .* no column 'wards' \(did you mean 'ward'\?\)"),
        (HEADER + ROWS, {"categorical": ("agee",)}, r"data.categorical: .* \(did you mean 'age'\?\)"),
        (HEADER + ROWS, {"continuous": ("agee",)}, r"data.continuous: .* \(did you mean 'age'\?\)"),
        (HEADER + ROWS, {"sensitive": ("agee",)}, r"data.sensitive: .* \(did you mean 'age'\?\)"),
        (HEADER + ROWS, {"identify": ("whom",)}, r"data.identify: .* \(did you mean 'who'\?\)"),
        (HEADER + ROWS, {"drop": ("who",)}, "data.identify: column 'who' is in data.drop too"),
        (HEADER + ROWS, {"drop": ("ill",)}, "data.drop: column 'ill' is in data.label too"),
        (HEADER + ROWS, {"continuous": ("ward",)}, "data.continuous: column 'ward' .* holds texts that are no numbers"),
        (HEADER + ROWS, {"records": 61}, "data.records: 61 is more than the 60 rows"),
        (
            HEADER + ROWS,
            {"label": "age", "task": "classification"},
            r"60 different numbers, too many for classes: cut it into at most 20 ranges, or write data.task",
        ),
        (
            HEADER + ROWS,
            {"label": "ward", "task": "regression"},
            "data.label: .* holds texts: regression needs numbers",
        ),
        (
            HEADER + ROWS.replace("yes", "7"),
            {"label": "ill", "task": "regression"},
            "holds texts: regression needs numbers",
        ),
        (
            HEADER + ",1,2,3,4,5\n,1,2,3,4,5\n",
            {"identify": (), "task": "regression"},
            "holds the same number in every row: two or",
        ),
        (HEADER + ROWS + "x,1,1,a,0,1e200\n", {"task": "regression"}, "data.label"),
        (HEADER + ROWS.replace("yes", "no"), {}, "holds one class in all rows: two or more are needed"),
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
            "column 'age' holds 60 different texts, another in every row, more than 50: list it",
        ),
        (
            PAIRS,
            {"identify": ()},
            "column 'pressure' holds 60 .* more than 50: split it into columns of one number each",
        ),
        (MANY + "old,1\n", {"identify": ()}, "column 'age' holds numbers, and in 1 of 61 cells something else: list"),
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


GERMAN = "Alter;Gewicht;Betrag;seit;Wert;tot\n" + "".join(
    f"{20 + i};{50 + i}{',5' if i % 2 else ',25'};{1 + i % 9}.{100 + i};{1 + i % 28:02}.03.2020;"
    f"{5 + i % 40 if i % 5 else '<5'};{'Ja' if i % 3 else 'nein'}\n"
    for i in range(60)
)


def test_a_table_in_another_notation_is_read_and_said(load):
    people = load(GERMAN, label="tot", identify=(), delimiter=";")
    kinds = {c.name: (type(c), c.unit) for c in people.schema.columns}
    assert kinds == {
        "Alter": (Continuous, ""),
        "Gewicht": (Continuous, ""),
        "Betrag": (Continuous, ""),
        "seit": (Continuous, "days since 1970-01-01"),
        "Wert": (Continuous, ""),
    }
    assert people.columns["Gewicht"][:2].tolist() == [50.25, 51.5]
    assert people.columns["Betrag"][:2].tolist() == [1100, 2101]
    said = " ".join(people.notes)
    assert "Gewicht: read with decimal commas" in said
    assert "Betrag: read with decimal commas" in said
    assert "Betrag: read with points between thousands" in said
    assert "seit: dates, read day, month, year" in said
    assert "Wert: 12 of 60 values are bounds" in said


@pytest.mark.parametrize(
    ("answers", "classes"),
    [
        (("0", "1", "1.0"), ("0", "1")),
        (("no", "yes", "YES ", "Yes"), ("no", "yes")),
        (("0,0", "1,0", "1"), ("0,0", "1")),
        (("10", "2", "2.0"), ("2", "10")),
    ],
)
def test_equal_labels_spelled_differently_are_one_class(load, answers, classes):
    rows = "".join(f'{i / 3:.2f},"{answers[i % len(answers)]}"\n' for i in range(48))
    rows += f'1,"{answers[1]}"\n'
    people = load("a,y\n" + rows, label="y", identify=())
    assert people.schema.classes == classes
    assert set(people.labels.tolist()) == {0, 1}


def test_equal_categories_spelled_differently_are_one_and_that_is_said(load):
    people = load((HEADER + ROWS).replace(",a,", ",A,", 5))
    assert people.schema.columns[2].values == ("a", "b", "c")
    assert "ward: 1 values were spelled in several ways and made one each" in people.notes


def test_the_same_table_packed_or_as_parquet_is_the_same(load, tmp_path):
    plain = load()
    for pack in (gzip.compress, bz2.compress):
        packed = load(pack((HEADER + ROWS).encode()))
        assert packed.schema == plain.schema
        assert packed.identities["who"].tolist() == plain.identities["who"].tolist()
    table = pa.csv.read_csv(pa.BufferReader((HEADER + ROWS).encode()))
    table = table.set_column(0, "who", pa.array([f"0{i}" for i in range(60)]))
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(table, sink)
    typed = load(sink.getvalue().to_pybytes())
    assert typed.schema == plain.schema
    for name, values in plain.columns.items():
        assert typed.columns[name].tolist() == values.tolist()


def test_parquet_with_types_of_its_own_is_read(load):
    days = [date(2020, 1, 1 + i % 20) for i in range(40)]
    table = pa.table(
        {
            "day": pa.array(days),
            "at": pa.array([datetime(2020, 1, 1, i % 24, tzinfo=UTC) for i in range(40)]),
            "flag": pa.array([i % 3 == 0 for i in range(40)]),
            "ward": pa.array(["a", "b"] * 20).dictionary_encode(),
            "n": pa.array([None if i == 3 else float(i) for i in range(40)]),
            "__index_level_0__": list(range(40)),
            "ill": pa.array([i % 2 for i in range(40)]),
        }
    )
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(table, sink)
    people = load(sink.getvalue().to_pybytes(), identify=())
    assert people.schema.names == ("day", "at", "flag", "ward", "n")
    assert people.imputed.keys() == {"n"}
    assert people.imputed["n"].nonzero()[0].tolist() == [3]
    nested = pa.BufferOutputStream()
    pa.parquet.write_table(table.append_column("list", pa.array([[1]] * 40)), nested)
    with pytest.raises(RequestError, match="column 'list' holds neither numbers, dates nor texts"):
        load(nested.getvalue().to_pybytes(), identify=())


@pytest.mark.parametrize(
    ("header", "keys"),
    [
        ("mrn,age,y", {}),
        ("patient_id,age,y", {}),
        ("patientId,age,y", {}),
        ("row,age,y", {}),
    ],
)
def test_a_column_that_differs_in_every_row_as_an_identifier_is_noted(load, header, keys):
    first = 0 if header.startswith("row") else 100_000
    people = load(
        header + "\n" + "".join(f"{first + i},{i % 50 / 2},{i % 2}\n" for i in range(40)),
        label="y",
        identify=(),
        **keys,
    )
    name = header.split(",")[0]
    assert [
        note
        for note in people.notes
        if note.startswith(f"{name}: is different in every row") and "data.identify" in note
    ]


def test_a_numbered_person_with_several_rows_is_noted_and_can_be_the_unit(load):
    content = "patient_id,a,y\n" + "".join(f"{i // 4},{i / 3:.2f},{i % 2}\n" for i in range(48))
    assert any('data.person = "patient_id"' in note for note in load(content, label="y", identify=()).notes)
    people = load(content, label="y", identify=(), person="patient_id")
    assert people.person.tolist() == [i // 4 for i in range(48)]
    assert people.schema.names == ("a",)
    assert "patient_id: 48 rows are about 12 people, up to 4 a person; people are counted" in people.notes
    part = load(content, label="y", identify=(), person="patient_id", records=20)
    assert len(part) == 20
    assert set(np.bincount(part.person).tolist()) == {4}
    with pytest.raises(RequestError, match=r"data.person: .* no column 'patientid' \(did you mean 'patient_id'"):
        load(content, label="y", identify=(), person="patientid")


def test_the_index_that_pandas_writes_can_be_named_as_pandas_shows_it(load):
    content = ",age,ill\n" + "".join(f"{i},{i / 4},{i % 2}\n" for i in range(40))
    for given in (content, content.replace(",age", "Unnamed: 0,age")):
        assert load(given, identify=()).schema.names == ("age",)
        assert load(given, identify=(), drop=("Unnamed: 0",)).schema.names == ("age",)
        assert load(given, identify=("Unnamed: 0",)).identities["Unnamed: 0"][:2].tolist() == ["0", "1"]


SECRET = "Zuckmayer", "8.8125", "31.12.1954"
SECRETS = "{},{},{},b\n".format(*SECRET)


@pytest.mark.parametrize(
    ("content", "keys"),
    [
        (SECRETS * 9, {}),
        ("Zuckmayer,b,yes\n" * 9, {}),
        ("Zuckmayer,3,b\n" + "Huber,4,a\n" * 9, {"label": "Zuckmayr"}),
        ("name,x,born,ill\n" + SECRETS * 9, {"label": "x", "task": "regression"}),
        ("name,x,born,ill\n" + SECRETS * 9, {"continuous": ("name",)}),
        ("name,x,born,ill\n" + SECRETS * 9, {"task": "regression"}),
        ("x,ill\n" + "".join(f"{i},{i % 2}\n" for i in range(60)) + "Zuckmayer,1\n", {}),
        ("x,ill\n" + "".join(f"{i},{i % 2}\n" for i in range(60)) + "1e200,1\n", {}),
        ("x,ill\n" + "".join(f"{i} kg,{i % 2}\n" for i in range(60)) + "8.8125 lb,1\n", {}),
        ("x,ill\n" + "".join(f"Zuckmayer{i},{i % 2}\n" for i in range(60)), {}),
        ("x,ill\n" + "".join(f"{i},Zuckmayer{i}\n" for i in range(60)), {}),
        ("x,ill\n" + "".join(f"{i},Zuckmayer\n" for i in range(60)), {}),
        ("x,ill\n" + "".join(f"31.12.54,{i % 2}\n" for i in range(60)), {}),
        ("x,ill\n1,0\nZuckmayer\n", {}),
        ('x,ill\n1,0\n"Zuckmayer,2\n', {}),
        ("Zuckmayer,Zuckmayer,ill\n" * 3, {}),
    ],
)
def test_no_cell_is_ever_quoted(load, content, keys):
    with pytest.raises(RequestError) as caught:
        load(content, **{"identify": ()} | keys)
    said = str(caught.value).replace("Zuckmayr", "")
    assert not [cell for cell in (*SECRET, "1e200", "lb") if cell in said]


def test_a_table_beyond_memory_is_refused_before_it_is_read(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    wide, long = tmp_path / "wide.csv", tmp_path / "long.parquet"
    wide.write_text(",".join(f"c{i}" for i in range(100_000)) + "\n" * 600)
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 600, pa.int32()), pa.array(["x"]))
    parquet.write_table(pa.table({f"c{i}": column for i in range(2)}), long)
    with pytest.raises(RequestError, match="600 rows of 100000 columns are more than 50000000 cells"):
        table_files.read(wide, ",")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_files, "MOST_CELLS", 1000)
        with pytest.raises(RequestError, match="600 rows of 2 columns are more than 1000 cells"):
            table_files.read(long, ",")
