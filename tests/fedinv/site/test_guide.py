"""What the guide shows is a policy, and commands that Flower takes."""

import re
import shlex
import tomllib
from pathlib import Path

from flwr.supercore.cli.flower_superexec import _parse_args as superexec
from flwr.supernode.cli.flower_supernode import _parse_args_run_supernode

from fedinv.site import policy, supernode

ROOT = Path(__file__).parents[3]
GUIDE = (ROOT / "docs/site.md").read_text(encoding="utf-8")


def test_the_policy_that_is_shown_is_one():
    (shown,) = re.findall(r"```toml\n(.*?)```", GUIDE, re.S)
    found = policy.parse(tomllib.loads(shown))
    assert (found.gate.limit, found.update.clip) == (0.0, 1.0)
    defaults = policy.Policy()
    assert found.reply == defaults.reply
    assert (found.log, found.gate.seconds) == (defaults.log, policy.GateRules(network="a:b").seconds)


def test_every_key_of_a_policy_is_in_the_guide():
    for table in (policy.ReplyRules, policy.AllowedArray, policy.AllowedMetric, policy.UpdateRules, policy.GateRules):
        for key in table.model_fields:
            assert re.search(rf"\b{key}\b", GUIDE), key


def test_the_commands_that_are_shown_are_flower_s():
    lines = GUIDE.replace("\\\n", " ").splitlines()
    shown = [line for line in lines if re.match(r"(sudo .*|docker .*)?fedinv-supernode ", line)]
    nodes = [line.split("fedinv-supernode ", 1)[1] for line in shown]
    assert len(nodes) == 4
    for line in nodes:
        own, others = supernode.parser().parse_known_args(shlex.split(line))
        assert own.policy.endswith("site.toml")
        _parse_args_run_supernode().parse_args(others)
    apps = [line.split("flower-superexec ", 1)[1] for line in lines if "flower-superexec " in line]
    assert len(apps) == 2
    for line in apps:
        superexec().parse_args(shlex.split(line))


def test_the_epsilon_that_is_named_is_what_the_log_states():
    from fedinv.site.events import spent

    assert "at 1 and delta 1e-5 the first update costs 10.0" in GUIDE
    assert f"{spent([1.0], 1e-5):.1f}" == "10.0"
