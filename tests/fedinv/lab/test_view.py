from dataclasses import replace

from fedinv.lab import view
from fedinv.lab.forming import Forming, Frame
from fedinv.report.reading import Cell

HOSTILE = '<img src=x onerror="alert(1)">'


def hostile_cells(cells):
    return tuple(replace(cell, name=HOSTILE, claimed=HOSTILE) for cell in cells)


def test_whatever_comes_from_data_is_escaped(small_look):
    cards = tuple(replace(card, who=HOSTILE, cells=hostile_cells(card.cells)) for card in small_look.cards)
    found = replace(small_look, cards=cards, headline=HOSTILE, notes=(HOSTILE,))
    frame = Frame(0.5, 0.5, hostile_cells(small_look.cards[0].cells), "")
    formed = Forming("search", HOSTILE, "", 1, (frame,), HOSTILE)
    pages = [view.looks_html([found]), view.frame_html(formed, 0), view.refused_html(HOSTILE), view.toml_html(HOSTILE)]
    for page in [*pages, view.progress_html([(HOSTILE, 0.5)])]:
        assert "<img src=x" not in page and "&lt;img src=x" in page


def test_two_settings_stand_beside_one_another_and_a_failure_is_a_line(small_look):
    page = view.looks_html([small_look, "data: cannot be used"])
    assert "First setting" in page and "data: cannot be used" in page and "Second setting" not in page
    assert "This setting" in view.looks_html([small_look])


def test_a_setting_without_a_guarantee_says_why_and_draws_no_curve(small_look):
    page = view.look_html(small_look, "x")
    assert "No epsilon:" in page and "<svg" not in page


def test_the_curve_rises_from_the_left_to_the_right_and_says_its_values():
    drawn = view.curve([(1, 2.0), (2, 3.0), (4, 4.0)])
    across, down = zip(*drawn["points"], strict=True)
    assert list(across) == sorted(across) and list(down) == sorted(down, reverse=True)
    assert drawn["says"] == "after round 1: 2.00, after round 2: 3.00, after round 4: 4.00"
    assert view.curve([]) is None


def test_a_right_field_is_marked_by_more_than_its_color():
    cells = (Cell("age", False, "50", "50", True), Cell("sex", True, "f", "m", False))
    page = view.frame_html(Forming("a", "Ada", "", 1, (Frame(0.1, 0.5, cells, ""),), ""), 0)
    assert "✓ 50" in page and "✗ m" in page
