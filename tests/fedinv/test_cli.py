import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from fedinv.engines import inline
from fedinv.report.listing import indented
from fedinv.results.run import Results
from fedinv.scenario import json_schemas
from fedinv.storage import documents

ATTACKS = '[[attacks]]\nkind = "exact"\nfall_back = false\n'
MAIN = [sys.executable, "-m", "fedinv.cli"]


def fedinv(*arguments, cwd, code=0):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([*MAIN, *arguments], cwd=cwd, capture_output=True, text=True, env=environment)
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.fixture
def file(tiny, tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(tiny.replace("hidden = [32, 16]", "hidden = [128, 32]") + ATTACKS)
    return path


@pytest.fixture
def main(monkeypatch, capsys):
    """The command line in this process: the exit code, stdout and stderr."""
    from fedinv import cli

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["fedinv", *map(str, arguments)])
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = stop.code
        shown = capsys.readouterr()
        return code or 0, shown.out, shown.err

    return call


@pytest.mark.slow
def test_a_run_from_the_shell_is_complete_and_its_json_is_one_document(file, tmp_path):
    done = fedinv("run", str(file), "--json", cwd=tmp_path)
    document = json.loads(done.stdout)
    folder = Path(document.pop("run"))
    assert folder == tmp_path / "runs" / "tiny-1"
    names = {p.name for p in folder.iterdir()}
    assert {"scenario.toml", "results.json", "records.parquet", "observations", "plots", "report.html"} <= names
    assert (folder / "log.jsonl").is_file()
    assert json.loads((folder / "results.json").read_text()) == document
    jsonschema.validate(document, Results.model_json_schema())
    (found,) = document["attacks"]
    assert found["recovered"]["value"] == 1.0
    assert "training" in done.stderr


