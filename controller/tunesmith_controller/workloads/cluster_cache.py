# SPDX-License-Identifier: Apache-2.0
"""A copy of the objects of one kind that carry a label, kept by list and watch.

`KubernetesWorkloads` has one for each kind of job and one for pods. It may be late, never wrong
about what this process did itself: what a create answered is known at once (`remember`) and is not
forgotten because an older list or event does not have it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from tunesmith_controller.manager.queue import Backoff
from tunesmith_controller.ports import Change, Expired, Json, PortError, Unavailable, WatchEvent
from tunesmith_controller.stores.rest import Resource, RestStore
from tunesmith_controller.stores.rest_errors import Denied
from tunesmith_controller.stores.rest_transport import (
    ApiReply,
    ApiRequest,
    ApiStream,
    ApiTransport,
)

_LOG = logging.getLogger(__name__)
_BACKOFF: Final = Backoff(first=0.2, limit=15.0)
_KIND: Final = "watched"
_DELETED_KEPT: Final = 4096

T = TypeVar("T")
Name = tuple[str, str]
"""Namespace and name."""


class Selecting:
    """An `ApiTransport` whose reads see only objects that a label selector matches."""

    def __init__(self, transport: ApiTransport, selector: str) -> None:
        self._transport = transport
        self._selector = selector

    async def request(self, request: ApiRequest) -> ApiReply:
        return await self._transport.request(self._selected(request))

    async def stream(self, request: ApiRequest, *, silence_s: float) -> ApiStream:
        return await self._transport.stream(self._selected(request), silence_s=silence_s)

    def _selected(self, request: ApiRequest) -> ApiRequest:
        query = {**request.query, "labelSelector": self._selector}
        return ApiRequest(request.method, request.path, query, request.body, request.content_type)


class Watching(Generic[T]):
    """The copy. `kept` makes of each object what is kept of it; `told` hears of every change, with
    what was kept before and is kept now, None for nothing, and the object that tells it."""

    def __init__(
        self,
        transport: ApiTransport,
        resource: Resource,
        *,
        selector: str,
        namespace: str | None,
        kept: Callable[[Json], T],
        told: Callable[[T | None, T | None, Json], None],
    ) -> None:
        self.synced = asyncio.Event()
        self.trouble: PortError | None = None
        """Why it cannot be read at the moment; None when it can."""
        self.answered = asyncio.Event()
        """Set once it was listed, or could not be."""
        self.resource = resource
        self._namespace = namespace
        self._store = RestStore(Selecting(transport, selector), resources={_KIND: resource})
        self._kept, self._told = kept, told
        self._objects: dict[Name, tuple[str, T]] = {}
        self._own: dict[Name, tuple[int, str, T]] = {}
        self._deleted: OrderedDict[str, None] = OrderedDict()
        self._writes = 0

    async def listed(self, wait_s: float) -> None:
        """Returns once it was listed; after that even a copy that is late is of use. Raises
        Denied, and Unavailable when there is no answer within `wait_s`."""
        if not self.answered.is_set():
            try:
                await asyncio.wait_for(self.answered.wait(), wait_s)
            except TimeoutError:
                raise Unavailable(f"{self.resource.plural} were not listed in {wait_s} s") from None
        if self.synced.is_set():
            return
        if isinstance(self.trouble, Denied):
            raise Denied(str(self.trouble))
        raise Unavailable(f"{self.resource.plural} cannot be listed: {self.trouble}")

    def get(self, namespace: str, name: str) -> T | None:
        own = self._own.get((namespace, name))
        if own is not None:
            return own[2]
        found = self._objects.get((namespace, name))
        return None if found is None else found[1]

    def all(self) -> list[T]:
        own = {key: kept for key, (_, _, kept) in self._own.items()}
        return list(({key: kept for key, (_, kept) in self._objects.items()} | own).values())

    def remember(self, obj: Json) -> None:
        """What the API has just answered to a write or a read; the watch may be ahead of it."""
        key, uid = _name(obj), _uid(obj)
        self._writes += 1
        known = self._objects.get(key)
        if uid in self._deleted or (known is not None and known[0] == uid):
            return
        self._own[key] = (self._writes, uid, self._kept(obj))
        self._told(None, self._own[key][2], obj)

    async def run(self) -> None:
        """Until cancelled."""
        failures = 0
        while True:
            try:
                version = await self._relist()
                failures = 0
                await self._follow(version)
            except Expired:
                _LOG.debug("the watch of %s expired, listing again", self.resource.plural)
            except PortError as error:
                failures += 1
                self._troubled(error)
                await asyncio.sleep(_BACKOFF.delay(failures, 0.5))
            except Exception:  # noqa: BLE001 - logged, and tried again
                # A defect must not leave a copy that nobody keeps.
                failures += 1
                _LOG.exception("watching %s failed", self.resource.plural)
                await asyncio.sleep(_BACKOFF.delay(failures, 0.5))

    def _troubled(self, error: PortError) -> None:
        _LOG.info("watching %s: %s", self.resource.plural, error)
        self.trouble = error
        self.answered.set()

    async def _relist(self) -> str:
        writes = self._writes
        listed = await self._store.list(_KIND, namespace=self._namespace)
        fresh = {_name(obj): obj for obj in listed.items}
        for key, (number, uid, kept) in list(self._own.items()):
            if number <= writes and (key not in fresh or _uid(fresh[key]) != uid):
                del self._own[key]
                self._told(kept, None, {})
        for key in [key for key in self._objects if key not in fresh]:
            self._told(self._objects.pop(key)[1], None, {})
        for obj in fresh.values():
            self._put(obj)
        self.trouble = None
        self.synced.set()
        self.answered.set()
        return listed.resource_version

    async def _follow(self, version: str) -> None:
        watch = self._store.watch(_KIND, namespace=self._namespace, resource_version=version)
        async for event in watch:
            self._apply(event)

    def _apply(self, event: WatchEvent) -> None:
        if event.change is Change.BOOKMARK:
            return
        if event.change is Change.DELETED:
            self._remove(event.object)
        else:
            self._put(event.object)

    def _put(self, obj: Json) -> None:
        key, uid = _name(obj), _uid(obj)
        before = self._drop_own(key, uid) or self._objects.get(key, (uid, None))[1]
        kept = self._kept(obj)
        self._objects[key] = (uid, kept)
        self._told(before, kept, obj)

    def _remove(self, obj: Json) -> None:
        key, uid = _name(obj), _uid(obj)
        self._deleted[uid] = None
        if len(self._deleted) > _DELETED_KEPT:
            self._deleted.popitem(last=False)
        before = self._drop_own(key, uid)
        found = self._objects.pop(key, None)
        self._told(before or (found[1] if found else None), None, obj)

    def _drop_own(self, key: Name, uid: str) -> T | None:
        own = self._own.get(key)
        if own is None or own[1] != uid:
            return None
        del self._own[key]
        return own[2]


def _name(obj: Json) -> Name:
    metadata = obj["metadata"]
    return str(metadata.get("namespace") or ""), str(metadata["name"])


def _uid(obj: Json) -> str:
    return str(obj["metadata"]["uid"])
