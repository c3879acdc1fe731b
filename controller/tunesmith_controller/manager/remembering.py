# SPDX-License-Identifier: Apache-2.0
"""`RememberingStore`: what this process has written is in its cache at once.

Without it a reconciler looks at its own object as it was before its last write, decides the same
again, and is refused by the object's version. What others write comes by the watch as ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Final

from tunesmith_controller.manager.informer import Informer
from tunesmith_controller.ports import Json, Key, ObjectList, ObjectStore, WatchEvent

FRESH_S: Final = 1.0
"""How long a Trial is taken to be as this process has written it, where it must be read live: less
than passes between the end of one leader and the beginning of the next, so only people can have
changed it meanwhile. What they do is seen a moment later."""


class RememberingStore:
    """The `ObjectStore` of a manager's reconcilers, over the one that its informers follow."""

    def __init__(self, store: ObjectStore, informers: Mapping[str, Informer]) -> None:
        self._store = store
        self._informers = informers
        self._written: dict[Key, tuple[float, Json]] = {}

    async def create(self, obj: Json) -> Json:
        return self._remembered(await self._store.create(obj))

    async def get(self, key: Key) -> Json:
        when, obj = self._written.get(key, (0.0, None))
        if obj is not None and asyncio.get_running_loop().time() - when < FRESH_S:
            return obj
        return await self._store.get(key)

    async def list(
        self, kind: str, *, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> ObjectList:
        return await self._store.list(kind, namespace=namespace, labels=labels)

    async def update(self, obj: Json) -> Json:
        return self._remembered(await self._store.update(obj))

    async def update_status(self, obj: Json) -> Json:
        return self._remembered(await self._store.update_status(obj))

    async def patch(self, key: Key, patch: Json, *, status: bool = False) -> Json:
        return self._remembered(await self._store.patch(key, patch, status=status))

    async def delete(
        self, key: Key, *, uid: str | None = None, resource_version: str | None = None
    ) -> None:
        self._written.pop(key, None)
        await self._store.delete(key, uid=uid, resource_version=resource_version)

    def watch(
        self, kind: str, *, namespace: str | None = None, resource_version: str = ""
    ) -> AsyncIterator[WatchEvent]:
        return self._store.watch(kind, namespace=namespace, resource_version=resource_version)

    def _remembered(self, obj: Json) -> Json:
        informer = self._informers.get(obj.get("kind", ""))
        if informer is not None:
            informer.remember(obj)
        if obj.get("kind") == "Trial":
            self._keep(obj)
        return obj

    def _keep(self, obj: Json) -> None:
        now = asyncio.get_running_loop().time()
        while self._written:
            oldest, (when, _) = next(iter(self._written.items()))
            if now - when < FRESH_S:
                break
            del self._written[oldest]
        key = Key("Trial", obj["metadata"]["namespace"], obj["metadata"]["name"])
        self._written.pop(key, None)
        self._written[key] = (now, obj)
