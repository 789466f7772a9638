from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedinv.blame import PluginError
from fedinv.data.dataset import Dataset
from fedinv.data.population import population
from fedinv.data.table import Table
from fedinv.data.table_checks import loaded, wrong
from fedinv.errors import RequestError
from fedinv.task.columns import fit_categorical, fit_continuous
from fedinv.task.schema import Schema

HERE = Path(__file__).name
AGE, SEX = np.array([30.0, 41.0, 52.0]), np.array(["f", "m", "f"])
RIGHT = Table(
    schema=Schema(
        columns=(fit_continuous("age", AGE), fit_categorical("sex", SEX)), label="ill", classes=("no", "yes")
    ),
    columns={"age": AGE, "sex": SEX},
    labels=np.array([0, 1, 1]),
    identities={"name": np.array(["Ada", "Bo", "Cy"])},
)
NUMBER = replace(RIGHT, schema=RIGHT.schema.model_copy(update={"classes": (), "target": fit_continuous("ill", AGE)}))


class Source(Dataset):
    source: str = "made-up"
    how: str = "right"

    def load(self, seed):
        if self.how == "fails":
            return RIGHT.columns["weight"]
        if self.how == "refuses":
            raise RequestError("data.path: there is no such file")
        return replace(RIGHT, labels=np.array([0, 1, 2])) if self.how == "wrong" else RIGHT


def test_a_table_that_fits_passes():
    assert wrong(RIGHT) is None
    assert wrong(replace(NUMBER, labels=AGE)) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": [0, 1, 1]}, "labels must be an array"),
        ({"labels": np.array([0])}, "two records or more"),
        ({"labels": np.array([0.0, 1.0, 1.0])}, "labels must be integers, .*, not float64"),
        ({"labels": np.array([0, 1, 2])}, "labels must be from 0 to 1"),
        ({"columns": {"age": AGE}}, "lists the column 'sex', and the table does not have it"),
        ({"columns": {"age": AGE[:2], "sex": SEX}}, r"'age' must be an array of shape \(3,\), .*, not \(2,\)"),
        ({"columns": {"age": AGE.tolist(), "sex": SEX}}, "'age' must be an array of .*, not a list"),
        ({"columns": {"age": AGE * np.nan, "sex": SEX}}, "'age' must hold finite numbers"),
        ({"columns": {"age": SEX, "sex": SEX}}, "'age' must hold finite numbers"),
        ({"columns": {"age": AGE + 50, "sex": SEX}}, "'age' holds 3 numbers outside its schema's range from 30 to 52"),
        ({"columns": {"age": AGE, "sex": np.array(["f", "m", "secret"])}}, "'sex' holds 1 values that its schema"),
        ({"identities": {"name": np.array(["Ada"])}}, "'name' has 1 entries"),
    ],
)
def test_each_misfit_of_a_table_is_said_without_a_cell(change, said):
    with pytest.raises(AssertionError, match=said) as caught:
        raise AssertionError(wrong(replace(RIGHT, **change)))
    assert "secret" not in str(caught.value)


def test_a_label_that_is_a_number_must_be_finite():
    assert "labels must be finite numbers" in wrong(replace(NUMBER, labels=np.array([1.0, np.inf, 2.0])))


def test_what_a_source_gets_wrong_names_its_file_and_line():
    line = next(i for i, text in enumerate(Path(__file__).read_text().splitlines(), 1) if 'columns["weight' in text)
    with pytest.raises(PluginError, match=rf"^data source 'made-up' failed at .*{HERE}:{line}: KeyError: 'weight'$"):
        loaded(Source(how="fails"), 1)
    with pytest.raises(PluginError, match=rf"^data source 'made-up' \(.*{HERE}\): labels must be from 0 to 1"):
        population(Source(how="wrong"), 1, 2, None)
    with pytest.raises(PluginError, match="load returns a Table, not None"):
        raise PluginError(wrong(None))


def test_what_a_source_refuses_on_purpose_stays_the_requests_fault():
    with pytest.raises(RequestError, match=r"^data\.path: there is no such file$"):
        loaded(Source(how="refuses"), 1)
    assert loaded(Source(), 1) is RIGHT
