import socket
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from fedinv.engines import Options, inline
from fedinv.engines.deployment import certificates, engine, processes, rehearsal
from fedinv.engines.deployment.processes import Process
from fedinv.engines.deployment.rehearsal import Deployment
from fedinv.errors import RequestError, RunError
from fedinv.runs import run
from fedinv.scenario.reading import loads
from fedinv.storage import files, lock, observations


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
    mine = Process(what="SuperLink", pid=ours.pid, began=processes.began(ours.pid))
    stranger = Process(what="SuperNode 0", pid=theirs.pid, began=processes.began(theirs.pid) - 1)
    noted(tmp_path, mine, stranger)
    assert rehearsal.down(tmp_path) == ["SuperLink"]
    assert ours.wait() != 0
    assert theirs.poll() is None
    assert rehearsal.down(tmp_path) == []


def test_a_second_one_is_refused_and_a_dead_one_is_named(tiny, tmp_path, sleeper):
    alive = sleeper()
    noted(tmp_path, Process(what="SuperLink", pid=alive.pid, began=processes.began(alive.pid)))
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
def test_a_rehearsal_on_real_supernodes_gives_the_updates_and_verdicts_of_inline(tiny, tmp_path, start, own_network):
    text = tiny.replace("clients = 4", "clients = 2").replace("[1, 2], clients = 2", "[1], clients = 1")
    # the network is the user's own: each process imports it for itself
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "deployed_net.py").write_text(own_network)
    own = f'kind = "module"\nfactory = "deployed_net:Net"\nproject = "{tmp_path / "project"}"'
    text = text.replace('kind = "mlp"\nhidden = [32, 16]', own)
    text = text.replace("rounds = 3", "rounds = 1\nclients_per_round = 1")
    scenario, at = loads(text + '[[attacks]]\nkind = "exact"\nfall_back = false\n'), tmp_path / "up"
    told = []
    try:
        started = rehearsal.up(at, 1, True, told.append)
        assert len(told) == 2
        stranger = certificates.write_node(rehearsal._keys(at), "stranger")
        command = [Path(sys.executable).parent / "flower-supernode"]
        command += ["--root-certificates", str(rehearsal._keys(at) / "ca.crt")]
        command += ["--auth-supernode-private-key", str(stranger), "--superlink", started.address]
        command += ["--port", str(processes.free_ports(1)[0]), "--host", "127.0.0.1", "--node-config", "partition-id=1"]
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
    assert results.attacks[0].recovered.count > 0
    sys.modules.pop("deployed_net", None)


def test_what_does_not_come_up_in_time_is_ended_again(tmp_path, monkeypatch):
    monkeypatch.setattr(rehearsal, "START_SECONDS", 0.0)
    noted, note = [], rehearsal._note
    monkeypatch.setattr(rehearsal, "_note", lambda at, found: noted.append(found) or note(at, found))
    with pytest.raises(RunError, match="the SuperLink did not come up"):
        rehearsal.up(tmp_path, 2, True, lambda _: None)
    assert not noted[0].superlink.alive
    assert rehearsal.read(tmp_path) is None


