# SPDX-License-Identifier: Apache-2.0
"""The objects of a state directory whose API is up: through the API, and when that does not answer
(its process ended), directly. Used by `access` only.

Both sides are the same file, with the same resourceVersions: whoever follows objects goes on where
it was, and a `run` that waits for the lease takes over from the one that served.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TypeVar

from tunesmith_api.errors import Unavailable
from tunesmith_controller.ports import Json, Key, ObjectList, ObjectStore, WatchEvent

T = TypeVar("T")


class ServedStore:
    """`ObjectStore` over `served` until it does not answer, then over `direct` for good.

    Reads are repeated when the API goes away under them. A write is not, because nobody knows
    whether it took effect: it raises Unavailable, and the next call goes the direct way.
    """

    def __init__(self, served: ObjectStore, direct: ObjectStore) -> None:
        self._store = served
        self._direct = direct

    async def create(self, obj: Json) -> Json:
        return await self._write(lambda store: store.create(obj))

    async def get(self, key: Key) -> Json:
        return await self._read(lambda store: store.get(key))

    async def list(
        self, kind: str, *, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> ObjectList:
        return await self._read(lambda store: store.list(kind, namespace=namespace, labels=labels))

    async def update(self, obj: Json) -> Json:
        return await self._write(lambda store: store.update(obj))

    async def update_status(self, obj: Json) -> Json:
        return await self._write(lambda store: store.update_status(obj))

    async def patch(self, key: Key, patch: Json, *, status: bool = False) -> Json:
        return await self._write(lambda store: store.patch(key, patch, status=status))

    async def delete(
        self, key: Key, *, uid: str | None = None, resource_version: str | None = None
    ) -> None:
        await self._write(
            lambda store: store.delete(key, uid=uid, resource_version=resource_version)
        )

    async def watch(
        self, kind: str, *, namespace: str | None = None, resource_version: str = ""
    ) -> AsyncIterator[WatchEvent]:
        stream = self._store.watch(kind, namespace=namespace, resource_version=resource_version)
        try:
            async for event in stream:
                yield event
        except Unavailable:
            self._store = self._direct
            raise

    async def _read(self, call: Callable[[ObjectStore], Awaitable[T]]) -> T:
        try:
            return await call(self._store)
        except Unavailable:
            if self._store is self._direct:
                raise
        self._store = self._direct
        return await call(self._direct)

    async def _write(self, call: Callable[[ObjectStore], Awaitable[T]]) -> T:
        try:
            return await call(self._store)
        except Unavailable as error:
            if self._store is self._direct:
                raise
            self._store = self._direct
            what = "the API went away while it was asked to write, which it may have done"
            raise Unavailable(f"{what}: {error}; run the command again") from error
