# SPDX-License-Identifier: Apache-2.0
"""The observation log on a real SQLite file: migrations, a full disk, locks, writers killed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

import pytest
from alembic.autogenerate import compare_metadata
from sqlalchemy import Connection, Engine, create_engine, event, text

from tunesmith_api.errors import Invalid, Unavailable
from tunesmith_api.metrics import Row
from tunesmith_api.observations import Report, SourceKey, SourceNotes
from tunesmith_observation import migrations
from tunesmith_observation.schema import METADATA
from tunesmith_observation.sql import SqlObservationLog

pytestmark = pytest.mark.integration

KEY = SourceKey("uid-1", 1, "stdout")


def url(folder: Path) -> str:
    return f"sqlite:///{folder}/state/o.db"


def file_of(folder: Path) -> Path:
    return folder / "state" / "o.db"


def report(first: int, count: int = 100, size: int = 20) -> Report:
    rows = [Row(i, "loss", f"{i:0{size}}") for i in range(first, first + count)]
    return Report(KEY, rows, first + count, "trial-a", "team", notes=SourceNotes(lines=first))


def integrity(folder: Path) -> str:
    with closing(sqlite3.connect(file_of(folder))) as connection:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])


# ---- migrations -------------------------------------------------------------------------------


def test_upgrading_an_empty_database_gives_the_schema(tmp_path: Path) -> None:
    migrations.upgrade(url(tmp_path))
    with create_engine(url(tmp_path)).connect() as connection:
        assert compare_metadata(migrations.context(connection), METADATA) == []


def test_upgrading_again_keeps_the_rows(tmp_path: Path) -> None:
    async def scenario() -> None:
        for first in (0, 100):
            log = SqlObservationLog.open(url(tmp_path))
            await log.append(report(first))
            await log.aclose()
        log = SqlObservationLog.open(url(tmp_path))
        assert len(await log.rows("uid-1", 1)) == 200
        await log.aclose()

    asyncio.run(scenario())


def test_processes_that_start_together_do_not_meet(tmp_path: Path) -> None:
    program = f"from tunesmith_observation.migrations import upgrade; upgrade({url(tmp_path)!r})"
    starting = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(3)]
    assert [process.wait(30) for process in starting] == [0, 0, 0]
    assert integrity(tmp_path) == "ok"


def test_tables_of_a_newer_version_are_refused_and_left_alone(tmp_path: Path) -> None:
    migrations.upgrade(url(tmp_path))
    with create_engine(url(tmp_path)).begin() as connection:
        connection.execute(text("UPDATE observation_schema_version SET version_num = '9999'"))
    with pytest.raises(Invalid, match="another version"):
        migrations.upgrade(url(tmp_path))


def test_the_database_is_its_owners_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        log = SqlObservationLog.open(url(tmp_path))
        await log.append(report(0))
        modes = {
            path.name: path.stat().st_mode & 0o777 for path in file_of(tmp_path).parent.iterdir()
        }
        assert modes == {"o.db": 0o600, "o.db-wal": 0o600, "o.db-shm": 0o600}
        assert file_of(tmp_path).parent.stat().st_mode & 0o777 == 0o700
        await log.aclose()

    asyncio.run(scenario())


# ---- a disk that is full, a file that is locked -------------------------------------------------


@contextmanager
def page_limit(limit: Callable[[], int]) -> Iterator[None]:
    """Every transaction of this process meets SQLite's own "disk full" beyond a number of pages."""

    def apply(connection: Connection) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {limit()}")

    event.listen(Engine, "begin", apply)
    try:
        yield
    finally:
        event.remove(Engine, "begin", apply)


def test_a_full_disk_costs_no_row_at_any_page(tmp_path: Path) -> None:
    pages = [1]
    acknowledged: set[int] = set()

    async def scenario() -> None:
        log = SqlObservationLog.open(url(tmp_path))
        pages[0], refused, first = 8, 0, 0
        while pages[0] < 60:
            try:
                await log.append(report(first, 10, 200))
                acknowledged.update(range(first, first + 10))
                first += 10
            except Unavailable as error:
                assert "full" in str(error)
                stored = {row.seq for row in await log.rows("uid-1", 1)}
                assert stored == acknowledged
                pages[0], refused = pages[0] + 1, refused + 1
        assert refused > 30
        await log.aclose()

    with page_limit(lambda: pages[0] if pages[0] > 1 else 1 << 30):
        asyncio.run(scenario())
    assert integrity(tmp_path) == "ok"


def _can_mount() -> bool:
    return os.geteuid() == 0 and sys.platform == "linux"


@pytest.mark.skipif(not _can_mount(), reason="mounting a small tmpfs needs root on Linux")
def test_a_full_file_system_costs_no_row_and_work_goes_on_when_there_is_room(
    tmp_path: Path,
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=False)
    if mounted.returncode:
        pytest.skip("this root may not mount a tmpfs")
    try:
        asyncio.run(_fill_and_free(disk))
        assert integrity(disk) == "ok"
    finally:
        subprocess.run(["umount", disk], check=True)


