"""Faults, drawn by seed: whatever a run is stopped by, it goes on to the very results of an unbroken one."""

import json
import os
import random
import resource
import signal

import pytest

from fedinv.engines.node_states import NodeStates
from fedinv.errors import RunError
from fedinv.runs import run
from fedinv.scenario.reading import loads
from fedinv.storage import files

STATEFUL = '[[defenses]]\nkind = "dp-sgd"\nnoise_multiplier = 0.5\n[[defenses]]\nkind = "top-k"\n'
EXACT = '[[attacks]]\nkind = "exact"\nfall_back = false\n'


def outcome(folder):
    """All that a run came to, but how long it took."""
    results = files.read_json(folder / "results.json")
    results["federation"]["seconds"] = 0
    for attack in results["attacks"]:
        attack["seconds"] = 0
    seen = [files.read_tensors(path) for path in sorted((folder / "observations").iterdir())]
    bits = [({name: tensor.numpy().tobytes() for name, tensor in tensors.items()}, facts) for tensors, facts in seen]
    return json.dumps(results), bits, (folder / "ledger.json").read_text()


def in_a_process(work):
    """Run `work` in a copy of this process; returns its exit code, negative for a signal."""
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.closerange(1, 3)
            work()
            code = 0
        except RunError:
            code = 1
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def kill_at(patch, count):
    """End this process without a word at the so-many-th write: before it, half way through, or after it."""
    left, write, commit = [count], files.write, NodeStates.write

    def due():
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def writing(path, content):
        due()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(f".{path.name}.part").write_bytes(
            (content.encode() if isinstance(content, str) else content)[:9]
        )
        due()
        write(path, content)
        due()

    def committing(self, round_):
        due()
        commit(self, round_)
        due()

    patch.setattr(files, "write", writing)
    patch.setattr(NodeStates, "write", committing)
    return left


@pytest.fixture(params=["", STATEFUL], ids=["plain", "stateful"])
def scenario(request, tiny):
    return loads(tiny + request.param + EXACT)


@pytest.mark.slow
def test_a_run_killed_at_any_write_goes_on_to_the_same_results(scenario, tmp_path, monkeypatch):
    opened = run.open_folder(scenario, tmp_path / "whole")
    with monkeypatch.context() as patch:
        counted = kill_at(patch, 0)
        run.run(scenario, opened)
        writes = -counted[0]
    whole = outcome(tmp_path / "whole")
    draw = random.Random(11)
    # and at the last one but two: between the report and the results
    for number, count in enumerate([*sorted(draw.sample(range(1, writes), 2)), writes - 2]):
        folder = run.open_folder(scenario, tmp_path / f"broken-{number}")

        def killed(folder=folder, count=count):
            kill_at(pytest.MonkeyPatch(), count)
            run.run(scenario, folder)

        assert in_a_process(killed) == -signal.SIGKILL, count
        assert (folder / "report.html").is_file() or not (folder / "results.json").is_file(), count
        run.run(scenario, folder)
        assert outcome(folder) == whole, count


@pytest.mark.parametrize("room", [200, 20_000])
def test_a_disk_that_is_full_is_one_line_and_no_half_file(tiny, tmp_path, room):
    scenario = loads(tiny + STATEFUL)
    folder = run.open_folder(scenario, tmp_path / "run")

    def cramped():
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        run.run(scenario, folder)

    assert in_a_process(cramped) == 1
    assert not list(folder.rglob(".*.part"))
    run.run(scenario, folder)  # there is room again
    assert (folder / "report.html").is_file()
