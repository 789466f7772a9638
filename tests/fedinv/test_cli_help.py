"""What the command line says of itself: help, examples, lists and explanations."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from fedinv import __version__, plugins
from fedinv.cli import app
from fedinv.errors import RequestError
from fedinv.scenario.explanation import explanation
from fedinv.storage import documents

ROOT = Path(__file__).parents[2]
GROUP = typer.main.get_command(app)
COMMANDS = sorted(GROUP.commands)
WIDE = {"COLUMNS": "200", "TERMINAL_WIDTH": "200", "NO_COLOR": "1"}


def shown(*arguments, code=0):
    """What a command prints at a width at which next to nothing is wrapped, in single spaces without frames."""
    done = CliRunner().invoke(app, list(arguments), env=WIDE)
    assert done.exit_code == code, done.output
    return " ".join(re.sub(r"[\u2500-\u257f]", " ", done.output).split())


def test_the_commands_are_these():
    assert (
        sorted(
            ["run", "attack", "assess", "compare", "audit", "duel", "record", "import", "map", "read", "gate", "probe"]
            + ["up", "down", "report", "list", "explain", "lab"]
        )
        == COMMANDS
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_every_argument_and_option_is_explained_and_shown(name):
    text = shown(name, "--help")
    for parameter in GROUP.commands[name].params:
        assert parameter.help, f"{name}: {parameter.name}"
        assert parameter.help[:40] in text
    assert shown(name, "-h") == text


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("run", "runs/SCENARIO-N"),
        ("run", "inline"),
        ("assess", "runs/SCENARIO-assess-N"),
        ("assess", "one a core"),
        ("audit", "runs/SCENARIO-audit-N"),
        ("compare", "the usual ones"),
        ("compare", "the scenario's"),
        ("compare", "runs/SCENARIO-compare-N"),
        ("compare", "2.0"),
        ("duel", "runs/SCENARIO-duel-N"),
    ],
)
def test_defaults_are_not_lost_as_markup(name, default):
    assert re.search(rf"\[default: \(?{re.escape(default)}\)?\]", shown(name, "--help"))


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_every_help_ends_with_two_examples_that_can_be_parsed(name):
    text = shown(*filter(None, [name]), "--help")
    lines = [f"fedinv {line.strip()}" for line in text.split("Examples: ")[1].split("fedinv ") if line.strip()]
    assert len(lines) == 2
    for line in lines:
        program, command, *arguments = shlex.split(line)
        assert program == "fedinv"
        assert not name or command == name
        GROUP.commands[command].make_context(command, arguments)


@pytest.mark.parametrize("command", ["run", "compare", "duel", "audit", "assess", "record", "import"])
def test_options_stand_in_panels(command):
    done = CliRunner().invoke(app, [command, "--help"], env=WIDE).output
    panels = re.findall(r"\u256d\u2500 (\w+) \u2500", done)
    assert {command.title(), "Output", "Arguments"} <= {*panels}
    assert command not in ("run", "compare", "record") or "Engine" in panels


def test_the_version_is_told():
    assert shown("--version") == f"fedinv {__version__}"
    assert shown("-h") == shown("--help")
    assert "--install-completion" in shown("--help")


def test_help_imports_nothing_heavy(tmp_path):
    code = (
        "import sys; sys.argv = ['fedinv', '--help']\n"
        "from fedinv.cli import main\n"
        "try: main()\n"
        "finally: print([m for m in ('torch', 'pydantic', 'numpy', 'flwr', 'pyarrow') if m in sys.modules],"
        " file=sys.stderr)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stderr.strip() == "[]"


def test_names_are_completed():
    run = GROUP.commands["run"]
    context = run.make_context("run", ["hospital"])
    options = {parameter.name: parameter for parameter in run.params}
    found = [item.value for item in options["scenario"].shell_complete(context, "hospital-d")]
    assert sorted(found) == ["hospital-dp", "hospital-dp-attack", "hospital-dp-large"]
    assert [item.value for item in options["attack"].shell_complete(context, "row")] == ["row-space"]


KINDS = [(group, kind) for group in ("attacks", "defenses", "datasets") for kind in plugins.available(group)]


@pytest.mark.parametrize(("group", "kind"), KINDS)
def test_everything_on_offer_is_explained(group, kind):
    found = explanation(kind)
    model = plugins.load(group, kind)
    assert [one.name for one in found.settings] == [key for key in model.model_fields if key not in ("kind", "source")]
    assert found.text
    assert found.facts


def test_an_explanation_has_paper_needs_claims_and_bounds():
    text = shown("explain", "exact")
    for words in (
        "exact: an attack",
        "Phong et al. 2018",
        "needs each update",
        "claims records",
        "adapts to",
        "restarts_per_record: whole number, at least 1, at most 1000, 10 by default",
        "Starting points of the search",
    ):
        assert words in text
    assert "claims differential privacy" in shown("explain", "dp-sgd")
    assert "claims no differential privacy" in shown("explain", "top-k")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("training.lr", "lr: number, above 0, 0.05 by default"),
        ("federation.clients", "clients: whole number, above 0, must be given"),
        ("attacker.watch.rounds", "rounds: list of whole number above 0"),
        ("server.kind", '"curious" or "malicious"'),
        ("model.hidden", "hidden (mlp): list of whole number above 0"),
        ("top-k.keep", "keep: number, above 0, at most 1, 0.1 by default"),
        ("data.records", "records (bank): whole number"),
        ("training", "training: a scenario's table"),
    ],
)
def test_keys_of_the_scenario_are_explained(name, words):
    assert words in shown("explain", name)


def test_every_key_of_every_shipped_scenario_is_explained():
    import tomllib

    def keys(table, before=""):
        for key, value in table.items():
            yield before + key
            if isinstance(value, dict):
                yield from keys(value, f"{before}{key}.")

    written = {key for path in documents.shipped().values() for key in keys(tomllib.loads(path.read_text()))}
    for key in sorted(written):
        assert explanation(key).name == key


def test_what_is_not_there_is_answered_with_the_nearest():
    for wrong, right in (("exakt", "exact"), ("trainig.lr", "training"), ("training.rl", "lr"), ("top-k.keap", "keep")):
        with pytest.raises(RequestError, match=f"did you mean '{right}'"):
            explanation(wrong)


def test_an_explanation_is_one_json_document():
    document = json.loads(CliRunner().invoke(app, ["explain", "top-k", "--json"]).output)
    assert document["settings"][0]["name"] == "keep"
    assert document["what"] == "a defense"
