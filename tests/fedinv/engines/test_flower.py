import os
import shutil
import sys
from pathlib import Path

import pytest

from fedinv.engines import inline
from fedinv.engines.deployment import rehearsal
from fedinv.runs import run
from fedinv.scenario.reading import read
from fedinv.storage import observations

ROOT = Path(__file__).parents[3]
MASKED = '[[defenses]]\nkind = "clip-noise"\nclip = 1.0\nnoise_multiplier = 0.1\n[[defenses]]\nkind = "masking"\n'


@pytest.fixture
def flower(tmp_path, start, until):
    """Flower's own command, and a SuperLink that simulates, in a home and on ports of their own.

    It is started here, as the command itself gives up after seconds when it starts one.
    """
    home, empty = tmp_path / "home", tmp_path / "empty"
    home.mkdir()
    empty.mkdir()  # Ray's workers would import `clients` from the SuperLink's folder
    environment = {
        **os.environ,
        "FLWR_HOME": str(home),
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    port, other = rehearsal.free_ports(2)
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "local"\n[superlink.local]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
    )

    def run(app, clients, config):
        command = ["flwr", "run", str(app), "local", "--stream"]
        command += ["--federation-config", f"num-supernodes={clients} client-resources-num-cpus={os.cpu_count()}"]
        command += ["--run-config", config]
        return start(command, cwd=empty, env=environment).ended()

    command = ["flower-superlink", "--insecure", "--simulation", "--isolation", "subprocess"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--control-api-address", f"127.0.0.1:{other}"]
    link = start(command, cwd=empty, env=environment)
    until(lambda: rehearsal.listens(port), "the SuperLink listens", by=link)
    return run


@pytest.mark.slow
def test_flowers_own_command_gives_the_same_updates(tiny, tmp_path, flower, until):
    app = tmp_path / "fedinv"
    for name in ("fedinv", "clients", "server", "scenarios"):
        shutil.copytree(ROOT / name, app / name, ignore=shutil.ignore_patterns("__pycache__", "data.csv"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, app)
    scenario = tmp_path / "tiny.toml"
    scenario.write_text(tiny.replace("rounds = 3", "rounds = 2\nclients_per_round = 3") + MASKED)
    out = tmp_path / "out"
    shown = flower(app, 4, f'scenario="{scenario}" out="{out}"')
    assert shown.returncode == 0, shown.stdout[-3000:] + shown.stderr[-1000:]
    until((out / "ledger.json").is_file, f"the run's last file; what it said: {shown.stdout[-3000:]}")
    inline.train(read(str(scenario)), tmp_path / "inline")
    ours = observations.read(tmp_path / "inline" / "observations")
    theirs = observations.read(out / "observations")
    assert [(o.clients, o.last.round) for o in ours] == [(o.clients, o.last.round) for o in theirs]
    assert len(ours) == 6
    for one, other in zip(ours, theirs, strict=True):
        for name, tensor in one.last.received.items():
            assert float((tensor - other.last.received[name]).abs().max()) <= 1e-6
    results = run.run(read(str(out)), run.open_folder(read(str(out)), out))
    assert (results.engine, results.scenario) == ("flower", "tiny")
    assert (out / "ledger.json").read_text() == (tmp_path / "inline" / "ledger.json").read_text()
