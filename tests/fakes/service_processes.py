# SPDX-License-Identifier: Apache-2.0
"""Real suggestion services for tests: child processes, and waiting for them with a deadline."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tunesmith_controller.hosts.process_host import ProcessAlgorithmHost, State
from tunesmith_controller.ports import Endpoint, Key
from tunesmith_proto import wire

SUGGESTION = Key("Suggestion", "default", "exp")
DEADLINE_S = 20.0
IMPATIENT = [
    ("grpc.initial_reconnect_backoff_ms", 20),
    ("grpc.min_reconnect_backoff_ms", 20),
    ("grpc.max_reconnect_backoff_ms", 20),
]


# ---- children of a host -------------------------------------------------------------------------


async def settled(host: ProcessAlgorithmHost, wanted: Callable[[State], bool]) -> State:
    """The host's answer once it is wanted. Raises TimeoutError."""
    async with asyncio.timeout(DEADLINE_S):
        while not wanted(state := await host.ensure(SUGGESTION, "tpe")):
            await asyncio.sleep(0.01)
        return state


async def ready(host: ProcessAlgorithmHost) -> Endpoint:
    """The endpoint, once the service answers."""
    state = await settled(host, lambda found: isinstance(found, Endpoint))
    assert isinstance(state, Endpoint)
    return state


async def restarted(host: ProcessAlgorithmHost, killed: int) -> Endpoint:
    """The endpoint of another process than the killed one."""
    async with asyncio.timeout(DEADLINE_S):
        while host.pid in (killed, None):
            await asyncio.sleep(0.01)
    return await ready(host)


# ---- children of a test -------------------------------------------------------------------------


@dataclass
class Service:
    """A service process that answers, and a channel to it."""

    process: subprocess.Popen[bytes]
    channel: Any

    def call(self, service: str, method: str, request: object) -> Any:
        """The reply; raises grpc.RpcError."""
        return wire.call(self.channel, service, method)(request, timeout=DEADLINE_S)

    def health(self, name: str = "") -> str:
        """SERVING, or the status code of the refusal."""
        stub = health_pb2_grpc.HealthStub(self.channel)
        try:
            reply = stub.Check(
                health_pb2.HealthCheckRequest(service=name), timeout=DEADLINE_S, wait_for_ready=True
            )
        except grpc.RpcError as error:
            return str(error.code().name)
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status))


def start(*arguments: str) -> subprocess.Popen[bytes]:
    """A service process with these arguments; its standard input is ours to close."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "tunesmith_suggestion", *arguments],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@contextmanager
def service_at(path: Path, *arguments: str) -> Iterator[Service]:
    """A service on a Unix socket that says SERVING; killed at the end."""
    process = start("--listen", f"unix:{path}", *arguments)
    try:
        with grpc.insecure_channel(f"unix:{path}", options=IMPATIENT) as channel:
            service = Service(process, channel)
            assert service.health() == "SERVING"
            yield service
    finally:
        process.kill()
        process.communicate()


def assert_nobody_answers(path: Path) -> None:
    """Waits until the socket is refused. Raises AssertionError."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            if probe.connect_ex(str(path)) != 0:
                return
        time.sleep(0.01)
    raise AssertionError(f"{path} is still served")
