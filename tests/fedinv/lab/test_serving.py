import asyncio
import builtins
import subprocess
import sys

import pytest

from fedinv.errors import RequestError, RunError
from fedinv.lab import serving

OWN = {"127.0.0.1:8000", "localhost:8000"}


def scope(**headers):
    return {"type": "http", "headers": [(name.encode(), value.encode()) for name, value in headers.items()]}


@pytest.mark.parametrize(
    ("headers", "own"),
    [
        ({"host": "127.0.0.1:8000"}, True),
        ({"host": "localhost:8000", "origin": "http://localhost:8000"}, True),
        ({"host": "127.0.0.1:8000", "origin": "http://evil.example"}, False),
        ({"host": "evil.example:8000"}, False),
        ({"host": "127.0.0.1:9000"}, False),
        ({"host": "127.0.0.1:8000", "origin": "null"}, False),
        ({}, False),
    ],
)
def test_only_this_machine_s_own_pages_are_answered(headers, own):
    assert serving.is_own(scope(**headers), OWN) is own


def test_a_request_by_another_name_gets_no_page():
    sent = []

    async def send(message):
        sent.append(message)

    application = serving.application("token", None, 8000)
    asyncio.run(application(scope(host="evil.example"), None, send))
    assert sent[0]["status"] == 403
    sent.clear()
    asyncio.run(application({**scope(host="evil.example"), "type": "websocket"}, None, send))
    assert sent[0]["type"] == "websocket.close"


def test_without_marimo_one_line_says_what_to_install(monkeypatch):
    imported = builtins.__import__

    def without(name, *rest):
        if name == "marimo":
            raise ImportError(name)
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(RequestError, match=r"pip install 'fedinv\[lab\]'"):
        serving.serve(0, False, lambda _: None)


def test_a_port_that_is_taken_is_said_in_one_line():
    with serving._listening(0) as (listener, port):
        listener.listen()
        with pytest.raises(RunError, match=f"port {port} of 127.0.0.1"), serving._listening(port):
            pass


@pytest.mark.slow
def test_nothing_but_the_lab_imports_marimo():
    code = (
        "import sys, fedinv.api, fedinv.cli, fedinv.lab.settings, fedinv.lab.work; assert 'marimo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
