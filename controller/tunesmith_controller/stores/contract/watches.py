# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S101 - these are tests
"""Contract: watch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tunesmith_controller.ports import (
    Change,
    Expired,
    Json,
    ObjectStore,
    WatchEvent,
)
from tunesmith_controller.stores.contract.case import StoreCase, changed, told, version


class WatchesContract(StoreCase):
    async def since_now(self, store: ObjectStore) -> AsyncIterator[WatchEvent]:
        start = (await store.list(self.kind)).resource_version
        return store.watch(self.kind, resource_version=start)

    def test_a_watch_from_nothing_begins_with_all_that_exists(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            a = await store.create(self.given("a"))
            await store.create(self.given("b"))
            b = await store.update_status(self.given("b", status={"x": 1}))
            await store.create(self.given("gone"))
            await store.delete(self.key("gone"))
            events = await self.take(store.watch(self.kind), 2)
            events.sort(key=lambda event: str(event.object["metadata"]["name"]))
            assert events == [WatchEvent(Change.ADDED, a), WatchEvent(Change.ADDED, b)]

        self.run(scenario())

    def test_a_watch_from_nothing_goes_on_with_changes(
        self, store: ObjectStore, second_store: ObjectStore
    ) -> None:
        async def scenario() -> None:
            await store.create(self.given("a"))
            watch = store.watch(self.kind)
            assert told(await self.take(watch, 1)) == [("ADDED", "a")]
            await second_store.create(self.given("b"))
            await store.delete(self.key("a"))
            assert told(await self.take(watch, 2)) == [("ADDED", "b"), ("DELETED", "a")]

        self.run(scenario())

    def test_a_watch_from_a_list_tells_only_what_came_later(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            await store.create(self.given("before"))
            watch = await self.since_now(store)
            await store.create(self.given("after"))
            assert told(await self.take(watch, 1)) == [("ADDED", "after")]

        self.run(scenario())

    def test_events_come_in_the_order_of_changes_and_are_what_the_writers_got(
        self, store: ObjectStore
    ) -> None:
        async def scenario() -> None:
            watch = await self.since_now(store)
            made = [
                await store.create(self.given("a")),
                await store.update(self.given("a", spec={"size": 2})),
                await store.update_status(self.given("a", status={"x": 1})),
                await store.patch(self.key("a"), {"metadata": {"labels": {"x": "1"}}}),
                await store.create(self.given("b")),
            ]
            events = await self.take(watch, 5)
            assert [event.object for event in events] == made
            modified = [Change.MODIFIED] * 3
            assert [event.change for event in events] == [Change.ADDED, *modified, Change.ADDED]

        self.run(scenario())

    def test_a_deleted_event_has_the_last_state_and_a_new_version(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            created = await store.create(self.given("a", spec={"x": 1}, status={"y": 2}))
            watch = await self.since_now(store)
            await store.delete(self.key("a"))
            [event] = await self.take(watch, 1)
            wanted = changed(created, metadata={"resourceVersion": version(event.object)})
            assert event == WatchEvent(Change.DELETED, wanted)
            assert version(event.object) != version(created)

        self.run(scenario())

    def test_a_deletion_with_finalizers_is_a_modification_and_then_a_deletion(
        self, store: ObjectStore
    ) -> None:
        async def scenario() -> None:
            await store.create(self.given("a", finalizers=["example.org/keep"]))
            watch = await self.since_now(store)
            await store.delete(self.key("a"))
            await store.delete(self.key("a"))
            await store.patch(self.key("a"), {"metadata": {"finalizers": None}})
            events = await self.take(watch, 2)
            assert told(events) == [("MODIFIED", "a"), ("DELETED", "a")]
            assert all(event.object["metadata"]["deletionTimestamp"] for event in events)
            assert version(events[0].object) != version(events[1].object)

        self.run(scenario())

    def test_an_object_that_comes_back_is_deleted_and_added(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            first = await store.create(self.given("a"))
            watch = await self.since_now(store)
            await store.delete(self.key("a"))
            second = await store.create(self.given("a"))
            events = await self.take(watch, 2)
            assert told(events) == [("DELETED", "a"), ("ADDED", "a")]
            uids = [event.object["metadata"]["uid"] for event in events]
            assert uids == [first["metadata"]["uid"], second["metadata"]["uid"]]

        self.run(scenario())

    def test_a_watch_is_of_one_kind(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            watch = await self.since_now(store)
            await store.create(self.given("other", kind=self.other_kind))
            await store.create(self.given("mine"))
            assert told(await self.take(watch, 1)) == [("ADDED", "mine")]

        self.run(scenario())

    @pytest.mark.parametrize("from_list", [False, True])
    def test_a_watch_may_be_of_one_namespace(self, store: ObjectStore, from_list: bool) -> None:
        async def scenario() -> None:
            await store.create(self.given("old", namespace=self.other_namespace))
            start = (await store.list(self.kind)).resource_version if from_list else ""
            watch = store.watch(self.kind, namespace=self.namespace, resource_version=start)
            await store.create(self.given("new", namespace=self.other_namespace))
            await store.delete(self.key("old", namespace=self.other_namespace))
            await store.create(self.given("mine"))
            assert told(await self.take(watch, 1)) == [("ADDED", "mine")]

        self.run(scenario())

    def test_a_watch_waits_for_what_has_not_happened_yet(
        self, store: ObjectStore, second_store: ObjectStore
    ) -> None:
        async def scenario() -> None:
            watch = await self.since_now(store)
            waiting = asyncio.create_task(self.take(watch, 2))
            await asyncio.sleep(0)
            await second_store.create(self.given("a"))
            await store.create(self.given("b"))
            assert told(await waiting) == [("ADDED", "a"), ("ADDED", "b")]

        self.run(scenario())

    def test_two_watchers_are_told_the_same(
        self, store: ObjectStore, second_store: ObjectStore
    ) -> None:
        async def scenario() -> None:
            watches = [await self.since_now(client) for client in (store, store, second_store)]
            for number in range(5):
                await store.create(self.given(f"a{number}"))
                await second_store.delete(self.key(f"a{number}"))
            told_to = [await self.take(watch, 10) for watch in watches]
            assert told_to[0] == told_to[1] == told_to[2]

        self.run(scenario())

    def test_events_belong_to_the_watcher(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            first, second = await self.since_now(store), await self.since_now(store)
            created = await store.create(self.given("a", spec={"list": [1]}))
            [mine] = await self.take(first, 1)
            mine.object["spec"]["list"].append(2)
            assert (await self.take(second, 1))[0].object == created
            assert await store.get(self.key("a")) == created

        self.run(scenario())

    def test_a_cancelled_watcher_leaves_the_others_alone(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            cancelled, other = await self.since_now(store), await self.since_now(store)
            waiting = [asyncio.create_task(self.take(watch, 1)) for watch in (cancelled, other)]
            await asyncio.sleep(0)
            waiting[0].cancel()
            await asyncio.wait(waiting[:1])
            assert waiting[0].cancelled()
            await store.create(self.given("a"))
            assert told(await waiting[1]) == [("ADDED", "a")]

        self.run(scenario())

    def test_a_watch_resumes_after_any_event(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            watch = await self.since_now(store)
            for number in range(4):
                await store.create(self.given(f"a{number}"))
                await store.update_status(self.given(f"a{number}", status={"x": 1}))
            await store.delete(self.key("a2"))
            events = await self.take(watch, 9)
            for seen in range(1, 9):
                start = version(events[seen - 1].object)
                resumed = store.watch(self.kind, resource_version=start)
                assert await self.take(resumed, 9 - seen) == events[seen:]

        self.run(scenario())

    def test_a_list_and_its_watch_miss_and_repeat_nothing_while_many_write(
        self, store: ObjectStore, second_store: ObjectStore
    ) -> None:
        async def write(client: ObjectStore, name: str) -> None:
            await client.create(self.given(name))
            for number in range(5):
                await client.update_status(self.given(name, status={"x": number}))
            await client.delete(self.key(name))

        async def scenario() -> None:
            clients = [store, second_store] * 4
            writers = [
                asyncio.create_task(write(client, f"w{number}"))
                for number, client in enumerate(clients)
            ]
            await self._until_some_exist(store)
            listed = await store.list(self.kind)
            watch = store.watch(self.kind, resource_version=listed.resource_version)
            await asyncio.gather(*writers)
            last = await store.create(self.given("last"))
            seen = await self._follow(watch, listed.items, until=last)
            assert seen == {"last": last}

        self.run(scenario())

    async def _until_some_exist(self, store: ObjectStore) -> None:
        deadline = asyncio.get_running_loop().time() + self.patience_s
        while not (await store.list(self.kind)).items:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0)

    async def _follow(
        self, watch: AsyncIterator[WatchEvent], start: list[Json], *, until: Json
    ) -> dict[str, Json]:
        """The state that a client builds from a list and the events after it, each of which must
        be the successor of the state before."""
        state = {obj["metadata"]["name"]: obj for obj in start}
        while True:
            [event] = await self.take(watch, 1)
            name = event.object["metadata"]["name"]
            assert (name in state) == (event.change is not Change.ADDED)
            before = state.pop(name, {}).get("status", {}).get("x", -1)
            if event.change is Change.DELETED:
                assert before == 4
                continue
            after = event.object.get("status", {}).get("x", -1)
            assert after == (before + 1 if event.change is Change.MODIFIED else -1)
            state[name] = event.object
            if event.object == until:
                return state

    def test_a_watch_from_a_forgotten_version_has_expired(self, store: ObjectStore) -> None:
        if self.history_limit is None:
            pytest.skip("this store does not forget by number of changes (history_limit)")
        changes = self.history_limit + 1

        async def scenario() -> None:
            start = version(await store.create(self.given("a")))
            for number in range(changes):
                await store.update_status(self.given("a", status={"x": number}))
            with pytest.raises(Expired):
                await self.take(store.watch(self.kind, resource_version=start), 1)
            again = await self.since_now(store)
            await store.delete(self.key("a"))
            assert told(await self.take(again, 1)) == [("DELETED", "a")]

        self.run(scenario())

    def test_a_watcher_keeps_up_with_more_changes_than_are_remembered(
        self, store: ObjectStore
    ) -> None:
        changes = 2 * (self.history_limit or 50)

        async def scenario() -> None:
            watch = await self.since_now(store)
            await store.create(self.given("a"))
            await self.take(watch, 1)
            for number in range(changes):
                await store.update_status(self.given("a", status={"x": number}))
                [event] = await self.take(watch, 1)
                assert event.object["status"] == {"x": number}

        self.run(scenario())
