# SPDX-License-Identifier: Apache-2.0
"""A database as awaitable transactions on bounded thread pools; used by sql.py and migrations.

SQLite has one writer thread (its lock admits one writer anyway, and a queue is fair where a busy
timeout is not) and a few readers, which never wait for the writer (WAL). Servers have two sized
pools of connections, each used by one thread. Every library error becomes `Unavailable`;
connections are rolled back or replaced, so work goes on when the cause has gone.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, exc
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from tunesmith_api.errors import Invalid, Unavailable

T = TypeVar("T")

CONNECTIONS: Final = 8
"""Of one process to a database server, unless told otherwise."""

SQLITE_READERS: Final = 4
ANSWER_SECONDS: Final = 10.0
"""A server that is silent for longer is away. Long enough for a part of a deletion."""

_ABANDONED_SECONDS: Final = 30
"""After which a server gives up a transaction of ours whose end it never heard."""

_TRIES: Final = 5
_QUICK_SECONDS: Final = 0.5
"""A connection that was closed while it lay in the pool is found out in less; a silent server is
not asked again."""

_SQLITE_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",  # NORMAL may lose acknowledged commits when the power fails
    "PRAGMA journal_size_limit=67108864",
)
_BUSY_SECONDS = 5.0

_MYSQL_DEADLOCK: Final = 1213
_POSTGRESQL_DEADLOCKS: Final = frozenset({"40P01", "40001"})


@dataclass(frozen=True, slots=True)
class Access:
    """How a database is reached. The password is read from its file for each connection, so that a
    new one needs no restart; the file wins over the URL. All but `url` is for servers."""

    url: URL
    connections: int = CONNECTIONS
    password_file: Path | None = None
    answer_seconds: float = ANSWER_SECONDS

    @property
    def is_server(self) -> bool:
        return self.url.get_backend_name() != "sqlite"


def access_to(database: str | URL | Access) -> Access:
    """Raises Invalid, without the URL's password, for what is no usable database URL."""
    if isinstance(database, Access):
        return database
    return Access(parsed_url(database))


