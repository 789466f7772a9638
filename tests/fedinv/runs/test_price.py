import pytest

from fedinv import compare, run
from fedinv.errors import RequestError
from fedinv.runs.price import payable, price, spent
from fedinv.scenario import loads
from fedinv.storage import files
from fedinv.storage.checkpoints import Progress, read_charges
from fedinv.storage.run_folder import RunFolder

NOISE = '[[defenses]]\nkind = "clip-noise"\nnoise_multiplier = {}\n'


def test_the_price_is_what_the_ledgers_say_after_training(tiny, tmp_path):
    scenario = loads(tiny + NOISE.format(6.0).replace("clip-noise", "dp-sgd"))
    told = price(scenario)
    done = run(scenario, out=tmp_path / "run", progress=False)
    assert told == done.results.privacy
    events = [line for line in (tmp_path / "run/log.jsonl").read_text().splitlines() if '"event"' in line]
    assert '"priced"' in events[0]
    assert '"training"' in events[1]


def test_a_client_is_priced_for_the_rounds_it_is_drawn_for(tiny):
    few = tiny.replace("clients = 4\n", "clients = 4\nclients_per_round = 1\n").replace(
        "clients = 2 }", "clients = 1 }"
    )
    assert price(loads(few + NOISE.format(6.0))).epsilon < price(loads(tiny + NOISE.format(6.0))).epsilon


def test_a_budget_that_pays_no_round_is_refused_with_one_that_does_before_anything_is_written(tiny, tmp_path):
    text = tiny + NOISE.format(2.0) + "epsilon = "
    with pytest.raises(RequestError, match="the first round costs 4.38 per client.*write epsilon = 4.38 or more"):
        run(loads(text + "3.0"), out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
    payable(loads(text + "4.38"))


def test_a_budget_that_no_noise_keeps_is_refused_before_training(tiny):
    with pytest.raises(RequestError, match="cannot be kept"):
        payable(loads(tiny + '[[defenses]]\nkind = "dp-sgd"\nepsilon = 1e-9\n'))


def test_a_server_that_would_spend_more_than_its_budget_is_refused(tiny):
    with pytest.raises(RequestError, match="central-dp: its budget is epsilon 1, and all rounds cost"):
        payable(loads(tiny + NOISE.format(2.0).replace("clip-noise", "central-dp") + "epsilon = 1.0\n"))


@pytest.mark.parametrize("noise", ["inf", "nan", "1e30", "-1.0"])
def test_noise_that_is_no_noise_is_refused_in_one_line(tiny, noise):
    with pytest.raises(RequestError, match=r"defenses.0.noise_multiplier: should be .*, not") as caught:
        loads(tiny + NOISE.format(noise))
    assert "\n" not in str(caught.value)


def test_noise_too_weak_for_a_guarantee_is_named_and_not_a_number(tiny, tmp_path):
    done = run(loads(tiny + NOISE.format("5e-324")), out=tmp_path / "run", progress=False)
    privacy = files.read_json(tmp_path / "run/results.json")["privacy"]
    assert (privacy["epsilon"], privacy["exceeds"]) == (None, 1e6)
    assert "> 10^6: none" in done.results.headline
    assert "&gt; 10^6: none" in (tmp_path / "run/report.html").read_text()


def test_a_comparison_with_a_budget_that_pays_no_round_is_refused_before_anything_runs(tiny, tmp_path):
    stacks = ["top-k", "clip-noise:noise_multiplier=1:epsilon=1"]
    with pytest.raises(RequestError, match=r"^clip-noise:.*first round costs"):
        compare(loads(tiny), defenses=stacks, attacks=["exact"], out=tmp_path / "a/b", jobs=1, progress=False)
    assert not (tmp_path / "a/.cells").exists()


def shared_noise(tiny):
    return loads(
        tiny.replace("clients = 4\n", "clients = 20\n").replace("records = 200", "records = 400")
        + '[[defenses]]\nkind = "distributed-noise"\nepsilon = 8.0\n[[defenses]]\nkind = "secagg-plus"\n'
    )


def test_noise_of_clients_that_dropped_out_is_charged_as_missing_whatever_the_engine(tiny, tmp_path):
    scenario = shared_noise(tiny)
    (event,) = scenario.defenses[0].privacy_events(scenario.participation(6))
    left_out = [{"round": r, "client": c, "reason": "is away"} for r in (1, 2, 3) for c in range(12)]
    folder = RunFolder(tmp_path)
    files.write_json(folder.ledger, {"clients": {str(c): [{**vars(event), "steps": 3}] for c in range(20)}})
    progress = {"round": 3, "bytes_up": 0, "used": 24, "seconds": 1.0, "left_out": left_out}
    files.write_json(folder.progress, progress)
    there = files.read_model(Progress, folder.progress)
    found = spent(scenario, read_charges(folder.ledger).clients, there.left_out)
    assert price(scenario).epsilon == pytest.approx(8.0, rel=0.01)
    assert found.epsilon == pytest.approx(14.1, abs=0.2)
    assert "lacked the noise of clients that dropped out" in found.note


def test_what_the_server_gets_beside_the_guarantee_is_said_with_it(tiny, tmp_path):
    done = run(loads(tiny + NOISE.format(6.0)), out=tmp_path / "run", progress=False)
    privacy = done.results.privacy
    assert privacy.excludes == ["the data dictionary", "record counts"]
    assert "the guarantee excludes the data dictionary and record counts" in privacy.note
    assert "per client, which excludes the data dictionary and record counts" in done.results.headline
    assert "the guarantee excludes the data dictionary and record counts" in (tmp_path / "run/report.html").read_text()


@pytest.mark.slow
def test_a_person_of_several_rows_is_said_to_cost_more(tmp_path):
    lines = [f"p{i // 3},{i % 50},{['no', 'yes'][i % 2]}" for i in range(120)]
    (tmp_path / "rows.csv").write_text("\n".join(["who,age,ill", *lines]) + "\n")
    table = f'data = {{ source = "csv", path = "{tmp_path}/rows.csv", label = "ill", person = "who" }}\n'
    rest = 'federation = { clients = 3, rounds = 2 }\ntraining = { algorithm = "fedavg" }\n'
    found = price(loads('name = "rows"\n' + table + rest + '[[defenses]]\nkind = "dp-sgd"\nnoise_multiplier = 2.0\n'))
    assert found.rows == 3
    assert found.person > 2 * found.epsilon
    assert "for all of a person's rows, up to 3, epsilon is" in found.note
