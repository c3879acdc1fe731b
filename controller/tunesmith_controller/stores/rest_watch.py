# SPDX-License-Identifier: Apache-2.0
"""Follows one kind over a Kubernetes API: list if asked for, then watch, and resume by itself.

Made by `RestStore.watch`. It keeps one position, the resourceVersion of the last event that it
gave away; a stream that ends, breaks or falls silent is opened again from there.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tunesmith_controller.ports import Change, Json, ObjectList, Unavailable, WatchEvent
from tunesmith_controller.stores.rest_errors import decoded, error_of, raise_for
from tunesmith_controller.stores.rest_transport import ApiRequest, ApiStream, ApiTransport

_BRIEF_S = 1.0
"""A stream that ends within this time and tells nothing is no stream; asking again at once would
keep both sides busy for nothing. The Kubernetes Go client uses the same time."""


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """silence_s: after how long without a line a connection counts as lost. Kubernetes sends
    bookmarks about once a minute. stream_s: how long the server is asked to keep a stream."""

    silence_s: float = 90.0
    stream_s: int = 300


@dataclass(frozen=True, slots=True)
class Watched:
    """What is followed: `path` of the collection, and how to list it."""

    kind: str
    api_version: str
    path: str
    list: Callable[[], Awaitable[ObjectList]]


class RestWatch:
    """The iterator of `RestStore.watch`. Cancelling a wait loses no event: the next call goes on
    from the same position. Raises Expired, Unavailable, and is of no use after that."""

    def __init__(
        self, transport: ApiTransport, watched: Watched, start: str, settings: WatchSettings
    ) -> None:
        self._transport = transport
        self._watched = watched
        self._settings = settings
        self._position = "" if start == "0" else start
        self._ready: deque[WatchEvent] = deque()
        self._stream: ApiStream | None = None
        self._opened_s = 0.0
        self._told = False
        self._closed = False

    def __aiter__(self) -> RestWatch:
        return self

    async def __anext__(self) -> WatchEvent:
        while not self._ready:
            if self._closed:
                raise StopAsyncIteration
            try:
                await self._fill()
            except BaseException:  # a cancelled read may have lost a part of a line
                await self._drop_stream()
                raise
        return self._ready.popleft()

    async def aclose(self) -> None:
        """Ends the iteration and frees its connection."""
        self._closed = True
        self._ready.clear()
        await self._drop_stream()

    async def _fill(self) -> None:
        if not self._position:
            await self._begin()
        elif self._stream is None:
            await self._open()
        elif (line := await self._next_line(self._stream)) is None:
            await self._end_stream()
        elif line.strip():
            self._take(line)

    async def _begin(self) -> None:
        listed = await self._watched.list()
        self._ready.extend(WatchEvent(Change.ADDED, obj) for obj in listed.items)
        bookmark = {
            "kind": self._watched.kind,
            "apiVersion": self._watched.api_version,
            "metadata": {"resourceVersion": listed.resource_version},
        }
        self._ready.append(WatchEvent(Change.BOOKMARK, bookmark))
        self._position = listed.resource_version

    async def _open(self) -> None:
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._position,
            "timeoutSeconds": str(self._settings.stream_s),
        }
        stream = await self._transport.stream(
            ApiRequest("GET", self._watched.path, query), silence_s=self._settings.silence_s
        )
        self._stream = stream
        self._opened_s = asyncio.get_running_loop().time()
        self._told = False
        raise_for(stream.reply, self._doing)

    async def _next_line(self, stream: ApiStream) -> bytes | None:
        """None when the stream is over, in whatever way: it is resumed all the same, and a server
        that is gone shows itself when it is asked again."""
        try:
            return await stream.next_line()
        except Unavailable:
            return None

    async def _end_stream(self) -> None:
        lasted = asyncio.get_running_loop().time() - self._opened_s
        await self._drop_stream()
        if not self._told and lasted < _BRIEF_S:
            raise Unavailable(f"{self._doing}: the stream ended at once")

    async def _drop_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.aclose()

    def _take(self, line: bytes) -> None:
        event = _parsed(line)
        if event is None:
            raise Unavailable(f"{self._doing}: {line[:80]!r} is no event")
        type_, obj = event
        if type_ == "ERROR":
            code = obj.get("code")
            raise error_of(obj, code if isinstance(code, int) else 500, self._doing)
        obj.setdefault("kind", self._watched.kind)
        obj.setdefault("apiVersion", self._watched.api_version)
        self._told = True
        self._position = str(obj["metadata"]["resourceVersion"])
        self._ready.append(WatchEvent(Change(type_), without_managers(obj)))

    @property
    def _doing(self) -> str:
        return f"watch {self._watched.kind}"


def without_managers(obj: Json) -> Json:
    """Without Kubernetes' record of who wrote which field: it is half of a small object, changes
    with every write and concerns nobody here. A write without it leaves it alone."""
    metadata = obj.get("metadata")
    if isinstance(metadata, dict):
        metadata.pop("managedFields", None)
    return obj


def _parsed(line: bytes) -> tuple[str, Json] | None:
    """Type and object of an event, when it has the form of one."""
    try:
        event: Any = decoded(line)
        type_, obj = event["type"], event["object"]
        known = type_ == "ERROR" or (type_ in set(Change) and obj["metadata"]["resourceVersion"])
    except (ValueError, KeyError, TypeError):
        return None
    return (type_, obj) if known and isinstance(obj, dict) else None
