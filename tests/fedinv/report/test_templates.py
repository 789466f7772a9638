import re

import pytest

from fedinv.report.html import TEMPLATES

TABLE = re.compile(r'<table class="results([^"]*)">(.*?)</table>', re.S)


@pytest.mark.parametrize("name", ["assessment", "comparison", "duel", "replication", "run"])
def test_each_cell_of_a_wide_table_says_on_a_phone_and_on_paper_what_it_is_of(name):
    tables = TABLE.findall((TEMPLATES / f"{name}.html.j2").read_text(encoding="utf-8"))
    assert tables
    for kind, content in tables:
        cells = re.findall(r"<td\b[^>]*>", content)
        assert kind == " stacks" and cells
        assert [cell for cell in cells if "data-of=" not in cell] == []


def test_so_does_each_cell_of_an_app_of_ones_own():
    text = (TEMPLATES / "own_app.html.j2").read_text(encoding="utf-8")
    cells = re.findall(r"<td\b[^>]*>", text)
    assert text.count("<table ") == text.count('<table class="results stacks">') == 1 and cells
    assert [cell for cell in cells if "data-of=" not in cell] == []
