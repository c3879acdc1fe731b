# SPDX-License-Identifier: Apache-2.0
"""One suite over every observation log: SQLite, PostgreSQL, MariaDB, memory, and the service seen
through gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from database_servers import DatabaseServer
from memory_observations import MemoryObservationLog

from tunesmith_api.observations import ObservationLog
from tunesmith_metrics_collector.sink import GrpcObservationLog, open_channel
from tunesmith_observation.limits import Limits
from tunesmith_observation.server import ServerOptions, start_server
from tunesmith_observation.sql import SqlObservationLog
from tunesmith_observation.testing import ObservationLogContract

pytest_plugins = ("database_fixtures",)


@asynccontextmanager
async def sqlite_log(folder: Path, limits: Limits) -> AsyncIterator[SqlObservationLog]:
    log = SqlObservationLog.open(f"sqlite:///{folder}/observations.db", limits)
    try:
        yield log
    finally:
        await log.aclose()


class TestSqliteLog(ObservationLogContract):
    @asynccontextmanager
    async def open_log(self, folder: Path, limits: Limits) -> AsyncIterator[ObservationLog]:
        async with sqlite_log(folder, limits) as log:
            yield log


class TestServersLog(ObservationLogContract):
    """On PostgreSQL and on MariaDB."""

    @pytest.fixture(autouse=True)
    def _on(self, database_server: DatabaseServer) -> None:
        self.server = database_server

    @asynccontextmanager
    async def open_log(self, folder: Path, limits: Limits) -> AsyncIterator[ObservationLog]:
        log = SqlObservationLog.open(self.server.access(self.server.new_database()), limits)
        try:
            yield log
        finally:
            await log.aclose()


class TestMemoryLog(ObservationLogContract):
    @asynccontextmanager
    async def open_log(self, folder: Path, limits: Limits) -> AsyncIterator[ObservationLog]:
        yield MemoryObservationLog(limits)


class TestGrpcLog(ObservationLogContract):
    @asynccontextmanager
    async def open_log(self, folder: Path, limits: Limits) -> AsyncIterator[ObservationLog]:
        options = ServerOptions(f"unix:{folder}/s/db.sock", db="")
        async with sqlite_log(folder, limits) as log:
            server, address = await start_server(options, log)
            try:
                async with open_channel(address) as channel:
                    yield GrpcObservationLog(channel)
            finally:
                await server.stop(None)
