"""Clients that drop out of a round, on whatever engine: they say so themselves, by the scenario's seed."""

import pytest
from pydantic import ValidationError

from fedinv.engines.inline import train
from fedinv.errors import RequestError, RunError
from fedinv.federation.agreement import Federation, round_clients, round_dropouts, round_senders
from fedinv.scenario.reading import loads
from fedinv.storage import files, observations
from fedinv.storage.run_folder import RunFolder


@pytest.mark.parametrize(
    ("clients", "a_round", "share", "gone"),
    [(10, None, 0.3, 3), (10, 5, 0.2, 1), (4, None, 0.01, 1), (4, None, 0.99, 3), (2, None, 0.5, 1), (9, None, 0.0, 0)],
)
def test_a_share_of_the_round_drops_out_drawn_by_the_seed(clients, a_round, share, gone):
    federation = Federation(clients=clients, clients_per_round=a_round, rounds=9, dropout=share)
    drawn = [round_dropouts(federation, 7, round_) for round_ in range(1, 10)]
    assert {len(one) for one in drawn} == {gone}
    assert drawn == [round_dropouts(federation, 7, round_) for round_ in range(1, 10)]
    if gone:
        assert len({*drawn}) > 1
        assert drawn != [round_dropouts(federation, 8, round_) for round_ in range(1, 10)]
    for round_, one in enumerate(drawn, start=1):
        cohort = round_clients(clients, federation.participants, 7, round_)
        assert one < set(cohort)
        assert round_senders(federation, 7, round_) == tuple(c for c in cohort if c not in one)


def test_the_share_is_below_one_and_somebody_stays(tiny):
    with pytest.raises(ValidationError):
        Federation(clients=4, rounds=1, dropout=1.0)
    with pytest.raises(RequestError, match=r"federation.dropout: needs at least two clients in a round"):
        loads(
            tiny.replace("rounds = 3", "rounds = 3\nclients_per_round = 1\ndropout = 0.5").replace(
                "clients = 2", "clients = 1"
            )
        )


def dropping(tiny, defense=""):
    defenses = f'[[defenses]]\nkind = "{defense}"\n' if defense else ""
    return loads(tiny.replace("rounds = 3", "rounds = 3\ndropout = 0.25") + defenses)


@pytest.mark.parametrize("defense", ["", "secagg-plus", "clip-noise", "homomorphic"])
def test_who_drops_out_is_left_out_and_not_charged_and_the_next_one_is_watched(tiny, tmp_path, defense):
    scenario = dropping(tiny, defense)
    train(scenario, tmp_path)
    folder = RunFolder(tmp_path)
    gone = {(r, c) for r in (1, 2, 3) for c in round_dropouts(scenario.federation, scenario.seed, r)}
    assert len(gone) == 3
    progress = files.read_json(folder.progress)
    assert {(one["round"], one["client"]) for one in progress["left_out"]} == gone
    assert all("dropped out of the round" in one["reason"] for one in progress["left_out"])
    assert progress["used"] == 12 - 3
    seen = {(one.last.round, one.clients) for one in observations.read(folder.observations)}
    senders = {r: round_senders(scenario.federation, scenario.seed, r) for r in (1, 2)}
    if defense in ("secagg-plus", "homomorphic"):
        assert {(r, senders[r]) for r in (1, 2)} <= seen
    else:
        assert seen == {(r, (c,)) for r in (1, 2) for c in senders[r][:2]}
    if defense == "clip-noise":
        charged = files.read_json(folder.ledger)["clients"]
        for client in range(4):
            rounds = sum(event["steps"] for event in charged[str(client)])
            assert rounds == 3 - sum(c == client for _, c in gone)


def test_masks_that_do_not_cancel_end_the_run_and_going_on_is_not_offered(tiny, tmp_path, monkeypatch, capsys):
    scenario = dropping(tiny, "masking")
    with pytest.raises(RunError, match="masked update that is unusable, as another client of the round is missing"):
        train(scenario, tmp_path / "engine")
    from fedinv.cli import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.toml").write_text(scenario.to_toml())
    monkeypatch.setattr("sys.argv", ["fedinv", "run", "s.toml", "--out", "failed"])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert ended.value.code == 1
    assert "change the scenario, and run it in another folder" in said
    assert "go on with" not in said
