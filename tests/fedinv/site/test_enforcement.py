"""An app that leaks is stopped outside of its own process, with no line of it changed, and the run goes on."""

import json
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from fedinv.engines.deployment import processes, rehearsal

APP = Path(__file__).parents[2] / "apps/images"
POLICY = f"""
[metrics]
num-examples = "int"
train_loss = "float"
eval_loss = "float"
eval_acc = "float"
[gate]
network = "images.task:Net"
app = "{APP}"
seconds = 10
"""
NOISE = "[update]\nclip = 0.1\nnoise_multiplier = 1.0\ndelta = 1e-5\n"


@contextmanager
def superlink(at):
    try:
        yield rehearsal.up(at, 0, False, lambda line: None)
    finally:
        rehearsal.down(at)


def events(folder):
    return [json.loads(line) for line in (folder / "site-events.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_leaking_update_is_refused_a_noised_one_passes_and_the_run_ends(tmp_path, start, until):
    at = tmp_path / "up"
    command = [sys.executable, "-c", "from fedinv.site.supernode import command; command()"]
    with superlink(at) as up:
        nodes = []
        for number, (port, more) in enumerate(zip(processes.free_ports(2), ("", NOISE), strict=True)):
            folder = tmp_path / f"site-{number}"
            folder.mkdir()
            (folder / "site.toml").write_text(POLICY + more)
            options = ["--policy", folder / "site.toml", "--insecure", "--superlink", up.address, "--host", "127.0.0.1"]
            options += ["--port", str(port), "--node-config", f"partition-id={number} num-partitions=2"]
            nodes.append(start([*command, *options], cwd=folder, env=rehearsal.environment(at)))
        link = at / "logs/superlink.log"
        until(lambda: link.read_text().count("Activated node_id") == 2, "both SuperNodes are online", by=nodes[0])
        settings = "images=4 fraction-evaluate=0.0"
        begun = str(rehearsal.flower(at, "run", str(APP), rehearsal.NAME, "--run-config", settings)["run-id"])

        def status():
            (state,) = rehearsal.flower(at, "list", "--run-id", begun, rehearsal.NAME)["runs"]
            return str(state["status"])

        # asking costs a second each time, so the log is looked at first
        until(lambda: "Finished task" in link.read_text(), "the app of the server ends", by=nodes[0])
        said = []
        until(lambda: said.append(status()) or said[-1].startswith("finished"), "the run ends", by=nodes[0])
    assert said[-1] == "finished:completed"
    (refused,) = events(tmp_path / "site-0")
    assert (refused["kind"], refused["verdict"]) == ("train", "refused")
    assert refused["why"].startswith("more of its records can be read off the update than this site allows: ")
    (accepted,) = events(tmp_path / "site-1")
    assert (accepted["verdict"], accepted["share"], accepted["noise_multiplier"]) == ("accepted", 0.0, 1.0)
