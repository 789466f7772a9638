import numpy as np
import pytest

from fedinv.data.cells.notation import Notation, UnclearError
from fedinv.data.cells.numbers import decimal_marks, read


def column(*texts):
    return np.array(texts, dtype=object)


@pytest.mark.parametrize(
    ("texts", "values", "unit"),
    [
        (("1", "2.5", "-3e2"), (1, 2.5, -300), ""),
        (("76,3", "59,8", "100"), (76.3, 59.8, 100), ""),
        (("1.234,5", "12", "0,5"), (1234.5, 12, 0.5), ""),
        (("1,234.5", "12", "0.5"), (1234.5, 12, 0.5), ""),
        (("1,234,567", "1,000", "12"), (1234567, 1000, 12), ""),
        (("1.234.567", "1.000", "12"), (1234567, 1000, 12), ""),
        (("1'234", "12", "1'000'000.5"), (1234, 12, 1000000.5), ""),
        (("1 234", "12", "1\u00a0000\u202f000,5"), (1234, 12, 1000000.5), ""),
        (("0,123", "1,234"), (0.123, 1.234), ""),
        (("5 %", "7.5%"), (5, 7.5), "%"),
        (("72 kg", "65.5kg", "80 kg"), (72, 65.5, 80), "kg"),
        (("72 kg", "65.5 kg", "80"), (72, 65.5, 80), "kg"),
        (("12 mg/dl", "13 mg/dl"), (12, 13), "mg/dl"),
        (("€ 12", "€ 1,50"), (12, 1.5), "€"),
        (("12 €", "1,50 €"), (12, 1.5), "€"),
        (("\u22125", "3", "4"), (-5, 3, 4), ""),
        (("37,5 °C", "38 °C"), (37.5, 38), "°C"),
        (("7", "8", "<5", "9"), (7, 8, 5, 9), ""),
        (("70", "80", "90+"), (70, 80, 90), ""),
        (("7", "8", "k.A.", "unknown"), (7, 8, np.nan, np.nan), ""),
        (("(1,200.50)", "3,400.00", "(7)"), (-1200.5, 3400, -7), ""),
        (("($ 3)", "$ 4"), (-3, 4), "$"),
        (("~7", "\u2248 8,5", "ca. 9", "approx 10", "c. 11"), (7, 8.5, 9, 10, 11), ""),
        (("5 \u00b1 0.1", "6.5+/-0.2 mg", "7 mg"), (5, 6.5, 7), "mg"),
        (("7:30", "07:31", "23:59"), (450, 451, 1439), "minutes"),
        (("0:00:15", "12:00:00"), (15, 43200), "seconds"),
        (("7:30 am", "7:30 p.m.", "12:00 AM"), (450, 1170, 0), "minutes"),
    ],
)
def test_numbers_are_read_as_people_write_them(texts, values, unit):
    found = read(column(*texts), Notation())
    assert found.values.tolist() == pytest.approx(values, nan_ok=True)
    assert found.unit == unit


@pytest.mark.parametrize(
    "texts",
    [("a", "b", "3"), ("18-25", "26-40", "<18"), ("1a", "2b", "3c"), ("1_000", "2_000"), ("c1", "c2"), ("ca1", "ca2")],
)
def test_texts_are_no_numbers(texts):
    assert read(column(*texts), Notation()) is None


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (("1,234", "5,678"), r'a comma before three digits.* data.decimal = "," or data.decimal = "\."'),
        (("72 kg", "160 lb"), "in 2 different units: write all in one, or list it in data.categorical"),
        (("5%", "0.05"), "with a percent sign and others without"),
        (("1,5", "2.5"), "write all of them one way"),
        (("1", "2", "3", "Huber"), "in 1 of 4 cells something else: list what stands for no value in data.missing"),
        (("01/02/2020", "03/04/2020"), 'data.dates = "day-month-year" or data.dates = "month-day-year"'),
        (("13/02/2020", "03/14/2020"), "both orders"),
        (("01.02.20", "03.04.21"), "two digits: write all four"),
        (("12-JAN-20", "13-FEB-21"), "two digits: write all four"),
        (("12 Jan 2020", "30 Feb 2020"), "in 1 of 2 cells something else"),
        (("1/13/2020 7:15 PM", "1/13/2020 13:15 PM"), "in 1 of 2 cells something else"),
        (("2020-01-01", "2020-13-45"), "in 1 of 2 cells something else"),
        (("07:30", "07:30:15"), "times with seconds and others without"),
        (("7:30 am", "13:30 pm"), "holds times, and in 1 of 2 cells something else"),
    ],
)
def test_what_two_readings_fit_is_refused_with_the_key_that_settles_it_and_without_the_cell(texts, message):
    with pytest.raises(UnclearError, match=message) as caught:
        read(column(*texts), Notation())
    assert not [text for text in texts if len(text) > 2 and text in str(caught.value)]


