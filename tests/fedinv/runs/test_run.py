import pytest

from fedinv import roles
from fedinv.runs import run
from fedinv.scenario.reading import loads

EXACT = '[[attacks]]\nkind = "exact"\nfall_back = false\n'
BOTH = EXACT + '[[attacks]]\nkind = "gradient-matching"\nrestarts = 2\niterations = 100\nsimulate = 50\n'
WIDE = ("hidden = [32, 16]", "hidden = [128, 32]")


def attacked(text, folder):
    scenario = loads(text)
    return {(a.kind, a.variant, a.target): a for a in run.run(scenario, run.open_folder(scenario, folder)).attacks}


def test_undefended_every_record_is_given_up(tiny, tmp_path):
    found = attacked(tiny.replace(*WIDE) + BOTH, tmp_path)
    assert found["exact", "static", "client"].recovered.value == 1.0
    traced = found["exact", "static", "client"]
    assert traced.outside_register == "a register of all 200 people with age and sex"
    assert traced.chance < traced.reidentified.value < 1.0  # as others have the same age and sex
    assert found["exact", "static", "client"].records == 2 * 2 * 6
    matching = found["gradient-matching", "static", "client"].field_accuracy
    assert matching.value > matching.prior + 0.2


@pytest.mark.slow
def test_masking_hides_a_client_and_not_a_small_sum(tiny, tmp_path):
    text = tiny.replace(*WIDE).replace("clients = 4", "clients = 2") + '[[defenses]]\nkind = "masking"\n' + BOTH
    found = attacked(text, tmp_path)
    for kind in ("exact", "gradient-matching"):
        hidden = found[kind, "static", "client"]
        assert (hidden.recovered.value, hidden.claimed) == (0, 0)
        assert hidden.field_accuracy.value == pytest.approx(hidden.field_accuracy.prior, abs=0.03)
    assert found["exact", "static", "client"].undefended.recovered.value == 1.0
    summed = found["exact", "adaptive", "sum"]
    assert summed.records == 2 * 12
    assert summed.recovered.value == 1.0


@pytest.mark.slow
def test_noise_stops_both_attacks_told_of_it_or_not(tiny, tmp_path):
    defense = '[[defenses]]\nkind = "dp-sgd"\nnoise_multiplier = 1.0\nclip = 1.0\n'
    found = attacked(tiny.replace(*WIDE) + defense + BOTH, tmp_path)
    assert {variant for _, variant, _ in found} == {"static", "adaptive"}
    for one in found.values():
        assert one.recovered.value == 0
        assert one.undefended.recovered.value == 1.0 or one.kind != "exact"
        assert one.field_accuracy.value == pytest.approx(one.field_accuracy.prior, abs=0.03)


def test_clipping_without_noise_protects_nothing(tiny, tmp_path):
    text = tiny.replace(*WIDE) + '[[defenses]]\nkind = "clip-noise"\nclip = 0.01\nnoise_multiplier = 0.0\n' + EXACT
    assert attacked(text, tmp_path)["exact", "static", "client"].recovered.value == 1.0


def test_utility_stands_beside_the_undefended_one(tiny, tmp_path):
    scenario = loads(tiny + '[[defenses]]\nkind = "clip-noise"\nclip = 0.01\nnoise_multiplier = 9.0\n')
    results = run.run(scenario, run.open_folder(scenario, tmp_path))
    assert results.utility.undefended is not None
    assert results.privacy.unit == "client"
    assert results.privacy.epsilon > 0
    assert results.attacks == []


def test_a_run_whose_watched_clients_diverge_ends_with_a_report(drawn_plots, tiny, tmp_path, monkeypatch):
    stacked = roles.load("clients", "training.stacked")
    train, calls = stacked.train, [0]

    def diverging(jobs, device):
        calls[0] += len(jobs)
        updates = train(jobs, device)
        return [{k: v * float("nan") for k, v in u.items()} for u in updates] if calls[0] <= 8 else updates

    monkeypatch.setattr(stacked, "train", diverging)
    scenario = loads(tiny + EXACT)
    results = run.run(scenario, run.open_folder(scenario, tmp_path))
    assert results.attacks == []
    assert {(one.round, one.client) for one in results.federation.left_out} == {
        (r, c) for r in (1, 2) for c in range(4)
    }
    assert "no attack had an update" in results.headline.lower()
    assert (tmp_path / "report.html").is_file()


def test_a_claim_survives_what_comes_after_it(tiny, tmp_path):
    claims = []
    for i, later in enumerate(("", '[[defenses]]\nkind = "top-k"\n[[defenses]]\nkind = "quantize"\n')):
        scenario = loads(tiny + '[[defenses]]\nkind = "clip-noise"\nnoise_multiplier = 6.0\n' + later)
        results = run.run(scenario, run.open_folder(scenario, tmp_path / str(i)))
        claims.append(results.privacy.epsilon)
    assert claims[0] == claims[1] > 0


def test_a_client_whose_budget_is_spent_takes_part_no_more(tiny, tmp_path):
    # a round costs an epsilon of about 5.5, two cost 8.2
    noise = '[[defenses]]\nkind = "clip-noise"\nnoise_multiplier = 1.8\nepsilon = 9.0\n'
    scenario = loads(tiny + noise)
    results = run.run(scenario, run.open_folder(scenario, tmp_path))
    assert results.privacy.epsilon <= 9.0
    out = results.federation.left_out
    assert {one.client for one in out} == {0, 1, 2, 3}
    assert {one.round for one in out} == {3}
    assert "declined: clip-noise's budget of epsilon 9 is spent" in out[0].reason


@pytest.mark.slow
def test_an_epsilon_alone_is_spent_over_the_whole_run_and_by_everyone(tiny, tmp_path):
    scenario = loads(tiny + '[[defenses]]\nkind = "dp-sgd"\nepsilon = 3.0\n')
    results = run.run(scenario, run.open_folder(scenario, tmp_path))
    assert 2.95 < results.privacy.epsilon <= 3.0
    assert results.federation.left_out == []
