# SPDX-License-Identifier: Apache-2.0
"""The journal of the observation log while real PostgreSQL and MariaDB servers are away."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from database_servers import DatabaseServer

from tunesmith_api.errors import Unavailable
from tunesmith_api.metrics import Row
from tunesmith_api.observations import ObservationLog, Report, SourceKey
from tunesmith_observation.database import Access
from tunesmith_observation.journal import JournaledLog, JournalSettings
from tunesmith_observation.limits import Limits
from tunesmith_observation.sql import SqlObservationLog
from tunesmith_observation.testing import ObservationLogContract

pytest_plugins = ("database_fixtures",)
pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]


class Journaled(ObservationLogContract):
    server: DatabaseServer

    @asynccontextmanager
    async def open_log(self, folder: Path, limits: Limits) -> AsyncIterator[ObservationLog]:
        access = self.server.access(self.server.new_database())
        async with journaled(access, folder, limits, patience_s=60) as log:
            yield log


class TestJournalBeforePostgreSQL(Journaled):
    @pytest.fixture(autouse=True)
    def on_postgresql(self, postgresql: DatabaseServer) -> None:
        self.server = postgresql


class TestJournalBeforeMariaDB(Journaled):
    @pytest.fixture(autouse=True)
    def on_mariadb(self, mariadb: DatabaseServer) -> None:
        self.server = mariadb


@asynccontextmanager
async def journaled(
    access: Access,
    folder: Path,
    limits: Limits | None = None,
    *,
    most_bytes: int = 1 << 30,
    patience_s: float = 1.0,
) -> AsyncIterator[JournaledLog]:
    settings = JournalSettings(folder / "journal", most_bytes, patience_s, look_s=0.2)
    log = JournaledLog.open(lambda: SqlObservationLog.open(access, limits), settings, limits)
    draining = asyncio.create_task(log.run())
    try:
        yield log
    finally:
        draining.cancel()
        await asyncio.gather(draining, return_exceptions=True)
        await log.aclose()


# ---- outages ------------------------------------------------------------------------------------


def key(number: int) -> SourceKey:
    return SourceKey(f"uid-{number}", 1, "stdout")


def report(number: int, first: int, *, ended: bool = False) -> Report:
    rows = [Row(seq, "loss", str(seq)) for seq in range(first, first + 10)]
    return Report(key(number), rows, first + 10, f"trial-{number}", "team", ended)


async def all_of(log: ObservationLog, number: int, seconds: float = 60.0) -> list[str]:
    """Its rows, as soon as the database can be asked."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                return [row.value for row in await log.rows(f"uid-{number}", 1)]
            except Unavailable:
                await asyncio.sleep(0.1)


def test_reports_are_taken_while_the_database_is_killed_and_come_back(
    database_server: DatabaseServer, tmp_path: Path
) -> None:
    server = database_server
    access = server.access(server.new_database())

    async def scenario() -> None:
        async with journaled(access, tmp_path) as log:
            await log.append(report(1, 0))
            server.kill()
            try:
                for number in (1, 2):
                    for first in (10, 20):
                        ended = first == 20
                        taken = await log.append(report(number, first, ended=ended))
                        assert taken.offset == first + 10
                with pytest.raises(Unavailable):
                    await log.rows("uid-2", 1)
            finally:
                server.start()
            assert await all_of(log, 1) == [str(seq) for seq in range(30)]
            assert await all_of(log, 2) == [str(seq) for seq in range(10, 30)]
            assert (await log.sources("uid-1", 1))["stdout"].ended
        direct = SqlObservationLog.open(access)
        assert len(await direct.rows("uid-1", 1)) == 30
        await direct.aclose()

    asyncio.run(scenario())


def test_a_database_that_hangs_holds_nobody_up(
    database_server: DatabaseServer, tmp_path: Path
) -> None:
    server = database_server
    access = server.access(server.new_database())

    async def scenario() -> None:
        async with journaled(access, tmp_path) as log:
            await log.append(report(1, 0))
            server.pause()
            try:
                async with asyncio.timeout(20):
                    for first in range(10, 100, 10):
                        await log.append(report(1, first))
            finally:
                server.go_on()
            assert await all_of(log, 1) == [str(seq) for seq in range(100)]

    asyncio.run(scenario())


