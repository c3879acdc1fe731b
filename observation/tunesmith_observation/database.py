# SPDX-License-Identifier: Apache-2.0
"""A database as awaitable transactions on bounded thread pools; used by sql.py and migrations.

SQLite has one writer thread (its lock admits one writer anyway, and a queue is fair where a busy
timeout is not) and a few readers, which never wait for the writer (WAL). Every library error
becomes `Unavailable`; connections are rolled back or replaced, so work goes on when the cause has
gone.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, exc
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from tunesmith_api.errors import Invalid, Unavailable

T = TypeVar("T")

READERS = 4
SERVER_WRITERS = 8
_SQLITE_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",  # NORMAL may lose acknowledged commits when the power fails
    "PRAGMA journal_size_limit=67108864",
)
_BUSY_SECONDS = 5.0


class Database:
    """Owns connections and threads; `aclose` when done. Raises Invalid for a URL it cannot use."""

    def __init__(self, url: str | URL) -> None:
        parsed = parsed_url(url)
        self._writer = writer_engine(parsed)
        if parsed.get_backend_name() == "sqlite":
            self._reader = _sqlite_engine(parsed, "BEGIN", READERS)
            writers = 1
        else:
            self._reader = self._writer
            writers = SERVER_WRITERS
        self._writers: Executor = ThreadPoolExecutor(writers, "observation-write")
        self._readers: Executor = ThreadPoolExecutor(READERS, "observation-read")

    @property
    def dialect(self) -> str:
        """SQLAlchemy's name: sqlite, postgresql, mysql, mariadb."""
        return self._writer.dialect.name

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Runs `work` in a transaction and returns after its commit. Raises Unavailable."""
        return await self._on(self._writers, self._writer, work)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Runs `work` on one consistent view. Raises Unavailable."""
        return await self._on(self._readers, self._reader, work)

    async def _on(self, pool: Executor, engine: Engine, work: Callable[[Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, _transact, engine, work)

    async def aclose(self) -> None:
        """Waits for what was begun, then closes."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._writers.shutdown(wait=True)
        self._readers.shutdown(wait=True)
        self._writer.dispose()
        self._reader.dispose()


def _transact(engine: Engine, work: Callable[[Connection], T]) -> T:
    with translated_errors(), engine.begin() as connection:
        return work(connection)


@contextmanager
def translated_errors() -> Iterator[None]:
    """Library errors as the port's; the texts name neither statements, values nor the URL."""
    try:
        yield
    except exc.DataError as error:
        raise Invalid(f"the database refuses a value: {error.orig}") from error
    except exc.DBAPIError as error:
        raise Unavailable(f"the observation database cannot be used: {error.orig}") from error
    except exc.TimeoutError as error:
        raise Unavailable("the observation database has no free connection") from error


def sqlite_url(path: Path) -> URL:
    """Of a file whose name may hold what means something else in the text of a URL."""
    return URL.create("sqlite", database=str(path))


def parsed_url(url: str | URL) -> URL:
    """Raises Invalid, without the URL's password, for what is no usable database URL."""
    try:
        parsed = make_url(url)
        name = parsed.get_backend_name()
    except (exc.ArgumentError, ValueError):
        raise Invalid("the database is no URL such as sqlite:////path/observations.db") from None
    if name == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise Invalid("an observation log on SQLite needs a file: sqlite:////path/observations.db")
    return parsed


def writer_engine(url: URL) -> Engine:
    """Connections for transactions that write. Raises Invalid when there is no driver."""
    if url.get_backend_name() != "sqlite":
        return _server_engine(url)
    # SQLite: one connection, and the file's folder is created for its owner alone.
    Path(url.database or "").parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # The lock is taken at the start: a transaction that begins by reading could not wait for it.
    return _sqlite_engine(url, "BEGIN IMMEDIATE", 1)


def _sqlite_engine(url: URL, begin: str, connections: int) -> Engine:
    engine = create_engine(
        url,
        hide_parameters=True,
        pool_size=connections,
        max_overflow=0,
        connect_args={"timeout": _BUSY_SECONDS},
    )

    def prepare(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        # The driver would begin by itself, lazily; transactions are ours (see _begin).
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in _SQLITE_PRAGMAS:
            cursor.execute(pragma)
        cursor.close()
        _restrict(url)

    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    event.listen(engine, "connect", prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _restrict(url: URL) -> None:
    """Metrics are their owner's; SQLite gives its -wal and -shm files the mode of the file."""
    path = url.database or ""
    if not path.startswith("file:") and os.stat(path).st_mode & 0o077:
        os.chmod(path, 0o600)


def _server_engine(url: URL) -> Engine:
    try:
        return create_engine(
            url,
            hide_parameters=True,
            pool_pre_ping=True,
            pool_size=READERS + SERVER_WRITERS,
            max_overflow=0,
        )
    except (ModuleNotFoundError, exc.NoSuchModuleError) as error:
        raise Invalid(f"no driver for {url.drivername} is installed: {error}") from error
