# SPDX-License-Identifier: Apache-2.0
"""What people are told is kept as Kubernetes Events, counted, bounded, and never in the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from deterministic import CountingRng, TickingClock

from tunesmith_controller.apiserver.stored_events import KEPT, StoredEvents
from tunesmith_controller.events import RememberedEvents
from tunesmith_controller.ports import Json, ObjectStore, Unavailable
from tunesmith_controller.stores.memory import MemoryStore

TRIAL: Json = {
    "apiVersion": "kubeflow.org/v1beta1",
    "kind": "Trial",
    "metadata": {"name": "quick-1", "namespace": "team", "uid": "u-1"},
}


class FullStore(MemoryStore):
    """Takes nothing."""

    async def create(self, obj: Json) -> Json:
        raise Unavailable("the disk is full")


@asynccontextmanager
async def running(
    store: ObjectStore, kept: int | None = KEPT
) -> AsyncIterator[tuple[StoredEvents, RememberedEvents]]:
    first = RememberedEvents()
    events = StoredEvents(store, TickingClock(), first, kept=kept)
    task = asyncio.ensure_future(events.run())
    try:
        yield events, first
    finally:
        task.cancel()
        await asyncio.wait([task])


async def stored(store: ObjectStore, count: int) -> list[Json]:
    async with asyncio.timeout(5):
        while True:
            items = (await store.list("Event")).items
            if sum(item["count"] for item in items) >= count:
                return items
            await asyncio.sleep(0.005)


async def told(store: ObjectStore, message: str) -> None:
    async with asyncio.timeout(5):
        while message not in {item["message"] for item in (await store.list("Event")).items}:
            await asyncio.sleep(0.005)


def a_store() -> MemoryStore:
    return MemoryStore(TickingClock(), CountingRng())


def test_an_event_is_what_clients_of_kubernetes_read() -> None:
    async def scenario() -> None:
        store = a_store()
        async with running(store) as (events, _):
            events.record(TRIAL, "Warning", "TrialFailed", "exit code 1")
            [event] = await stored(store, 1)
        assert event["involvedObject"]["kind"] == "Trial"
        assert event["involvedObject"]["uid"] == "u-1"
        assert (event["type"], event["reason"]) == ("Warning", "TrialFailed")
        assert event["metadata"]["namespace"] == "team"
        assert event["firstTimestamp"] and event["lastTimestamp"]

    asyncio.run(scenario())


def test_the_same_sentence_is_counted_not_repeated() -> None:
    async def scenario() -> None:
        store = a_store()
        async with running(store) as (events, _):
            for _ in range(3):
                events.record(TRIAL, "Warning", "AttemptLost", "gone")
            [event] = await stored(store, 3)
        assert event["count"] == 3
        assert event["firstTimestamp"] <= event["lastTimestamp"]

    asyncio.run(scenario())


def test_the_oldest_go_also_those_of_an_earlier_run() -> None:
    async def scenario() -> None:
        store, kept = a_store(), 5
        for turn in range(2):
            async with running(store, kept=kept) as (events, _):
                for number in range(4):
                    events.record(TRIAL, "Normal", "Said", f"{turn}.{number}")
                await told(store, f"{turn}.3")
        messages = {item["message"] for item in (await store.list("Event")).items}
        assert len(messages) == kept
        assert {"1.0", "1.1", "1.2", "1.3"} <= messages

    asyncio.run(scenario())


def test_where_somebody_else_forgets_events_none_is_deleted() -> None:
    async def scenario() -> None:
        store = a_store()
        async with running(store, kept=None) as (events, _):
            for number in range(KEPT + 5):
                events.record(TRIAL, "Normal", "Said", str(number))
                await asyncio.sleep(0)  # its queue is bounded, and this is quick
            await told(store, str(KEPT + 4))
        assert len((await store.list("Event")).items) == KEPT + 5

    asyncio.run(scenario())


def test_a_store_that_takes_nothing_holds_nobody_up() -> None:
    async def scenario() -> None:
        store = FullStore(TickingClock(), CountingRng())
        async with running(store) as (events, first):
            for number in range(3_000):
                events.record(TRIAL, "Normal", "Said", str(number))
            assert first.told[-1].message == "2999"

    asyncio.run(scenario())
