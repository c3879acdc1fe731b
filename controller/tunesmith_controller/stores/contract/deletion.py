# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S101 - these are tests
"""Contract: delete, finalizers, and the collection of what has lost its owners."""

from __future__ import annotations

import pytest

from tunesmith_controller.ports import AlreadyExists, Conflict, Invalid, NotFound, ObjectStore
from tunesmith_controller.stores.contract.case import StoreCase, changed, exists, told, version

_KEEP = "example.org/keep"
_TOO = "example.org/too"


class DeletionContract(StoreCase):
    def test_a_deleted_object_is_gone(self, store: ObjectStore, second_store: ObjectStore) -> None:
        async def scenario() -> None:
            await store.create(self.given("a"))
            await store.delete(self.key("a"))
            for client in (store, second_store):
                assert not await exists(client, self.key("a"))
                assert (await client.list(self.kind)).items == []

        self.run(scenario())

    def test_deleting_what_does_not_exist_is_not_found(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            with pytest.raises(NotFound):
                await store.delete(self.key("a"))

        self.run(scenario())

    def test_delete_for_another_uid_is_a_conflict(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            created = await store.create(self.given("a"))
            with pytest.raises(Conflict):
                await store.delete(self.key("a"), uid="someone-else")
            assert await store.get(self.key("a")) == created
            await store.delete(self.key("a"), uid=created["metadata"]["uid"])
            assert not await exists(store, self.key("a"))

        self.run(scenario())

    def test_delete_from_an_old_version_is_a_conflict(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            old = await store.create(self.given("a"))
            current = await store.update(self.given("a", spec={"size": 2}))
            with pytest.raises(Conflict):
                await store.delete(self.key("a"), resource_version=version(old))
            assert await store.get(self.key("a")) == current
            await store.delete(self.key("a"), resource_version=version(current))
            assert not await exists(store, self.key("a"))

        self.run(scenario())

    # ---- finalizers -----------------------------------------------------------------------------

    def test_an_object_with_finalizers_is_only_marked(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            created = await store.create(self.given("a", finalizers=[_KEEP]))
            await store.delete(self.key("a"))
            marked = await store.get(self.key("a"))
            assert marked["metadata"]["deletionTimestamp"]
            assert marked["metadata"]["uid"] == created["metadata"]["uid"]
            assert version(marked) != version(created)
            assert marked["spec"] == created["spec"]

        self.run(scenario())

    def test_a_second_delete_changes_nothing(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            await store.create(self.given("a", finalizers=[_KEEP]))
            await store.delete(self.key("a"))
            marked = await store.get(self.key("a"))
            await store.delete(self.key("a"))
            assert await store.get(self.key("a")) == marked

        self.run(scenario())

    def test_the_last_finalizer_takes_the_object_with_it(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            await store.create(self.given("a", finalizers=[_KEEP, _TOO]))
            await store.delete(self.key("a"))
            await store.update(self.given("a", finalizers=[_TOO]))
            assert await exists(store, self.key("a"))
            await store.update(self.given("a"))
            assert not await exists(store, self.key("a"))

        self.run(scenario())

    @pytest.mark.parametrize("finalizers", [None, []])
    def test_the_last_finalizer_can_be_patched_away(
        self, store: ObjectStore, finalizers: list[str] | None
    ) -> None:
        async def scenario() -> None:
            await store.create(self.given("a", finalizers=[_KEEP]))
            await store.delete(self.key("a"))
            await store.patch(self.key("a"), {"metadata": {"finalizers": finalizers}})
            assert not await exists(store, self.key("a"))

        self.run(scenario())

    def test_finalizers_of_a_living_object_come_and_go(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            await store.create(self.given("a", finalizers=[_KEEP]))
            await store.update(self.given("a"))
            await store.update(self.given("a", finalizers=[_TOO]))
            assert (await store.get(self.key("a")))["metadata"]["finalizers"] == [_TOO]

        self.run(scenario())

    def test_an_object_under_deletion_can_still_be_written(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            await store.create(self.given("a", finalizers=[_KEEP]))
            await store.delete(self.key("a"))
            await store.update(self.given("a", finalizers=[_KEEP], spec={"size": 2}))
            await store.update_status(self.given("a", status={"x": 1}))
            found = await store.get(self.key("a"))
            assert (found["spec"], found["status"]) == ({"size": 2}, {"x": 1})

        self.run(scenario())

    def test_an_object_under_deletion_gets_no_new_finalizers(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            await store.create(self.given("a", finalizers=[_KEEP]))
            await store.delete(self.key("a"))
            with pytest.raises(Invalid):
                await store.update(self.given("a", finalizers=[_KEEP, _TOO]))
            assert (await store.get(self.key("a")))["metadata"]["finalizers"] == [_KEEP]

        self.run(scenario())

    def test_a_deletion_cannot_be_taken_back(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            await store.create(self.given("a", finalizers=[_KEEP]))
            await store.delete(self.key("a"))
            marked = await store.get(self.key("a"))
            await store.update(self.given("a", finalizers=[_KEEP], spec={"size": 2}))
            await store.patch(self.key("a"), {"metadata": {"deletionTimestamp": None}})
            found = await store.get(self.key("a"))
            assert found["metadata"]["deletionTimestamp"] == marked["metadata"]["deletionTimestamp"]

        self.run(scenario())

    def test_a_name_is_taken_until_the_last_finalizer_is_gone(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            await store.create(self.given("a", finalizers=[_KEEP]))
            await store.delete(self.key("a"))
            with pytest.raises(AlreadyExists):
                await store.create(self.given("a"))

        self.run(scenario())

    # ---- owners ---------------------------------------------------------------------------------

    def test_what_a_deleted_object_owned_is_deleted(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            owner = await store.create(self.given("owner", kind=self.other_kind))
            stranger = await store.create(self.given("stranger", kind=self.other_kind))
            for name in ("a", "b", "c"):
                await store.create(self.given(name, owners=[owner]))
            await store.create(self.given("theirs", owners=[stranger]))
            await store.create(self.given("free"))
            await store.delete(self.key("owner", kind=self.other_kind))
            await self.until_gone(store, self.key("a"), self.key("b"), self.key("c"))
            assert await exists(store, self.key("theirs"))
            assert await exists(store, self.key("free"))

        self.run(scenario())

    def test_an_object_lives_as_long_as_one_of_its_owners(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            first = await store.create(self.given("first", kind=self.other_kind))
            second = await store.create(self.given("second", kind=self.other_kind))
            await store.create(self.given("both", owners=[first, second]))
            await store.create(self.given("witness", owners=[first]))
            await store.delete(self.key("first", kind=self.other_kind))
            await self.until_gone(store, self.key("witness"))
            assert await exists(store, self.key("both"))
            await store.delete(self.key("second", kind=self.other_kind))
            await self.until_gone(store, self.key("both"))

        self.run(scenario())

    def test_deletion_goes_down_a_chain_of_owners(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            top = await store.create(self.given("top"))
            middle = await store.create(self.given("middle", owners=[top]))
            low = await store.create(self.given("low", owners=[middle]))
            await store.create(self.given("lowest", owners=[low]))
            await store.delete(self.key("top"))
            await self.until_gone(store, self.key("middle"), self.key("low"), self.key("lowest"))

        self.run(scenario())

    def test_a_finalizer_stops_the_chain_until_it_is_removed(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            top = await store.create(self.given("top"))
            middle = await store.create(self.given("middle", owners=[top], finalizers=[_KEEP]))
            await store.create(self.given("low", owners=[middle]))
            await store.delete(self.key("top"))
            marked = await self.until_terminating(store, self.key("middle"))
            low = await store.get(self.key("low"))
            assert "deletionTimestamp" not in low["metadata"]
            await store.update(changed(marked, metadata={"finalizers": []}))
            await self.until_gone(store, self.key("middle"), self.key("low"))

        self.run(scenario())

    def test_an_owner_that_is_only_marked_keeps_what_it_owns(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            owner = await store.create(self.given("owner", finalizers=[_KEEP]))
            await store.create(self.given("owned", owners=[owner]))
            await store.delete(self.key("owner"))
            assert "deletionTimestamp" not in (await store.get(self.key("owned")))["metadata"]
            await store.patch(self.key("owner"), {"metadata": {"finalizers": None}})
            await self.until_gone(store, self.key("owned"))

        self.run(scenario())

    def test_what_is_created_after_its_owner_was_deleted_does_not_stay(
        self, store: ObjectStore
    ) -> None:
        async def scenario() -> None:
            owner = await store.create(self.given("owner"))
            await store.delete(self.key("owner"))
            await store.create(self.given("late", owners=[owner]))
            await self.until_gone(store, self.key("late"))

        self.run(scenario())

    def test_an_owner_of_the_same_name_is_another_owner(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            first = await store.create(self.given("owner"))
            await store.create(self.given("old", owners=[first]))
            await store.delete(self.key("owner"))
            second = await store.create(self.given("owner"))
            await store.create(self.given("new", owners=[second]))
            await self.until_gone(store, self.key("old"))
            assert await exists(store, self.key("new"))

        self.run(scenario())

    def test_an_object_that_changed_owners_follows_the_new_one(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            first = await store.create(self.given("first"))
            second = await store.create(self.given("second"))
            await store.create(self.given("owned", owners=[first]))
            await store.create(self.given("witness", owners=[first]))
            await store.update(self.given("owned", owners=[second]))
            await store.delete(self.key("first"))
            await self.until_gone(store, self.key("witness"))
            assert await exists(store, self.key("owned"))
            await store.delete(self.key("second"))
            await self.until_gone(store, self.key("owned"))

        self.run(scenario())

    def test_watchers_hear_of_collected_objects(
        self, store: ObjectStore, second_store: ObjectStore
    ) -> None:
        async def scenario() -> None:
            owner = await store.create(self.given("owner", kind=self.other_kind))
            await store.create(self.given("a", owners=[owner]))
            start = (await store.list(self.kind)).resource_version
            watch = second_store.watch(self.kind, resource_version=start)
            await store.delete(self.key("owner", kind=self.other_kind))
            assert told(await self.take(watch, 1)) == [("DELETED", "a")]

        self.run(scenario())
