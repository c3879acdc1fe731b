# SPDX-License-Identifier: Apache-2.0
"""Runs the early stopping service on a Unix socket or a TCP port until it is told to stop.

`python -m tunesmith_earlystopping` and the command line of tunesmith call `run_server`.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from tunesmith_earlystopping.katib import EarlyStoppingServicer
from tunesmith_earlystopping.registry import Registry
from tunesmith_earlystopping.stop_sink import ApiOptions, NotConfigured, StopSink, TrialPatcher
from tunesmith_proto import wire
from tunesmith_proto.listening import Listener, ListenError

MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024
STOP_GRACE_S: Final = 1.5
_EXIT_USAGE: Final = 2
_HEALTH_NAMES: Final = ("", wire.KATIB_EARLY_STOPPING, wire.KATIB_HEALTH_SERVICE)


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """`listen` is unix:/path or host:port (port 0: any free one). `api` and what follows it say
    where SetTrialStatus writes; without them it is refused."""

    listen: str
    insecure: bool = False
    tls_cert: Path | None = None
    tls_key: Path | None = None
    max_message_bytes: int = MAX_MESSAGE_BYTES
    api: str = ""
    namespace: str = ""
    token_file: Path | None = None
    ca_file: Path | None = None


class OptionError(ValueError):
    """Options that cannot be used together; the text is for the person who gave them."""


async def start_server(
    options: ServerOptions, *, registry: Registry | None = None, sink: StopSink | None = None
) -> tuple[Any, str]:
    """A started grpc.aio server and the target to connect to. Raises ListenError, OptionError."""
    servicer = EarlyStoppingServicer(registry, sink or sink_of(options))
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", options.max_message_bytes),
            ("grpc.so_reuseport", 0),
        ]
    )
    server.add_generic_rpc_handlers((wire.handler(wire.KATIB_EARLY_STOPPING, servicer),))
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    for name in _HEALTH_NAMES:
        await checks.set(name, health_pb2.HealthCheckResponse.SERVING)
    listener = Listener(options.listen, options.insecure, options.tls_cert, options.tls_key)
    target = listener.bind(server)
    await server.start()
    return server, target


def sink_of(options: ServerOptions) -> StopSink:
    """Raises OptionError."""
    given = ApiOptions(options.api, options.namespace, options.token_file, options.ca_file)
    if not given.url:
        if given.namespace or given.token_file or given.ca_file:
            raise OptionError("--namespace, --token-file and --ca-file go with --api URL")
        return NotConfigured()
    if problem := given.problem():
        raise OptionError(problem)
    return TrialPatcher(given)


async def serve(
    options: ServerOptions, until: asyncio.Event, ready: Callable[[str], None] = lambda _: None
) -> None:
    """Serves until the event is set; `ready` hears the target. Raises as `start_server`."""
    server, target = await start_server(options)
    ready(target)
    await until.wait()
    await server.stop(STOP_GRACE_S)


def run_server(options: ServerOptions) -> int:
    """Serves until SIGTERM or SIGINT, at most two seconds longer; prints one line when it is ready.

    Returns an exit status: 0 when stopped, 2 for unusable options (the reason is on standard
    error). To be called on the main thread.
    """
    try:
        asyncio.run(_serve_until_signalled(options))
    except (ListenError, OptionError) as error:
        sys.stderr.write(f"tunesmith earlystopping: {error}\n")
        return _EXIT_USAGE
    return 0


async def _serve_until_signalled(options: ServerOptions) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    await serve(options, stopped, _say_serving)


def _say_serving(target: str) -> None:
    sys.stdout.write(f"tunesmith earlystopping: SERVING on {target}\n")
    sys.stdout.flush()
