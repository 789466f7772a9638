"""What a client does where a detector flags the weights that it was sent, and what is said of it."""

import pytest
import torch

from fedinv import roles
from fedinv.api import load, run
from fedinv.detector import Finding, Look
from fedinv.engines import inline
from fedinv.errors import RequestError
from fedinv.plugins import load as plugin
from fedinv.report import terminal
from fedinv.scenario.reading import loads
from fedinv.storage import files
from fedinv.task.models import Mlp, build, state

vetted = roles.load("clients", "vetted")
ALWAYS = '[[vetting]]\nkind = "bias-size"\nthreshold = -1.0\n'


def left_out(folder):
    return files.read_json(folder / "checkpoint" / "progress.json")["left_out"]


def updates(folder):
    return [files.read_tensors(path)[0] for path in sorted((folder / "observations").glob("round-001-client-*"))]


def trained(text, folder):
    inline.train(loads(text), folder)
    return updates(folder)


def test_clients_refuse_what_is_crafted_and_say_why_and_training_goes_on_in_later_rounds(tiny, tmp_path):
    malicious = '[server]\nkind = "malicious"\n[[server.deviations]]\nkind = "inconsistency"\nrounds = [2]\n'
    refusing = '[[vetting]]\nkind = "broadcast-hash"\naction = "refuse"\n'
    inline.train(loads(f"{tiny}{malicious}{refusing}"), tmp_path)
    # the target alone has weights unlike those of the three others, and all of them see that not all are the same
    said = left_out(tmp_path)
    assert [(one["round"], one["client"]) for one in said] == [(2, 0), (2, 1), (2, 2), (2, 3)]
    assert said[0]["reason"] == "refused the weights it was sent: broadcast-hash is 1, above 0"
    found = files.read_json(tmp_path / "vetting.json")["found"]
    assert [(one["round"], one["looked"], one["flagged"]) for one in found] == [(1, 4, 0), (2, 4, 4), (3, 4, 0)]
    assert files.read_json(tmp_path / "checkpoint" / "progress.json")["used"] == 8


def test_a_report_changes_no_update(tiny, tmp_path):
    plain, reported = trained(tiny, tmp_path / "a"), trained(tiny + ALWAYS, tmp_path / "b")
    assert len(plain) == 2
    for one, other in zip(plain, reported, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_clipping_bounds_what_a_record_does_and_a_norm_above_all_changes_nothing(tiny, tmp_path):
    sgd = tiny.replace('"fedavg"', '"fedsgd"')
    (plain, _) = trained(sgd, tmp_path / "a")
    (loose, _) = trained(f'{sgd}{ALWAYS}action = "clip"\nclip = 1e6\n', tmp_path / "b")
    (tight, _) = trained(f'{sgd}{ALWAYS}action = "clip"\nclip = 1e-3\n', tmp_path / "c")
    assert all(torch.allclose(plain[name], loose[name], rtol=1e-4, atol=1e-7) for name in plain)
    length = torch.cat([tensor.flatten() for tensor in tight.values()]).norm()
    assert 0 < length <= 0.05 * 1e-3 * 1.001
    assert torch.cat([tensor.flatten() for tensor in plain.values()]).norm() > 10 * length


def test_rows_that_hardly_a_record_fires_are_sent_as_zeros_and_all_others_as_they_are():
    network = build(Mlp(hidden=(4, 3)), (2,), 2, 1)
    weights = {name: tensor.detach().clone() for name, tensor in state(network).items()}
    weights["0.weight"] = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    weights["0.bias"] = torch.tensor([0.0, -2.5, 10.0, -10.0])
    inputs = torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]])  # units fire on 3, 1, 3 and 0 records
    update = {name: torch.ones_like(tensor) for name, tensor in weights.items()}
    made = vetted.rows_dropped(update, weights, Look(network, inputs), 1)
    assert made["0.weight"].any(1).tolist() == [True, False, True, False]
    assert made["0.bias"].tolist() == [1.0, 0.0, 1.0, 0.0]
    assert torch.equal(made["4.weight"], update["4.weight"])
    assert all(bool(tensor.all()) for tensor in update.values())


def test_dropped_rows_keep_single_records_of_slabs_from_the_server(tiny, tmp_path):
    dropping = f'{tiny}{ALWAYS}action = "drop-rows"\nfew = 2\n'
    (plain, _), (dropped, _) = trained(tiny, tmp_path / "a"), trained(dropping, tmp_path / "b")
    rows = [one["0.weight"].any(1).sum() for one in (plain, dropped)]
    assert 0 < rows[1] < rows[0]


def test_a_refusal_comes_before_all_else_and_of_several_answers_the_strictest_counts():
    def finding(action, **keys):
        return Finding(plugin("detectors", "bias-size")(action=action, threshold=1.0, **keys), 2.0)

    several = [finding("clip", clip=3.0), finding("clip", clip=0.5), finding("drop-rows", few=1)]
    several += [finding("drop-rows", few=4), finding("report")]
    decided = vetted.decided(several)
    assert (decided.refusal, decided.clip, decided.few) == (None, 0.5, 4)
    assert vetted.decided([*several, finding("refuse")]).refusal is not None
    assert vetted.decided([Finding(plugin("detectors", "bias-size")(action="refuse"), 0.1)]).refusal is None


def test_the_terminal_and_the_page_say_in_one_line_what_was_found(tiny, tmp_path, capsys):
    found = run(load(f'{tiny}{ALWAYS}[[vetting]]\nkind = "jump"\n'), out=tmp_path / "run", engine="inline")
    said = "bias-size flagged the weights sent to 4 of 4 clients in round 1 (report)"
    terminal.show_run(found.results, "report.html")
    printed = " ".join(capsys.readouterr().out.split())
    assert f"vetting: {said}" in printed
    assert "1 other flagged nothing" in printed
    assert said in " ".join((tmp_path / "run" / "report.html").read_text(encoding="utf-8").split())
    assert found.results.federation.vetting[0].flagged == 4


def test_clipping_needs_a_model_whose_records_have_gradients_of_their_own():
    document = (
        'name = "a"\n[data]\nsource = "digits"\n[model]\nkind = "convnet"\n[federation]\nclients = 2\nrounds = 1\n'
    )
    document += f'[training]\nalgorithm = "fedsgd"\n{ALWAYS}action = "clip"\n'
    try:
        scenario = loads(document)
    except RequestError as error:
        assert "vetting:" in str(error)  # noqa: PT017
    else:
        assert scenario.model.no_own_gradients is None


@pytest.mark.parametrize("action", ["nothing", "Refuse"])
def test_an_unknown_action_is_refused(tiny, action):
    with pytest.raises(RequestError, match=r"vetting\.0\.action: must be 'report'"):
        loads(f'{tiny}[[vetting]]\nkind = "jump"\naction = "{action}"\n')
