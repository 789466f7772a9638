"""A scenario whose network is the user's own is trained, attacked and mapped like any other."""

import sys

import pytest
import torch

import fedinv
from fedinv.errors import RequestError
from fedinv.runs import attack_runner, provenance, run
from fedinv.runs.context import Grants, TrainedRun
from fedinv.runs.own_apps.map_of_run import map_of_run
from fedinv.scenario.reading import loads
from fedinv.storage.run_folder import RunFolder

NETWORKS = """
import torch
from torch import nn


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.out, self.first = nn.Linear(128, 2), nn.Linear(63, 128)
        self.between = nn.Identity()

    def forward(self, x):
        return self.out(torch.relu(self.between(self.first(x))))


class Normed(Own):
    def __init__(self):
        super().__init__()
        self.between = nn.LayerNorm(128)


class Dropped(Own):
    def forward(self, x):
        return self.out(nn.functional.dropout(torch.relu(self.first(x)), 0.5, self.training))
"""
ATTACKS = """
[[attacks]]
kind = "exact"
[[attacks]]
kind = "membership"
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    (folder / "somebodys_networks.py").write_text(NETWORKS, encoding="utf-8")
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    sys.modules.pop("somebodys_networks", None)


def trained(text, project, name, folder):
    own = f'kind = "module"\nfactory = "somebodys_networks:{name}"\nproject = "{project}"\n'
    short = text.replace("rounds = 3", "rounds = 1").replace("rounds = [1, 2]", "rounds = [1]")
    scenario = loads(short.replace('kind = "mlp"\nhidden = [32, 16]\n', own) + ATTACKS)
    made = TrainedRun(scenario, RunFolder(run.open_folder(scenario, folder)))
    run.train(made)
    return made


def claimed(made, attack):
    plan = attack_runner.control_plan(attack)
    return [claim for _, claim in attack_runner.run_attack(made, plan, Grants(), lambda _: None).said]


def test_a_perceptron_of_ones_own_is_read_off_its_updates_and_mapped(tiny, project, tmp_path):
    made = trained(tiny, project, "Own", tmp_path)
    assert list(made.seen[0].last.sent) == ["0.out.weight", "0.out.bias", "0.first.weight", "0.first.bias"]
    for seen, claim in zip(made.seen, claimed(made, made.scenario.attacks[0]), strict=True):
        truth, _ = made.people.records(seen.clients[0])
        assert len(claim.records) == len(truth) == 6
        assert float(torch.cdist(truth, claim.records).min(1).values.max()) < 1e-2
    assert [(one.name, one.fed) for one in map_of_run(made.folder.root, 0).layers] == [
        ("0.first", "record"),
        ("0.out", "features"),
    ]


def test_of_another_network_attacks_on_perceptrons_say_why_they_are_not_run(tiny, project, tmp_path):
    made = trained(tiny, project, "Normed", tmp_path)
    why = "nothing claimed: exact needs a perceptron, and the network is none: its LayerNorm between is no linear layer"
    for claim in claimed(made, made.scenario.attacks[0]):
        assert len(claim.records) == 0
        assert claim.notes[0].startswith(why)
    assert "row-space" in map_of_run(made.folder.root, 0).layers[0].applies


def test_dropout_of_ones_own_network_draws_the_same_masks_from_the_same_seed(tiny, project, tmp_path):
    one, again = (trained(tiny, project, "Dropped", tmp_path / name) for name in ("one", "again"))
    other = trained(tiny.replace('secret = "0', 'secret = "1'), project, "Dropped", tmp_path / "other")
    for ours, same, differs in zip(one.seen, again.seen, other.seen, strict=True):
        name = "0.out.weight"
        assert torch.equal(ours.last.received[name], same.last.received[name])
        assert not torch.equal(ours.last.received[name], differs.last.received[name])


def test_a_run_is_of_other_code_once_the_network_s_code_changed(tiny, project, tmp_path):
    made = trained(tiny, project, "Own", tmp_path)
    now = provenance.of(made.scenario)
    provenance.refuse_other(made.folder.root, now)
    code = project / "somebodys_networks.py"
    code.write_text(NETWORKS + "# a word more\n", encoding="utf-8")
    with pytest.raises(RequestError, match="other code, which was changed since"):
        provenance.refuse_other(made.folder.root, provenance.of(made.scenario))
    code.write_text(NETWORKS, encoding="utf-8")
    assert provenance.of(made.scenario) == now


@pytest.mark.parametrize(("name", "found"), [("Own", 3), ("Normed", 0)])
def test_one_update_of_ones_own_network_is_inverted_or_refused_in_a_line(project, name, found):
    from importlib import import_module

    torch.manual_seed(0)
    network, x = getattr(import_module("somebodys_networks"), name)(), torch.randn(3, 63)
    torch.nn.functional.cross_entropy(network(x), torch.tensor([0, 1, 1])).backward()
    sent = {name: weight.detach() for name, weight in network.named_parameters()}
    update = {name: -0.1 * weight.grad for name, weight in network.named_parameters()}
    model = {"kind": "module", "factory": f"somebodys_networks:{name}", "project": str(project)}
    claim = fedinv.invert(update, sent=sent, model=model, records=3, algorithm="fedsgd", lr=0.1, attack="exact")
    assert len(claim.records) == found
    if found:
        assert float(torch.cdist(claim.records, x).min(1).values.max()) < 1e-4
    else:
        assert claim.notes[0].startswith("exact needs a perceptron, and the network is none: its LayerNorm between")
