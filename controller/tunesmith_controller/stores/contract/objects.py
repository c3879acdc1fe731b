# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S101 - these are tests
"""Contract: creating, reading and listing objects."""

from __future__ import annotations

import asyncio
import copy
from datetime import datetime
from typing import Any

import pytest

from tunesmith_controller.ports import AlreadyExists, Invalid, Json, NotFound, ObjectStore
from tunesmith_controller.stores.contract.case import StoreCase, changed, names, version

_MIB = 1024 * 1024


class ObjectsContract(StoreCase):
    # ---- create ---------------------------------------------------------------------------------

    def test_a_created_object_has_a_uid_a_version_a_time_and_generation_1(
        self, store: ObjectStore
    ) -> None:
        async def scenario() -> None:
            metadata = (await store.create(self.given("a")))["metadata"]
            assert metadata["uid"]
            assert metadata["resourceVersion"]
            assert metadata["generation"] == 1
            assert datetime.strptime(metadata["creationTimestamp"], "%Y-%m-%dT%H:%M:%S%z")

        self.run(scenario())

    def test_create_keeps_a_status_in_the_body(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            created = await store.create(self.given("a", status={"phase": "new"}))
            assert created["status"] == {"phase": "new"}
            assert (await store.get(self.key("a")))["status"] == {"phase": "new"}

        self.run(scenario())

    def test_create_ignores_the_fields_that_the_store_gives(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            wrong = {
                "uid": "mine",
                "generation": 7,
                "creationTimestamp": None,
                "deletionTimestamp": "2020-01-01T00:00:00Z",
            }
            metadata = (await store.create(changed(self.given("a"), metadata=wrong)))["metadata"]
            assert metadata["uid"] != "mine"
            assert metadata["generation"] == 1
            assert metadata["creationTimestamp"] is not None
            assert "deletionTimestamp" not in metadata

        self.run(scenario())

    def test_get_returns_what_create_returned(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            created = await store.create(self.given("a", labels={"x": "1"}, spec={"n": [1, 2]}))
            assert await store.get(self.key("a")) == created

        self.run(scenario())

    def test_a_second_client_reads_what_the_first_created(
        self, store: ObjectStore, second_store: ObjectStore
    ) -> None:
        async def scenario() -> None:
            created = await store.create(self.given("a"))
            assert await second_store.get(self.key("a")) == created

        self.run(scenario())

    def test_a_name_that_is_taken_already_exists(
        self, store: ObjectStore, second_store: ObjectStore
    ) -> None:
        async def scenario() -> None:
            first = await store.create(self.given("a"))
            for client in (store, second_store):
                with pytest.raises(AlreadyExists):
                    await client.create(self.given("a", spec={"size": 2}))
            assert await store.get(self.key("a")) == first

        self.run(scenario())

    def test_a_name_is_free_after_its_deletion_and_gets_another_uid(
        self, store: ObjectStore
    ) -> None:
        async def scenario() -> None:
            first = await store.create(self.given("a"))
            await store.delete(self.key("a"))
            second = await store.create(self.given("a"))
            assert second["metadata"]["uid"] != first["metadata"]["uid"]
            assert version(second) != version(first)

        self.run(scenario())

    def test_of_many_who_create_the_same_name_one_succeeds(
        self, store: ObjectStore, second_store: ObjectStore
    ) -> None:
        async def scenario() -> None:
            calls = [
                client.create(self.given("a", spec={"by": number}))
                for number, client in enumerate([store, second_store] * 5)
            ]
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            created = [outcome for outcome in outcomes if isinstance(outcome, dict)]
            assert created == [await store.get(self.key("a"))]
            assert sum(isinstance(outcome, AlreadyExists) for outcome in outcomes) == 9

        self.run(scenario())

    def test_the_same_name_in_two_namespaces_is_two_objects(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            here = await store.create(self.given("a"))
            there = await store.create(self.given("a", namespace=self.other_namespace))
            await store.delete(self.key("a"))
            assert here["metadata"]["uid"] != there["metadata"]["uid"]
            assert await store.get(self.key("a", namespace=self.other_namespace)) == there

        self.run(scenario())

    def test_the_same_name_of_two_kinds_is_two_objects(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            await store.create(self.given("a"))
            other = await store.create(self.given("a", kind=self.other_kind))
            await store.delete(self.key("a"))
            assert await store.get(self.key("a", kind=self.other_kind)) == other

        self.run(scenario())

    def test_generate_name_makes_a_new_name_each_time(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            draft = self.given("")
            draft["metadata"] = {"generateName": "search-", "namespace": self.namespace}
            made = names([await store.create(draft) for _ in range(5)])
            assert len(set(made)) == 5
            assert all(name.startswith("search-") and len(name) > 7 for name in made)

        self.run(scenario())

    @pytest.mark.parametrize(
        "metadata",
        [
            {"name": "Upper"},
            {"name": "under_score"},
            {"name": "-dash"},
            {"name": ""},
            {"name": "x" * 254},
            {"labels": {"a b": "x"}},
            {"labels": {"a": "x y"}},
            {"labels": {"a": "x" * 64}},
            {"labels": {"a": 1}},
            {"resourceVersion": "1"},
            {"ownerReferences": [{"apiVersion": "v1", "kind": "Experiment", "name": "e"}]},
        ],
    )
    def test_metadata_that_kubernetes_refuses_is_invalid(
        self, store: ObjectStore, metadata: Json
    ) -> None:
        async def scenario() -> None:
            with pytest.raises(Invalid):
                await store.create(changed(self.given("a"), metadata=metadata))
            assert (await store.list(self.kind)).items == []

        self.run(scenario())

    @pytest.mark.parametrize("field", ["apiVersion", "kind", "metadata"])
    def test_an_object_without_its_head_is_invalid(self, store: ObjectStore, field: str) -> None:
        async def scenario() -> None:
            draft = self.given("a")
            del draft[field]
            with pytest.raises(Invalid):
                await store.create(draft)

        self.run(scenario())

    def test_names_and_labels_may_be_as_long_as_kubernetes_allows(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            labels = {"example.org/" + "k" * 63: "v" * 63, "empty": ""}
            name = "n" * 253
            await store.create(self.given(name, labels=labels))
            assert (await store.get(self.key(name)))["metadata"]["labels"] == labels

        self.run(scenario())

    # ---- values ---------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "value",
        [
            pytest.param("Grüße, 世界, 🎛️, \u202ertl, e\u0301 and \u00e9", id="unicode"),
            pytest.param("quotes \" ' \\ / \n\t \u2028 \u007f", id="escapes"),
            pytest.param([2**53 + 1, 2**63 - 1, -(2**63)], id="large integers"),
            pytest.param([0.1, 1e-300, 1.7976931348623157e308, -2.5], id="floats"),
            pytest.param([True, False, 1, 0, "1", "true"], id="look-alikes"),
            pytest.param({"a": None, "b": [None, {"c": None}]}, id="nulls"),
            pytest.param({"a": [], "b": {}, "c": "", "d": [[], {}]}, id="empties"),
            pytest.param({"x-vendor": {"deep": [{"er": 1}]}, "": "no name"}, id="unknown fields"),
        ],
    )
    def test_values_come_back_as_they_were_given(self, store: ObjectStore, value: Any) -> None:
        async def scenario() -> None:
            await store.create(self.given("a", spec={"value": value}, status={"value": value}))
            found = await store.get(self.key("a"))
            # repr, because 1 == 1.0 == True to Python.
            assert repr(_sorted(found["spec"]["value"])) == repr(_sorted(value))
            assert repr(_sorted(found["status"]["value"])) == repr(_sorted(value))

        self.run(scenario())

    def test_unknown_top_level_fields_are_kept(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            await store.create(self.given("a", data={"x": 1}))
            assert (await store.get(self.key("a")))["data"] == {"x": 1}

        self.run(scenario())

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"bytes"])
    def test_values_that_json_does_not_have_are_invalid(
        self, store: ObjectStore, value: Any
    ) -> None:
        async def scenario() -> None:
            with pytest.raises(Invalid):
                await store.create(self.given("a", spec={"value": value}))

        self.run(scenario())

    def test_an_object_of_one_mebibyte_is_kept(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            await store.create(self.given("a", spec={"text": "x" * _MIB}))
            assert len((await store.get(self.key("a")))["spec"]["text"]) == _MIB

        self.run(scenario())

    def test_an_object_of_two_mebibytes_is_invalid(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            with pytest.raises(Invalid):
                await store.create(self.given("a", spec={"text": "x" * 2 * _MIB}))
            assert (await store.list(self.kind)).items == []

        self.run(scenario())

    def test_what_the_caller_does_to_its_object_later_changes_nothing(
        self, store: ObjectStore
    ) -> None:
        async def scenario() -> None:
            draft = self.given("a", spec={"list": [1]}, labels={"x": "1"})
            wanted = copy.deepcopy(draft["spec"])
            await store.create(draft)
            draft["spec"]["list"].append(2)
            draft["metadata"]["labels"]["x"] = "2"
            found = await store.get(self.key("a"))
            assert (found["spec"], found["metadata"]["labels"]) == (wanted, {"x": "1"})
            assert names((await store.list(self.kind, labels={"x": "1"})).items) == ["a"]

        self.run(scenario())

    def test_no_call_changes_the_object_it_is_given(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            draft = self.given("a", status={"x": 1})
            patch = {"spec": {"size": None}, "metadata": {"labels": {"x": "1"}}}
            before = copy.deepcopy((draft, patch))
            await store.create(draft)
            await store.update(draft)
            await store.update_status(draft)
            await store.patch(self.key("a"), patch)
            assert (draft, patch) == before

        self.run(scenario())

    def test_what_is_returned_belongs_to_the_caller(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            created = await store.create(self.given("a", spec={"list": [1]}))
            wanted = copy.deepcopy(created)
            got = await store.get(self.key("a"))
            listed = (await store.list(self.kind)).items[0]
            unchanged = await store.update(got)
            for obj in (created, got, listed, unchanged):
                obj["spec"]["list"].append(2)
                obj["metadata"]["name"] = "b"
            assert await store.get(self.key("a")) == wanted

        self.run(scenario())

    # ---- get and list ---------------------------------------------------------------------------

    def test_what_does_not_exist_is_not_found(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            await store.create(self.given("a"))
            for key in (
                self.key("b"),
                self.key("a", namespace=self.other_namespace),
                self.key("a", kind=self.other_kind),
            ):
                with pytest.raises(NotFound):
                    await store.get(key)

        self.run(scenario())

    def test_list_gives_one_kind_in_one_or_all_namespaces(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            await store.create(self.given("b"))
            await store.create(self.given("a"))
            await store.create(self.given("c", namespace=self.other_namespace))
            await store.create(self.given("d", kind=self.other_kind))
            here = await store.list(self.kind, namespace=self.namespace)
            everywhere = await store.list(self.kind)
            assert sorted(names(here.items)) == ["a", "b"]
            assert sorted(names(everywhere.items)) == ["a", "b", "c"]

        self.run(scenario())

    def test_list_is_in_the_same_order_every_time(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            for name in ("c", "a", "d", "b"):
                await store.create(self.given(name))
            await store.update_status(self.given("c", status={"x": 1}))
            assert names((await store.list(self.kind)).items) == ["a", "b", "c", "d"]

        self.run(scenario())

    def test_list_gives_whole_objects(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            created = await store.create(self.given("a", spec={"x": [1]}, status={"y": 2}))
            assert (await store.list(self.kind)).items == [created]

        self.run(scenario())

    def test_labels_select_objects_that_have_all_of_them(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            await store.create(self.given("a", labels={"x": "1", "y": "2", "z": "3"}))
            await store.create(self.given("b", labels={"x": "1"}))
            await store.create(self.given("c", labels={"x": "2", "y": "2"}))
            await store.create(self.given("d"))
            await store.create(self.given("e", labels={"x": "1"}, kind=self.other_kind))
            await store.create(self.given("f", labels={"x": "1"}, namespace=self.other_namespace))

            async def chosen(labels: dict[str, str]) -> list[str]:
                return names(
                    (await store.list(self.kind, namespace=self.namespace, labels=labels)).items
                )

            assert await chosen({"x": "1"}) == ["a", "b"]
            assert await chosen({"y": "2", "x": "1"}) == ["a"]
            assert await chosen({"x": "3"}) == []
            assert await chosen({}) == ["a", "b", "c", "d"]
            assert names((await store.list(self.kind, labels={"x": "1"})).items) == ["a", "b", "f"]

        self.run(scenario())

    def test_label_selection_follows_changes_of_labels(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            await store.create(self.given("a", labels={"x": "1"}))
            await store.update(self.given("a", labels={"x": "2"}))
            assert (await store.list(self.kind, labels={"x": "1"})).items == []
            assert names((await store.list(self.kind, labels={"x": "2"})).items) == ["a"]
            await store.delete(self.key("a"))
            await store.create(self.given("a"))
            assert (await store.list(self.kind, labels={"x": "2"})).items == []

        self.run(scenario())

    def test_a_list_of_nothing_has_a_version_too(self, store: ObjectStore) -> None:
        async def scenario() -> None:
            empty = await store.list(self.kind)
            assert empty.items == []
            assert empty.resource_version

        self.run(scenario())


def _sorted(value: Any) -> Any:
    """Objects have no order of fields."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value
