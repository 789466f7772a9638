import os
import shutil
import sys
from pathlib import Path

import pytest

from fedinv.engines import inline
from fedinv.engines.deployment import processes
from fedinv.engines.ray import engine
from fedinv.runs import run
from fedinv.scenario.reading import read
from fedinv.storage import observations

ROOT = Path(__file__).parents[3]
MASKED = '[[defenses]]\nkind = "clip-noise"\nclip = 1.0\nnoise_multiplier = 0.1\n[[defenses]]\nkind = "masking"\n'


@pytest.fixture
def flower(tmp_path, start, until):
    """Flower's own command, and a SuperLink that simulates, in a home and on ports of their own.

    The SuperLink is started here, as the command itself gives up after seconds when it starts one. The command shows a
    run's log until the SuperLink says that the run is over, which it never does where its SuperExec, which starts the
    simulation, has died: so that is watched as well.
    """
    home, empty = tmp_path / "home", tmp_path / "empty"
    home.mkdir()
    empty.mkdir()  # Ray's workers would import `clients` from the SuperLink's folder
    environment = {
        **os.environ,
        **engine._SETTINGS,  # which give Ray and its workers time to start on a busy machine
        "FLWR_HOME": str(home),
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    port, other = processes.free_ports(2)
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "local"\n[superlink.local]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
    )

    def run(app, clients, config):
        command = ["flwr", "run", str(app), "local", "--stream"]
        one_worker = "client-resources-num-cpus=1 init-args-num-cpus=1"  # whatever the machine has
        command += ["--federation-config", f"num-supernodes={clients} {one_worker}", "--run-config", config]
        begun = start(command, cwd=empty, env=environment)
        until(lambda: begun.process.poll() is not None or not runs("flower-superexec"), "the run is over")
        assert runs("flower-superexec"), f"the SuperExec died: {link.errors.read_text()[-3000:]}"
        # a run that the SuperLink has given up may still be simulated
        until(lambda: not runs("flwr-simulation"), "the simulation is over")
        return begun.ended()

    command = ["flower-superlink", "--insecure", "--simulation", "--isolation", "subprocess"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--control-api-address", f"127.0.0.1:{other}"]
    link = start(command, cwd=empty, env=environment)

    def runs(what):
        return any(what in command for command in link.family().values())

    until(lambda: processes.listens(port) and runs("flower-superexec"), "the SuperLink listens", by=link)
    return run


@pytest.mark.slow
def test_flowers_own_command_gives_the_same_updates(tiny, tmp_path, flower):
    app = tmp_path / "fedinv"
    for name in ("fedinv", "clients", "server", "scenarios"):
        shutil.copytree(ROOT / name, app / name, ignore=shutil.ignore_patterns("__pycache__", "data.csv"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, app)
    scenario = tmp_path / "tiny.toml"
    scenario.write_text(tiny.replace("rounds = 3", "rounds = 2\nclients_per_round = 3") + MASKED)
    out = tmp_path / "out"
    shown = flower(app, 4, f'scenario="{scenario}" out="{out}"')
    for _ in range(3):
        if "timed out during startup" not in shown.stdout:
            break
        # Ray gives its own processes 30 seconds, which a busy machine may exceed
        shown = flower(app, 4, f'scenario="{scenario}" out="{out}"')
    assert shown.returncode == 0, shown.stdout[-3000:] + shown.stderr[-1000:]
    # the command ends with 0 where the run failed as well
    assert (out / "ledger.json").is_file(), f"no last file of the run; what it said: {shown.stdout[-3000:]}"
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
