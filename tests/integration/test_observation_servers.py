# SPDX-License-Identifier: Apache-2.0
"""The observation log on real servers: upgrades, plans of queries, passwords, restarts, silence."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from database_servers import PASSWORD, DatabaseServer
from sqlalchemy import ClauseElement, Connection, delete, select

from tunesmith_api.errors import Invalid, Unavailable
from tunesmith_api.metrics import Row
from tunesmith_api.observations import Report, SourceKey
from tunesmith_observation import migrations, statements
from tunesmith_observation.by_name import NamedRow
from tunesmith_observation.database import Access, Database, transact, writer_engine
from tunesmith_observation.schema import FENCES, METADATA, ROWS, SOURCES
from tunesmith_observation.sql import SqlObservationLog

pytestmark = pytest.mark.integration
pytest_plugins = ("database_fixtures",)

KEY = SourceKey("uid-1", 1, "stdout")


def report(first: int, count: int = 100, key: SourceKey = KEY) -> Report:
    rows = [Row(i, "loss", str(i)) for i in range(first, first + count)]
    return Report(key, rows, first + count, "trial-a", "team")


@pytest.fixture
def database(database_server: DatabaseServer) -> Access:
    return database_server.access(database_server.new_database())


@asynccontextmanager
async def opened(database: Access) -> AsyncIterator[SqlObservationLog]:
    log = SqlObservationLog.open(database)
    try:
        yield log
    finally:
        await log.aclose()


def on(database: Access, work: Callable[[Connection], object]) -> None:
    engine = writer_engine(database)
    try:
        transact(engine, work)
    finally:
        engine.dispose()


def name_of(database: Access) -> str:
    assert database.url.database is not None
    return database.url.database


def test_a_report_of_many_packets_waits_for_no_delayed_acknowledgement(database: Access) -> None:
    """Linux acknowledges up to 40 ms later, and only TCP_NODELAY sends before that."""
    found = []

    def look(connection: Connection) -> None:
        driver: Any = connection.connection.driver_connection
        # pg8000's and PyMySQL's names for it
        of_driver = getattr(driver, "_usock", None) or driver._sock
        found.append(of_driver.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    on(database, look)
    assert all(found)


# ---- migrations ---------------------------------------------------------------------------------


def has_the_schema(connection: Connection) -> None:
    assert compare_metadata(migrations.context(connection), METADATA) == []


def test_upgrading_once_and_again_gives_the_schema(database: Access) -> None:
    for _ in range(2):
        migrations.upgrade(database)
        on(database, has_the_schema)


def test_replicas_that_start_together_upgrade_one_after_the_other(database: Access) -> None:
    program = (
        "import sys; from pathlib import Path; from sqlalchemy import make_url;"
        "from tunesmith_observation.database import Access;"
        "from tunesmith_observation.migrations import upgrade;"
        "upgrade(Access(make_url(sys.argv[1]), password_file=Path(sys.argv[2])))"
    )
    words = [str(database.url), str(database.password_file)]
    starting = [subprocess.Popen([sys.executable, "-c", program, *words]) for _ in range(3)]
    assert [process.wait(60) for process in starting] == [0, 0, 0]
    on(database, has_the_schema)


def test_an_upgrade_that_was_cut_off_goes_on(
    database_server: DatabaseServer, database: Access
) -> None:
    migrations.upgrade(database)
    for table in ("observation_fences", "observation_schema_version"):
        database_server.execute(f"DROP TABLE {table}", name_of(database))
    migrations.upgrade(database)
    on(database, has_the_schema)


# ---- queries use indexes ------------------------------------------------------------------------

TRIAL = "uid-7"
PLANNED = {
    "rows of an attempt": lambda _: statements.select_rows(TRIAL, 1),
    "a page": lambda dialect: (
        statements.select_rows(TRIAL, 1).where(statements.after(dialect, "stdout", 5)).limit(10)
    ),
    "sources": lambda _: select(SOURCES).where(
        SOURCES.c.trial_uid == TRIAL, SOURCES.c.attempt == 1
    ),
    "a name": lambda _: select(SOURCES.c.trial_uid).where(SOURCES.c.trial_name == "trial-7"),
    "the lock": lambda _: select(FENCES).where(FENCES.c.trial_uid == TRIAL).with_for_update(),
    "deleting": lambda _: delete(ROWS).where(ROWS.c.trial_uid == TRIAL),
    "deleting a part": lambda dialect: delete(ROWS).where(
        ROWS.c.trial_uid == TRIAL,
        statements._up_to(dialect, (ROWS.c.attempt, ROWS.c.source, ROWS.c.seq), (1, "stdout", 5)),
    ),
}


@pytest.mark.parametrize("query", PLANNED.values(), ids=PLANNED.keys())
def test_a_query_reads_by_an_index_what_it_wants_and_little_else(
    many_trials: Access, query: Callable[[str], ClauseElement]
) -> None:
    on(many_trials, lambda connection: read_by_index(connection, query))


@pytest.fixture(scope="module", params=["postgresql", "mariadb"])
def many_trials(request: pytest.FixtureRequest) -> Access:
    """1,500 trials with 10 rows each, and statistics about them."""
    server: DatabaseServer = request.getfixturevalue(request.param)
    database = server.access(server.new_database())

    async def fill() -> None:
        async with opened(database) as log:
            for number in range(1500):
                given = report(0, 10, SourceKey(f"uid-{number}", 1, "stdout"))
                await log.append(replace(given, trial_name=f"trial-{number}"))

    asyncio.run(fill())
    for table in METADATA.tables:
        word = "ANALYZE TABLE" if request.param == "mariadb" else "ANALYZE"
        server.execute(f"{word} {table}", name_of(database))
    return database


def read_by_index(connection: Connection, query: Callable[[str], ClauseElement]) -> None:
    name = connection.dialect.name
    text = str(
        query(name).compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True})
    )
    if name == "postgresql":
        plan = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {text}").scalar_one()
        found = json.dumps(plan)
        assert "Seq Scan" not in found, text
        assert "Index" in found, text
    else:
        (step,) = connection.exec_driver_sql(f"EXPLAIN {text}".replace("%", "%%")).mappings()
        assert step["key"], text
        assert step["type"] in ("ref", "range", "const"), (text, step)
        assert int(step["rows"]) <= 20, (text, step)


# ---- who may, and how many ----------------------------------------------------------------------


def test_a_wrong_password_is_said_and_never_shown(database: Access, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("canary of the file\n")
    with pytest.raises(Unavailable) as caught:
        SqlObservationLog.open(replace(database, password_file=wrong))
    said = str(caught.value)
    assert re.search("password|Access denied", said)
    assert "canary" not in said


def test_a_new_password_needs_no_restart(
    database_server: DatabaseServer, database: Access, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text("wrong")

    async def scenario() -> None:
        migrations.upgrade(database)
        log = SqlObservationLog(Database(replace(database, password_file=file)))
        with pytest.raises(Unavailable):
            await log.append(report(0))
        file.write_text(PASSWORD)
        assert (await log.append(report(0))).offset == 100
        file.unlink()
        await log.append(report(100))  # the pool's connection is still good
        await log.aclose()

    asyncio.run(scenario())


def test_a_password_file_that_is_missing_is_named(database: Access, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="/nowhere: No such file"):
        SqlObservationLog.open(replace(database, password_file=tmp_path / "nowhere"))


def test_no_more_connections_are_opened_than_said(
    database_server: DatabaseServer, database: Access
) -> None:
    count = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}'"
        if database_server.name == "postgresql"
        else "SELECT count(*) FROM information_schema.processlist WHERE db = '{}'"
    ).format(name_of(database))

    async def scenario() -> None:
        async with opened(replace(database, connections=3)) as log:
            keys = [SourceKey(f"uid-{number}", 1, "stdout") for number in range(40)]
            await asyncio.gather(*(log.append(report(0, 20, key)) for key in keys))
            found = await asyncio.gather(*(log.rows(key.trial_uid, 1) for key in keys))
            assert [len(rows) for rows in found] == [20] * 40
            assert await asyncio.to_thread(database_server.execute, count) == [(3,)]

    asyncio.run(scenario())


# ---- many at once -------------------------------------------------------------------------------


def test_writers_of_one_trial_wait_for_each_other_and_keep_its_count(database: Access) -> None:
    async def scenario() -> None:
        async with opened(database) as log:
            sources = [SourceKey("uid-1", 1, f"file:{number}") for number in range(8)]
            await asyncio.gather(
                *(log.append(report(first, 10, key)) for key in sources for first in (0, 10, 5)),
                *(log.fence("uid-1", 1) for _ in range(4)),
            )
            assert len(await log.rows("uid-1", 1)) == 160

    asyncio.run(scenario())
    on(database, lambda connection: counted(connection, 160))


def counted(connection: Connection, rows: int) -> None:
    assert connection.execute(select(FENCES.c.row_count)).scalars().all() == [rows]


def test_names_that_are_claimed_and_reported_at_once_lose_nothing(database: Access) -> None:
    """Both lock a name's unclaimed rows and the trial."""

    async def scenario() -> None:
        async with opened(database) as log:
            for round_ in range(10):
                name, key = f"trial-{round_}", SourceKey(f"uid-{round_}", 1, "stdout")
                named = [[NamedRow(0, "loss", f"{n}")] for n in range(6)]
                await asyncio.gather(
                    *(log.append_by_trial_name(name, entries) for entries in named),
                    log.append(replace(report(0, 5, key), trial_name=name)),
                )
                assert len(await log.rows_by_trial_name("team", name)) == 11

    asyncio.run(scenario())


