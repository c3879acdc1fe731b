# SPDX-License-Identifier: Apache-2.0
"""Objects in memory: the server of simulations and tests, and the reference for other stores.

One store outlives the controllers that use it: nothing in it belongs to an event loop. It never
starts a thread or a timer, so it works under virtual time. Use it from one thread.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TypeVar

from tunesmith_controller.ports import (
    Change,
    Clock,
    Json,
    Key,
    NotFound,
    ObjectList,
    Rng,
    WatchEvent,
)
from tunesmith_controller.stores import semantics, validity
from tunesmith_controller.stores.engine import COLLECT_AT_ONCE, Engine, Row
from tunesmith_controller.stores.watching import Entry, History, Replay, Snapshot, Watch, expired

T = TypeVar("T")


class MemoryRows:
    """Dicts by kind and by owner. The number beside a row is its age, the order of collection."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.by_kind: dict[str, dict[Key, Row]] = {}
        self._ages: dict[Key, int] = {}
        self._next_age = 0
        self._uids: set[tuple[str, str]] = set()
        self._dependents: dict[tuple[str, str], set[Key]] = {}
        self._gone: deque[tuple[str, str]] = deque()

    def find(self, key: Key) -> str | None:
        row = self.by_kind.get(key.kind, {}).get(key)
        return None if row is None else row.text

    def exists(self, namespace: str, uid: str) -> bool:
        return (namespace, uid) in self._uids

    def dependents(self, namespace: str, uid: str, limit: int) -> list[Key]:
        keys = self._dependents.get((namespace, uid), set())
        return sorted(keys, key=self._ages.__getitem__)[:limit]

    def latest(self) -> int:
        return self.history.last

    def write(self, change: Change, before: Row | None, after: Row) -> None:
        if before is not None:
            self._drop(before)
        if change is not Change.DELETED:
            self._keep(after)
        else:
            del self._ages[after.key]
        key = after.key
        self.history.feed([Entry(after.version, key.kind, key.namespace, change, after.text)])

    def push_gone(self, namespace: str, uid: str) -> None:
        self._gone.append((namespace, uid))

    def first_gone(self) -> tuple[str, str] | None:
        return self._gone[0] if self._gone else None

    def drop_gone(self, namespace: str, uid: str) -> None:
        self._gone.remove((namespace, uid))

    def _keep(self, row: Row) -> None:
        self.by_kind.setdefault(row.key.kind, {})[row.key] = row
        self._uids.add((row.key.namespace, row.uid))
        if row.key not in self._ages:
            self._ages[row.key] = self._next_age
            self._next_age += 1
        for owner in row.owners:
            self._dependents.setdefault((row.key.namespace, owner), set()).add(row.key)

    def _drop(self, row: Row) -> None:
        del self.by_kind[row.key.kind][row.key]
        self._uids.discard((row.key.namespace, row.uid))
        for owner in row.owners:
            keys = self._dependents[row.key.namespace, owner]
            keys.discard(row.key)
            if not keys:
                del self._dependents[row.key.namespace, owner]


class MemoryStore:
    """`ObjectStore` in memory. `history` is how many changes watches can resume over; a watcher
    that falls further behind gets Expired. Every call lets other tasks run once, before it takes
    effect, as a call over a network would."""

    def __init__(self, clock: Clock, rng: Rng, history: int = 1000) -> None:
        self._history = History(history, last=semantics.FIRST_VERSION)
        self._rows = MemoryRows(self._history)
        self._engine = Engine(self._rows, clock, rng)

    async def create(self, obj: Json) -> Json:
        draft = semantics.copied(obj)
        validity.check_address(draft, generated=True)
        return await self._write(lambda: self._engine.create(draft))

    async def get(self, key: Key) -> Json:
        await asyncio.sleep(0)
        text = self._rows.find(key)
        if text is None:
            raise NotFound(f"{key} does not exist")
        return semantics.decode(text)

    async def list(
        self, kind: str, *, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> ObjectList:
        await asyncio.sleep(0)
        rows = [
            row for row in self._select(kind, namespace) if semantics.selects(labels, row.labels)
        ]
        rows.sort(key=lambda row: (row.key.namespace, row.key.name))
        return ObjectList([semantics.decode(row.text) for row in rows], str(self._rows.latest()))

    async def update(self, obj: Json) -> Json:
        draft = semantics.copied(obj)
        validity.check_address(draft)
        return await self._write(lambda: self._engine.update(draft))

    async def update_status(self, obj: Json) -> Json:
        draft = semantics.copied(obj)
        validity.check_address(draft)
        return await self._write(lambda: self._engine.update_status(draft))

    async def patch(self, key: Key, patch: Json, *, status: bool = False) -> Json:
        draft = semantics.copied(patch)
        return await self._write(lambda: self._engine.patch(key, draft, status=status))

    async def delete(
        self, key: Key, *, uid: str | None = None, resource_version: str | None = None
    ) -> None:
        await self._write(
            lambda: self._engine.delete(key, uid=uid, resource_version=resource_version)
        )

    def watch(
        self, kind: str, *, namespace: str | None = None, resource_version: str = ""
    ) -> AsyncIterator[WatchEvent]:
        return Watch(self._history, self, kind, namespace, resource_version)

    async def snapshot(self, kind: str, namespace: str | None) -> Snapshot:
        """For `Watch`."""
        rows = self._select(kind, namespace)
        return Snapshot(self._rows.latest(), [(row.version, row.text) for row in rows])

    async def replay(self, kind: str, namespace: str | None, after: int) -> Replay:
        """For `Watch`, whose history is all there is here."""
        entries = self._history.after(after)
        if entries is None or after > self._history.last:
            raise expired(after, self._history.oldest_position, self._history.last)
        return Replay(entries, entries[-1].version if entries else after)

    def _select(self, kind: str, namespace: str | None) -> Sequence[Row]:
        rows = self._rows.by_kind.get(kind, {}).values()
        return [row for row in rows if namespace in (None, row.key.namespace)]

    async def _write(self, call: Callable[[], T]) -> T:
        await asyncio.sleep(0)
        result = call()
        while self._engine.collect(COLLECT_AT_ONCE):
            pass
        return result
