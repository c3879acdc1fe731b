# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S101 - these are tests
"""Contract: update, update_status and patch."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tunesmith_controller.ports import Conflict, Invalid, Json, NotFound, ObjectStore
from tunesmith_controller.stores.contract.case import StoreCase, changed, told, version

Write = Callable[[ObjectStore, Json], Awaitable[Json]]


async def _update(store: ObjectStore, obj: Json) -> Json:
    return await store.update(obj)


async def _update_status(store: ObjectStore, obj: Json) -> Json:
    return await store.update_status(obj)


_WRITES = pytest.mark.parametrize(
    "write", [pytest.param(_update, id="update"), pytest.param(_update_status, id="update_status")]
)


class ChangesContract(StoreCase):
    # ---- update ---------------------------------------------------------------------------------

    def test_update_replaces_labels_annotations_finalizers_and_spec(
        self, store: ObjectStore
    ) -> None:
        async def scenario() -> None:
            await store.create(self.given("a", labels={"x": "1"}, spec={"size": 1, "old": True}))
            wanted = self.given(
                "a",
                labels={"y": "2"},
                annotations={"note": "Any text!"},
                finalizers=["example.org/keep"],
                spec={"size": 2},
            )
            updated = await store.update(wanted)
            assert updated == await store.get(self.key("a"))
            assert updated["spec"] == {"size": 2}
            for field in ("labels", "annotations", "finalizers"):
                assert updated["metadata"][field] == wanted["metadata"][field]

        self.run(scenario())

    def test_update_removes_what_is_left_out(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            await store.create(self.given("a", labels={"x": "1"}, data={"x": 1}))
            updated = await store.update(self.given("a"))
            assert "labels" not in updated["metadata"]
            assert "data" not in updated

        self.run(scenario())

    def test_what_the_store_gave_survives_an_update_that_leaves_it_out(
        self, store: ObjectStore
    ) -> None:
        async def scenario() -> None:
            created = (await store.create(self.given("a")))["metadata"]
            updated = (await store.update(self.given("a", spec={"size": 2})))["metadata"]
            for field in ("uid", "creationTimestamp", "namespace", "name"):
                assert updated[field] == created[field]

        self.run(scenario())

    @_WRITES
    def test_every_change_gives_a_new_version(self, store: ObjectStore, write: Write) -> None:
        async def scenario() -> None:
            versions = [version(await store.create(self.given("a")))]
            for size in (2, 3, 4):
                draft = self.given("a", spec={"size": size}, status={"size": size})
                versions.append(version(await write(store, draft)))
            assert len(set(versions)) == 4
            assert version(await store.get(self.key("a"))) == versions[-1]

        self.run(scenario())

    @_WRITES
    def test_a_write_from_the_current_version_succeeds(
        self, store: ObjectStore, second_store: ObjectStore, write: Write
    ) -> None:
        async def scenario() -> None:
            await store.create(self.given("a"))
            for size, client in ((2, store), (3, second_store), (4, store)):
                current = await client.get(self.key("a"))
                await write(client, changed(current, spec={"size": size}, status={"size": size}))
            assert 4 in [
                (await store.get(self.key("a"))).get(part, {}).get("size")
                for part in ("spec", "status")
            ]

        self.run(scenario())

    @_WRITES
    def test_a_write_from_an_old_version_is_a_conflict(
        self, store: ObjectStore, second_store: ObjectStore, write: Write
    ) -> None:
        async def scenario() -> None:
            old = await store.create(self.given("a"))
            current = await second_store.update_status(self.given("a", status={"x": 1}))
            with pytest.raises(Conflict):
                await write(store, changed(old, spec={"size": 2}, status={"size": 2}))
            assert await store.get(self.key("a")) == current

        self.run(scenario())

    @_WRITES
    def test_a_write_without_a_version_has_no_condition(
        self, store: ObjectStore, write: Write
    ) -> None:
        async def scenario() -> None:
            await store.create(self.given("a"))
            await store.update_status(self.given("a", status={"x": 1}))
            draft = self.given("a", spec={"size": 2}, status={"x": 2})
            written = await write(store, draft)
            assert written == await store.get(self.key("a"))
            assert written["spec"] == {"size": 2} or written["status"] == {"x": 2}

        self.run(scenario())

    @_WRITES
    def test_a_write_for_another_uid_is_a_conflict(self, store: ObjectStore, write: Write) -> None:
        async def scenario() -> None:
            first = await store.create(self.given("a"))
            await store.delete(self.key("a"))
            second = await store.create(self.given("a"))
            draft = self.given("a", spec={"size": 2}, status={"x": 1})
            draft["metadata"]["uid"] = first["metadata"]["uid"]
            with pytest.raises(Conflict):
                await write(store, draft)
            assert await store.get(self.key("a")) == second

        self.run(scenario())

    @_WRITES
    def test_a_write_to_what_does_not_exist_is_not_found(
        self, store: ObjectStore, write: Write
    ) -> None:
        async def scenario() -> None:
            with pytest.raises(NotFound):
                await write(store, self.given("a"))
            gone = await store.create(self.given("a"))
            await store.delete(self.key("a"))
            with pytest.raises(NotFound):
                await write(store, gone)

        self.run(scenario())

    @_WRITES
    def test_a_write_that_changes_nothing_writes_nothing(
        self, store: ObjectStore, write: Write
    ) -> None:
        async def scenario() -> None:
            await store.create(self.given("a", labels={"x": "1"}, status={"n": [1, {"b": None}]}))
            before = await store.list(self.kind)
            assert await write(store, before.items[0]) == before.items[0]
            assert await store.get(self.key("a")) == before.items[0]
            await store.create(self.given("sentinel"))
            watch = store.watch(self.kind, resource_version=before.resource_version)
            assert told(await self.take(watch, 1)) == [("ADDED", "sentinel")]

        self.run(scenario())

    def test_true_instead_of_1_is_a_change(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            created = await store.create(self.given("a", spec={"x": 1}))
            updated = await store.update(changed(created, spec={"x": True}))
            assert version(updated) != version(created)
            assert (await store.get(self.key("a")))["spec"]["x"] is True

        self.run(scenario())

    def test_an_invalid_update_leaves_the_object_alone(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            created = await store.create(self.given("a"))
            for draft in (
                changed(created, metadata={"labels": {"x": "not a label"}}),
                changed(created, spec={"x": float("nan")}),
                changed(created, spec={"x": "y" * 2 * 1024 * 1024}),
            ):
                with pytest.raises(Invalid):
                    await store.update(draft)
            assert await store.get(self.key("a")) == created

        self.run(scenario())

    def test_of_many_who_count_with_versions_none_is_lost(
        self, store: ObjectStore, second_store: ObjectStore
    ) -> None:
        async def add(client: ObjectStore) -> None:
            while True:
                current = await client.get(self.key("a"))
                size = current["spec"]["size"] + 1
                try:
                    await client.update(changed(current, spec={"size": size}))
                except Conflict:
                    continue
                return

        async def scenario() -> None:
            await store.create(self.given("a", spec={"size": 0}))
            await asyncio.gather(*[add(client) for client in [store, second_store] * 10])
            assert (await store.get(self.key("a")))["spec"] == {"size": 20}

        self.run(scenario())

    # ---- status and generation ------------------------------------------------------------------

    def test_update_leaves_status_alone(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            await store.create(self.given("a", status={"x": 1}))
            for draft in (
                self.given("a", spec={"size": 2}, status={"x": 2}),
                self.given("a", spec={"size": 3}),
            ):
                assert (await store.update(draft))["status"] == {"x": 1}
            assert (await store.get(self.key("a")))["status"] == {"x": 1}

        self.run(scenario())

    def test_update_does_not_give_a_first_status(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            await store.create(self.given("a"))
            updated = await store.update(self.given("a", spec={"size": 2}, status={"x": 1}))
            assert "status" not in updated

        self.run(scenario())

    def test_update_status_changes_nothing_but_status(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            created = await store.create(
                self.given("a", labels={"x": "1"}, finalizers=["example.org/keep"])
            )
            draft = self.given("a", spec={"size": 9}, labels={"y": "2"}, status={"x": 1}, data={})
            updated = await store.update_status(draft)
            wanted = changed(
                created, status={"x": 1}, metadata={"resourceVersion": version(updated)}
            )
            assert updated == wanted == await store.get(self.key("a"))

        self.run(scenario())

    def test_update_status_without_a_status_removes_it(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            await store.create(self.given("a", status={"x": 1}))
            assert "status" not in await store.update_status(self.given("a"))

        self.run(scenario())

    def test_generation_counts_changes_of_the_specification(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            await store.create(self.given("a"))
            second = await store.update(self.given("a", spec={"size": 2}))
            third = await store.update(self.given("a", spec={"size": 2}, data={"x": 1}))
            fourth = await store.patch(self.key("a"), {"spec": {"size": 4}})
            assert [obj["metadata"]["generation"] for obj in (second, third, fourth)] == [2, 3, 4]

        self.run(scenario())

    def test_generation_does_not_count_metadata_and_status(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            await store.create(self.given("a"))
            await store.update(self.given("a", labels={"x": "1"}))
            await store.patch(self.key("a"), {"metadata": {"annotations": {"x": "1"}}})
            await store.update_status(self.given("a", status={"x": 1}))
            await store.patch(self.key("a"), {"status": {"x": 2}}, status=True)
            assert (await store.get(self.key("a")))["metadata"]["generation"] == 1

        self.run(scenario())

    def test_a_generation_in_the_body_is_ignored(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            created = await store.create(self.given("a"))
            wrong = changed(created, spec={"size": 2}, metadata={"generation": 40})
            assert (await store.update(wrong))["metadata"]["generation"] == 2

        self.run(scenario())

    # ---- patch ----------------------------------------------------------------------------------

    def test_patch_merges_objects_and_replaces_the_rest(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            await store.create(self.given("a", spec={"keep": 1, "deep": {"x": 1}, "list": [1, 2]}))
            patch = {"spec": {"deep": {"y": 2}, "list": [3], "new": {"z": {"w": 4}}}}
            patched = await store.patch(self.key("a"), patch)
            assert patched == await store.get(self.key("a"))
            assert patched["spec"] == {
                "keep": 1,
                "deep": {"x": 1, "y": 2},
                "list": [3],
                "new": {"z": {"w": 4}},
            }

        self.run(scenario())

    def test_null_in_a_patch_deletes(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            await store.create(
                self.given("a", spec={"keep": 1, "drop": {"x": 1}}, labels={"x": "1", "y": "2"})
            )
            patch = {"spec": {"drop": None, "never": None}, "metadata": {"labels": {"x": None}}}
            patched = await store.patch(self.key("a"), patch)
            assert patched["spec"] == {"keep": 1}
            assert patched["metadata"]["labels"] == {"y": "2"}

        self.run(scenario())

    def test_patch_does_not_touch_status(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            await store.create(self.given("a", status={"x": 1}))
            patch = {"spec": {"size": 2}, "status": {"x": 2}}
            patched = await store.patch(self.key("a"), patch)
            assert (patched["spec"], patched["status"]) == ({"size": 2}, {"x": 1})

        self.run(scenario())

    def test_a_patch_of_status_touches_nothing_else(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            await store.create(self.given("a", status={"x": 1, "y": 1}))
            patch = {
                "spec": {"size": 2},
                "metadata": {"labels": {"x": "1"}},
                "status": {"x": 2, "y": None},
            }
            patched = await store.patch(self.key("a"), patch, status=True)
            assert (patched["spec"], patched["status"]) == ({"size": 1}, {"x": 2})
            assert "labels" not in patched["metadata"]

        self.run(scenario())

    def test_a_patch_of_status_may_give_the_first_one(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            await store.create(self.given("a"))
            patched = await store.patch(self.key("a"), {"status": {"x": {"y": 1}}}, status=True)
            assert patched["status"] == {"x": {"y": 1}}

        self.run(scenario())

    @pytest.mark.parametrize("status", [False, True])
    def test_a_version_in_a_patch_is_a_precondition(self, store: ObjectStore, status: bool) -> None:
        async def scenario() -> None:
            old = version(await store.create(self.given("a")))
            current = version(await store.update(self.given("a", spec={"size": 2})))
            patch: Json = {
                "metadata": {"resourceVersion": old},
                "spec": {"x": 1},
                "status": {"x": 1},
            }
            with pytest.raises(Conflict):
                await store.patch(self.key("a"), patch, status=status)
            patch["metadata"]["resourceVersion"] = current
            assert version(await store.patch(self.key("a"), patch, status=status)) != current

        self.run(scenario())

    @pytest.mark.parametrize("status", [False, True])
    def test_a_patch_that_changes_nothing_writes_nothing(
        self, store: ObjectStore, status: bool
    ) -> None:
        async def scenario() -> None:
            await store.create(self.given("a", labels={"x": "1"}, status={"x": 1}))
            before = await store.list(self.kind)
            for patch in ({}, {"metadata": {"labels": {"x": "1"}}, "status": {"x": 1, "y": None}}):
                assert await store.patch(self.key("a"), patch, status=status) == before.items[0]
            await store.create(self.given("sentinel"))
            watch = store.watch(self.kind, resource_version=before.resource_version)
            assert told(await self.take(watch, 1)) == [("ADDED", "sentinel")]

        self.run(scenario())

    def test_a_patch_cannot_rename_or_move(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            created = await store.create(self.given("a"))
            for metadata in ({"name": "b"}, {"namespace": self.other_namespace}):
                with pytest.raises(Invalid):
                    await store.patch(self.key("a"), {"metadata": metadata})
            assert await store.get(self.key("a")) == created

        self.run(scenario())

    def test_an_invalid_result_of_a_patch_is_refused(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            created = await store.create(self.given("a"))
            with pytest.raises(Invalid):
                await store.patch(self.key("a"), {"metadata": {"labels": {"x": "a b"}}})
            assert await store.get(self.key("a")) == created

        self.run(scenario())

    def test_a_patch_of_what_does_not_exist_is_not_found(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            with pytest.raises(NotFound):
                await store.patch(self.key("a"), {"spec": {"size": 2}})

        self.run(scenario())

    def test_patches_of_different_fields_at_once_all_count(
        self, store: ObjectStore, second_store: ObjectStore
    ) -> None:
        async def scenario() -> None:
            await store.create(self.given("a", spec={}))
            await asyncio.gather(
                *[
                    client.patch(self.key("a"), {"spec": {f"f{number}": number}})
                    for number, client in enumerate([store, second_store] * 10)
                ]
            )
            wanted = {f"f{number}": number for number in range(20)}
            assert (await store.get(self.key("a")))["spec"] == wanted

        self.run(scenario())
