import socket
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from fedinv.engines import Options
from fedinv.engines.deployment import certificates, engine, rehearsal
from fedinv.engines.deployment.rehearsal import Deployment, Process
from fedinv.errors import RequestError, RunError
from fedinv.runs import run
from fedinv.scenario.reading import loads
from fedinv.storage import files, observations


@pytest.fixture
def sleeper(start):
    """Starts processes that run until they are ended."""
    return lambda: start([sys.executable, "-c", "import signal; signal.pause()"]).process


def noted(at, *processes):
    superlink, *nodes = processes
    found = Deployment(address="127.0.0.1:1", tls=False, superlink=superlink, nodes=tuple(nodes))
    files.write_json(at / "deployment.json", found.model_dump())


def test_down_ends_what_was_started_and_no_process_that_got_its_number(tmp_path, sleeper):
    ours, theirs = sleeper(), sleeper()
    mine = Process(what="SuperLink", pid=ours.pid, began=rehearsal._began(ours.pid))
    stranger = Process(what="SuperNode 0", pid=theirs.pid, began=rehearsal._began(theirs.pid) - 1)
    noted(tmp_path, mine, stranger)
    assert rehearsal.down(tmp_path) == ["SuperLink"]
    assert ours.wait() != 0
    assert theirs.poll() is None
    assert rehearsal.down(tmp_path) == []


def test_a_second_one_is_refused_and_a_dead_one_is_named(tiny, tmp_path, sleeper):
    alive = sleeper()
    noted(tmp_path, Process(what="SuperLink", pid=alive.pid, began=rehearsal._began(alive.pid)))
    with pytest.raises(RequestError, match="is up already.*fedinv down"):
        rehearsal.up(tmp_path, 2, False, print)
    alive.kill()
    alive.wait()
    with pytest.raises(RequestError, match="SuperLink ended; start anew"):
        engine.train(loads(tiny), tmp_path / "out", options=Options(deployment=tmp_path))
    with pytest.raises(RequestError, match="nothing is up; start it with fedinv up --clients 4"):
        engine.train(loads(tiny), tmp_path / "out", options=Options(deployment=tmp_path / "nowhere"))


def test_certificates_vouch_for_this_machine_and_keys_are_their_owners(tmp_path):
    certificates.write_server(tmp_path)
    authority = x509.load_pem_x509_certificate((tmp_path / "ca.crt").read_bytes())
    server = x509.load_pem_x509_certificate((tmp_path / "server.pem").read_bytes())
    server.verify_directly_issued_by(authority)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    key = certificates.write_node(tmp_path, "node-0")
    assert isinstance(authority.public_key(), ec.EllipticCurvePublicKey)
    assert Path(f"{key}.pub").read_text().startswith("ecdsa-sha2-nistp384 ")
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in ("server.key", "node-0")} == {0o600}


@pytest.mark.slow
def test_a_rehearsal_on_real_supernodes_gives_the_updates_and_verdicts_of_inline(tiny, tmp_path, start):
    text = tiny.replace("clients = 4", "clients = 2").replace("[1, 2], clients = 2", "[1], clients = 1")
    text = text.replace("rounds = 3", "rounds = 1\nclients_per_round = 1").replace("[32, 16]", "[128, 32]")
    scenario, at = loads(text + '[[attacks]]\nkind = "exact"\nfall_back = false\n'), tmp_path / "up"
    told = []
    try:
        started = rehearsal.up(at, 1, True, told.append)
        assert len(told) == 2
        stranger = certificates.write_node(rehearsal._keys(at), "stranger")
        command = [Path(sys.executable).parent / "flower-supernode"]
        command += ["--root-certificates", str(rehearsal._keys(at) / "ca.crt")]
        command += ["--auth-supernode-private-key", str(stranger), "--superlink", started.address]
        command += ["--port", str(rehearsal.free_ports(1)[0]), "--host", "127.0.0.1", "--node-config", "partition-id=1"]
        refused = start(command, cwd=at / "flower" / "empty", env=rehearsal.environment(at))
        folder = run.open_folder(scenario, tmp_path / "out")
        results = run.run(scenario, folder, "deployment", options=Options(deployment=at))
        said = refused.ended()
        assert "Failed to activate SuperNode" in said.stdout + said.stderr
        assert len(rehearsal.read(at).nodes) == 2
    finally:
        ended = rehearsal.down(at)
    assert ended == ["SuperNode 0", "SuperNode 1", "SuperLink"]
    assert results.engine == "deployment"
    plain = run.run(scenario, run.open_folder(scenario, tmp_path / "inline"))
    ours, theirs = (observations.read(tmp_path / name / "observations") for name in ("inline", "out"))
    assert [o.clients for o in ours] == [o.clients for o in theirs]
    assert len(ours) == 1
    for one, other in zip(ours, theirs, strict=True):
        assert all(float((t - other.last.received[n]).abs().max()) <= 1e-5 for n, t in one.last.received.items())
    assert [a.recovered for a in results.attacks] == [a.recovered for a in plain.attacks]


def test_what_does_not_come_up_in_time_is_ended_again(tmp_path, monkeypatch):
    monkeypatch.setattr(rehearsal, "START_SECONDS", 0.0)
    noted, note = [], rehearsal._note
    monkeypatch.setattr(rehearsal, "_note", lambda at, found: noted.append(found) or note(at, found))
    with pytest.raises(RunError, match="the SuperLink did not come up"):
        rehearsal.up(tmp_path, 2, True, lambda _: None)
    assert not noted[0].superlink.alive
    assert rehearsal.read(tmp_path) is None


def test_a_superlink_that_ends_by_itself_is_quoted(tmp_path, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr(rehearsal, "free_ports", lambda count: [int(taken.getsockname()[1])])
        with pytest.raises(RunError, match="SuperLink ended by itself, saying: .*address already in use.*logs"):
            rehearsal.up(tmp_path, 2, False, lambda _: None)
    assert rehearsal.read(tmp_path) is None