def test_a_service_starts_without_its_database(
    database_server: DatabaseServer, tmp_path: Path
) -> None:
    server = database_server
    access = server.access(server.new_database())

    async def scenario() -> None:
        server.kill()
        try:
            async with journaled(access, tmp_path) as log:
                await log.append(report(1, 0, ended=True))
        finally:
            server.start()
        async with journaled(access, tmp_path) as log:
            assert await all_of(log, 1) == [str(seq) for seq in range(10)]

    asyncio.run(scenario())


def test_what_was_deleted_does_not_come_back_from_a_journal(
    database_server: DatabaseServer, tmp_path: Path
) -> None:
    server = database_server
    access = server.access(server.new_database())

    async def scenario() -> None:
        async with journaled(access, tmp_path) as log:
            await log.append(report(1, 0))
            server.kill()
            try:
                await log.append(report(1, 10))
            finally:
                server.start()
            async with asyncio.timeout(60):
                while True:
                    try:
                        await log.fence("uid-1", 2)
                        await log.delete("uid-1")
                        break
                    except Unavailable:
                        await asyncio.sleep(0.1)
            assert await all_of(log, 1) == []
            assert (await log.append(report(1, 20))).fenced
        async with journaled(access, tmp_path) as log:
            assert await all_of(log, 1) == []

    asyncio.run(scenario())


def test_a_full_journal_says_so_and_goes_on_when_the_database_is_back(
    database_server: DatabaseServer, tmp_path: Path
) -> None:
    server = database_server
    access = server.access(server.new_database())

    async def scenario() -> None:
        async with journaled(access, tmp_path, most_bytes=200_000) as log:
            server.kill()
            first = 0
            try:
                with pytest.raises(Unavailable, match="limit"):
                    while first < 50_000:
                        await log.append(report(1, first))
                        first += 10
            finally:
                server.start()
            assert 100 < first < 50_000
            async with asyncio.timeout(60):
                while True:
                    try:
                        await log.append(report(1, first, ended=True))
                        break
                    except Unavailable:
                        await asyncio.sleep(0.1)
            assert await all_of(log, 1) == [str(seq) for seq in range(first + 10)]

    asyncio.run(scenario())


# ---- kill -9 ------------------------------------------------------------------------------------

REPORTING = """
import asyncio, sys
from pathlib import Path
from sqlalchemy.engine import make_url
from tunesmith_api.metrics import Row
from tunesmith_api.observations import Report, SourceKey
from tunesmith_observation.database import Access
from tunesmith_observation.journal import JournaledLog, JournalSettings
from tunesmith_observation.sql import SqlObservationLog

async def main(url, password, folder, first):
    settings = JournalSettings(Path(folder), patience_s=1.0, look_s=0.01)
    access = Access(make_url(url), 4, Path(password))
    log = JournaledLog.open(lambda: SqlObservationLog.open(access), settings)
    draining = asyncio.create_task(log.run())
    for seq in range(first, 1_000_000):
        row = Row(seq, "loss", str(seq))
        await log.append(Report(SourceKey("uid-1", 1, "stdout"), [row], seq + 1, "t", "n"))
        print(seq, flush=True)

asyncio.run(main(*sys.argv[1:4], int(sys.argv[4])))
"""


def test_what_was_acknowledged_is_there_whenever_the_service_is_killed(
    database_server: DatabaseServer, tmp_path: Path
) -> None:
    """Kills fall into outages, into draining and between."""
    server, folder, last = database_server, tmp_path / "journal", -1
    name = server.new_database()
    access = server.access(name)
    chance = random.Random(7)
    for life in range(10):
        if life % 2:
            server.kill()
        words = [str(access.url), str(server.password_file), str(folder), str(last + 1)]
        argv = [sys.executable, "-c", REPORTING, *words]
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        wanted = last + chance.randint(3, 30)
        for line in process.stdout:
            last = int(line)
            if last >= wanted:
                break
        if life % 2:
            server.start()
            time.sleep(chance.random() * 0.3)  # into the draining, or not
        process.kill()
        rest = process.stdout.read().split()
        last = max([last, *map(int, rest)])
        process.wait(10)

    async def scenario() -> None:
        async with journaled(access, tmp_path) as log:
            found = [int(value) for value in await all_of(log, 1)]
            assert found == sorted(set(found))
            assert set(range(last + 1)) <= set(found)

    asyncio.run(scenario())
