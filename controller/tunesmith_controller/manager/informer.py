# SPDX-License-Identifier: Apache-2.0
"""A local copy of one kind, kept by list and watch; the reads of reconcilers come from here.

The copy may be stale, never half-written. After a lost or expired watch everything is listed
again and the difference is announced, so that a missed event is at most late.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping

from tunesmith_api import names
from tunesmith_controller.manager.queue import Backoff
from tunesmith_controller.ports import (
    Change,
    Expired,
    Json,
    Key,
    ObjectStore,
    PortError,
    WatchEvent,
)

_log = logging.getLogger(__name__)

_DELETED_KEPT = 4096

Listener = Callable[[Json | None, Json | None], None]
"""Called with the object before and after a change; None for "did not exist"."""


class Informer:
    """Keeps the objects of one kind, of each what `kept` makes of it; listeners see them whole.

    `run` until cancelled, `synced` after the first list.
    """

    def __init__(
        self,
        store: ObjectStore,
        kind: str,
        backoff: Backoff,
        jitter: Callable[[], float],
        kept: Callable[[Json], Json],
    ) -> None:
        self.kind = kind
        self.synced = asyncio.Event()
        self._store = store
        self._backoff = backoff
        self._jitter = jitter
        self._kept = kept
        self._objects: dict[Key, Json] = {}
        self._deleted: OrderedDict[str, None] = OrderedDict()
        self._by_experiment: dict[tuple[str, str], dict[Key, Json]] = {}
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def get(self, key: Key) -> Json | None:
        """The cached object; treat it as frozen."""
        return self._objects.get(key)

    def of_experiment(self, namespace: str, experiment: str) -> list[Json]:
        """Cached objects labelled with an experiment's name; treat them as frozen."""
        return list(self._by_experiment.get((namespace, experiment), {}).values())

    def remember(self, obj: Json) -> None:
        """What the store has just answered to a write; the watch may be ahead of it, or behind."""
        if not self.synced.is_set() or obj["metadata"].get("uid") in self._deleted:
            return
        before = self._objects.get(_key(obj))
        if before is None or _is_newer(obj, before):
            self._replace(_key(obj), obj)

    def all(self) -> list[Json]:
        return list(self._objects.values())

    async def run(self) -> None:
        """Lists, watches, and does so again whenever the watch ends."""
        failures = 0
        while True:
            try:
                version = await self._relist()
                failures = 0
                await self._follow(version)
            except Expired:
                _log.debug("watch of %s expired, listing again", self.kind)
            except PortError as error:
                failures += 1
                _log.info("watch of %s ended: %s", self.kind, error)
                await asyncio.sleep(self._backoff.delay(failures, self._jitter()))

    async def _relist(self) -> str:
        listed = await self._store.list(self.kind)
        fresh = {_key(obj): obj for obj in listed.items}
        for key, known in list(self._objects.items()):
            if key not in fresh and not _is_later(known, listed.resource_version):
                self._replace(key, None)
        for key, obj in fresh.items():
            known = self._objects.get(key, obj)
            if not _is_newer(known, obj):
                self._replace(key, obj)
        self.synced.set()
        return listed.resource_version

    async def _follow(self, version: str) -> None:
        async for event in self._store.watch(self.kind, resource_version=version):
            self._apply(event)

    def _apply(self, event: WatchEvent) -> None:
        if event.change is Change.BOOKMARK:
            return
        obj, key = event.object, _key(event.object)
        if event.change is Change.DELETED:
            self._deleted[obj["metadata"].get("uid", "")] = None
            if len(self._deleted) > _DELETED_KEPT:
                self._deleted.popitem(last=False)
            self._replace(key, None)
            return
        before = self._objects.get(key)
        if before is None or not _is_newer(before, obj):
            self._replace(key, obj)

    def _replace(self, key: Key, obj: Json | None) -> None:
        before = self._objects.get(key)
        if before is not None and obj is not None and _version(before) == _version(obj):
            return
        self._forget(key, before)
        if obj is not None:
            kept = self._objects[key] = self._kept(obj)
            if group := _experiment_of(kept):
                self._by_experiment.setdefault(group, {})[key] = kept
        for listener in self._listeners:
            listener(before, obj)

    def _forget(self, key: Key, before: Json | None) -> None:
        self._objects.pop(key, None)
        if before is None or not (group := _experiment_of(before)):
            return
        members = self._by_experiment.get(group, {})
        members.pop(key, None)
        if not members:
            self._by_experiment.pop(group, None)


class Cache:
    """The informers of one manager as `CachedObjects`."""

    def __init__(self, informers: Mapping[str, Informer]) -> None:
        self._informers = informers

    def get(self, key: Key) -> Json | None:
        return self._informers[key.kind].get(key)

    def of_experiment(self, kind: str, namespace: str, experiment: str) -> list[Json]:
        return self._informers[kind].of_experiment(namespace, experiment)


def _key(obj: Json) -> Key:
    metadata = obj["metadata"]
    return Key(obj["kind"], metadata.get("namespace", ""), metadata["name"])


def _version(obj: Json) -> tuple[str, str]:
    metadata = obj["metadata"]
    return metadata.get("uid", ""), metadata.get("resourceVersion", "")


def _is_newer(one: Json, other: Json) -> bool:
    """Whether it is a later state of the same object, as far as can be told: versions are numbers
    that grow, as those of Kubernetes are (KEP-5504)."""
    (uid, version), (other_uid, other_version) = _version(one), _version(other)
    if uid != other_uid or not (version.isdecimal() and other_version.isdecimal()):
        return False
    return int(version) > int(other_version)


def _is_later(obj: Json, version: str) -> bool:
    """Whether a list of that version could not have the object yet."""
    own = _version(obj)[1]
    return own.isdecimal() and version.isdecimal() and int(own) > int(version)


def _experiment_of(obj: Json) -> tuple[str, str] | None:
    metadata = obj["metadata"]
    label = (metadata.get("labels") or {}).get(names.LABEL_EXPERIMENT)
    return (metadata.get("namespace", ""), label) if label else None
