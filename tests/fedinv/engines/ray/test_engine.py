import os
import shutil
import signal
import sys
from datetime import UTC, datetime

import pytest
from flwr.app import ArrayRecord, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from ray.exceptions import ActorDiedError, GetTimeoutError

from fedinv.errors import RequestError
from fedinv.runs import run
from fedinv.scenario.reading import loads
from fedinv.storage import files, observations
from fedinv.storage.run_folder import RunFolder

CAT = '''
import os, signal, time
from pathlib import Path
from typing import Literal

from fedinv.defense import Defense


class Cat(Defense):
    """Fails in round 2: client 2 raises, client 1's process dies once; where `asleep` is named, nobody comes back."""

    kind: Literal["cat"] = "cat"
    home: int
    killed: Path
    asleep: Path | None = None

    def protect(self, update, sending):
        if sending.round != 2:
            return update
        if self.asleep is not None:
            self.asleep.touch()
            time.sleep(3600)
        if sending.client == 2:
            raise RuntimeError("the cat ate my records\\nand more")
        if sending.client == 1 and os.getpid() != self.home and not self.killed.exists():
            self.killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return update
'''


@pytest.fixture
def cat(tmp_path, monkeypatch):
    """A defense of another package, where this process, the driver and Ray's workers find it."""
    package = tmp_path / "package"
    (package / "cat-1.0.dist-info").mkdir(parents=True)
    (package / "cat-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: cat\nVersion: 1.0\n")
    (package / "cat-1.0.dist-info" / "entry_points.txt").write_text("[fedinv.defenses]\ncat = cat_defense:Cat\n")
    (package / "cat_defense.py").write_text(CAT)
    monkeypatch.syspath_prepend(package)
    yield f'[[defenses]]\nkind = "cat"\nhome = {os.getpid()}\nkilled = "{tmp_path / "killed"}"\n'
    sys.modules.pop("cat_defense", None)


@pytest.mark.slow
def test_ray_gives_the_updates_and_the_verdict_of_inline_with_clients_that_fail(
    tiny, tmp_path, capfd, cat, own_network
):
    # the network is the user's own: each of Ray's workers imports it for itself
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "net_on_ray.py").write_text(own_network)
    own = f'kind = "module"\nfactory = "net_on_ray:Net"\nproject = "{tmp_path / "project"}"'
    text = tiny.replace("rounds = 3", "rounds = 3\nclients_per_round = 3")
    text = text.replace('kind = "mlp"\nhidden = [32, 16]', own)
    scenario = loads(text + cat + '[[attacks]]\nkind = "exact"\nfall_back = false\n')
    expected = run.run(scenario, run.open_folder(scenario, tmp_path / "inline"))
    out, shares = run.open_folder(scenario, tmp_path / "ray"), []
    # what a stop left: clients remember nothing of it, so that it has to go
    run.log(RunFolder(out), "training", engine="ray")
    before = {"round": 3, "bytes_up": 1, "used": 1, "seconds": 1.0, "left_out": []}
    files.write_json(out / "checkpoint" / "progress.json", before)
    shutil.copytree(tmp_path / "inline" / "undefended", out / "undefended")
    capfd.readouterr()
    found = run.run(scenario, out, "ray", lambda what: shares.append if what == "training" else print)
    assert capfd.readouterr().err == ""
    assert [round(9 * share) for share in shares] == [3, 3, 3, 4, 5, 6, 7, 8, 9, 9]
    assert (tmp_path / "killed").exists()
    assert not RunFolder(out).engine_log.exists()

    one, other = (files.read_json(folder / "checkpoint" / "progress.json") for folder in (tmp_path / "inline", out))
    assert one["left_out"] == other["left_out"] != []
    assert one["used"] == other["used"]
    same(tmp_path / "inline", out)
    assert (out / "ledger.json").read_text() == (tmp_path / "inline" / "ledger.json").read_text()
    assert found.engine == "ray"
    verdicts = [[(a.kind, a.field_accuracy, a.recovered) for a in results.attacks] for results in (found, expected)]
    assert verdicts[0] == verdicts[1] != []
    sys.modules.pop("net_on_ray", None)


def same(one, other):
    """The same observations and final model, to 1e-5."""
    seen, again = (observations.read(folder / "observations") for folder in (one, other))
    assert [(o.clients, o.last.round) for o in seen] == [(o.clients, o.last.round) for o in again]
    models = [files.read_tensors(folder / "checkpoint" / "model-0003.safetensors")[0] for folder in (one, other)]
    pairs = [models, *((a.last.received, b.last.received) for a, b in zip(seen, again, strict=True))]
    assert len(pairs) > 2
    for ours, theirs in pairs:
        assert all(float((ours[name] - theirs[name]).abs().max()) <= 1e-5 for name in ours)


