# SPDX-License-Identifier: Apache-2.0
"""The tables of a `SqliteStore` as the engine's `Rows`, and as the reads that need no engine.

Everything here runs inside a transaction that the caller has begun, in the caller's thread.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from tunesmith_controller.ports import Change, Key
from tunesmith_controller.stores import semantics
from tunesmith_controller.stores.engine import Row
from tunesmith_controller.stores.watching import Entry, Replay, Snapshot, expired

_REPLAY_BATCH = 500
_PRUNE_STEPS = 64


@dataclass(frozen=True, slots=True)
class Keep:
    """How much of the log is kept: the newest changes, as long as both bounds hold."""

    changes: int
    size: int


class SqliteRows:
    """One transaction's view of the tables; `entries` are the changes that it has made."""

    def __init__(self, connection: sqlite3.Connection, keep: Keep) -> None:
        self._sql = connection.execute
        self._many = connection.executemany
        self._keep = keep
        self._latest, self._written = newest(connection)
        self.entries: list[Entry] = []

    def find(self, key: Key) -> str | None:
        found = self._sql(
            "SELECT object FROM objects WHERE kind = ? AND namespace = ? AND name = ?",
            (key.kind, key.namespace, key.name),
        ).fetchone()
        return None if found is None else str(found[0])

    def exists(self, namespace: str, uid: str) -> bool:
        query = "SELECT 1 FROM objects WHERE uid = ? AND namespace = ?"
        return self._sql(query, (uid, namespace)).fetchone() is not None

    def dependents(self, namespace: str, uid: str, limit: int) -> list[Key]:
        # Ids grow with age and are the end of the owners' primary key: no sorting happens.
        found = self._sql(
            "SELECT o.kind, o.namespace, o.name FROM owners w CROSS JOIN objects o"
            " ON o.id = w.object_id WHERE w.namespace = ? AND w.owner_uid = ?"
            " ORDER BY w.object_id LIMIT ?",
            (namespace, uid, limit),
        )
        return [Key(*address) for address in found]

    def latest(self) -> int:
        return self._latest

    def write(self, change: Change, before: Row | None, after: Row) -> None:
        if before is None:
            self._insert(after)
        elif change is Change.DELETED:
            self._delete(before)
        else:
            self._modify(before, after)
        self._log(change, after)

    def push_gone(self, namespace: str, uid: str) -> None:
        self._sql("INSERT INTO gone (namespace, owner_uid) VALUES (?, ?)", (namespace, uid))

    def first_gone(self) -> tuple[str, str] | None:
        query = "SELECT namespace, owner_uid FROM gone ORDER BY place LIMIT 1"
        found = self._sql(query).fetchone()
        return None if found is None else (str(found[0]), str(found[1]))

    def drop_gone(self, namespace: str, uid: str) -> None:
        self._sql("DELETE FROM gone WHERE namespace = ? AND owner_uid = ?", (namespace, uid))

    def _insert(self, row: Row) -> None:
        cursor = self._sql(
            "INSERT INTO objects (kind, namespace, name, uid, version, object)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (row.key.kind, row.key.namespace, row.key.name, row.uid, row.version, row.text),
        )
        assert cursor.lastrowid is not None  # noqa: S101 - an INSERT has one; for the type checker
        self._index(cursor.lastrowid, row)

    def _modify(self, before: Row, after: Row) -> None:
        self._sql(
            "UPDATE objects SET version = ?, object = ? WHERE uid = ?",
            (after.version, after.text, after.uid),
        )
        if before.labels != after.labels or before.owners != after.owners:
            object_id = self._id(before)
            self._unindex(object_id, before)
            self._index(object_id, after)

    def _delete(self, row: Row) -> None:
        object_id = self._id(row)
        self._unindex(object_id, row)
        self._sql("DELETE FROM objects WHERE id = ?", (object_id,))

    def _id(self, row: Row) -> int:
        return int(self._sql("SELECT id FROM objects WHERE uid = ?", (row.uid,)).fetchone()[0])

    def _index(self, object_id: int, row: Row) -> None:
        self._many(
            "INSERT INTO labels (key, value, object_id) VALUES (?, ?, ?)",
            [(key, value, object_id) for key, value in row.labels.items()],
        )
        self._many(
            "INSERT INTO owners (namespace, owner_uid, object_id) VALUES (?, ?, ?)",
            [(row.key.namespace, owner, object_id) for owner in row.owners],
        )

    def _unindex(self, object_id: int, row: Row) -> None:
        self._many(
            "DELETE FROM labels WHERE key = ? AND value = ? AND object_id = ?",
            [(key, value, object_id) for key, value in row.labels.items()],
        )
        self._many(
            "DELETE FROM owners WHERE namespace = ? AND owner_uid = ? AND object_id = ?",
            [(row.key.namespace, owner, object_id) for owner in row.owners],
        )

    def _log(self, change: Change, row: Row) -> None:
        entry = Entry(row.version, row.key.kind, row.key.namespace, change, row.text)
        self._latest = row.version
        self._written += semantics.size_of(row.text)
        self._sql(
            "INSERT INTO events (version, written, kind, namespace, change, object)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (entry.version, self._written, entry.kind, entry.namespace, change.value, entry.text),
        )
        self.entries.append(entry)
        if entry.version % max(1, self._keep.changes // _PRUNE_STEPS) == 0:
            self._prune()

    def _prune(self) -> None:
        """Drops the oldest changes. The newest one always stays: it holds the version counter."""
        oldest = self._sql(
            "SELECT version FROM events WHERE version > ? AND written > ? ORDER BY version LIMIT 1",
            (self._latest - self._keep.changes, self._written - self._keep.size),
        ).fetchone()
        first = self._latest if oldest is None else oldest[0]
        self._sql("DELETE FROM events WHERE version < ?", (first,))


def newest(connection: sqlite3.Connection) -> tuple[int, int]:
    """The version of the last change, and the bytes logged up to it."""
    query = "SELECT version, written FROM events ORDER BY version DESC LIMIT 1"
    found = connection.execute(query).fetchone()
    return (semantics.FIRST_VERSION, 0) if found is None else (int(found[0]), int(found[1]))


def read_list(
    connection: sqlite3.Connection,
    kind: str,
    namespace: str | None,
    labels: Mapping[str, str] | None,
) -> Snapshot:
    """The objects of a kind by namespace and name."""
    tables, conditions, values = [], [], []
    # CROSS JOIN keeps this order: the first label finds the objects, the others only check.
    for number, (key, value) in enumerate((labels or {}).items()):
        tables.append(f"labels l{number}")
        conditions.append(f"l{number}.key = ? AND l{number}.value = ?")
        conditions.append(f"l{number}.object_id = {'l0.object_id' if number else 'o.id'}")
        values += [key, value]
    tables.append("objects o")
    conditions.append("o.kind = ?")
    values.append(kind)
    if namespace is not None:
        conditions.append("o.namespace = ?")
        values.append(namespace)
    found = connection.execute(
        f"SELECT o.version, o.object FROM {' CROSS JOIN '.join(tables)}"  # noqa: S608 - ours alone
        f" WHERE {' AND '.join(conditions)} ORDER BY o.namespace, o.name",
        values,
    ).fetchall()
    return Snapshot(newest(connection)[0], found)


def read_entries(connection: sqlite3.Connection, after: int, limit: int) -> list[Entry]:
    """The changes of all kinds that follow a version."""
    found = connection.execute(
        "SELECT version, kind, namespace, change, object FROM events"
        " WHERE version > ? ORDER BY version LIMIT ?",
        (after, limit),
    )
    return [Entry(row[0], row[1], row[2], Change(row[3]), row[4]) for row in found]


def read_replay(
    connection: sqlite3.Connection, kind: str, namespace: str | None, after: int
) -> Replay:
    """The next changes of a kind. Raises Expired."""
    last = newest(connection)[0]
    found = connection.execute("SELECT min(version) FROM events").fetchone()[0]
    oldest = semantics.FIRST_VERSION if found is None else found - 1
    if not oldest <= after <= last:
        raise expired(after, oldest, last)
    end = min(last, after + _REPLAY_BATCH)
    rows = connection.execute(
        "SELECT version, kind, namespace, change, object FROM events"
        " WHERE version > ? AND version <= ? AND kind = ? AND (? IS NULL OR namespace = ?)"
        " ORDER BY version",
        (after, end, kind, namespace, namespace),
    )
    return Replay([Entry(r[0], r[1], r[2], Change(r[3]), r[4]) for r in rows], end)
