"""Images from the scenario to the page: a whole run of a convolutional network."""

import base64
import io
import re

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from matplotlib.image import imread
from typer.testing import CliRunner

from fedinv.cli import app
from fedinv.report.plots.pictures import png
from fedinv.storage import files
from fedinv.task.columns import Image
from fedinv.task.schema import Schema

SCENARIO = """
name = "pictures"
secret = "00112233445566778899aabbccddeeff"
data = { source = "digits", records = 60 }
model = { kind = "convnet", channels = [6, 8], norm = "batch" }
federation = { clients = 2, rounds = 2 }
training = { algorithm = "fedsgd", batch_size = 1 }
attacker = { watch = { rounds = [2], clients = 2 } }
[[attacks]]
kind = "gradient-matching"
iterations = 120
[[attacks]]
kind = "exact"
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    (folder / "pictures.toml").write_text(SCENARIO)
    done = CliRunner().invoke(app, ["run", str(folder / "pictures.toml"), "--out", str(folder / "run")])
    assert done.exit_code == 0, done.output
    return folder / "run"


@pytest.mark.slow
def test_results_say_how_like_the_images_are(run):
    matched, exact = files.read_json(run / "results.json")["attacks"]
    assert matched["claimed"] == 2
    assert matched["field_accuracy"]["count"] == 2 * 64
    for measure in (matched["images"]["psnr"], matched["images"]["ssim"]):
        assert measure["value"] > measure["prior"] + 0.1
        assert measure["ci95"][0] <= measure["value"] <= measure["ci95"][1]
    assert exact["claimed"] == 0
    assert "begins with a convolution" in exact["notes"][0]
    assert exact["images"]["psnr"]["value"] == pytest.approx(exact["images"]["psnr"]["prior"], abs=3)


def test_statistics_of_batch_normalization_crossed_the_wire_and_were_averaged(run):
    first, _ = files.read_tensors(run / "observations" / "round-002-sent.safetensors")
    last, _ = files.read_tensors(next((run / "checkpoint").glob("model-*.safetensors")))
    updates = [files.read_tensors(path)[0] for path in sorted((run / "observations").glob("round-002-client-*"))]
    assert len(updates) == 2
    for name in ("2.running_mean", "2.running_var"):
        assert torch.allclose(last[name], first[name] + (updates[0][name] + updates[1][name]) / 2, atol=1e-6)
        assert bool(updates[0][name].any())
    assert not any("num_batches" in name for name in first)


def test_a_row_is_a_record_whatever_its_pixels(run):
    table = pq.read_table(run / "records.parquet")
    assert table.num_rows == 4
    assert len(table.column_names) < 20
    row = table.to_pylist()[0]
    schema = Schema.model_validate(files.read_json(run / "schema.json"))
    true, claimed = (np.array(row[f"{which}:image"]) for which in ("true", "claimed"))
    assert true.shape == claimed.shape == (schema.width,)
    assert row["psnr"] == pytest.approx(-10 * np.log10(np.square(true - claimed).mean()), abs=0.01)
    assert table.to_pylist()[2]["psnr"] is None


def test_the_page_shows_true_and_reconstructed_images(run):
    page = (run / "report.html").read_text()
    assert "<h3>record" not in page
    assert page.count('alt="True image of record') == 2
    assert len(re.findall(r'alt="Image that the server reconstructed of record \d+, PSNR [\d.]+ decibels"', page)) == 2
    drawn = re.search(r'base64,([^"]+)" alt="True image of record (\d+)"', page)
    pixels = imread(io.BytesIO(base64.b64decode(drawn[1])))
    rows = {row["person"]: row for row in pq.read_table(run / "records.parquet").to_pylist()}
    true = np.array(rows[int(drawn[2])]["true:image"]).reshape(8, 8)
    assert pixels.shape == (160, 160, 4)
    assert np.allclose(pixels[10::20, 10::20, 0], true, atol=0.01)
    assert "PSNR of" in page


def test_color_images_keep_their_channels():
    image = Image(name="photo", channels=3, down=2, across=2, mean=0, std=1, low=0, high=255)
    drawn = imread(io.BytesIO(png(np.arange(12) * 20.0, image)))
    assert drawn.shape == (160, 160, 4)
    assert np.allclose(drawn[40, 40, :3] * 255, [0, 80, 160], atol=1)
    assert np.allclose(drawn[120, 40, :3] * 255, [40, 120, 200], atol=1)
