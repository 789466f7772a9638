"""Nothing is used again that was made from other records, another scenario or other code."""

import random
import shutil
import time
from contextlib import contextmanager

import pytest

from fedinv.errors import RequestError
from fedinv.judge.truth import forget_files
from fedinv.runs import provenance, run
from fedinv.scenario.reading import loads
from fedinv.studies import compare as comparing
from fedinv.studies.assess import Variation, assess
from fedinv.studies.audit import audit
from fedinv.studies.workers import Workers

EDIT = """
name = "edit"
data = { source = "csv", path = "PATH", label = "died" }
model = { kind = "mlp", hidden = [64] }
federation = { clients = 3, rounds = 2 }
training = { algorithm = "fedavg", records_per_client = 6, batch_size = 3 }
attacks = [{ kind = "exact" }]
"""


def rows():
    draw = random.Random(5)
    return [
        f"{draw.randint(20, 90)},{draw.uniform(50, 99):.1f},{draw.choice('fm')},"
        f"{draw.choice('ABC')},{int(draw.random() < 0.5)}"
        for _ in range(200)
    ]


def written(path, lines, header="age,weight,sex,ward,died"):
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


@pytest.fixture
def table(tmp_path):
    return written(tmp_path / "edit.csv", rows())


@pytest.fixture
def forgetful(table):
    """Has the next command read the data anew, as `run.check` does."""
    return lambda: forget_files(declared(table).data)


@pytest.fixture
def in_this_process(monkeypatch):
    """Studies run one after the other in this process: starting others takes longest."""

    class Here:
        def __init__(self):
            self.tasks = []

        def submit(self, key, function, *arguments):
            self.tasks.append((key, function, arguments))

        def finished(self):
            while self.tasks:
                key, function, arguments = self.tasks.pop(0)
                yield key, function(*arguments)

    @contextmanager
    def pool(*_):
        yield Here()

    monkeypatch.setattr(comparing, "pool", pool)
    monkeypatch.setattr("fedinv.studies.assess.pool", pool)


def declared(table, **changes):
    text = EDIT.replace("PATH", str(table))
    for key, value in changes.items():
        text = text.replace(key, value)
    return loads(text)


def shuffled(table, forget):
    lines = rows()
    random.Random(1).shuffle(lines)
    written(table, lines)
    forget()


def test_a_run_whose_rows_were_shuffled_is_not_attacked_again(table, tmp_path, forgetful):
    scenario = declared(table)
    found = run.run(scenario, run.open_folder(scenario, tmp_path / "run"))
    assert found.attacks
    again = run.again(tmp_path / "run", "labels", {})  # unchanged: allowed
    assert again.inferences
    shuffled(table, forgetful)
    with pytest.raises(RequestError, match="made from other records: the data changed since; name another folder"):
        run.again(tmp_path / "run", "row-space", {})


def test_a_stopped_run_whose_table_changed_is_not_gone_on_with(table, tmp_path, forgetful):
    scenario = declared(table)
    folder = run.open_folder(scenario, tmp_path / "run")
    assert run.open_folder(scenario, folder) == folder
    written(table, rows()[:-1])
    forgetful()
    with pytest.raises(RequestError, match="made from other records"):
        run.open_folder(scenario, folder)


def test_a_value_that_changes_in_one_cell_is_seen_and_a_moved_file_is_none(table, tmp_path, forgetful):
    before = provenance.of(declared(table))
    moved = tmp_path / "elsewhere.csv"
    shutil.copy(table, moved)
    assert provenance.of(declared(moved)) == before
    first, *others = rows()
    written(table, ["21" + first[2:], *others])
    forgetful()
    now = provenance.of(declared(table))
    assert now.records != before.records
    assert now.scenario == before.scenario
    assert provenance.of(declared(moved, **{'"fedavg"': '"fedsgd"'})).scenario != before.scenario


def test_code_is_read_whole_and_fast(table):
    scenario = declared(table)
    provenance.of(scenario)
    sources = (provenance._sources, provenance._code, provenance._attack_code, provenance.attack_code)
    times = []
    for _ in range(5):
        for cached in sources:
            cached.cache_clear()
        begun = time.process_time()
        provenance.of(scenario)
        times.append(time.process_time() - begun)
    assert min(times) < 0.1  # 0.02 to 0.05 s on an idle machine


