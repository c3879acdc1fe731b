# SPDX-License-Identifier: Apache-2.0
"""`StoredEvents`: what people are told, kept as core/v1 Events beside the objects.

The same sentence about the same object is one Event with a count, as in Kubernetes. On one machine
the newest 1,000 are kept; a cluster forgets them by itself. Telling never blocks and never fails:
what cannot be stored is only logged.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from typing import Final

from tunesmith_api.resources import rfc3339
from tunesmith_controller.ports import (
    AlreadyExists,
    Clock,
    Events,
    Json,
    Key,
    NotFound,
    ObjectStore,
    PortError,
)

KEPT = 1_000
_WAITING: Final = 1_000
_log = logging.getLogger(__name__)


class StoredEvents:
    """The `Events` port. `run` stores until cancelled; `first` hears everything at once."""

    def __init__(
        self, store: ObjectStore, clock: Clock, first: Events, *, kept: int | None = KEPT
    ) -> None:
        """`kept` None: whoever has the store forgets old ones."""
        self._store = store
        self._clock = clock
        self._first = first
        self._kept = kept
        self._queue: asyncio.Queue[Json] = asyncio.Queue(_WAITING)
        self._known: OrderedDict[Key, None] = OrderedDict()

    def record(self, about: Json, type_: str, reason: str, message: str) -> None:
        self._first.record(about, type_, reason, message)
        event = event_of(about, type_, reason, message, rfc3339(self._clock.now()))
        try:
            self._queue.put_nowait(event)
        except asyncio.QueueFull:
            _log.warning("an event is not kept, too many wait to be stored: %s", message)

    async def run(self) -> None:
        """Stores what is recorded, in order, until cancelled."""
        listed = self._kept is None
        while True:
            event = await self._queue.get()
            try:
                if not listed:
                    await self._list()
                    listed = True
                await self._keep(event)
            except PortError as error:
                _log.info("an event is not kept: %s", error)

    async def _list(self) -> None:
        items = (await self._store.list("Event")).items
        items.sort(key=lambda obj: str(obj.get("lastTimestamp")))
        self._known = OrderedDict((_key(obj), None) for obj in items)

    async def _keep(self, event: Json) -> None:
        key = _key(event)
        try:
            await self._store.create(event)
        except AlreadyExists:
            there = await self._store.get(key)
            counted = {"count": there.get("count", 1) + 1, "lastTimestamp": event["lastTimestamp"]}
            await self._store.patch(key, counted)
        if self._kept is None:
            return
        self._known[key] = None
        self._known.move_to_end(key)
        while len(self._known) > self._kept:
            oldest, _ = self._known.popitem(last=False)
            try:
                await self._store.delete(oldest)
            except NotFound:
                continue


def event_of(about: Json, type_: str, reason: str, message: str, now: str) -> Json:
    """A core/v1 Event; its name stands for object, reason and sentence."""
    metadata = about.get("metadata") or {}
    name, namespace = str(metadata.get("name", "")), str(metadata.get("namespace") or "default")
    said = "\n".join((str(about.get("kind")), str(metadata.get("uid")), type_, reason, message))
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{name[:200]}.{hashlib.sha256(said.encode()).hexdigest()[:16]}",
            "namespace": namespace,
        },
        "involvedObject": {
            "apiVersion": about.get("apiVersion", "kubeflow.org/v1beta1"),
            "kind": about.get("kind", ""),
            "name": name,
            "namespace": namespace,
            "uid": str(metadata.get("uid", "")),
            "resourceVersion": str(metadata.get("resourceVersion", "")),
        },
        "type": type_,
        "reason": reason,
        "message": message[:1024],
        "count": 1,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "source": {"component": "tunesmith"},
    }


def _key(event: Json) -> Key:
    return Key("Event", event["metadata"]["namespace"], event["metadata"]["name"])
