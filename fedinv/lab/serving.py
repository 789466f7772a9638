"""Serves the page on this machine alone: marimo's app behind a token and a check of who asks.

Not named server.py: marimo puts the folder of a page on the path, where it would hide the role of that name.
"""

import os
import secrets
import socket
import tempfile
import webbrowser
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedinv.errors import RequestError, RunError
from fedinv.lab.work import Workshop, workshop

HOST = "127.0.0.1"
"""The address that the lab listens on: nobody but this machine reaches it."""
PAGE = Path(__file__).with_name("page.py")
"""The page's notebook."""
CONFIGURATION = '[display]\ntheme = "system"\n[server]\nfollow_symlink = false\n'
"""Configuration of marimo for a user who has none: light or dark as the system is."""

Scope = MutableMapping[str, Any]
Application = Callable[[Scope, Any, Any], Awaitable[None]]


def serve(port: int, open_browser: bool, say: Callable[[str], None]) -> None:
    """Serve the page until Ctrl-C; `say` is called with its address as soon as it answers. Port 0: any free one.

    Raises RequestError where marimo is not installed, RunError where the port is taken.
    """
    try:
        import marimo  # noqa: F401
        import uvicorn
    except ImportError:
        raise RequestError("lab: needs marimo, which is not installed: pip install 'fedinv[lab]'") from None
    token = secrets.token_urlsafe(24)
    with _listening(port) as (listener, at), _configured(), workshop() as shop:
        config = uvicorn.Config(
            application(token, shop, at),
            log_level="error",
            lifespan="on",
            ws="websockets-sansio",
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        address = f"http://{HOST}:{at}/?access_token={token}"
        say(address)
        if open_browser:
            webbrowser.open(address)
        server.run(sockets=[listener])


def application(token: str, shop: Workshop, port: int) -> Application:
    """The page as an ASGI application that is reached with the token, under this machine's own names alone."""
    import marimo

    app = marimo.create_asgi_app(quiet=True, include_code=False, token=token).with_app(path="", root=str(PAGE)).build()
    own = {f"{name}:{port}" for name in (HOST, "localhost")}

    async def guarded(scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] in ("http", "websocket"):
            if not is_own(scope, own):
                await _refuse(scope, send)
                return
            scope["meta"] = {"workshop": shop}
        await app(scope, receive, send)

    return guarded


def is_own(scope: Scope, own: set[str]) -> bool:
    """Whether a request names this machine as its host, and comes from no other site's page.

    A page elsewhere may have its name resolved to 127.0.0.1, and then reach what listens there.
    """
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
    origin = headers.get("origin")
    return headers.get("host") in own and (origin is None or origin.partition("://")[2] in own)


async def _refuse(scope: Scope, send: Any) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"this page is for its own machine alone"})


@contextmanager
def _listening(port: int) -> Iterator[tuple[socket.socket, int]]:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except (OSError, OverflowError):
            raise RunError(f"lab: port {port} of {HOST} cannot be had; leave --port out for a free one") from None
        yield listener, listener.getsockname()[1]


@contextmanager
def _configured() -> Iterator[None]:
    """Give marimo a configuration folder of the lab's own while it runs, so that it writes none into the user's."""
    before = os.environ.get("XDG_CONFIG_HOME")
    with tempfile.TemporaryDirectory(prefix="fedinv-lab-config-") as folder:
        place = Path(folder) / "marimo" / "marimo.toml"
        place.parent.mkdir()
        place.write_text(CONFIGURATION, encoding="utf-8")
        os.environ["XDG_CONFIG_HOME"] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ["XDG_CONFIG_HOME"]
            else:
                os.environ["XDG_CONFIG_HOME"] = before