@pytest.mark.slow
def test_ctrl_c_leaves_nothing_behind_even_where_a_client_hangs(tiny, tmp_path, cat, start, until, interruptible):
    one = tiny.replace("rounds = 3", "rounds = 3\nclients_per_round = 1")  # one worker, to start sooner
    one = one.replace("clients = 2", "clients = 1")
    asleep = tmp_path / "asleep"
    (tmp_path / "tiny.toml").write_text(one + cat + f'asleep = "{asleep}"\n')
    command = [*interruptible, "run", "tiny.toml", "--engine", "ray", "--out", "out"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    running = start(command, cwd=tmp_path, env=environment)
    until(asleep.exists, "a client hangs", by=running)
    assert any("raylet" in shown for shown in running.family().values())
    os.killpg(running.process.pid, signal.SIGINT)
    done = running.ended()
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == "fedinv: stopped; go on with: fedinv run out"
    until(lambda: not running.family(), "Ray's processes are gone")


@pytest.mark.parametrize(
    ("cpus", "gpus", "words"),
    [
        (5, 0, r"--client-cpus 5: no machine has that many, the largest has 4"),
        (1, 0.5, r"--client-gpus 0.5: no machine has that many, the largest has 0"),
    ],
)
def test_resources_that_no_machine_has_are_refused(cpus, gpus, words):
    from fedinv.engines.ray.driver import check

    check([{"CPU": 2.0}, {"CPU": 4.0}], 4, 0)
    with pytest.raises(RequestError, match=words):
        check([{"CPU": 2.0}, {"CPU": 4.0}, {}], cpus, gpus)


def test_a_client_needs_its_cpus_and_gpus_on_one_machine():
    from fedinv.engines.ray.driver import check

    with pytest.raises(RequestError, match="no machine has both"):
        check([{"CPU": 8.0}, {"CPU": 1.0, "GPU": 2.0}], 4, 1)


class Line:
    """Stands for Ray, its actors, Flower's pool of them and the clock: each message gets the next answer in line."""

    def __init__(self, monkeypatch, *answers):
        from fedinv.engines.ray import driver

        self.answers, self.ended, self.told, self.run, self.pool = list(answers), 0, [], self, [self]
        monkeypatch.setattr(driver.ray, "get", self.get)
        monkeypatch.setattr(driver.ray, "kill", self.kill)
        monkeypatch.setattr(TaskIdentity, "_run_id", 1)
        monkeypatch.setattr(TaskIdentity, "_node_id", 1)
        monkeypatch.setattr(driver, "now", lambda: datetime.fromtimestamp(self.clock, UTC))
        self.actors = object.__new__(driver.Actors)
        self.actors._seconds, self.actors._tell = {"train": 0.2}, lambda **what: self.told.append(what)
        self.actors.app_fn, self.actors.pool = None, self

    def remote(self, *arguments):
        return self.answers.pop(0)

    def get(self, answer, timeout):
        if isinstance(answer, GetTimeoutError):
            self.clock += timeout + 1
        if isinstance(answer, Exception):
            raise answer
        return "", answer, "after"

    def kill(self, actor):
        self.ended += 1

    def create_actor_fn(self):
        return self

    def process(self):
        message = Message(RecordDict({"arrays": ArrayRecord()}), 5, "train", group_id="7")
        self.clock = message.metadata.created_at + 0.1
        return self.actors.process_message(message, "before")


def test_a_client_whose_worker_died_is_tried_once_more(monkeypatch):
    line = Line(monkeypatch, ActorDiedError(), "the reply")
    assert line.process() == ("the reply", "after")
    assert (line.ended, line.told, line.pool) == (1, [{"round": 7}], [line])


def test_a_client_whose_worker_dies_twice_or_is_late_is_an_error_and_its_worker_is_replaced(monkeypatch):
    line = Line(monkeypatch, ActorDiedError(), ActorDiedError(), GetTimeoutError(), "never asked for")
    reply, context = line.process()
    assert reply.error.reason.startswith("ActorDiedError: The actor died")
    assert (context, line.ended, line.told) == ("before", 2, [{"round": 7}])
    reply, context = line.process()
    assert reply.error.reason == "no reply in time"
    assert (context, line.ended, line.pool) == ("before", 3, [line])


def test_a_client_that_waited_for_its_turn_till_the_round_was_over_is_not_asked(monkeypatch):
    line = Line(monkeypatch, "never asked for")
    line.actors._seconds = {"train": 0.0}
    assert line.process()[0].error.reason == "no reply in time"
    assert (line.answers, line.ended) == (["never asked for"], 0)
