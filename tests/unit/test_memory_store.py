# SPDX-License-Identifier: Apache-2.0
"""What simulations rely on in `MemoryStore`, beyond the contract."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest
from deterministic import CountingRng, TickingClock

from tunesmith_controller.ports import Change, Expired, Invalid, Json, Key, WatchEvent
from tunesmith_controller.stores.memory import MemoryStore
from tunesmith_controller.stores.watching import Entry, History


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(TickingClock(), CountingRng(), history=50)


def _trial(name: str, *owners: Json, namespace: str = "default", **metadata: Any) -> Json:
    references = [
        {"apiVersion": "v1", "kind": "Any", "name": "any", "uid": owner["metadata"]["uid"]}
        for owner in owners
    ]
    return {
        "apiVersion": "kubeflow.org/v1beta1",
        "kind": "Trial",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "ownerReferences": references,
            **metadata,
        },
    }


async def _next(watch: AsyncIterator[WatchEvent]) -> tuple[str, str]:
    event = await asyncio.wait_for(anext(watch), 2)
    return event.change.value, event.object["metadata"].get("name", "")


def test_a_store_outlives_the_event_loops_that_use_it(store: MemoryStore) -> None:
    asyncio.run(store.create(_trial("a")))
    listed = asyncio.run(store.list("Trial"))
    asyncio.run(store.create(_trial("b")))

    async def resume() -> tuple[str, str]:
        return await _next(store.watch("Trial", resource_version=listed.resource_version))

    assert asyncio.run(resume()) == ("ADDED", "b")


def _crashed_while_watching(store: MemoryStore) -> weakref.ref[object]:
    """A controller that watched, and whose loop just stopped: nothing of it is ever cancelled."""
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda _loop, _context: None)  # a pending task is what we want
    watch = store.watch("Trial")

    async def controller() -> None:
        async for _ in watch:
            pass

    task = loop.create_task(controller())
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    assert not task.done()
    loop.close()
    return weakref.ref(watch)


def test_the_watcher_of_a_controller_that_crashed_is_collected(store: MemoryStore) -> None:
    dead = _crashed_while_watching(store)
    gc.collect()
    assert dead() is None


def test_a_watcher_in_a_closed_loop_does_not_disturb_writers(store: MemoryStore) -> None:
    gc.disable()
    try:
        dead = _crashed_while_watching(store)
        assert asyncio.run(store.create(_trial("a")))["metadata"]["name"] == "a"
        assert dead() is not None
    finally:
        gc.enable()


def test_a_cancelled_wait_for_an_event_loses_none(store: MemoryStore) -> None:
    async def scenario() -> None:
        watch = store.watch("Trial", resource_version="1")
        for name in ("a", "b"):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(watch), 0.001)
            await store.create(_trial(name))
            assert await _next(watch) == ("ADDED", name)

    asyncio.run(scenario())


def test_the_initial_events_end_with_a_bookmark_to_resume_from(store: MemoryStore) -> None:
    async def scenario() -> None:
        await store.create(_trial("b"))
        await store.create(_trial("a"))
        watch = store.watch("Trial")
        assert [await _next(watch), await _next(watch)] == [("ADDED", "b"), ("ADDED", "a")]
        bookmark = await anext(watch)
        assert bookmark.change is Change.BOOKMARK
        listed = await store.list("Trial")
        assert bookmark.object["metadata"]["resourceVersion"] == listed.resource_version

    asyncio.run(scenario())


def test_a_closed_watch_ends(store: MemoryStore) -> None:
    async def scenario() -> None:
        watch = store.watch("Trial")
        await anext(watch)
        await watch.aclose()  # type: ignore[attr-defined]
        assert [event async for event in watch] == []

    asyncio.run(scenario())


@pytest.mark.parametrize(("start", "error"), [("1000", Expired), ("word", Invalid)])
def test_a_version_that_the_store_never_gave_is_refused(
    store: MemoryStore, start: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        asyncio.run(_next(store.watch("Trial", resource_version=start)))


def test_a_watcher_that_falls_behind_the_history_has_expired(store: MemoryStore) -> None:
    async def scenario(behind: int) -> tuple[str, str]:
        watch = store.watch("Trial")
        while (await anext(watch)).change is not Change.BOOKMARK:
            pass
        for number in range(behind):
            await store.create(_trial(f"t{behind}-{number}"))
        return await _next(watch)

    assert asyncio.run(scenario(50)) == ("ADDED", "t50-0")
    with pytest.raises(Expired, match="list again"):
        asyncio.run(scenario(51))


def test_references_to_lost_owners_are_dropped_while_one_lives(store: MemoryStore) -> None:
    async def scenario() -> None:
        first = await store.create(_trial("first"))
        second = await store.create(_trial("second"))
        owned = await store.create(_trial("owned", first, second))
        await store.delete(Key("Trial", "default", "first"))
        left = await store.get(Key("Trial", "default", "owned"))
        uids = [owner["uid"] for owner in left["metadata"]["ownerReferences"]]
        assert uids == [second["metadata"]["uid"]]
        assert left["metadata"]["resourceVersion"] != owned["metadata"]["resourceVersion"]

    asyncio.run(scenario())


def test_an_owner_in_another_namespace_is_no_owner(store: MemoryStore) -> None:
    async def scenario() -> None:
        owner = await store.create(_trial("owner"))
        await store.create(_trial("owned", owner, namespace="elsewhere"))
        assert len((await store.list("Trial")).items) == 1

    asyncio.run(scenario())


def test_an_object_may_list_an_owner_twice(store: MemoryStore) -> None:
    async def scenario() -> None:
        owner = await store.create(_trial("owner"))
        await store.create(_trial("owned", owner, owner, finalizers=["f"]))
        await store.delete(Key("Trial", "default", "owner"))
        owned = await store.get(Key("Trial", "default", "owned"))
        assert owned["metadata"]["deletionTimestamp"]

    asyncio.run(scenario())


def test_more_dependents_than_are_collected_at_once_all_go(store: MemoryStore) -> None:
    async def scenario() -> None:
        owner = await store.create(_trial("owner"))
        for number in range(1200):
            await store.create(_trial(f"t{number}", owner))
        await store.delete(Key("Trial", "default", "owner"))
        assert (await store.list("Trial")).items == []

    asyncio.run(scenario())


def test_a_change_between_looking_and_waiting_is_not_slept_over() -> None:
    async def scenario() -> None:
        history = History(10, last=1)
        assert history.after(1) == []
        history.feed([Entry(2, "Trial", "default", Change.ADDED, "{}")])
        await asyncio.wait_for(history.wait_beyond(1), 2)

    asyncio.run(scenario())


def test_times_and_uids_come_from_the_ports() -> None:
    created = [
        asyncio.run(MemoryStore(TickingClock(), CountingRng()).create(_trial("a")))
        for _ in range(2)
    ]
    assert created[0] == created[1]
    assert created[0]["metadata"]["creationTimestamp"] == "2026-01-01T00:00:00Z"