class Database:
    """Owns connections and threads; `aclose` when done. Raises Invalid for a URL it cannot use."""

    def __init__(self, database: str | URL | Access) -> None:
        access = access_to(database)
        if access.is_server:
            readers = max(1, access.connections // 3)
            writers = max(1, access.connections - readers)
            self._writer = _server_engine(access, writers, "READ COMMITTED")
            self._reader = _server_engine(access, readers, "REPEATABLE READ")
        else:
            readers, writers = SQLITE_READERS, 1
            self._writer = writer_engine(access)
            self._reader = _sqlite_engine(access.url, "BEGIN", readers)
        self.writers: Final = writers
        self._writers: Executor = ThreadPoolExecutor(writers, "observation-write")
        self._readers: Executor = ThreadPoolExecutor(readers, "observation-read")

    @property
    def dialect(self) -> str:
        """SQLAlchemy's name: sqlite, postgresql, mysql, mariadb."""
        return self._writer.dialect.name

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Runs `work` in a transaction and returns after its commit. Raises Unavailable. It is run
        again when the database says so, or has closed the connection: it must bear that."""
        return await self._on(self._writers, self._writer, work)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Runs `work` on one consistent view. Raises Unavailable."""
        return await self._on(self._readers, self._reader, work)

    async def _on(self, pool: Executor, engine: Engine, work: Callable[[Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, transact, engine, work)

    async def aclose(self) -> None:
        """Waits for what was begun, then closes."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._writers.shutdown(wait=True)
        self._readers.shutdown(wait=True)
        self._writer.dispose()
        self._reader.dispose()


def transact(engine: Engine, work: Callable[[Connection], T]) -> T:
    """Runs `work` in a transaction of its own. Raises Unavailable."""
    with translated_errors():
        for _ in range(_TRIES - 1):
            began = time.monotonic()
            try:
                return _once(engine, work)
            except exc.DBAPIError as error:
                was_quick = time.monotonic() - began < _QUICK_SECONDS
                if not (_is_deadlock(error) or (error.connection_invalidated and was_quick)):
                    raise
        return _once(engine, work)


def _once(engine: Engine, work: Callable[[Connection], T]) -> T:
    with engine.connect() as connection:
        try:
            with connection.begin():
                return work(connection)
        except OSError:
            # A driver's: what the server still sends would be taken for the next answer.
            connection.invalidate()
            raise


def _is_deadlock(error: exc.DBAPIError) -> bool:
    code = error.orig.args[0] if error.orig is not None and error.orig.args else None
    if isinstance(code, dict):
        return code.get("C") in _POSTGRESQL_DEADLOCKS
    return code == _MYSQL_DEADLOCK


@contextmanager
def translated_errors() -> Iterator[None]:
    """Library errors as the port's; the texts name neither statements, values nor the URL."""
    try:
        yield
    except exc.DataError as error:
        raise Invalid(f"the database refuses a value: {_words(error)}") from error
    except exc.DBAPIError as error:
        raise Unavailable(f"the observation database cannot be used: {_words(error)}") from error
    except exc.TimeoutError as error:
        raise Unavailable("the observation database has no free connection") from error
    except OSError as error:
        raise Unavailable(f"the observation database does not answer: {error}") from error


def _words(error: exc.DBAPIError) -> str:
    """What the server says, without the fields that are for its developers."""
    said = error.orig.args if error.orig is not None else ()
    if said and isinstance(said[0], dict):
        return str(said[0].get("M", "no reason given"))
    return str(error.orig)


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


def writer_engine(access: Access) -> Engine:
    """One connection for transactions that write. Raises Invalid when there is no driver."""
    if access.is_server:
        return _server_engine(access, 1, "READ COMMITTED")
    # SQLite: one connection, and the file's folder is created for its owner alone.
    Path(access.url.database or "").parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # The lock is taken at the start: a transaction that begins by reading could not wait for it.
    return _sqlite_engine(access.url, "BEGIN IMMEDIATE", 1)


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


def _server_engine(access: Access, connections: int, isolation: str) -> Engine:
    url = access.url
    settings = _postgresql if url.get_backend_name() == "postgresql" else _mysql
    try:
        engine = create_engine(
            url,
            hide_parameters=True,
            pool_size=connections,
            max_overflow=0,
            pool_timeout=access.answer_seconds,
            isolation_level=isolation,
            connect_args=settings(access.answer_seconds),
        )
    except (ModuleNotFoundError, exc.NoSuchModuleError) as error:
        raise Invalid(f"no driver for {url.drivername} is installed: {error}") from error
    if access.password_file is not None:
        event.listen(engine, "do_connect", _tells_password(access.password_file))
    if url.get_driver_name() == "pg8000":
        event.listen(engine, "do_connect", _connects(access.answer_seconds))
    return engine


def _tells_password(path: Path) -> Callable[..., None]:
    def tell(_dialect: object, _record: object, _args: object, settings: dict[str, Any]) -> None:
        try:
            settings["password"] = path.read_text().removesuffix("\n")
        except OSError as error:
            raise Unavailable(
                f"cannot read the database's password from {path}: {error.strerror}"
            ) from error

    return tell


def _connects(seconds: float) -> Callable[..., DBAPIConnection | None]:
    """With a socket that sends at once. pg8000's own waits, with all but the first packet of a
    large statement, for the server's acknowledgement, which comes 40 ms later."""

    def connect(
        dialect: Any, _record: object, _args: object, settings: dict[str, Any]
    ) -> DBAPIConnection | None:
        if settings.get("unix_sock"):
            return None
        place = (settings.get("host") or "localhost", int(settings.get("port") or 5432))
        try:
            made = socket.create_connection(place, seconds)
        except OSError as error:
            raise Unavailable(
                "the observation database cannot be used: no connection to"
                f" {place[0]}:{place[1]}: {error.strerror or error}"
            ) from error
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        # The driver's own function knows no socket, its class does.
        connection: DBAPIConnection = dialect.loaded_dbapi.Connection(**settings, sock=made)
        return connection

    return connect


def _postgresql(seconds: float) -> dict[str, Any]:
    """For pg8000."""
    return {
        "timeout": seconds,
        "application_name": "tunesmith",
        "startup_params": {
            "statement_timeout": str(int(seconds * 1000)),
            "idle_in_transaction_session_timeout": str(_ABANDONED_SECONDS * 1000),
        },
    }


def _mysql(seconds: float) -> dict[str, Any]:
    """For PyMySQL. `wait_timeout` holds for connections in the pool too: those are replaced."""
    return {
        "connect_timeout": seconds,
        "read_timeout": seconds,
        "write_timeout": seconds,
        "charset": "utf8mb4",
        "init_command": f"SET SESSION wait_timeout={_ABANDONED_SECONDS},"
        f" innodb_lock_wait_timeout={max(1, int(seconds))}, sql_mode='STRICT_ALL_TABLES'",
    }