def test_an_edited_attack_makes_claims_and_cells_anew_and_edited_training_is_refused(table, tmp_path, monkeypatch):
    scenario = declared(table)
    run.run(scenario, run.open_folder(scenario, tmp_path / "run"))
    claims = {path.name for path in (tmp_path / "run" / "claims").iterdir()}
    plan = comparing.Plan(scenario, [], scenario.attacks)
    cells = plan.folders(tmp_path / ".cells")

    monkeypatch.setattr("fedinv.runs.attack_runner.attack_code", lambda _: "edited")
    run.again(tmp_path / "run", "labels", {})
    assert len({path.name for path in (tmp_path / "run" / "claims").iterdir()} - claims) == 2  # exact's too

    real = provenance.of
    monkeypatch.setattr(provenance, "of", lambda *a: real(*a).model_copy(update={"attacks": "edited"}))
    assert plan.folders(tmp_path / ".cells") != cells
    monkeypatch.setattr(provenance, "of", lambda *a: real(*a).model_copy(update={"code": "edited"}))
    with pytest.raises(RequestError, match="made from other code, which was changed since"):
        run.again(tmp_path / "run", "labels", {})
    monkeypatch.setattr(provenance, "of", lambda *a: real(*a).model_copy(update={"version": "9.0"}))
    with pytest.raises(RequestError, match="of fedinv, and this is 9.0"):
        run.again(tmp_path / "run", "labels", {})


def test_a_run_that_does_not_say_what_it_was_made_from_is_refused(table, tmp_path):
    scenario = declared(table)
    run.run(scenario, run.open_folder(scenario, tmp_path / "run"))
    (tmp_path / "run" / "provenance.json").unlink()
    with pytest.raises(RequestError, match="made from something that it does not say"):
        run.again(tmp_path / "run", "labels", {})


def test_a_comparison_of_a_table_with_fewer_columns_runs_anew(table, tmp_path, forgetful, in_this_process):
    scenario = declared(table)

    def compared():
        plan = comparing.Plan(scenario, [], scenario.attacks)
        return comparing.compare(plan, 0.02, tmp_path / "c", Workers(1), lambda *_: None).rows[0].runs[0]

    first = compared()
    assert compared() == first
    written(table, [",".join(line.split(",")[:2] + line.split(",")[-1:]) for line in rows()], "age,weight,died")
    forgetful()
    assert compared() != first
    assert (tmp_path / "c" / "provenance.json").is_file()


def test_an_assessment_of_other_settings_is_refused_in_the_same_folder(table, tmp_path, monkeypatch, in_this_process):
    plain = Variation("as it is", "the scenario as it is", {})
    monkeypatch.setattr("fedinv.studies.assess.variations", lambda _: iter([plain]))
    scenario = declared(table)
    (leak,) = assess(scenario, tmp_path / "a", 1, lambda _: None, scenario.attacks)
    when = (tmp_path / "a" / "00" / "ledger.json").stat().st_mtime_ns
    assert assess(scenario, tmp_path / "a", 1, lambda _: None, scenario.attacks) == [leak]
    assert (tmp_path / "a" / "00" / "ledger.json").stat().st_mtime_ns == when
    other = declared(table, **{"hidden = [64]": "hidden = [32]"})
    with pytest.raises(RequestError, match="a: was made from another scenario; name another folder"):
        assess(other, tmp_path / "a", 1, lambda _: None, other.attacks)


def test_an_audit_of_another_noise_is_refused_in_the_same_folder(tmp_path, tiny):
    noise = '[[defenses]]\nkind = "clip-noise"\nnoise_multiplier = {}\n[audit]\nclients = 20\n'
    text = tiny.replace("rounds = 3", "rounds = 1").replace("[1, 2]", "[1]")
    found = audit(loads(text + noise.format(4.0)), tmp_path / "a", run.quiet)
    assert audit(loads(text + noise.format(4.0)), tmp_path / "a", run.quiet) == found
    with pytest.raises(RequestError, match="made from another scenario"):
        audit(loads(text + noise.format(0.5)), tmp_path / "a", run.quiet)
    quoted = audit(loads(text + noise.format(4.0) + "claimed_epsilon = 0.5\n"), tmp_path / "a", run.quiet)
    assert (quoted.claimed, quoted.ledger) == (0.5, found.ledger)  # the same training against another claim