def test_help_and_list_are_quick_and_import_nothing_heavy(tmp_path):
    code = (
        "import sys; sys.argv = ['fedinv', 'list', sys.argv[1]]\n"
        "from fedinv.cli import main\n"
        "try: main()\n"
        "finally: print([m for m in ('torch', 'flwr', 'opacus', 'matplotlib', 'pyarrow', 'scipy', 'sklearn', 'numpy')"
        " if m in sys.modules], file=sys.stderr)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    for what in ("attacks", "defenses", "datasets", "scenarios"):
        command = [sys.executable, "-c", code, what]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
        assert done.stderr.strip() == "[]", done.stderr
        assert len(done.stdout.splitlines()) >= 2
        assert what == "scenarios" or max(map(len, done.stdout.splitlines())) <= 80


def test_defenses_and_attacks_in_short_form(main, file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["--defense", "top-k:keep=0.5", "--defense", "sign+training.batch_size=2", "--attack", "exact:rounds=2"]
    code, out, err = main("run", file, *arguments, "--attack", "labels", "--set", "seed=4", "--json")
    assert code == 0, err
    document = json.loads(out)
    assert document["seed"] == 4
    assert document["attacks"][0]["parameters"]["rounds"] == 2
    assert [one["kind"] for one in document["inferences"]] == ["labels"]
    declared = (tmp_path / "runs/tiny-1/scenario.toml").read_text()
    assert declared.index('kind = "top-k"') < declared.index('kind = "sign"')
    assert "batch_size = 2" in declared
    for wrong, right in (("top-q", "top-k"), ("top-k:kep=1", "keep")):
        code, _, err = main("run", file, "--defense", wrong)
        assert (code, f"did you mean '{right}'" in err) == (2, True)
    code, _, err = main("run", file, "--attack", "exakt")
    assert (code, "did you mean 'exact'" in err) == (2, True)


def test_a_summary_that_is_too_long_for_the_screen_isindented():
    assert indented("one two three four five six seven eight", 4, 24) == "one two three four\n    five six seven eight"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "hospitl"], ["hospitl", "did you mean 'hospital'"]),
        (["run", "hospital", "--set", "training.epocs=2"], ["training.epocs", "did you mean 'epochs'"]),
        (["run", "hospital", "--set", "federation.clients=9999"], ["9999", "records"]),
        (["run", "hospital", "--set", "attacker.watch.clients=99"], ["attacker.watch.clients"]),
        (["run", "TINY", "--engine", "inlin"], ["inlin", "did you mean 'inline'"]),
        (["list", "attakcs"], ["did you mean 'attacks'"]),
        (["report", "nowhere"], ["nowhere", "fedinv run"]),
        (["attack", "nowhere", "--attack", "exact"], ["nowhere", "fedinv run"]),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_2(main, file, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    code, out, err = main(*(str(file) if a == "TINY" else a for a in arguments))
    line = err.strip().splitlines()[-1]
    assert code == 2
    assert out == ""
    assert line.startswith("fedinv: ")
    assert "Traceback" not in err
    assert not (tmp_path / "runs").exists()
    for word in words:
        assert word in line


def test_a_stopped_run_is_taken_up_by_the_command_it_names(main, file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main("run", file, "--out", "whole")[0] == 0
    train = inline.train

    def stopped(scenario, out, on_reply, options):
        def stop(round_):
            on_reply(round_)
            if round_ == 2:
                raise KeyboardInterrupt

        train(scenario, out, stop)

    monkeypatch.setattr(inline, "train", stopped)
    code, _, err = main("run", file, "--out", "broken")
    assert code == 1
    assert "go on with: fedinv run broken" in err
    monkeypatch.setattr(inline, "train", train)
    assert main("run", "broken")[0] == 0
    assert _comparable(tmp_path / "whole") == _comparable(tmp_path / "broken")


@pytest.mark.parametrize("writes", [2, 7, 14, 20])
def test_a_full_disk_is_named_and_loses_nothing(main, file, tmp_path, monkeypatch, writes):
    monkeypatch.chdir(tmp_path)
    assert main("run", file, "--out", "whole")[0] == 0
    replace, left = Path.replace, writes

    def full(self, target):
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", full)
    code, _, err = main("run", file, "--out", "broken")
    assert code == 1
    assert "cannot be written (No space left on device); when that is mended, go on with: fedinv run broken" in err
    monkeypatch.setattr(Path, "replace", replace)
    assert main("run", "broken")[0] == 0
    assert _comparable(tmp_path / "whole") == _comparable(tmp_path / "broken")


def _comparable(folder):
    """A run's results without what the clock decides."""
    document = json.loads((folder / "results.json").read_text())
    document["federation"].pop("seconds")
    for found in document["attacks"]:
        found.pop("seconds")
    return document


def test_a_finished_or_foreign_folder_is_never_overwritten(main, file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main("run", file, "--out", "one")[0] == 0
    before = (tmp_path / "one/results.json").read_text()
    code, _, err = main("run", file, "--out", "one")
    assert (code, "finished run" in err) == (2, True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/precious.txt").write_text("mine")
    code, _, err = main("run", file, "--out", "other")
    assert (code, "holds no run" in err) == (2, True)
    code, _, err = main("run", file, "--out", file / "inside")
    assert (code, "is a file, name a folder" in err) == (2, True)
    code, _, err = main("run", file, "--out", file)
    assert (code, "is a file" in err) == (2, True)
    assert (tmp_path / "one/results.json").read_text() == before


def test_a_finished_run_is_attacked_again_and_reported_again(main, file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main("run", file, "--out", "one")
    code, out, _ = main(
        "attack", "one", "--attack", "gradient-matching", "--set", "iterations=3", "--set", "simulate=3", "--json"
    )
    assert code == 0
    assert [a["kind"] for a in json.loads(out)["attacks"]] == ["exact", "gradient-matching"]
    code, _, err = main("attack", "one", "--attack", "gradient-matching", "--set", "iteratons=3")
    assert (code, "did you mean 'iterations'" in err) == (2, True)
    code, _, err = main("attack", "one", "--attack", "exakt")
    assert (code, "did you mean 'exact'" in err) == (2, True)
    (tmp_path / "one/report.html").unlink()
    code, out, _ = main("report", "one")
    assert code == 0
    assert Path(out.strip()).is_file()


def test_a_damaged_observation_is_named(main, file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main("run", file, "--out", "one")
    victim = next((tmp_path / "one/observations").glob("*client*"))
    victim.write_bytes(victim.read_bytes()[:100])
    code, _, err = main("attack", "one", "--attack", "exact", "--set", "seed=1")
    assert code in (1, 2)
    code, _, err = main("attack", "one", "--attack", "gradient-matching")
    assert code == 1
    assert f"{victim.name}: is damaged" in err


def test_published_schemas_are_up_to_date():
    for path, content in json_schemas.published().items():
        assert json.loads(path.read_text()) == json.loads(json.dumps(content)), "run: make schemas"


def test_every_shipped_scenario_satisfies_the_published_schema():
    import tomllib

    schema = json.loads((documents.SHIPPED / "scenario.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for path in documents.shipped().values():
        validator.validate(tomllib.loads(path.read_text()))


@pytest.mark.slow
def test_ctrl_c_from_the_keyboard_loses_nothing(file, tmp_path, start, until, interruptible):
    file.write_text(file.read_text().replace("rounds = 3", "rounds = 100000"))  # however late Ctrl-C is, it goes on
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    running = start([*interruptible, "run", file, "--out", "broken"], cwd=tmp_path, env=environment)
    progress = tmp_path / "broken/checkpoint/progress.json"
    until(lambda: progress.is_file() and json.loads(progress.read_text())["round"] >= 3, "round 3", by=running)
    os.killpg(running.process.pid, signal.SIGINT)
    done = running.ended()
    assert done.returncode == 1
    assert "go on with: fedinv run broken" in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(progress.read_text())["round"] >= 3
