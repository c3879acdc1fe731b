# SPDX-License-Identifier: Apache-2.0
"""The file of a `SqliteStore`: how it is made, opened and versioned, and what its errors mean.

Nothing here knows about objects; `sqlite_rows` reads and writes the tables made here.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from tunesmith_controller.ports import Invalid, PortError, Unavailable

SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE objects (
  id INTEGER PRIMARY KEY,
  kind TEXT NOT NULL,
  namespace TEXT NOT NULL,
  name TEXT NOT NULL,
  uid TEXT NOT NULL UNIQUE,
  version INTEGER NOT NULL,
  object TEXT NOT NULL,
  UNIQUE (kind, namespace, name)
);
CREATE TABLE labels (
  key TEXT NOT NULL,
  value TEXT NOT NULL,
  object_id INTEGER NOT NULL,
  PRIMARY KEY (key, value, object_id)
) WITHOUT ROWID;
CREATE TABLE owners (
  namespace TEXT NOT NULL,
  owner_uid TEXT NOT NULL,
  object_id INTEGER NOT NULL,
  PRIMARY KEY (namespace, owner_uid, object_id)
) WITHOUT ROWID;
CREATE TABLE gone (
  place INTEGER PRIMARY KEY,
  namespace TEXT NOT NULL,
  owner_uid TEXT NOT NULL
);
CREATE TABLE events (
  version INTEGER PRIMARY KEY,
  written INTEGER NOT NULL,
  kind TEXT NOT NULL,
  namespace TEXT NOT NULL,
  change TEXT NOT NULL,
  object TEXT NOT NULL
);
"""
# events.written: bytes of all objects ever logged up to this one, so that a bound in bytes is a
# comparison and not a sum. gone: owners whose dependents are still to be collected.

_RETRY_S = 0.01
_WAL_LIMIT = 64 * 1024 * 1024
_CORRUPT = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
_LOCKED = ("SQLITE_BUSY", "SQLITE_LOCKED")


def connect(path: Path, busy_timeout_s: float) -> sqlite3.Connection:
    """A connection in autocommit mode whose commits are on disk when they return. One thread uses
    it at a time. Raises sqlite3.Error."""
    connection = sqlite3.connect(
        path.resolve().as_uri() + "?mode=rw",  # a file that vanished is an error, not a new one
        uri=True,
        timeout=busy_timeout_s,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(f"PRAGMA journal_size_limit={_WAL_LIMIT}")
    connection.execute("PRAGMA temp_store=MEMORY")
    return connection


def prepare(path: Path, busy_timeout_s: float) -> None:
    """Makes the directory (0700), the file (0600) and the tables where they are missing.
    Raises Unavailable, or Invalid for a file that a newer tunesmith wrote."""
    with explained(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        with closing(connect(path, busy_timeout_s)) as connection:
            _check_not_newer(connection, path)
            _write_ahead(connection, busy_timeout_s)
            _migrate(connection, path)


@contextmanager
def transaction(connection: sqlite3.Connection, *, write: bool) -> Iterator[None]:
    """One transaction: a consistent view for reading; for writing, the write lock from its start,
    so that what was read is still true at the commit. Never leaves one open."""
    connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # some errors have rolled back already
            connection.execute("ROLLBACK")
        raise


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns what sqlite3 and the operating system raise into Unavailable."""
    try:
        yield
    except sqlite3.Error as error:
        raise explain(path, error) from error
    except OSError as error:
        raise Unavailable(f"{path} cannot be opened: {error.strerror}") from error


def explain(path: Path, error: sqlite3.Error) -> PortError:
    """A sentence for the user: what happened, where, and what to do."""
    code = getattr(error, "sqlite_errorname", "")
    if code.startswith(_LOCKED):
        return Unavailable(f"{path} is locked: another process has been writing for too long")
    if code == "SQLITE_FULL":
        return Unavailable(f"{path} cannot grow: the disk is full; free some space")
    if code.startswith(_CORRUPT):
        return Unavailable(
            f"{path} is not a readable tunesmith database ({error}): "
            "restore it from a backup, or move it away to start with an empty one"
        )
    return Unavailable(f"{path} cannot be used: {error}")


def _write_ahead(connection: sqlite3.Connection, busy_timeout_s: float) -> None:
    """Switches to a write-ahead log. SQLite does not wait for other processes that do the same at
    the same moment, so this does."""
    deadline = time.monotonic() + busy_timeout_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if not error.sqlite_errorname.startswith(_LOCKED) or time.monotonic() > deadline:
                raise
        time.sleep(_RETRY_S)


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    if _version(connection) == SCHEMA_VERSION:
        return
    with transaction(connection, write=True):
        _check_not_newer(connection, path)
        if _version(connection) == 0:
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")


def _check_not_newer(connection: sqlite3.Connection, path: Path) -> None:
    version = _version(connection)
    if version > SCHEMA_VERSION:
        raise Invalid(
            f"{path} was written by a newer tunesmith (schema {version}, this one knows "
            f"{SCHEMA_VERSION}): upgrade tunesmith, or choose another state directory"
        )


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
