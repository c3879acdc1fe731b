# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S101 - these are tests
"""What the tests of the object store contract share: how objects are built, run and awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from typing import Any

import pytest

from tunesmith_controller.ports import Change, Json, Key, NotFound, ObjectStore, WatchEvent

_PAUSE_S = 0.01


class StoreCase:
    """A subclass gives `store` and may change what is declared here."""

    api_version = "kubeflow.org/v1beta1"
    kind = "Trial"
    other_kind = "Experiment"
    namespace = "default"
    other_namespace = "elsewhere"

    patience_s = 10.0
    """How long a test waits for anything."""

    history_limit: int | None = None
    """After how many changes the oldest one is surely forgotten; None when that cannot be told in
    changes, and then the tests about it are skipped."""

    @pytest.fixture
    def store(self) -> Any:
        """An empty store."""
        raise NotImplementedError("give a fixture `store` that yields an ObjectStore")

    @pytest.fixture
    def second_store(self, store: ObjectStore) -> Any:
        """Another client of the same data."""
        return store

    def run(self, scenario: Coroutine[Any, Any, None]) -> None:
        """Runs a test. Override it for a store that belongs to an event loop of its own."""
        asyncio.run(asyncio.wait_for(scenario, 4 * self.patience_s))

    def key(self, name: str, *, kind: str = "", namespace: str = "") -> Key:
        return Key(kind or self.kind, namespace or self.namespace, name)

    def given(
        self,
        name: str,
        *,
        kind: str = "",
        namespace: str = "",
        owners: Sequence[Json] = (),
        **more: Any,
    ) -> Json:
        """An object; `more` are its spec and status, and its labels, annotations and finalizers."""
        metadata: Json = {"name": name, "namespace": namespace or self.namespace}
        for field in ("labels", "annotations", "finalizers"):
            if field in more:
                metadata[field] = more.pop(field)
        if owners:
            metadata["ownerReferences"] = [owner_reference(owner) for owner in owners]
        more.setdefault("spec", {"size": 1})
        body = {"apiVersion": self.api_version, "kind": kind or self.kind, "metadata": metadata}
        return {**body, **more}

    async def take(self, watch: AsyncIterator[WatchEvent], count: int) -> list[WatchEvent]:
        """The next events that are not bookmarks."""
        found: list[WatchEvent] = []

        async def read() -> None:
            while len(found) < count:
                event = await anext(watch)
                if event.change is not Change.BOOKMARK:
                    found.append(event)

        try:
            await asyncio.wait_for(read(), self.patience_s)
        except TimeoutError:
            pytest.fail(f"{count} events expected, only these came: {found}")
        return found

    async def until_gone(self, store: ObjectStore, *keys: Key) -> None:
        """Waits for the collection of what has no owners, which may take its time."""
        deadline = asyncio.get_running_loop().time() + self.patience_s
        for key in keys:
            while await exists(store, key):
                assert asyncio.get_running_loop().time() < deadline, f"{key} is still there"
                await asyncio.sleep(_PAUSE_S)

    async def until_terminating(self, store: ObjectStore, key: Key) -> Json:
        """Waits until the object is under deletion."""
        deadline = asyncio.get_running_loop().time() + self.patience_s
        while "deletionTimestamp" not in (obj := await store.get(key))["metadata"]:
            assert asyncio.get_running_loop().time() < deadline, f"{key} is not under deletion"
            await asyncio.sleep(_PAUSE_S)
        return obj


def owner_reference(owner: Json) -> Json:
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
    }


async def exists(store: ObjectStore, key: Key) -> bool:
    try:
        await store.get(key)
    except NotFound:
        return False
    return True


def version(obj: Json) -> str:
    return str(obj["metadata"]["resourceVersion"])


def names(objects: Sequence[Json]) -> list[str]:
    return [obj["metadata"]["name"] for obj in objects]


def changed(obj: Json, **fields: Any) -> Json:
    """A copy with other top-level fields; those of metadata are given as `metadata`."""
    metadata: Mapping[str, Any] = fields.pop("metadata", {})
    return {**obj, **fields, "metadata": {**obj["metadata"], **metadata}}


def told(events: Sequence[WatchEvent]) -> list[tuple[str, str]]:
    """What happened to whom."""
    return [(event.change.value, event.object["metadata"]["name"]) for event in events]
