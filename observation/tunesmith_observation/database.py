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
import random
import time
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
CONNECTIONS = 12
_SQLITE_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",  # NORMAL may lose acknowledged commits when the power fails
    "PRAGMA journal_size_limit=67108864",
)
_BUSY_SECONDS = 5.0
_TRIES = 6
_TIMEOUTS: dict[str, dict[str, float]] = {
    "pg8000": {"timeout": 30.0},
    "pymysql": {"connect_timeout": 10.0, "read_timeout": 30.0, "write_timeout": 30.0},
}
"""In seconds, by driver: a server that takes connections and says nothing must not keep a thread
for ever."""


class Database:
    """Owns connections and threads; `aclose` when done. Raises Invalid for a URL it cannot use."""

    def __init__(self, url: str | URL, connections: int = CONNECTIONS) -> None:
        """`connections`: to a database server, of which a third read; SQLite needs no choice."""
        parsed = parsed_url(url)
        self._writer = writer_engine(parsed, connections)
        if parsed.get_backend_name() == "sqlite":
            self._reader = _sqlite_engine(parsed, "BEGIN", READERS)
            writers, readers = 1, READERS
        else:
            self._reader = self._writer
            readers = max(1, connections // 3)
            writers = max(1, connections - readers)
        self._writers: Executor = ThreadPoolExecutor(writers, "observation-write")
        self._readers: Executor = ThreadPoolExecutor(readers, "observation-read")

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
    """Again when the server has ended the transaction so that another one could go on."""
    for tried in range(1, _TRIES + 1):
        try:
            with translated_errors(), engine.begin() as connection:
                return work(connection)
        except Unavailable as error:
            if tried == _TRIES or not _was_in_the_way(error.__cause__):
                raise
            time.sleep(random.uniform(0, 0.01 * 2**tried))  # noqa: S311 - so that they part
    raise AssertionError("the last try returns or raises")


def _was_in_the_way(error: BaseException | None) -> bool:
    """Deadlock, lock wait timeout, serialization failure: by MySQL's numbers, PostgreSQL's
    SQLSTATE."""
    original = error.orig if isinstance(error, exc.DBAPIError) else None
    said = original.args[0] if original is not None and original.args else None
    code = said.get("C") if isinstance(said, dict) else said
    return code in (1205, 1213, "40001", "40P01")


@contextmanager
def translated_errors() -> Iterator[None]:
    """Library errors as the port's; the texts name neither statements, values nor the URL."""
    try:
        yield
    except exc.DataError as error:
        raise Invalid(f"the database refuses a value: {error.orig}") from error
    except exc.DBAPIError as error:
        raise Unavailable(f"the observation database cannot be used: {error.orig}") from error
    except OSError as error:  # drivers let some of them through
        raise Unavailable(f"the observation database cannot be reached: {error}") from error
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


def writer_engine(url: URL, connections: int = 1) -> Engine:
    """Connections for transactions that write. Raises Invalid when there is no driver."""
    if url.get_backend_name() != "sqlite":
        return _server_engine(url, connections)
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


def _server_engine(url: URL, connections: int) -> Engine:
    try:
        return create_engine(
            url,
            hide_parameters=True,
            pool_pre_ping=True,
            pool_size=connections,
            max_overflow=0,
            pool_timeout=_BUSY_SECONDS,
            connect_args=_TIMEOUTS.get(url.get_driver_name(), {}),
        )
    except (ModuleNotFoundError, exc.NoSuchModuleError) as error:
        raise Invalid(f"no driver for {url.drivername} is installed: {error}") from error
