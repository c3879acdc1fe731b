# SPDX-License-Identifier: Apache-2.0
"""What the stores of this package promise beyond the contract, object by object."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from tunesmith_controller.ports import Conflict, Invalid, Json, Key, Unavailable
from tunesmith_controller.stores import semantics, validity

_NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)


def _draft(**metadata: Any) -> Json:
    return {
        "apiVersion": "kubeflow.org/v1beta1",
        "kind": "Trial",
        "metadata": {"name": "a", "namespace": "default", **metadata},
        "spec": {"size": 1},
    }


def _stored(**metadata: Any) -> Json:
    created = semantics.created(_draft(**metadata), name="a", uid="u1", now=_NOW)
    return semantics.at_version(created, 5)


# RFC 7386, appendix A.
@pytest.mark.parametrize(
    ("target", "patch", "want"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_follows_the_examples_of_its_rfc(target: Any, patch: Any, want: Any) -> None:
    assert semantics.merge_patch(target, patch) == want


def test_a_copy_shares_nothing_and_is_equal() -> None:
    draft = _draft(labels={"x": "1"})
    copy = semantics.copied(draft)
    copy["metadata"]["labels"]["x"] = "2"
    assert draft["metadata"]["labels"] == {"x": "1"}


def test_half_a_surrogate_pair_becomes_a_replacement_character() -> None:
    copy = semantics.copied({**_draft(), "spec": {"text": "a\ud800b", "good": "🎛"}})
    assert copy["spec"] == {"text": "a\ufffdb", "good": "🎛"}
    assert semantics.encode(copy).encode()


def _nested(depth: int) -> Json:
    value: Json = {}
    for _ in range(depth - 1):
        value = {"x": value}
    return value


def test_the_depth_of_objects_is_limited() -> None:
    assert semantics.copied(_nested(semantics.MAX_DEPTH)) == _nested(semantics.MAX_DEPTH)
    for depth in (semantics.MAX_DEPTH + 1, 5_000):
        with pytest.raises(Invalid):
            semantics.copied(_nested(depth))


def test_an_object_that_contains_itself_is_invalid() -> None:
    draft = _draft()
    draft["spec"]["self"] = draft
    with pytest.raises(Invalid):
        semantics.copied(draft)


@pytest.mark.parametrize("text", ["x", "é", "🎛"])
def test_the_size_limit_is_exact_and_in_bytes(text: str) -> None:
    width = len(text.encode())
    fitting = text * (semantics.MAX_OBJECT_BYTES // width)
    semantics.check_fits(Key("Trial", "default", "a"), fitting)
    with pytest.raises(Invalid, match=r"Trial/default/a has \d+ bytes"):
        semantics.check_fits(Key("Trial", "default", "a"), fitting + text)


def test_an_object_that_is_too_large_already_may_shrink_but_not_grow() -> None:
    key, too_large = Key("Trial", "default", "a"), "x" * (semantics.MAX_OBJECT_BYTES + 10)
    semantics.check_fits(key, too_large[:-1], previous=too_large)
    with pytest.raises(Invalid):
        semantics.check_fits(key, too_large + "x", previous=too_large)


def test_fields_of_the_system_cannot_be_updated() -> None:
    current = _stored()
    wrong = {
        "uid": "u2",
        "creationTimestamp": "2000-01-01T00:00:00Z",
        "deletionTimestamp": "2000-01-01T00:00:00Z",
        "deletionGracePeriodSeconds": 30,
        "generation": 70,
        "resourceVersion": "1",
    }
    assert semantics.with_main(current, _draft(**wrong)) == current


def test_empty_metadata_is_no_metadata() -> None:
    empty = _draft(labels={}, annotations=None, finalizers=[], ownerReferences=None)
    assert semantics.with_main(_stored(), empty) == _stored()


def test_a_null_status_is_a_status() -> None:
    assert semantics.with_status(_stored(), {**_draft(), "status": None})["status"] is None


@pytest.mark.parametrize(
    ("uid", "version", "holds"),
    [
        (None, None, True),
        ("", "", True),
        ("u1", "5", True),
        ("u2", None, False),
        (None, "05", False),
    ],
)
def test_preconditions(uid: str | None, version: str | None, holds: bool) -> None:
    if holds:
        semantics.check_preconditions(_stored(), uid=uid, resource_version=version)
    else:
        with pytest.raises(Conflict, match="read it again"):
            semantics.check_preconditions(_stored(), uid=uid, resource_version=version)


def test_times_are_utc_in_whole_seconds() -> None:
    assert semantics.timestamp(_NOW) == "2026-01-02T03:04:05Z"
    elsewhere = _NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert semantics.timestamp(elsewhere) == "2026-01-02T03:04:05Z"


def test_generated_names_fit_into_a_label() -> None:
    names = {semantics.generated_name("p" * 200, number) for number in (0, 1, 2**63 - 1)}
    assert len(names) == 3
    assert all(len(name) == 63 and validity.is_dns_label(name) for name in names)


@pytest.mark.parametrize("text", ["x", "-1", "1.5", "\u0661", "9" * 20, " 1"])
def test_a_version_that_no_store_gives_is_invalid(text: str) -> None:
    with pytest.raises(Invalid):
        semantics.parse_version(text)


def test_a_damaged_text_is_not_the_caller_s_fault() -> None:
    with pytest.raises(Unavailable, match="damaged"):
        semantics.decode('{"kind": "Tri')


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({"name": "My_Trial"}, "metadata.name 'My_Trial' must be lower-case"),
        ({"namespace": "a.b"}, "metadata.namespace 'a.b' must be"),
        ({"namespace": None}, "metadata.namespace None must be"),
        ({"resourceVersion": 5}, "metadata.resourceVersion must be a text"),
        ({"labels": {"x": 1}}, "metadata.labels['x'] must be a text: quote it"),
        ({"labels": ["x"]}, "metadata.labels must be an object"),
        ({"labels": {"Not.A.Domain/x": ""}}, "the key 'Not.A.Domain/x'"),
        ({"annotations": {"x": True}}, "metadata.annotations['x'] must be a text"),
        ({"annotations": {"x": "y" * 262144}}, "262145 bytes, 262144 are allowed"),
        ({"finalizers": ["a b"]}, "metadata.finalizers: 'a b'"),
        ({"finalizers": "f"}, "metadata.finalizers must be a list"),
        ({"ownerReferences": ["x"]}, "metadata.ownerReferences must be a list of objects"),
        ({"ownerReferences": [{"kind": "X"}]}, "metadata.ownerReferences[0].uid must be a text"),
    ],
)
def test_problems_are_told_with_their_place(metadata: Json, says: str) -> None:
    with pytest.raises(Invalid) as refused:
        validity.check_object(_draft(**metadata))
    assert says in str(refused.value)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(Invalid) as refused:
        validity.check_object({**_draft(name="A", labels={"x": 1}), "apiVersion": ""})
    assert str(refused.value).count(";") == 2


def test_only_one_owner_is_the_controller() -> None:
    owner = {"apiVersion": "v1", "kind": "X", "name": "x", "uid": "u", "controller": True}
    validity.check_object(_draft(ownerReferences=[owner, {**owner, "controller": False}]))
    with pytest.raises(Invalid, match="only one owner"):
        validity.check_object(_draft(ownerReferences=[owner, owner]))


@pytest.mark.parametrize("key", ["x", "katib.kubeflow.org/experiment", "A-b_c.d/X.y_z-1"])
def test_qualified_names_may_have_a_domain(key: str) -> None:
    assert validity.is_qualified_name(key) == (not key.startswith("A-b"))