def test_a_key_settles_it():
    texts = column("1,234", "5,678")
    assert read(texts, Notation(decimal=",")).values.tolist() == [1.234, 5.678]
    assert read(texts, Notation(decimal=".")).values.tolist() == [1234, 5678]
    assert read(texts, Notation(thousands=",")).values.tolist() == [1234, 5678]
    dates = column("01/02/1970", "03/04/1970")
    assert read(dates, Notation(dates="day-month-year")).values.tolist() == [31, 92]
    assert read(dates, Notation(dates="month-day-year")).values.tolist() == [1, 62]
    bound = read(column("7", "8", "<5"), Notation(bounds_missing=True))
    assert bound.values.tolist() == pytest.approx([7, 8, np.nan], nan_ok=True)
    with pytest.raises(UnclearError, match="decimal points, and data.decimal"):
        read(column("1.5", "2.5"), Notation(decimal=","))


def test_the_other_columns_settle_it():
    assert decimal_marks([column("76,3", "59,8"), column("a", "b")]) == {","}
    assert decimal_marks([column("76.3", "59.8"), column("a, b", "c")]) == {"."}
    assert read(column("1,234", "5,678"), Notation(), frozenset({","})).values.tolist() == [1.234, 5.678]
    assert read(column("1,234", "5,678"), Notation(), frozenset({"."})).values.tolist() == [1234, 5678]
    assert read(column("1.234", "5.678"), Notation()).values.tolist() == [1.234, 5.678]
    german = read(column("1.234", "5.678"), Notation(), frozenset({","}))
    assert german.values.tolist() == [1234, 5678]
    assert german.said


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (("1970-01-01", "1970-01-02 12:00:00", "1970-01-03T06:00Z"), (0, 1.5, 2.25)),
        (("01.02.1970", "31.12.1969"), (31, -1)),
        (("1/31/1970", "2/1/1970"), (30, 31)),
        (("1970/01/05", "1970/02/01"), (4, 31)),
        (("1970-02", "1970-03"), (31, 59)),
        (("1970-01-02", "unknown", "1970-01-03"), (1, np.nan, 2)),
        (("1/31/1970 12:00 AM", "2/1/1970 6:00 pm", "2/1/1970 12:00 p.m."), (30, 31.75, 31.5)),
        (("02 Jan 1970", "1-FEB-1970", "03JAN1970", "March 1, 1970", "Sept 1st, 1970 06:00"), (1, 31, 2, 59, 243.25)),
    ],
)
def test_dates_become_days(texts, values):
    found = read(column(*texts), Notation())
    assert found.values.tolist() == pytest.approx(values, nan_ok=True)
    assert found.unit == "days since 1970-01-01"
    assert "dates" in found.said[0]


def test_a_date_with_a_named_month_needs_no_order():
    assert read(column("02 Jan 1970", "Feb 3 1970"), Notation()).said[0].startswith("dates, read by the names of their")
    assert read(column("May be 1970", "Janus 3 1970", "12 Marchy 1970"), Notation()) is None