# ---- a big trial --------------------------------------------------------------------------------


def test_a_big_trial_is_read_and_deleted_in_parts(database: Access) -> None:
    async def scenario() -> None:
        async with opened(database) as log:
            rows = [Row(i << 33, "loss", f"{i}") for i in range(25_000)]
            for source in ("push", "stdout"):
                await log.append(Report(SourceKey("uid-1", 1, source), rows, 1 << 60))
            pages = [page async for page in log.pages("uid-1", 1, size=1000)]
            assert [row.seq for page in pages for row in page.rows] == 2 * [r.seq for r in rows]
            assert await log.remove("uid-1") == 50_000
            assert not await log.rows("uid-1", 1)

    asyncio.run(scenario())


# ---- a server that goes away --------------------------------------------------------------------


def test_a_restarted_server_is_found_by_the_next_call(
    database_server: DatabaseServer, database: Access
) -> None:
    async def scenario() -> None:
        async with opened(database) as log:
            await log.append(report(0))
            await log.rows("uid-1", 1)
            await asyncio.to_thread(database_server.kill)
            for call in (log.append(report(100)), log.rows("uid-1", 1)):
                with pytest.raises(Unavailable) as caught:
                    await call
                assert PASSWORD not in str(caught.value)
            database_server.start()
            assert (await log.append(report(100))).offset == 200
            assert len(await log.rows("uid-1", 1)) == 200

    asyncio.run(scenario())


