# SPDX-License-Identifier: Apache-2.0
"""Runs the suggestion service on a Unix socket or a TCP port until it is told to stop.

`python -m tunesmith_suggestion` and the command line of tunesmith call `run_server`; the embedded
controller starts it as a child process. A Unix socket is reachable by its owner only; TCP is
encrypted, or plaintext on loopback when asked for by name.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from tunesmith_proto import wire
from tunesmith_proto.guard import STREAMS_A_CONNECTION, Guard
from tunesmith_proto.listening import Listener, ListenError
from tunesmith_suggestion.core import SuggestionCore
from tunesmith_suggestion.katib import KatibCore
from tunesmith_suggestion.registry import Registry
from tunesmith_suggestion.servicer import Compute, KatibServicer, SuggestionsServicer

logger = logging.getLogger(__name__)

MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024
"""Some 130,000 trials of ten parameters in one of Katib's requests. What a stranger can send is
bounded by it; who may send at all, by the socket's owner, loopback or TLS."""
STOP_GRACE_S: Final = 1.5
_EXIT_USAGE: Final = 2
OpenGuard = Callable[[], AbstractAsyncContextManager[Guard]]
_HEALTH_NAMES: Final = ("", wire.SUGGESTIONS, wire.KATIB_SUGGESTION, wire.KATIB_HEALTH_SERVICE)


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """`listen` is unix:/path or host:port (port 0: any free one)."""

    listen: str
    insecure: bool = False
    tls_cert: Path | None = None
    tls_key: Path | None = None
    exit_with_parent: bool = False
    max_message_bytes: int = MAX_MESSAGE_BYTES
    workers: int = 0
    """Threads that compute; 0 is one a processor, at most four."""


class SuggestionServer:
    """The service on an event loop: `start`, then `stop` once."""

    def __init__(
        self,
        options: ServerOptions,
        registry: Registry | None = None,
        guard: Guard | None = None,
    ) -> None:
        """`guard` asks in a cluster who calls; without it nobody is asked."""
        self._options = options
        self.compute = Compute(options.workers or min(4, os.cpu_count() or 1))
        self._server: Any = grpc.aio.server(
            interceptors=[guard] if guard else None,
            options=_channel_options(options) + ([STREAMS_A_CONNECTION] if guard else []),
        )
        self._health = health.aio.HealthServicer()
        registry = registry or Registry()
        suggestions = SuggestionsServicer(SuggestionCore(registry), self.compute)
        katib = KatibServicer(KatibCore(registry), self.compute)
        self._server.add_generic_rpc_handlers(
            (
                wire.handler(wire.SUGGESTIONS, suggestions),
                wire.handler(wire.KATIB_SUGGESTION, katib, as_bytes=("GetSuggestions",)),
            )
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)

    async def start(self) -> str:
        """Listens and says where: the target to connect to. Raises ListenError."""
        options = self._options
        listener = Listener(options.listen, options.insecure, options.tls_cert, options.tls_key)
        target = listener.bind(self._server)
        for name in _HEALTH_NAMES:
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        await self._server.start()
        return target

    async def stop(self, grace: float = STOP_GRACE_S) -> None:
        """Takes no new calls and lets running ones end for `grace` seconds."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace)
        self.compute.close()


async def serve(
    options: ServerOptions,
    until: asyncio.Event,
    ready: Callable[[str], None] = lambda _: None,
    *,
    registry: Registry | None = None,
    guard: OpenGuard | None = None,
) -> bool:
    """Serves until the event is set; `ready` hears the target. Raises ListenError.

    False when a computation still runs on a thread, which Python would wait for at exit.
    """
    async with guard() if guard else nullcontext() as opened:
        server = SuggestionServer(options, registry, opened)
        ready(await server.start())
        await until.wait()
        await server.stop()
    return server.compute.is_idle


def run_server(
    options: ServerOptions, registry: Registry | None = None, guard: OpenGuard | None = None
) -> int:
    """Serves until SIGTERM or SIGINT, at most two seconds longer; the exit status. `guard` is
    opened in the event loop.

    To be called on the main thread, by a process that does nothing else.
    """
    for library in ("OPENBLAS", "OMP", "MKL"):
        # Before numpy is loaded: a sum must not depend on how many threads share it, and fits of
        # several experiments share the processors already.
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    if options.exit_with_parent:
        threading.Thread(target=_exit_at_end_of_input, daemon=True).start()
    try:
        is_idle = asyncio.run(_serve_until_signalled(options, registry, guard))
    except ListenError as error:
        sys.stderr.write(f"tunesmith_suggestion: {error}\n")
        return _EXIT_USAGE
    if not is_idle:
        logging.shutdown()
        os._exit(0)
    return 0


async def _serve_until_signalled(
    options: ServerOptions, registry: Registry | None, guard: OpenGuard | None
) -> bool:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    return await serve(
        options,
        stopped,
        lambda target: logger.info("listening on %s", target),
        registry=registry,
        guard=guard,
    )


def _exit_at_end_of_input() -> None:
    """The parent holds the other end of stdin: its end, however it came, is ours."""
    try:
        while os.read(0, 4096):
            pass
    finally:
        os._exit(0)


def _channel_options(options: ServerOptions) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", options.max_message_bytes),
        ("grpc.max_send_message_length", options.max_message_bytes),
        ("grpc.so_reuseport", 0),
    ]
