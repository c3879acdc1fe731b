# SPDX-License-Identifier: Apache-2.0
"""Tells watchers what changed: the newest changes of a store, and iterators over them.

Stores feed a `History` and hand out `Watch` objects. A watch keeps only its position, so that one
that nobody reads costs nothing, and one whose event loop died with its controller is collected as
garbage. Positions are resourceVersions, which are dense: every change has the next number.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakValueDictionary

from tunesmith_controller.ports import Change, Expired, PortError, WatchEvent
from tunesmith_controller.stores import semantics

_BATCH = 256


@dataclass(frozen=True, slots=True)
class Entry:
    """One change as it is kept."""

    version: int
    kind: str
    namespace: str
    change: Change
    text: str

    def concerns(self, kind: str, namespace: str | None) -> bool:
        return self.kind == kind and namespace in (None, self.namespace)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What existed at a version, as (own version, text), and from where changes follow."""

    version: int
    objects: list[tuple[int, str]]


@dataclass(frozen=True, slots=True)
class Replay:
    """Changes that follow a position, and the position after them."""

    entries: list[Entry]
    version: int


class Source(Protocol):
    """What a watch asks its store when the history does not reach."""

    async def snapshot(self, kind: str, namespace: str | None) -> Snapshot: ...

    async def replay(self, kind: str, namespace: str | None, after: int) -> Replay:
        """Raises Expired when changes after this version are gone or the version is unknown."""
        ...


_Waiter = asyncio.Future[PortError | None]


class History:
    """A window on the newest changes, bounded in number and, if told so, in bytes. Any thread may
    feed it; waiting is done in event loops."""

    def __init__(self, limit: int, *, last: int, max_bytes: int | None = None) -> None:
        self._limit = limit
        self._max_bytes = max_bytes
        self._entries: dict[int, Entry] = {}
        self._bytes = 0
        self._last = last
        self._lock = threading.Lock()
        # Weak, because a dead controller never takes its waiters back; ordered, because simulation
        # must wake the living in the same order every time.
        self._waiters: WeakValueDictionary[int, _Waiter] = WeakValueDictionary()
        self._tickets = itertools.count()
        self._ended: PortError | None = None

    @property
    def last(self) -> int:
        """The version of the newest change known here."""
        return self._last

    @property
    def oldest_position(self) -> int:
        """The lowest position from which the window shows everything."""
        return self._last - len(self._entries)

    def has_waiters(self) -> bool:
        return len(self._waiters) > 0

    def feed(self, entries: Iterable[Entry]) -> None:
        """Takes changes in order; known ones are ignored, and a gap starts a new window."""
        with self._lock:
            for entry in entries:
                self._append(entry)
            waiters = self._take_waiters()
        _wake(waiters, None)

    def skip_to(self, version: int) -> None:
        """Forgets the window: changes up to `version` must be read from the store."""
        with self._lock:
            if version > self._last:
                self._clear()
                self._last = version
            waiters = self._take_waiters()
        _wake(waiters, None)

    def interrupt(self, error: PortError) -> None:
        """Makes everyone who waits now raise `error`."""
        with self._lock:
            waiters = self._take_waiters()
        _wake(waiters, error)

    def end(self, error: PortError) -> None:
        """Makes everyone who waits, now or later, raise `error`."""
        self._ended = error
        self.interrupt(error)

    def after(self, position: int) -> list[Entry] | None:
        """The next changes, empty when there are none yet, None when the window starts later."""
        with self._lock:
            if position < self.oldest_position:
                return None
            end = min(self._last, position + _BATCH)
            return [self._entries[version] for version in range(position + 1, end + 1)]

    async def wait_beyond(self, position: int) -> None:
        """Returns when there may be a change after `position`. Raises what interrupts it."""
        waiter: _Waiter = asyncio.get_running_loop().create_future()
        with self._lock:
            if self._ended is not None:
                raise self._ended
            if self._last > position:
                return
            self._waiters[next(self._tickets)] = waiter
        error = await waiter  # if this is cancelled, the waiter leaves with its last reference
        if error is not None:
            raise type(error)(*error.args)

    def _append(self, entry: Entry) -> None:
        if entry.version <= self._last:
            return
        if entry.version > self._last + 1:
            self._clear()
        self._entries[entry.version] = entry
        self._bytes += len(entry.text)
        self._last = entry.version
        while len(self._entries) > self._limit or self._is_too_large():
            oldest = self._entries.pop(next(iter(self._entries)))
            self._bytes -= len(oldest.text)

    def _is_too_large(self) -> bool:
        return self._max_bytes is not None and self._bytes > self._max_bytes

    def _clear(self) -> None:
        self._entries.clear()
        self._bytes = 0

    def _take_waiters(self) -> list[_Waiter]:
        waiters = list(self._waiters.values())
        self._waiters.clear()
        return waiters