def test_connections_that_died_in_the_pool_cost_no_call(
    database_server: DatabaseServer, database: Access
) -> None:
    async def scenario() -> None:
        async with opened(database) as log:
            await log.append(report(0))
            await log.rows("uid-1", 1)
            await asyncio.to_thread(database_server.kill)
            database_server.start()
            assert len(await log.rows("uid-1", 1)) == 100
            assert (await log.append(report(100))).offset == 200

    asyncio.run(scenario())


def test_a_silent_server_is_away_and_its_late_answers_are_nobodys(
    database_server: DatabaseServer, database: Access
) -> None:
    async def scenario() -> None:
        async with opened(replace(database, answer_seconds=1.0, connections=2)) as log:
            await log.append(report(0, 10))
            await log.rows("uid-1", 1)
            database_server.pause()
            try:
                began = time.monotonic()
                for call in (log.append(report(10, 10)), log.rows("uid-1", 1)):
                    with pytest.raises(Unavailable):
                        await call
                assert time.monotonic() - began < 8
            finally:
                database_server.go_on()
            async with asyncio.timeout(20):
                await log.append(report(10, 10))
            assert [row.seq for row in await log.rows("uid-1", 1)] == list(range(20))

    asyncio.run(scenario())


def test_a_newer_schema_is_refused(database_server: DatabaseServer, database: Access) -> None:
    migrations.upgrade(database)
    statement = "UPDATE observation_schema_version SET version_num = '9999'"
    database_server.execute(statement, name_of(database))
    with pytest.raises(Invalid, match="another version"):
        migrations.upgrade(database)
