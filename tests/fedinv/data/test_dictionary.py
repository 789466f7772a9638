import numpy as np
import pytest

from fedinv.data.dictionary import read
from fedinv.data.population import population
from fedinv.data.sources.csv import Csv
from fedinv.data.table_checks import loaded
from fedinv.errors import RequestError

ROWS = "age,salary,ward,ill\n" + "".join(
    f"{20 + i},{3000 + 10 * i},{'ab'[i % 2]},{['no', 'yes'][i % 3 == 0]}\n" for i in range(30)
)
DECLARED = """
[columns.age]
low = 0
high = 100
integer = true
[columns.salary]
low = 0
high = 10_000
mean = 2500
std = 1000
[columns.ward]
values = ["a", "b", "rest"]
other = "rest"
[label]
values = ["yes", "no"]
"""


@pytest.fixture
def table(tmp_path):
    def load(rows=ROWS, declared=DECLARED):
        (tmp_path / "people.csv").write_text(rows)
        path = tmp_path / "dictionary.toml"
        path.write_text(declared)
        return loaded(Csv(source="csv", path=tmp_path / "people.csv", label="ill", dictionary=path), 7)

    return load


def test_what_the_server_receives_depends_on_no_record(table):
    plain, changed = table(), table(ROWS + "99,987654,zebra,no\n")
    assert plain.schema == changed.schema
    age, salary, ward = plain.schema.columns
    assert (age.low, age.high, age.mean, age.std) == (0, 100, 50, pytest.approx(100 / 12**0.5))
    assert (salary.mean, salary.std) == (2500, 1000)
    assert (ward.values, ward.frequencies) == (("a", "b", "rest"), (1 / 3, 1 / 3, 1 / 3))


def test_records_outside_are_clipped_or_mapped_and_counted_without_a_cell(table):
    found = table(ROWS + "99,987654,zebra,no\n")
    assert found.columns["salary"][-1] == 10_000
    assert found.columns["ward"][-1] == "rest"
    notes = " ".join(found.notes)
    assert "1 of 31 numbers lay outside" in notes
    assert "1 of 31 values are not in the dictionary and became 'rest'" in notes
    assert "987654" not in notes
    assert "zebra" not in notes
    found.schema.encode(found.columns)


def test_what_is_missing_is_filled_from_the_dictionary_and_not_from_other_records(table):
    found = table(ROWS + "99,,a,no\n")
    assert found.columns["salary"][-1] == 2500


def test_labels_follow_the_declared_order_of_classes(table):
    found = table()
    assert found.schema.classes == ("yes", "no")
    assert np.asarray(found.schema.classes)[found.labels].tolist() == [r.split(",")[3] for r in ROWS.split()[1:]]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('other = "rest"', "", "1 of 31 rows hold a category of 'ward' that is not among its values"),
        ("[columns.age]", "[columns.agee]", "lacks the column 'age'.*did you mean 'agee'"),
        ("low = 0\nhigh = 100\n", 'values = ["1", "2"]\n', "declares 'age' with values.*data.categorical"),
        ("high = 100\n", "high = -1\n", "columns.age: give low and high"),
        ("integer", "interger", "columns.age.interger is unknown.*did you mean 'integer'"),
        ("[label]", "[columns.x]\nlow = 0\nhigh = 1\n[label]", "declares the column 'x'"),
        ('values = ["yes", "no"]', "low = 0\nhigh = 1", "data.label is a class"),
        ("[columns.age]", "[columns.age", "is no TOML"),
    ],
)
def test_a_dictionary_that_does_not_fit_is_refused_in_one_line_that_holds_no_cell(table, old, new, said):
    assert old in DECLARED
    with pytest.raises(RequestError, match=said) as caught:
        table(ROWS + "99,987654,zebra,no\n", DECLARED.replace(old, new))
    message = str(caught.value)
    assert "\n" not in message
    assert "zebra" not in message
    assert "987654" not in message


def test_a_dictionary_that_is_not_there_is_named(tmp_path):
    with pytest.raises(RequestError, match=r"nowhere.toml: cannot be read"):
        read(tmp_path / "nowhere.toml")


def test_a_federation_is_trained_on_the_declared_scale(table, tmp_path):
    table()
    data = Csv(source="csv", path=tmp_path / "people.csv", label="ill", dictionary=tmp_path / "dictionary.toml")
    people = population(data, 7, 3, None)
    assert people.inputs[:, 1].abs().max() < 2  # salaries of about 3,000 in units of 1,000 around 2,500
