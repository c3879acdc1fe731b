# SPDX-License-Identifier: Apache-2.0
"""The object store contract for `RestStore`, over HTTP against the API of one machine."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from deterministic import CountingRng, TickingClock

from tunesmith_controller.apiserver.server import application
from tunesmith_controller.embedded import LocalPlane, LocalSettings
from tunesmith_controller.ports import ObjectStore
from tunesmith_controller.stores.rest import RestStore
from tunesmith_controller.stores.rest_transport import HttpTransport
from tunesmith_controller.stores.sqlite import SqliteStore
from tunesmith_controller.testing import ObjectStoreContract

TOKEN = "a-token"


@dataclass
class Switchboard:
    """One HTTP server whose application is replaced for each test: starting servers takes longer
    than the tests."""

    runner: asyncio.Runner
    port: int
    app: Any = field(default=None)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)

    def transport(self) -> HttpTransport:
        return HttpTransport(f"http://127.0.0.1:{self.port}", TOKEN)


class _Server(uvicorn.Server):
    """Signals are pytest's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serving(board: Switchboard, listener: socket.socket) -> AsyncIterator[None]:
    config = uvicorn.Config(board, log_config=None, lifespan="off", timeout_graceful_shutdown=0)
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    async with asyncio.timeout(10):
        while not server.started:
            await asyncio.sleep(0.005)
    yield
    server.should_exit = True
    await task


@pytest.fixture(scope="module")
def board() -> Iterator[Switchboard]:
    # With the protocol named, asyncio turns Nagle's algorithm off: 40 ms a request otherwise.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    with contextlib.closing(listener), asyncio.Runner() as runner:
        listener.bind(("127.0.0.1", 0))
        made = Switchboard(runner, listener.getsockname()[1])
        served = serving(made, listener)
        runner.run(served.__aenter__())
        yield made
        runner.run(served.__aexit__(None, None, None))


class TestRestStore(ObjectStoreContract):
    other_kind = "Suggestion"  # the API admits valid Experiments only, the suite's are none
    history_limit = 130  # pruned in steps, so a few more than its bound

    runner: asyncio.Runner

    def run(self, scenario: Coroutine[Any, Any, None]) -> None:
        self.runner.run(asyncio.wait_for(scenario, 4 * self.patience_s))

    @pytest.fixture
    def store(self, board: Switchboard, tmp_path: Path) -> Iterator[ObjectStore]:
        self.runner = board.runner
        kept = SqliteStore(tmp_path / "objects.db", TickingClock(), CountingRng(), history=128)
        board.app = application(LocalPlane(tmp_path, LocalSettings(), kept), board.port, TOKEN)
        transport = board.transport()
        yield RestStore(transport)
        self.runner.run(transport.aclose())
        kept.close()

    @pytest.fixture
    def second_store(self, store: ObjectStore, board: Switchboard) -> Iterator[ObjectStore]:
        transport = board.transport()
        yield RestStore(transport)
        self.runner.run(transport.aclose())
