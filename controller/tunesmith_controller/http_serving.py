# SPDX-License-Identifier: Apache-2.0
"""HTTP by uvicorn inside an event loop that is somebody else's: the API of one machine, and in a
cluster the probes and the admission webhooks."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from tunesmith_controller.ports import Unavailable

_MOST_HEADERS = 64 * 1024
_KEPT_S = 120
"""Longer than API servers keep an idle connection to a webhook (90 s), so that they close it: what
is closed under a request is a request refused."""


def listen(host: str, port: int, what: str) -> socket.socket:
    """A listening TCP socket; port 0 is any free one. `what` begins the sentence of the Unavailable
    that is raised when the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio sees TCP and turns Nagle's delays off.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise Unavailable(
            f"{what} cannot listen on {host}:{port}: {error.strerror}; "
            "choose another port, or 0 for any"
        ) from None
    listener.listen(128)
    return listener


class _Server(uvicorn.Server):
    """Signals belong to whoever runs us, and an idle server costs nothing worth counting: uvicorn's
    own loop wakes ten times a second."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._asked = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        while not await self.on_tick(0):  # which tells the Date that answers carry
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), 1.0)

    def end(self) -> None:
        """Watches never end by themselves: nothing is waited for."""
        self.should_exit = self.force_exit = True
        self._asked.set()


async def serve_http(
    app: ASGIApp, listener: socket.socket, *, tls: ssl.SSLContext | None = None
) -> None:
    """Serves until cancelled. With `tls` over HTTPS; certificates loaded into the context later
    serve the connections that come after. Raises Unavailable when the server ends by itself."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=1,
        timeout_keep_alive=_KEPT_S,
        h11_max_incomplete_event_size=_MOST_HEADERS,
    )
    config.load()
    config.ssl = tls
    server = _Server(config)
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        server.end()
        await asyncio.wait([serving], timeout=5)
        raise
    raise Unavailable("an HTTP server ended by itself")
