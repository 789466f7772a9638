"""The command says what is wrong with a policy in one line; its verdicts are in the site's log first."""

import json
import re
import sys

import numpy as np
import pytest
from flwr.app import Error, Message, RecordDict

from fedinv.federation.reply_codes import REFUSED
from fedinv.site import events, flower, supernode

NETWORK = """
import torch
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.out = torch.nn.Linear(20, 64), torch.nn.Linear(64, 2)
    def forward(self, x):
        return self.out(torch.relu(self.first(x)))
"""


@pytest.fixture
def written(tmp_path):
    """Writes a policy."""

    def write(text=""):
        path = tmp_path / "site.toml"
        path.write_text(text)
        return path

    return write


def lines(folder):
    return [json.loads(line) for line in (folder / "site-events.jsonl").read_text().splitlines()]


def test_a_policy_is_checked_and_said_without_starting_anything(written, capsys, monkeypatch):
    monkeypatch.setattr(flower, "start", lambda others: pytest.fail("started"))
    text = "[update]\nclip = 2.0\nnoise_multiplier = 0.5\n[metrics]\nloss = 'float'\n"
    assert supernode.main(["--policy", str(written(text)), "--check"]) == 0
    said = capsys.readouterr().out
    assert "answered: train, evaluate; arrays: those that were sent down; metrics: loss" in said
    assert "update: clipped to 2, noise of 1" in said
    assert "gate: none, as there is no [gate]" in said


@pytest.mark.parametrize("options", [[], ["--isolation=process"], ["--isolation", "process"]])
def test_an_app_that_runs_as_the_same_user_is_warned_of(written, capsys, options):
    assert supernode.main(["--policy", str(written()), "--check", *options]) == 0
    assert ("close that with --isolation process" in capsys.readouterr().out) == (not options)


def test_every_other_option_is_flower_s(written, monkeypatch):
    given, installed = [], []
    monkeypatch.setattr(flower, "start", given.append)
    monkeypatch.setattr(flower, "install", lambda judge, limits: installed.append(limits))
    arguments = ["--insecure", "--superlink", "a:1", "--node-config", "partition-id=0 p='x'", "--isolation", "process"]
    assert supernode.main(["--policy", str(written("[reply]\nmegabytes = 3\nwait_seconds = 7\n")), *arguments]) == 0
    assert given == [arguments]
    assert installed == [flower.Limits(3e6, 7.0)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "--policy: is missing, name the site's policy: --policy site.toml"),
        ("clip = 1", "site.toml: clip: unknown key"),
        ('log = "."', "log: "),
        ('[gate]\nnetwork = "a:b"\napp = "nowhere"', "gate.app: "),
        (
            '[gate]\nnetwork = "absent_module:Net"',
            "[gate] network: absent_module cannot be imported: there is no module",
        ),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_started(written, capsys, monkeypatch, text, words):
    monkeypatch.setattr(flower, "start", lambda others: pytest.fail("started"))
    assert supernode.main([] if text is None else ["--policy", str(written(text))]) == 2
    error = capsys.readouterr().err
    assert error.startswith("fedinv-supernode: ")
    assert words in error
    assert error.count("\n") == 1


def test_another_flower_is_not_started(written, capsys, monkeypatch):
    monkeypatch.setattr(flower, "version", lambda _: "1.50.1")
    monkeypatch.setattr(flower, "start", lambda others: pytest.fail("started"))
    assert supernode.main(["--policy", str(written())]) == 2
    assert "flwr 1.50.1 is installed, and the gate is written for 1.41" in capsys.readouterr().err


def test_accepted_and_refused_are_one_line_each_without_data(written, tmp_path, asked, back, records):
    site = supernode.site(written())
    good = Message(records(back(), {"num-examples": 32}), reply_to=asked().message)
    assert isinstance(supernode.judge(site, asked(), lambda: good), RecordDict)
    bad = Message(records(back(), {"patient-4711": 1.0}), reply_to=asked().message)
    answer = supernode.judge(site, asked(), lambda: bad)
    assert answer == Error(REFUSED, "refused by the site's policy: a metric is not allowed")
    first, second = lines(tmp_path)
    assert (first["verdict"], first["kind"], first["round"]) == ("accepted", "train", 4)
    assert second["verdict"] == "refused"
    assert second["why"].startswith("a metric is not allowed: ")
    assert set(first) == {"time", "run", "round", "kind", "verdict", "seconds"}


def test_any_exception_is_a_refusal_that_quotes_nothing(written, tmp_path, asked, back, records, monkeypatch):
    site = supernode.site(written())

    def vetted(*_):
        raise ValueError("patient-4711")

    monkeypatch.setattr(supernode, "vetted", vetted)
    reply = Message(records(back()), reply_to=asked().message)
    answer = supernode.judge(site, asked(), lambda: reply)
    assert answer == Error(REFUSED, "refused by the site's policy: the site's policy failed")
    (line,) = lines(tmp_path)
    assert "ValueError in test_supernode.py:" in line["why"]
    assert "patient" not in json.dumps(line)


def test_a_reply_to_a_message_that_could_not_be_read_is_refused(written, asked, back, records):
    reply = Message(records(back()), reply_to=asked().message)
    answer = supernode.judge(supernode.site(written()), asked(content=None), lambda: reply)
    assert answer.reason.endswith("the message that it replies to could not be read")


