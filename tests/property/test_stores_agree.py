# SPDX-License-Identifier: Apache-2.0
"""Random scripts give the same results, errors and events on every store."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from deterministic import CountingRng, TickingClock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunesmith_controller.ports import Change, Json, Key, ObjectStore, PortError
from tunesmith_controller.stores.memory import MemoryStore
from tunesmith_controller.stores.sqlite import SqliteStore

_KINDS = ("Experiment", "Trial")
_NAMESPACES = ("default", "elsewhere")
_NAMES = ("a", "b", "c", "d")
_MEMORY_DISK = Path("/dev/shm")  # noqa: S108 - only to spare thousands of disk flushes
_UNKNOWN = "99999999-9999-4999-8999-999999999999"

keys = st.builds(
    Key, st.sampled_from(_KINDS), st.sampled_from(_NAMESPACES), st.sampled_from(_NAMES)
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=2)
    ),
    max_leaves=4,
)
bodies = st.dictionaries(st.sampled_from(("x", "y")), values, max_size=2)
labels = st.dictionaries(st.sampled_from(("x", "y")), st.sampled_from(("1", "2")), max_size=2)
finalizers = st.lists(st.sampled_from(("f", "g")), max_size=2, unique=True)


@dataclass(frozen=True, slots=True)
class Draft:
    """An object without what only the run knows: owners are places in the list of uids that were
    given so far; `seen` is whether the write names the version that it read."""

    key: Key
    spec: Json
    status: Json | None
    labels: dict[str, str]
    finalizers: list[str]
    owners: list[int]
    seen: bool
    stale: bool


@dataclass(frozen=True, slots=True)
class Step:
    action: str
    draft: Draft
    patch: Json


drafts = st.builds(
    Draft,
    key=keys,
    spec=bodies,
    status=st.none() | bodies,
    labels=labels,
    finalizers=st.just([]) | finalizers,
    owners=st.just([]) | st.lists(st.integers(0, 30), max_size=2),
    seen=st.booleans(),
    stale=st.integers(0, 9).map(lambda number: number == 0),
)
patches = st.fixed_dictionaries(
    {},
    optional={
        "spec": st.none() | bodies,
        "status": st.none() | bodies,
        "metadata": st.fixed_dictionaries(
            {},
            optional={
                "labels": st.none()
                | st.dictionaries(st.sampled_from("xy"), st.none() | st.just("1")),
                "finalizers": st.none() | finalizers,
                "deletionTimestamp": st.none(),
            },
        ),
    },
)
actions = st.sampled_from(
    ["create"] * 6
    + ["update", "update_status", "patch", "patch_status"] * 2
    + ["delete"] * 3
    + ["get", "list", "generate"]
)
scripts = st.lists(st.builds(Step, actions, drafts, patches), min_size=50, max_size=300)


class Run:
    """One script on one store; `log` is everything that a caller could see."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._uids: list[str] = [_UNKNOWN]
        self._versions: list[str] = []
        self.log: list[Any] = []

    async def play(self, script: list[Step]) -> None:
        for step in script:
            try:
                self.log.append(await self._take(step))
            except PortError as error:
                self.log.append((type(error), str(error)))
        await self._look()

    async def _take(self, step: Step) -> Any:
        obj = await self._object(step.draft)
        call = _ACTIONS[step.action]
        result = await call(self._store, step, obj)
        if isinstance(result, dict):
            self._uids.append(result["metadata"]["uid"])
            self._versions.append(result["metadata"]["resourceVersion"])
        return result

    async def _object(self, draft: Draft) -> Json:
        metadata: Json = {"name": draft.key.name, "namespace": draft.key.namespace}
        metadata["labels"] = draft.labels
        metadata["finalizers"] = draft.finalizers
        metadata["ownerReferences"] = [
            {"apiVersion": "v1", "kind": "Any", "name": "any", "uid": self._uids[place]}
            for place in draft.owners
            if place < len(self._uids)
        ]
        if draft.stale and self._versions:
            metadata["resourceVersion"] = self._versions[0]
        obj: Json = {"apiVersion": "v1", "kind": draft.key.kind, "metadata": metadata}
        obj["spec"] = draft.spec
        return obj if draft.status is None else {**obj, "status": draft.status}

    async def _look(self) -> None:
        for kind in _KINDS:
            everything = await self._store.list(kind)
            self.log.append(everything)
            self.log.append(await self._store.list(kind, labels={"x": "1", "y": "2"}))
            end = int(everything.resource_version)
            for start in ("1", str((1 + end) // 2), str(end)):
                self.log.append(await self._events(kind, start))

    async def _events(self, kind: str, start: str) -> list[Any]:
        """What a watch tells up to a change that is made for that."""
        seen = []
        for namespace in (None, "default"):
            watch = self._store.watch(kind, namespace=namespace, resource_version=start)
            sentinel = {
                "apiVersion": "v1",
                "kind": kind,
                "metadata": {"name": "sentinel", "namespace": "default"},
            }
            made = await self._store.create(sentinel)
            async with asyncio.timeout(20):
                async for event in watch:
                    if event.change is not Change.BOOKMARK:
                        seen.append(event)
                    if event.object == made:
                        break
            await self._store.delete(Key(kind, "default", "sentinel"))
        return seen


async def _create(store: ObjectStore, step: Step, obj: Json) -> Any:
    return await store.create(obj)


async def _generate(store: ObjectStore, step: Step, obj: Json) -> Any:
    del obj["metadata"]["name"]
    obj["metadata"]["generateName"] = "made-"
    return await store.create(obj)


async def _update(store: ObjectStore, step: Step, obj: Json) -> Any:
    return await store.update(await _seen(store, step, obj))


async def _update_status(store: ObjectStore, step: Step, obj: Json) -> Any:
    return await store.update_status(await _seen(store, step, obj))


async def _seen(store: ObjectStore, step: Step, obj: Json) -> Json:
    if step.draft.seen:
        current = await store.get(step.draft.key)
        obj["metadata"].setdefault("resourceVersion", current["metadata"]["resourceVersion"])
    return obj


async def _patch(store: ObjectStore, step: Step, obj: Json) -> Any:
    return await store.patch(step.draft.key, step.patch)


async def _patch_status(store: ObjectStore, step: Step, obj: Json) -> Any:
    return await store.patch(step.draft.key, step.patch, status=True)


async def _delete(store: ObjectStore, step: Step, obj: Json) -> Any:
    version = obj["metadata"].get("resourceVersion")
    return await store.delete(step.draft.key, resource_version=version)


async def _get(store: ObjectStore, step: Step, obj: Json) -> Any:
    return await store.get(step.draft.key)


async def _list(store: ObjectStore, step: Step, obj: Json) -> Any:
    key = step.draft.key
    return await store.list(key.kind, namespace=key.namespace, labels=step.draft.labels)


_ACTIONS: dict[str, Callable[..., Any]] = {
    "create": _create,
    "generate": _generate,
    "update": _update,
    "update_status": _update_status,
    "patch": _patch,
    "patch_status": _patch_status,
    "delete": _delete,
    "get": _get,
    "list": _list,
}


def _play(store: ObjectStore, script: list[Step]) -> list[Any]:
    run = Run(store)
    asyncio.run(run.play(script))
    return run.log


def _on_sqlite(script: list[Step]) -> list[Any]:
    place = _MEMORY_DISK if _MEMORY_DISK.is_dir() else None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        store = SqliteStore(Path(folder) / "objects.db", TickingClock(), CountingRng())
        try:
            return _play(store, script)
        finally:
            store.close()


@pytest.mark.timeout(300)
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(scripts)
def test_memory_and_sqlite_give_the_same_results_errors_and_events(script: list[Step]) -> None:
    in_memory = _play(MemoryStore(TickingClock(), CountingRng(), history=10_000), script)
    on_disk = _on_sqlite(script)
    for step, mine, theirs in zip([*script, *[None] * 10], in_memory, on_disk, strict=True):
        # repr too, because 1 == 1.0 == True to Python.
        assert mine == theirs and repr(mine) == repr(theirs), step
