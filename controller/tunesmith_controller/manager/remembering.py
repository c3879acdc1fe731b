# SPDX-License-Identifier: Apache-2.0
"""`RememberingStore`: what this process has written is in its cache at once.

Without it a reconciler looks at its own object as it was before its last write, decides the same
again, and is refused by the object's version. What others write comes by the watch as ever.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from tunesmith_controller.manager.informer import Informer
from tunesmith_controller.ports import Json, Key, ObjectList, ObjectStore, WatchEvent


class RememberingStore:
    """The `ObjectStore` of a manager's reconcilers, over the one that its informers follow."""

    def __init__(self, store: ObjectStore, informers: Mapping[str, Informer]) -> None:
        self._store = store
        self._informers = informers

    async def create(self, obj: Json) -> Json:
        return self._remembered(await self._store.create(obj))

    async def get(self, key: Key) -> Json:
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
        await self._store.delete(key, uid=uid, resource_version=resource_version)

    def watch(
        self, kind: str, *, namespace: str | None = None, resource_version: str = ""
    ) -> AsyncIterator[WatchEvent]:
        return self._store.watch(kind, namespace=namespace, resource_version=resource_version)

    def _remembered(self, obj: Json) -> Json:
        informer = self._informers.get(obj.get("kind", ""))
        if informer is not None:
            informer.remember(obj)
        return obj