@pytest.mark.slow
def test_a_superlink_that_ends_by_itself_is_quoted(tmp_path, monkeypatch):
    monkeypatch.setattr(rehearsal, "TRIES", 1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr(processes, "free_ports", lambda count: [int(taken.getsockname()[1])])
        with pytest.raises(RunError, match="SuperLink ended by itself, saying: .*address already in use.*logs"):
            rehearsal.up(tmp_path, 2, False, lambda _: None)
    assert rehearsal.read(tmp_path) is None


WAIT = "import signal; signal.pause()"
HELPED = f"import subprocess, sys; subprocess.run([sys.executable, '-c', '{WAIT}', 'flower-superexec'])"
LISTEN = f"import socket, sys; s = socket.socket(); s.bind(('127.0.0.1', int(sys.argv[1]))); s.listen(); {WAIT}"


@pytest.fixture
def daemon(start, until):
    """Starts a process as a SuperLink or SuperNode is, with or without its SuperExec."""

    def begin(what, helper=True):
        code = HELPED if helper else WAIT
        pid = start([sys.executable, "-c", code]).process.pid
        made = Process(what=what, pid=pid, began=processes.began(pid))
        until(lambda: made.has_helper == helper, f"{what} is up")
        return made

    return begin


@pytest.fixture
def followed(tiny, tmp_path, monkeypatch):
    """Follows a run whose SuperLink says what each query of the status gives: texts, or errors that are raised."""
    monkeypatch.setattr(engine, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(engine, "ASK_SECONDS", 0.0)

    def follow(*said):
        answers = iter(said)

        def flower(at, *arguments):
            status = next(answers, said[-1])
            if isinstance(status, Exception):
                raise status
            return {"runs": [{"status": status, "status-details": ""}]}

        monkeypatch.setattr(rehearsal, "flower", flower)
        engine._follow(tmp_path, "7", loads(tiny), tmp_path / "out", lambda _: None)

    return follow


def test_a_run_whose_superlink_ended_ends_in_one_line_and_so_do_its_orphans(tmp_path, daemon, start, followed):
    link, node = daemon("SuperLink"), daemon("SuperNode 0")
    noted(tmp_path, link, node)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "superlink.log").write_text("\x1b[92mINFO\x1b[0m: up\n\x1b[91mMemoryError: no more\x1b[0m\n")
    orphan = start([sys.executable, "-c", WAIT], env={processes.MARK: str(tmp_path)}).process
    processes.end([link.pid, *processes.descendants(link.pid)])
    with pytest.raises(RunError, match=r"SuperLink ended during the run \(last line of its log: MemoryError: no more"):
        followed("running")
    assert orphan.wait() != 0
    assert not node.alive
    assert rehearsal.read(tmp_path) is None


def test_a_superlink_without_superexec_ends_only_what_it_has_not_begun(tmp_path, daemon, followed):
    noted(tmp_path, daemon("SuperLink", helper=False))
    with pytest.raises(RunError, match="SuperExec ended before the run began"):
        followed("pending")
    with pytest.raises(RunError, match="ended as finished:failed"):
        followed("running", "running", "running", "finished:failed")


def test_a_supernode_without_superexec_is_ended_and_the_run_goes_on(tmp_path, daemon, followed, capsys):
    link, idle, busy = daemon("SuperLink"), daemon("SuperNode 0", helper=False), daemon("SuperNode 1")
    noted(tmp_path, link, idle, busy)
    with pytest.raises(RunError, match="ended as finished:failed"):
        followed("running", "running", "running", "finished:failed")
    assert [process.alive for process in (link, idle, busy)] == [True, False, True]
    assert capsys.readouterr().err == (
        "fedinv: SuperNode 0's SuperExec ended: it is ended too, and the run goes on without its client\n"
    )
    with pytest.raises(RequestError, match="SuperNode 0 ended; start anew"):
        engine._joined(loads(TWO), Options(deployment=tmp_path))


TWO = """
name = "two"
[data]
source = "hospital"
[federation]
clients = 2
rounds = 1
[training]
algorithm = "fedavg"
"""


def test_a_deployment_without_superexec_is_named_before_the_run(tmp_path, daemon):
    noted(tmp_path, daemon("SuperLink"), daemon("SuperNode 0", helper=False))
    with pytest.raises(RequestError, match="SuperNode 0's SuperExec ended; start anew"):
        engine._joined(loads(TWO), Options(deployment=tmp_path))


def test_a_superlink_elsewhere_is_not_waited_for_without_end(monkeypatch, followed):
    with pytest.raises(RunError, match="does not answer: gone"):
        followed("running", *[RunError("gone")] * 3)
    with pytest.raises(RunError, match="ended as finished:failed"):
        followed(*[RunError("gone")] * 2, "running", *[RunError("gone")] * 2, "finished:failed")
    monkeypatch.setattr(engine, "BEGIN_SECONDS", 0.0)
    with pytest.raises(RunError, match="did not begin the run"):
        followed("pending")


def test_flowers_commands_are_not_waited_for_without_end(tmp_path, monkeypatch):
    command = tmp_path / "flwr"
    command.write_text("#!/bin/sh\nexec sleep 1000\n")
    command.chmod(0o700)
    monkeypatch.setattr(rehearsal.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(rehearsal, "ANSWER_SECONDS", 0.2)
    with pytest.raises(RunError, match="flwr list: no answer from the SuperLink"):
        rehearsal.flower(tmp_path, "list")


def test_a_port_that_a_stranger_took_first_is_replaced(tmp_path, monkeypatch):
    python = Path(sys.executable).name
    links, nodes = [], []

    def link(at, port, tls):
        links.append(port)
        return rehearsal._start(at, "SuperLink", [python, "-c", LISTEN, str(port)])

    def node(at, there, number, clients, port):
        nodes.append((number, port))
        return rehearsal._start(at, f"SuperNode {number}", [python, "-c", LISTEN, str(port)])

    monkeypatch.setattr(rehearsal, "_superlink", link)
    monkeypatch.setattr(rehearsal, "_supernode", node)
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        taken, free = int(stranger.getsockname()[1]), processes.free_ports
        handed = iter([[taken], free(1), [taken, *free(1)], free(1)])
        monkeypatch.setattr(processes, "free_ports", lambda count: next(handed))
        # online: its SuperNode listens, that of client 0 on the port that is not the stranger's
        monkeypatch.setattr(
            rehearsal,
            "_online",
            lambda at: sum(
                processes.serves(node.pid, dict(nodes)[n]) for n, node in enumerate(rehearsal.read(at).nodes)
            ),
        )
        try:
            there = rehearsal.up(tmp_path, 2, False, lambda _: None)
            assert links[0] == taken != links[1]
            assert there.address.endswith(f":{links[1]}")
            assert [number for number, _ in nodes] == [0, 1, 0]
            assert all(process.alive for process in there.processes)
        finally:
            rehearsal.down(tmp_path)


def test_a_folder_that_a_killed_commands_run_still_trains_is_not_trained_twice(tiny, tmp_path, monkeypatch):
    stopped = []
    monkeypatch.setattr(rehearsal, "flower", lambda at, *arguments: stopped.append(arguments))
    monkeypatch.setattr(engine, "STOP_SECONDS", 0.0)
    files.write_json(tmp_path / "flower-run.json", {"run": "7"})
    with lock.locked(tmp_path, name=lock.TRAINING):
        with pytest.raises(RequestError, match="run 7 of Flower still trains it"):
            engine._stop_former(tmp_path, tmp_path)
        with pytest.raises(RequestError, match="is in use by another"):
            inline.train(loads(tiny), tmp_path)
    engine._stop_former(tmp_path, tmp_path)
    assert stopped == [("stop", "7", "fedinv")] * 2
    assert not (tmp_path / "flower-run.json").exists()
