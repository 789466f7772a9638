"""The pages that commands write: the verdict's and the probe's share one where they go to one folder."""

import torch
from torch import nn
from typer.testing import CliRunner

import fedinv
from fedinv.cli import app

from .conftest import step, write


def test_verdict_and_probe_in_one_folder_make_one_page(recorded, tmp_path):
    out = tmp_path / "out"
    recorded.probe(out=out)
    page = (out / "report.html").read_text()
    assert "16 of 16 records stand out" in page
    assert "What was read off the updates" not in page
    fedinv.attack_recording(recorded.folder, recorded.network, seconds=0.2, out=out)
    page = (out / "report.html").read_text()
    assert "What was read off the updates" in page
    assert "16 of 16 records stand out" in page
    assert "Leak map" in page
    (out / "probe.json").write_text("{")
    fedinv.attack_recording(recorded.folder, recorded.network, seconds=0.2, out=out)
    assert "stand out" not in (out / "report.html").read_text()


def test_images_that_were_read_are_drawn(tmp_path):
    torch.manual_seed(0)
    network, x = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3)), torch.rand(2, 1, 8, 8)
    sent = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    folder = write(tmp_path, "rec", sent, [step(network, x, torch.tensor([0, 2]))])
    found = fedinv.attack_recording(folder, network, example=torch.rand(4, 1, 8, 8), truth=x, out=tmp_path / "out")
    assert found.judged[0].images.psnr.value > 60
    assert (tmp_path / "out" / "report.html").read_text().count("data:image/png") == 2


def test_the_map_s_page_goes_where_it_is_asked_for(recorded, tmp_path):
    command = ["map", str(recorded.folder), "--network", "someones.task:Net", "--app", str(recorded.project)]
    done = CliRunner().invoke(app, [*command, "--html", str(tmp_path / "map.html")])
    assert done.exit_code == 0, done.output
    assert "Leak map" in (tmp_path / "map.html").read_text()
