"""The demo's browser page, on loopback: the picture as MJPEG, the rest as server-sent events."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import socket
import threading
from collections.abc import AsyncIterator
from importlib.resources import files
from types import TracebackType

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route

from agent.base.errors import UsageError
from agent.demo.state import DemoState

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
PICTURE_SECONDS = 1 / 12
STATE_SECONDS = 0.15
ALIVE_SECONDS = 5.0  # a comment this often shows the server that somebody has gone
STOP_SECONDS = 3.0
_BOUNDARY = "frame"
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Page:
    """Serves *state* within a ``with`` block; *port* 0 takes a free one. ``url`` is where."""

    def __init__(self, state: DemoState, *, port: int = 0) -> None:
        self._state = state
        self._port = port
        self._stopping = False
        self._html = (files("agent.demo") / "page.html").read_text(encoding="utf-8")
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._socket: socket.socket | None = None
        self.url = ""

    def __enter__(self) -> Page:
        """Start; the page is there on return. Raises UsageError when the port is taken."""
        self._socket = _listen(self._port)
        self.url = f"http://{HOST}:{self._socket.getsockname()[1]}/"
        self._stopping = False
        config = uvicorn.Config(
            self._application(),
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=2,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="demo-page", daemon=True
        )
        self._thread.start()
        # The socket already listens: who connects before the server runs only waits a moment.
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del kind, error, trace
        self._stopping = True  # ends the streams, which would otherwise go on for ever
        if self._server is not None:
            self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)
            if self._thread.is_alive():
                log.warning("the demo's page did not stop within %g s", STOP_SECONDS)
        if self._socket is not None:
            self._socket.close()

    def _application(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/", self._page),
                Route("/picture", self._picture),
                Route("/state", self._events),
            ],
            # Another site's page may not read this one by giving itself a loopback address.
            middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])],
        )

    async def _page(self, request: Request) -> Response:
        del request
        nonce = secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; img-src 'self' data:; connect-src 'self'; "
            f"style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; "
            f"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        html = self._html.replace("{{nonce}}", nonce)
        return HTMLResponse(html, headers={**_HEADERS, "Content-Security-Policy": policy})

    async def _picture(self, request: Request) -> Response:
        hidden = request.query_params.get("blur", "0") not in ("", "0")
        return StreamingResponse(
            self._pictures(hidden=hidden),
            media_type=f"multipart/x-mixed-replace; boundary={_BOUNDARY}",
            headers=_HEADERS,
        )

    async def _pictures(self, *, hidden: bool) -> AsyncIterator[bytes]:
        shown = 0
        yield f"--{_BOUNDARY}\r\n".encode()
        while not self._stopping:
            if self._state.number != shown:
                shown, data = await run_in_threadpool(self._state.jpeg, hidden=hidden)
                head = f"Content-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                # The next boundary follows at once: browsers show a part when they see its end.
                yield head.encode() + data + f"\r\n--{_BOUNDARY}\r\n".encode()
            await asyncio.sleep(PICTURE_SECONDS)

    async def _events(self, request: Request) -> Response:
        del request
        return StreamingResponse(self._states(), media_type="text/event-stream", headers=_HEADERS)

    async def _states(self) -> AsyncIterator[str]:
        sent = ""
        silent = 0.0
        while not self._stopping:
            text = json.dumps(self._state.snapshot(), ensure_ascii=False)
            if text != sent:
                yield f"data: {text}\n\n"
                sent, silent = text, 0.0
            elif silent >= ALIVE_SECONDS:
                yield ": alive\n\n"
                silent = 0.0
            await asyncio.sleep(STATE_SECONDS)
            silent += STATE_SECONDS


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(64)
    except OSError as error:
        listener.close()
        raise UsageError(
            f"the page cannot be served on {HOST}:{port}: {error.strerror}; "
            "choose another port, or 0 for a free one"
        ) from error
    return listener
