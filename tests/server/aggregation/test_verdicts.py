"""What attacks get from behind a secure aggregation: nothing of a client, and the sum as one large batch."""

import pytest

from fedinv.runs import run
from fedinv.scenario.reading import loads

ATTACKS = '[[attacks]]\nkind = "exact"\nfall_back = false\n'


@pytest.fixture
def verdicts(tiny, tmp_path):
    def attacked(kind):
        text = tiny.replace("hidden = [32, 16]", "hidden = [128, 32]").replace("clients = 4", "clients = 2")
        scenario = loads(text + f'[[defenses]]\nkind = "{kind}"\n' + ATTACKS)
        results = run.run(scenario, run.open_folder(scenario, tmp_path / kind))
        return {(a.kind, a.variant, a.target): a for a in results.attacks}, results

    return attacked


@pytest.mark.slow
def test_the_verdicts_behind_secagg_plus_are_those_behind_masking(verdicts):
    (found, results), (masked, _) = verdicts("secagg-plus"), verdicts("masking")
    assert set(found) == set(masked)
    hidden = found["exact", "static", "client"]
    assert (hidden.recovered.value, hidden.claimed) == (0, 0)
    assert hidden.field_accuracy.value == pytest.approx(hidden.field_accuracy.prior, abs=0.03)
    summed, same = found["exact", "adaptive", "sum"], masked["exact", "adaptive", "sum"]
    assert summed.recovered.value == same.recovered.value == 1.0
    assert (summed.records, summed.field_accuracy.value) == (same.records, same.field_accuracy.value)
    assert any("secagg-plus" in note and "number of examples" in note for note in results.notes)