@pytest.mark.parametrize(("sent_on", "reason"), [("false", "stays at the site"), ("true", "patient-4711")])
def test_the_text_of_an_app_s_error_stays_at_the_site(written, tmp_path, asked, sent_on, reason):
    site = supernode.site(written(f"[reply]\nerror_texts = {sent_on}\n"))
    for code, kept in ((8, 8), (4711, 2)):
        raised = Message(Error(code, "patient-4711"), reply_to=asked().message)
        answer = supernode.judge(site, asked(), lambda raised=raised: raised)
        assert answer.code == kept
        assert reason in answer.reason
    assert [one["verdict"] for one in lines(tmp_path)] == ["error", "error"]
    assert "4711" not in json.dumps(lines(tmp_path))


def test_what_cannot_be_logged_does_not_leave(written, tmp_path, asked, back, records):
    site = supernode.site(written('log = "folder/events.jsonl"'))
    (tmp_path / "folder").write_text("in the way")
    reply = Message(records(back()), reply_to=asked().message)
    answer = supernode.judge(site, asked(), lambda: reply)
    assert answer == Error(REFUSED, "refused by the site's policy: the site's log cannot be written")


NOISE = "[update]\nclip = 1.0\nnoise_multiplier = 4.0\ndelta = 1e-5\nepsilon = 4.0\n"


def test_epsilon_is_counted_over_processes_and_ends_at_its_limit(written, tmp_path, asked, back, records):
    verdicts = []
    while len(verdicts) < 20 and (not verdicts or isinstance(verdicts[-1], RecordDict)):
        site = supernode.site(written(NOISE))  # as after a restart
        reply = Message(records(back()), reply_to=asked().message)
        verdicts.append(supernode.judge(site, asked(), lambda reply=reply: reply))
        evaluated = Message(records(None, {"num-examples": 3}), reply_to=asked("evaluate").message)
        supernode.judge(site, asked("evaluate"), lambda evaluated=evaluated: evaluated)
    assert verdicts[-1].reason == "refused by the site's policy: the site's privacy budget is spent"
    spent = [one["epsilon"] for one in lines(tmp_path) if "epsilon" in one]
    assert len(spent) == len(verdicts) - 1 >= 2
    # the records of a site are replaced: two clipping norms apart, composed as Gaussian mechanisms
    from fedinv.privacy.gaussian import gaussian_epsilon

    expected = [gaussian_epsilon(2 / 4 * np.sqrt(count), 1e-5) for count in range(1, len(verdicts) + 1)]
    assert spent == pytest.approx(expected[:-1], rel=1e-6)
    assert expected[-2] <= 4.0 < expected[-1]


def test_a_log_that_cannot_be_read_is_named_as_epsilon_would_be_too_small(written, tmp_path, capsys):
    (tmp_path / "site-events.jsonl").write_text("{}\n")
    assert supernode.main(["--policy", str(written(NOISE)), "--check"]) == 2
    assert "line 1 is no event of a site's log" in capsys.readouterr().err
    assert events.spent([], 1e-5) == 0.0


def test_an_update_of_few_records_is_refused_and_one_with_noise_passes(written, tmp_path, asked, records, monkeypatch):
    import torch

    (tmp_path / "gated_task.py").write_text(NETWORK)
    monkeypatch.delitem(sys.modules, "gated_task", raising=False)
    gate = '[gate]\nnetwork = "gated_task:Net"\nseconds = 0.5\n'
    site = supernode.site(written(gate))
    from gated_task import Net

    torch.manual_seed(0)
    network, x, y = Net(), torch.randn(4, 20), torch.tensor([0, 1, 1, 0])
    sent = {name: one.detach().numpy().copy() for name, one in network.state_dict().items()}
    torch.nn.functional.cross_entropy(network(x), y).backward()
    back = {name: sent[name] - 0.1 * one.grad.numpy() for name, one in network.named_parameters()}
    message = asked(content=records(sent))
    reply = Message(records(back, {"num-examples": 4}), reply_to=message.message)
    answer = supernode.judge(site, message, lambda: reply)
    assert answer.reason.endswith("more of its records can be read off the update than this site allows")
    noisy = supernode.site(written(gate + "[update]\nclip = 0.1\nnoise_multiplier = 1.0\n"))
    assert isinstance(supernode.judge(noisy, message, lambda: reply), RecordDict)
    refused, accepted = lines(tmp_path)
    assert re.search(r"at least (25|50|75|100)\.0 % can be read, gate\.limit is 0 %", refused["why"])
    assert (accepted["share"], accepted["noise_multiplier"]) == (0.0, 1.0)


def test_the_help_ends_with_what_fedinv_adds_not_with_flower_s_own(capsys, monkeypatch):
    def flower_s(arguments):
        assert arguments == ["--help"]
        sys.stdout.write("--superlink\n")
        raise SystemExit(0)  # as argparse ends a process after its help

    monkeypatch.setattr(flower, "check", lambda: None)
    monkeypatch.setattr(flower, "start", flower_s)
    with pytest.raises(SystemExit):
        supernode.main(["--help"])
    shown = capsys.readouterr().out
    before, after = shown.split("--superlink")
    assert "--policy FILE" in before
    for word in ("--policy", "[update] clips", "[gate] refuses", "--check", "docs/site.md"):
        assert word in after
    assert max(map(len, shown.splitlines())) <= 120
