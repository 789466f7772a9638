"""The page of an app's updates: one file, escaped, that says what was read, what was not attackable, and a probe."""

import numpy as np
import pytest

from fedinv.report.app_page import Found, page
from fedinv.report.plots.pictures import shown
from fedinv.results.app_verdict import AppVerdict, UpdateVerdict
from fedinv.results.judged import Judged
from fedinv.results.leak_map import LayerLeak, LeakMap
from fedinv.results.probing import AtRate, LayerProbe, ProbeVerdict, UpdateProbe
from fedinv.results.run import Rate

from .test_report import HOSTILE, WIDTH, Parsed, look


def counted(rate, found, words=""):
    if words:
        return AtRate(rate=rate, found=None, share=None, ci95=None, false=None, false_ci95=None, words=words)
    return AtRate(rate=rate, found=found, share=found / 8, ci95=(0.6, 1), false=2, false_ci95=(0, 0.03), words="")


@pytest.fixture
def found():
    layer = f"fc1 {HOSTILE}"
    update = UpdateVerdict(
        round=1,
        client=7,
        claimed=None,
        least=8,
        layer=layer,
        inputs="features",
        attack="exact",
        verified=0,
        labels={f"1 {HOSTILE}": 3},
        mismatch=None,
        seconds=0.5,
        notes=[f"a note {HOSTILE}"],
    )
    rate = Rate(value=0.5, count=8, ci95=(0.15, 0.84), prior=0.125)
    judged = Judged(
        update=0,
        round=1,
        client=7,
        records=8,
        inputs="features",
        attack="exact",
        claimed=5,
        right=4,
        verified=3,
        verified_right=2,
        labels_right=None,
        fields=rate,
        recovered=rate,
        exact=rate,
        notes=[f"the truth {HOSTILE}"],
    )
    verdict = AppVerdict(
        network=f"Net {HOSTILE}",
        updates=[update],
        skipped=[f"round 2 {HOSTILE}"],
        not_attacked=[f"conv {HOSTILE}"],
        headline=f"Nothing was read {HOSTILE}.",
        judged=[judged],
    )
    leak = LayerLeak(
        name=layer,
        kind=f"Linear {HOSTILE}",
        shape=(120, 400),
        fed="features",
        gate="relu",
        places=1,
        units_per_record=15.0,
        rank=8,
        most=96,
        separable=8,
        applies={},
        why_not={"exact": f"why {HOSTILE}"},
    )
    mapped = LeakMap(
        network="Net", round=1, client=7, claimed=1, records=8, layers=[leak] * 12, notes=[f"mapped {HOSTILE}"]
    )
    probed = ProbeVerdict(
        network="Net",
        records=8,
        others=200,
        members=False,
        updates=[
            UpdateProbe(
                update=0,
                round=1,
                client=7,
                layers=[LayerProbe(name=layer, rank=8, inputs=401, places=1, used=True, at=[])],
                at=[counted(0.01, 8), counted(0.001, 0, "needs 1000 other records or more, and there are 200")],
                notes=[f"weak {HOSTILE}"],
            )
        ],
        notes=[],
        headline=f"8 of 8 records stand out {HOSTILE}.",
    )
    picture = shown(np.linspace(0, 1, 64), (1, 8, 8))
    return Found(verdict, mapped, probed, [picture])


def test_the_page_reaches_for_nothing_and_shows_hostile_names_harmlessly(found):
    made = page(found)
    parsed = Parsed(made)
    assert HOSTILE not in made
    for tag, attributes in parsed.elements:
        assert tag not in ("script", "iframe", "object", "embed", "base")
        assert attributes.get("src", "data:").startswith("data:")
    for words in ("Net", "fc1", "a note", "round 2", "conv", "the truth", "why", "weak", "mapped", "1", "Linear"):
        assert f"{words} {HOSTILE}" in parsed.text, words


def test_the_page_says_what_was_read_what_not_and_how_sure(found):
    text = Parsed(page(found)).text
    assert text.count("Nothing was read") == 1
    assert "no attack here applies to it, so nothing is known of it" in text
    assert "4 of 8 (95 % CI 15.0-84.0, guess 12.5 %)" in text
    assert "4 of 5" in text
    assert "2 of 3" in text
    assert "8 of 8 (60.0-100.0 %)" in text
    assert "2 of 200 (0.0-3.0 %)" in text
    assert "needs 1000 other records or more, and there are 200" in text
    assert "unknown, not safe: no attack here applies to it" in text
    assert "Records behind it: 8 or more, by the ranks; the client reports 1." in text


def test_each_part_stands_alone(found):
    alone = Parsed(page(Found(mapped=found.mapped))).text
    assert "Leak map" in alone
    assert "Against the truth" not in alone
    assert "Are these records in there?" in Parsed(page(Found(probed=found.probed))).text
    assert "What was not attackable" in Parsed(page(Found(verdict=found.verdict))).text


def test_a_browser_shows_it_on_a_phone_without_scrolling_sideways(start, chromium, found, tmp_path):
    (width, content, images, drawn, sentence), console = look(start, chromium, page(found), tmp_path)
    assert console == []
    assert width == WIDTH
    assert content <= WIDTH
    assert images == drawn == 2
    assert sentence > 0
