import re

import numpy as np
import pytest
from matplotlib.figure import Figure

from fedinv.report.plots import canvas, roc
from fedinv.results.run import Curve

DRAWN = canvas.drawn  # before the pages of other tests get blank plots


def fill(figure):
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], "o-", color=canvas.BLUE)
    axes.set_xlabel("a <b>name</b> & $x$ --> \u60a3")


@pytest.fixture(scope="module")
def made():
    return DRAWN(canvas.Plot(1.0, fill, 2.0), "png", "svg", "pdf")


def test_each_format_is_what_it_says(made):
    assert made["png"].startswith(b"\x89PNG")
    assert made["pdf"].startswith(b"%PDF")
    assert b"<svg" in made["svg"][:1000]


def test_every_color_of_the_svg_follows_the_color_scheme(made):
    text = made["svg"].decode()
    style, body = re.search(r"<style>(:root.*?)</style>(.*)", text, re.S).groups()
    light, dark = style.split("@media (prefers-color-scheme: dark)")
    used = set(re.findall(r"var\((--c\d+)\)", body))
    assert len(used) >= 4  # ink, edges, grid, and the curve
    assert all(f"{name}:#" in light and f"{name}:#" in dark for name in used)
    assert re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", body) == []
    assert all(light.split(f"{name}:")[1][:7] != dark.split(f"{name}:")[1][:7] for name in used)


def test_the_svg_holds_no_text_of_the_data_and_asks_for_nothing(made):
    text = made["svg"].decode()
    assert "name" not in text
    assert "<script" not in text
    assert set(re.findall(r'href="([^"#]*)', text)) <= {""}


def test_the_same_numbers_give_the_same_bytes(made):
    again = DRAWN(canvas.Plot(1.0, fill, 2.0), "png", "svg", "pdf")
    assert again == made


def test_text_is_legible_on_each_color_of_a_heat_map():
    def luminance(color):
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
        return float(np.dot([0.2126, 0.7152, 0.0722], linear))

    for ink, paper in ((canvas.INK, canvas.PAPER), (canvas.DARK[canvas.INK], canvas.DARK[canvas.PAPER])):
        dark = ink != canvas.INK
        for color in (canvas.HEAT, canvas.COLD, canvas.PAPER):
            behind = canvas.DARK[color] if dark else color
            low, high = sorted([luminance(ink), luminance(behind)])
            assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, behind)
        assert paper


def test_what_is_drawn_is_small_enough_to_put_into_a_page(made):
    assert len(made["svg"]) < 60_000
    assert canvas.uri(made["svg"]).startswith("data:image/svg+xml;base64,")


def test_powers_of_ten_are_written_as_numbers():
    # formulas are not typeset: matplotlib's own labels would show their code
    curve = Curve(false_positives=[0.01, 0.1, 1.0], true_positives=[0.05, 0.5, 1.0], positives=20, negatives=100)
    figure = Figure()
    axes = figure.subplots()
    roc.fill(axes, [("one", curve)], [canvas.BLUE], canvas.GRAY)
    figure.draw_without_rendering()
    labels = [text.get_text() for axis in (axes.xaxis, axes.yaxis) for text in axis.get_ticklabels()]
    assert "0.01" in labels and "1" in labels
    assert not any("$" in label for label in labels)
