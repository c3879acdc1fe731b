# SPDX-License-Identifier: Apache-2.0
"""Objects in one SQLite file: what a laptop has instead of a Kubernetes API server.

The controller, `tunesmith` commands and the API server may have the same file open in several
processes. A write is on disk when it returns. Changes made in this process reach its watchers at
once, those of other processes within `poll_interval_s`.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeVar

from tunesmith_controller.ports import (
    Clock,
    Json,
    Key,
    NotFound,
    ObjectList,
    Rng,
    Unavailable,
    WatchEvent,
)
from tunesmith_controller.stores import semantics, validity
from tunesmith_controller.stores.engine import Engine
from tunesmith_controller.stores.sqlite_file import (
    connect,
    explain,
    explained,
    prepare,
    transaction,
)
from tunesmith_controller.stores.sqlite_rows import (
    Keep,
    SqliteRows,
    newest,
    read_entries,
    read_list,
    read_replay,
)
from tunesmith_controller.stores.sqlite_writer import Target, Writer
from tunesmith_controller.stores.watching import History, Replay, Snapshot, Watch

T = TypeVar("T")

_READERS = 2
_WINDOW = 1000
_WINDOW_BYTES = 16 * 1024 * 1024
_LOG_BYTES = 64 * 1024 * 1024


class SqliteStore:
    """`ObjectStore` in the file at `path`, which is made if it is missing. `history` is how many
    changes watches can resume over, in about 64 MiB of objects at most. Usable from any number of
    event loops; call `close` at the end. Every method may raise Unavailable with a sentence that
    names the file; the constructor also Invalid, for a file that a newer tunesmith wrote."""

    def __init__(
        self,
        path: Path | str,
        clock: Clock,
        rng: Rng,
        *,
        poll_interval_s: float = 0.15,
        busy_timeout_s: float = 5.0,
        history: int = 20_000,
    ) -> None:
        self._path = Path(path)
        self._busy_timeout_s = busy_timeout_s
        self._poll_interval_s = poll_interval_s
        keep = Keep(changes=history, size=_LOG_BYTES)
        prepare(self._path, busy_timeout_s)
        with explained(self._path), closing(self._connect()) as connection:
            last = newest(connection)[0]
            uncollected = SqliteRows(connection, keep).first_gone() is not None
        self._history = History(_WINDOW, last=last, max_bytes=_WINDOW_BYTES)
        target = Target(self._path, busy_timeout_s, keep, clock, rng)
        self._writer = Writer(target, self._history)
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix=f"reads {self._path.name}")
        self._idle: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._poller: threading.Thread | None = None
        if uncollected:
            self._writer.start()

    def close(self) -> None:
        """Finishes the writes under way, ends all watches with Unavailable, closes the file."""
        self._closing.set()
        self._writer.close()
        self._readers.shutdown()
        with self._lock:
            poller = self._poller
        if poller is not None:
            poller.join()
        self._history.end(self._closed_error())
        with suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()

    async def create(self, obj: Json) -> Json:
        draft = semantics.copied(obj)
        validity.check_address(draft, generated=True)
        return await self._write(lambda engine: engine.create(draft))

    async def get(self, key: Key) -> Json:
        return await self._read(lambda connection: _get(connection, key))

    async def list(
        self, kind: str, *, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> ObjectList:
        selector = dict(labels or {})

        def read(connection: sqlite3.Connection) -> ObjectList:
            with transaction(connection, write=False):
                found = read_list(connection, kind, namespace, selector)
            items = [semantics.decode(text) for _, text in found.objects]
            return ObjectList(items, str(found.version))

        return await self._read(read)

    async def update(self, obj: Json) -> Json:
        draft = semantics.copied(obj)
        validity.check_address(draft)
        return await self._write(lambda engine: engine.update(draft))

    async def update_status(self, obj: Json) -> Json:
        draft = semantics.copied(obj)
        validity.check_address(draft)
        return await self._write(lambda engine: engine.update_status(draft))

    async def patch(self, key: Key, patch: Json, *, status: bool = False) -> Json:
        draft = semantics.copied(patch)
        return await self._write(lambda engine: engine.patch(key, draft, status=status))

    async def delete(
        self, key: Key, *, uid: str | None = None, resource_version: str | None = None
    ) -> None:
        await self._write(
            lambda engine: engine.delete(key, uid=uid, resource_version=resource_version)
        )

    def watch(
        self, kind: str, *, namespace: str | None = None, resource_version: str = ""
    ) -> AsyncIterator[WatchEvent]:
        self._ensure_polling()
        return Watch(self._history, self, kind, namespace, resource_version)

    async def snapshot(self, kind: str, namespace: str | None) -> Snapshot:
        """For `Watch`."""

        def read(connection: sqlite3.Connection) -> Snapshot:
            with transaction(connection, write=False):
                return read_list(connection, kind, namespace, None)

        return await self._read(read)

    async def replay(self, kind: str, namespace: str | None, after: int) -> Replay:
        """For `Watch`."""

        def read(connection: sqlite3.Connection) -> Replay:
            with transaction(connection, write=False):
                return read_replay(connection, kind, namespace, after)

        return await self._read(read)

    async def _write(self, call: Callable[[Engine], T]) -> T:
        return await asyncio.wrap_future(self._writer.submit(call))

    async def _read(self, call: Callable[[sqlite3.Connection], T]) -> T:
        if self._closing.is_set():
            raise self._closed_error()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, self._with_connection, call)

    def _with_connection(self, call: Callable[[sqlite3.Connection], T]) -> T:
        with explained(self._path):
            try:
                connection = self._idle.get_nowait()
            except queue.Empty:
                connection = self._connect()
            try:
                result = call(connection)
            except sqlite3.Error:
                connection.close()
                raise
            except BaseException:
                self._idle.put(connection)
                raise
            self._idle.put(connection)
            return result

    def _connect(self) -> sqlite3.Connection:
        return connect(self._path, self._busy_timeout_s)

    def _closed_error(self) -> Unavailable:
        return Unavailable(f"{self._path} has been closed by this process")

    # ---- other processes' changes ---------------------------------------------------------------

    def _ensure_polling(self) -> None:
        with self._lock:
            if self._poller is None and not self._closing.is_set():
                self._poller = threading.Thread(
                    target=self._poll, name=f"watches {self._path.name}", daemon=True
                )
                self._poller.start()

    def _poll(self) -> None:
        connection: sqlite3.Connection | None = None
        seen = None
        while not self._closing.wait(self._poll_interval_s):
            if not self._history.has_waiters():
                continue
            try:
                connection = connection or self._connect()
                # Read before the changes, so that one made in between is seen next time.
                version = connection.execute("PRAGMA data_version").fetchone()
                if version != seen:
                    self._catch_up(connection)
                seen = version
            except sqlite3.Error as error:
                self._history.interrupt(explain(self._path, error))
                _close(connection)
                connection = None
        _close(connection)

    def _catch_up(self, connection: sqlite3.Connection) -> None:
        with transaction(connection, write=False):
            last = newest(connection)[0]
            entries = read_entries(connection, self._history.last, _WINDOW + 1)
        if len(entries) > _WINDOW:
            self._history.skip_to(last)
        else:
            self._history.feed(entries)


def _get(connection: sqlite3.Connection, key: Key) -> Json:
    found = connection.execute(
        "SELECT object FROM objects WHERE kind = ? AND namespace = ? AND name = ?",
        (key.kind, key.namespace, key.name),
    ).fetchone()
    if found is None:
        raise NotFound(f"{key} does not exist")
    return semantics.decode(found[0])


def _close(connection: sqlite3.Connection | None) -> None:
    if connection is not None:
        with suppress(sqlite3.Error):
            connection.close()
