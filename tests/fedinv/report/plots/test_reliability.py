import numpy as np
import pytest
from PIL import Image

from fedinv.judge.calibration import calibration
from fedinv.report.plots import run_plots
from fedinv.report.plots.canvas import drawn as DRAW
from fedinv.report.plots.reliability import sentence


def measured(stated, right, count=50):
    """Calibration of claims of one confidence, a share of which is right."""
    return calibration(np.full(count, stated), np.arange(count) < right * count)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (
            measured(0.9, 0.2),
            "90.0 % sure of its 50 claims on average, 20.0 % right in full: it is too sure of itself.",
        ),
        (measured(0.2, 0.9), "20.0 % sure of its 50 claims on average, 90.0 % right in full: it is right more often"),
        (measured(1.0, 1.0), "100.0 % right in full: honest, as far as this many claims can tell."),
        (measured(0.3, 1.0, 1), "30.0 % sure of its one claim on average, 100.0 % right in full: honest, as far as so"),
    ],
)
def test_the_sentence_says_whether_confidence_is_honest(found, words):
    assert words in sentence(found)


def test_errors_that_cancel_on_average_are_said():
    stated, right = np.repeat([0.05, 0.95], 40), np.tile([True, False], 40)
    assert "honest on average, 45.0 % off in the single steps" in sentence(calibration(stated, right))


def test_every_attack_has_a_diagram_of_its_own(tmp_path):
    heights = []
    for attacks in (1, 2, 3):
        path = tmp_path / f"{attacks}.png"
        plot = run_plots.confidence([(f"attack {i} (static)", measured(0.7, 0.5)) for i in range(attacks)])
        path.write_bytes(DRAW(plot, "png")["png"])
        with Image.open(path) as drawn:
            pixels = np.asarray(drawn.convert("RGB")).astype(int)
            heights.append(drawn.height)
        blue = (pixels == (0x00, 0x72, 0xB2)).all(2)
        assert blue[:, : blue.shape[1] // 2].any()
        # the legend's blue dot lies in the left half, so the right half is blue only if a diagram is there
        assert blue[:, blue.shape[1] // 2 :].any() == (attacks > 1)
    assert heights[0] == heights[1] < heights[2]
