# SPDX-License-Identifier: Apache-2.0
"""SuggestionClient adapters through one suite: over gRPC to a child process, and in process."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from in_process_suggestions import ENDPOINT, InProcessSuggestions
from service_processes import ready, restarted

from tunesmith_controller.hosts.grpc_suggestions import GrpcSuggestionClient
from tunesmith_controller.hosts.process_host import ProcessAlgorithmHost
from tunesmith_controller.hosts.testing import SuggestionClientContract, SuggestionWorld
from tunesmith_controller.ports import Endpoint


@dataclass
class InProcessWorld:
    client: InProcessSuggestions
    endpoint: Endpoint = ENDPOINT

    async def lose_memory(self) -> None:
        self.client.restart_service()


@dataclass
class ProcessWorld:
    client: GrpcSuggestionClient
    endpoint: Endpoint
    host: ProcessAlgorithmHost

    async def lose_memory(self) -> None:
        killed = self.host.pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        await restarted(self.host, killed)


class TestInProcess(SuggestionClientContract):
    def world(self) -> AbstractAsyncContextManager[SuggestionWorld]:
        @asynccontextmanager
        async def opened() -> AsyncIterator[SuggestionWorld]:
            yield InProcessWorld(InProcessSuggestions())

        return opened()


@pytest.mark.integration
class TestGrpcToAChildProcess(SuggestionClientContract):
    def world(self) -> AbstractAsyncContextManager[SuggestionWorld]:
        @asynccontextmanager
        async def opened() -> AsyncIterator[SuggestionWorld]:
            with tempfile.TemporaryDirectory() as folder:
                host = ProcessAlgorithmHost(Path(folder), Path(folder) / "service.log")
                client = GrpcSuggestionClient()
                try:
                    yield ProcessWorld(client, await ready(host), host)
                finally:
                    await client.close()
                    await host.aclose()

        return opened()