async def _fill_and_free(disk: Path) -> None:
    log = SqlObservationLog.open(url(disk))
    ballast = disk / "ballast"
    ballast.write_bytes(b"x" * (300 << 10))
    acknowledged: set[int] = set()
    first, refused = 0, 0
    while refused < 20:
        try:
            await log.append(report(first, 20, 100))
            acknowledged.update(range(first, first + 20))
            first += 20
        except Unavailable:
            refused += 1
    assert {row.seq for row in await log.rows("uid-1", 1)} == acknowledged
    ballast.unlink()
    await log.append(report(first, 20, 100))
    assert len(await log.rows("uid-1", 1)) == len(acknowledged) + 20
    await log.aclose()


def test_a_lock_held_by_another_process_is_waited_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        log = SqlObservationLog.open(url(tmp_path))
        with closing(sqlite3.connect(file_of(tmp_path), check_same_thread=False)) as other:
            other.execute("BEGIN IMMEDIATE")
            released = threading.Timer(0.3, other.rollback)
            released.start()
            assert (await log.append(report(0))).offset == 100
            released.join()
        await log.aclose()

    asyncio.run(scenario())


def test_reading_goes_on_while_another_writes(tmp_path: Path) -> None:
    async def scenario() -> None:
        log = SqlObservationLog.open(url(tmp_path))
        await log.append(report(0))
        with closing(sqlite3.connect(file_of(tmp_path))) as other:
            other.execute("BEGIN IMMEDIATE")
            async with asyncio.timeout(2):
                assert len(await log.rows("uid-1", 1)) == 100
        await log.aclose()

    asyncio.run(scenario())


# ---- writers killed -----------------------------------------------------------------------------

# The parent has imported everything and forks a writer per line of input, so that a round takes
# milliseconds. A writer opens the log, finds where it is, appends and says what is acknowledged.
WRITER = """
import asyncio, os, sys
from tunesmith_api.metrics import Row
from tunesmith_api.observations import Report, SourceKey, SourceState
from tunesmith_observation.sql import SqlObservationLog

KEY = SourceKey("uid-1", 1, "stdout")

async def write(url):
    log = SqlObservationLog.open(url)
    first = (await log.sources("uid-1", 1)).get("stdout", SourceState()).offset
    while True:
        rows = [Row(i, "loss", str(i)) for i in range(first, first + 50)]
        acknowledged = await log.append(Report(KEY, rows, first + 50))
        os.write(1, b"stored %d\\n" % acknowledged.offset)
        first += 50

for _ in sys.stdin:
    child = os.fork()
    if child == 0:
        asyncio.run(write(sys.argv[1]))
    os.write(1, b"pid %d\\n" % child)
    os.waitpid(child, 0)
    os.write(1, b"dead\\n")
"""
KILLS = 40


def test_no_acknowledged_row_is_lost_or_doubled_when_writers_are_killed(tmp_path: Path) -> None:
    rng = random.Random(20250131)
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, url(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        acknowledged = 0
        for _ in range(KILLS):
            parent.stdin.write("go\n")
            parent.stdin.flush()
            acknowledged = max(acknowledged, _one_life(parent.stdout, rng.uniform(0, 0.25)))
        parent.stdin.close()
    assert acknowledged > 500
    assert _stored_rows(tmp_path, acknowledged)
    assert integrity(tmp_path) == "ok"


def _one_life(lines: IO[str], seconds: float) -> int:
    """Kills one writer after its time; what it acknowledged last, 0 for nothing."""
    words = lines.readline().split()
    stored = 0
    while words[0] != "pid":
        stored, words = int(words[1]), lines.readline().split()
    pid = int(words[1])
    # The moment of death is the test's input, not a way to wait for something.
    threading.Timer(seconds, os.kill, (pid, signal.SIGKILL)).start()
    for line in lines:
        if line == "dead\n":
            return stored
        stored = int(line.split()[1])
    raise AssertionError("the parent of the writers has ended")


def _stored_rows(folder: Path, acknowledged: int) -> bool:
    """Every acknowledged row once, with its value; beyond them at most whole reports."""
    with closing(sqlite3.connect(file_of(folder))) as connection:
        rows = connection.execute("SELECT seq, value FROM observation_rows ORDER BY seq").fetchall()
        (counted,) = connection.execute("SELECT row_count FROM observation_fences").fetchone()
    assert rows == [(seq, str(seq)) for seq in range(len(rows))]
    assert len(rows) % 50 == 0
    assert counted == len(rows)
    return len(rows) >= acknowledged


# ---- the service as a process -------------------------------------------------------------------


def test_the_service_stops_on_sigterm_and_leaves_a_socket_only_for_its_owner(
    tmp_path: Path,
) -> None:
    socket = tmp_path / "s" / "o.sock"
    command = [sys.executable, "-m", "tunesmith_observation", "--listen", f"unix:{socket}"]
    with subprocess.Popen(
        [*command, "--db", url(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as service:
        assert service.stdout is not None
        assert service.stdout.readline() == f"tunesmith db-manager: listening on unix:{socket}\n"
        assert socket.stat().st_mode & 0o777 == 0o600
        assert socket.parent.stat().st_mode & 0o777 == 0o700
        began = time.monotonic()
        service.terminate()
        assert service.wait(10) == 0
        assert time.monotonic() - began < 8