def _wake(waiters: list[_Waiter], error: PortError | None) -> None:
    try:
        here = asyncio.get_running_loop()
    except RuntimeError:
        here = None
    for waiter in waiters:
        loop = waiter.get_loop()
        if loop is here:
            _resolve(waiter, error)
        else:
            with suppress(RuntimeError):  # that loop is closed: its watcher is dead
                loop.call_soon_threadsafe(_resolve, waiter, error)


def _resolve(waiter: _Waiter, error: PortError | None) -> None:
    if not waiter.done():
        waiter.set_result(error)


class Watch:
    """The iterator that `ObjectStore.watch` returns. Cancelling a wait for the next event loses
    none: the next call goes on from the same position. After the initial ADDED events, which come
    in the order of their versions, one BOOKMARK tells the version from which to resume."""

    def __init__(
        self, history: History, source: Source, kind: str, namespace: str | None, start: str
    ) -> None:
        self._history = history
        self._source = source
        self._kind = kind
        self._namespace = namespace
        self._start = start
        self._position: int | None = None
        self._ready: deque[tuple[Change, str]] = deque()
        self._closed = False

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> WatchEvent:
        while not self._ready:
            if self._closed:
                raise StopAsyncIteration
            await self._fill()
        change, text = self._ready.popleft()
        return WatchEvent(change, semantics.decode(text))

    async def aclose(self) -> None:
        """Ends the iteration."""
        self._closed = True
        self._ready.clear()

    async def _fill(self) -> None:
        if self._position is None:
            await self._begin()
            return
        entries = self._history.after(self._position)
        if entries is None:
            await self._replay(self._position)
        elif entries:
            self._take(entries, entries[-1].version)
        else:
            await self._history.wait_beyond(self._position)

    async def _begin(self) -> None:
        position = semantics.parse_version(self._start)
        if position is not None:
            await self._replay(position)
            return
        snapshot = await self._source.snapshot(self._kind, self._namespace)
        self._ready.extend((Change.ADDED, text) for _, text in sorted(snapshot.objects))
        self._ready.append((Change.BOOKMARK, _bookmark(self._kind, snapshot.version)))
        self._position = snapshot.version

    async def _replay(self, position: int) -> None:
        replay = await self._source.replay(self._kind, self._namespace, position)
        self._take(replay.entries, replay.version)

    def _take(self, entries: list[Entry], position: int) -> None:
        self._ready.extend(
            (entry.change, entry.text)
            for entry in entries
            if entry.concerns(self._kind, self._namespace)
        )
        self._position = position


def expired(position: int, oldest: int, last: int) -> Expired:
    """The error for a position outside of what the store remembers."""
    return Expired(
        f"resourceVersion {position} is not between {oldest} and {last}, which this store "
        "remembers: list again and watch from there"
    )


def _bookmark(kind: str, version: int) -> str:
    return semantics.encode({"kind": kind, "metadata": {"resourceVersion": str(version)}})
