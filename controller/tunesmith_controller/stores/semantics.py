# SPDX-License-Identifier: Apache-2.0
"""What Kubernetes does to one object, as functions on JSON dicts. Called by `engine` only.

Nothing here keeps, reads the time or draws: those are arguments. Dicts that come in are never
changed; dicts that go out may share parts with them, which is safe because stores keep text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, cast

from tunesmith_controller.ports import Conflict, Invalid, Json, Key, Unavailable

MAX_OBJECT_BYTES = 3 * 1024 * 1024 // 2
"""etcd's default request limit, 1.5 MiB."""

MAX_DEPTH = 100
"""Deeper objects would be readable or not depending on how deep the reader's own stack is."""

FIRST_VERSION = 1
"""The resourceVersion of an empty store: "0" and "" mean "from the beginning" to watchers."""

_SYSTEM_FIELDS = (
    "name",
    "namespace",
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "resourceVersion",
)
_OMITTED_WHEN_EMPTY = frozenset(
    ("labels", "annotations", "finalizers", "ownerReferences", "uid", "resourceVersion", "name")
)
_ENCODER = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"  # no vowels: no words, as in Kubernetes
_SUFFIX_LENGTH = 5
_MAX_PREFIX = 63 - _SUFFIX_LENGTH


# ---- text ---------------------------------------------------------------------------------------


def encode(obj: Json) -> str:
    """The canonical text: equal texts are equal objects, and 1, 1.0 and true differ."""
    return _ENCODER.encode(obj)


def decode(text: str) -> Json:
    """Reads what `encode` wrote. Raises Unavailable when the text was damaged since."""
    try:
        return cast(Json, json.loads(text))
    except ValueError as error:
        raise Unavailable(f"a stored object cannot be read, the file is damaged: {error}") from None


def size_of(text: str) -> int:
    """Bytes as UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def copied(obj: Json) -> Json:
    """A deep copy that holds only what JSON can say. Half surrogate pairs become U+FFFD, as in
    the Kubernetes API server. Raises Invalid."""
    return cast(Json, _read(written(obj)))


def written(obj: Json) -> str:
    """The text of `copied(obj)`. Raises Invalid."""
    try:
        text = encode(obj)
    except (TypeError, ValueError, RecursionError) as error:
        raise Invalid(f"this object cannot be written as JSON: {error}") from None
    if not text.startswith("{"):
        raise Invalid("an object must be a JSON object, with apiVersion, kind and metadata")
    if not text.isascii():
        text = _SURROGATE.sub("\ufffd", text)
    if _may_be_deep(text) and _is_deeper(_read(text), MAX_DEPTH):
        raise Invalid(f"this object is nested more than {MAX_DEPTH} levels deep")
    return text


def _may_be_deep(text: str) -> bool:
    """Counting brackets is cheap and bounds the depth, so that small objects need no walk."""
    return text.count("{") + text.count("[") > MAX_DEPTH


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError as error:
        raise Invalid(f"this object cannot be written as JSON: {error}") from None


def _is_deeper(value: Any, limit: int) -> bool:
    level: list[Any] = [value]
    for _ in range(limit):
        level = [child for node in level for child in _children(node)]
        if not any(isinstance(node, dict | list) for node in level):
            return False
    return True


def _children(node: Any) -> Iterable[Any]:
    if isinstance(node, dict):
        return node.values()
    return node if isinstance(node, list) else ()


# ---- reading an object --------------------------------------------------------------------------


def key_of(obj: Json) -> Key:
    metadata = obj["metadata"]
    return Key(obj["kind"], metadata["namespace"], metadata["name"])


def labels_of(obj: Json) -> Mapping[str, str]:
    return cast(Mapping[str, str], obj["metadata"].get("labels", {}))


def finalizers_of(obj: Json) -> list[str]:
    return cast(list[str], obj["metadata"].get("finalizers", []))


def owner_uids(obj: Json) -> tuple[str, ...]:
    """Each owner once, in the order of the references."""
    references = obj["metadata"].get("ownerReferences", [])
    return tuple(dict.fromkeys(reference["uid"] for reference in references))


def is_terminating(obj: Json) -> bool:
    return "deletionTimestamp" in obj["metadata"]


def selects(selector: Mapping[str, str] | None, labels: Mapping[str, str]) -> bool:
    """Whether `labels` include the selector; an empty one selects everything."""
    return all(labels.get(key) == value for key, value in (selector or {}).items())


def parse_version(text: str) -> int | None:
    """A watch's starting point; None is "from the beginning". Raises Invalid."""
    if text in ("", "0"):
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise Invalid(f"resourceVersion {text!r} is not one that this store gave")
    return int(text)


# ---- preconditions ------------------------------------------------------------------------------


def check_preconditions(current: Json, *, uid: str | None, resource_version: str | None) -> None:
    """Raises Conflict unless both are those of `current`; None or "" is no precondition."""
    metadata = current["metadata"]
    if uid and uid != metadata["uid"]:
        raise Conflict(f"{key_of(current)} now has uid {metadata['uid']}, not {uid}: read it again")
    if resource_version and resource_version != metadata["resourceVersion"]:
        raise Conflict(
            f"{key_of(current)} is at resourceVersion {metadata['resourceVersion']}, "
            f"not {resource_version}: read it again"
        )


def check_fits(key: Key, text: str, previous: str = "") -> None:
    """Raises Invalid when an object is too large and larger than it was: one that the store itself
    let grow, by deletionTimestamp, can still be changed."""
    size = size_of(text)
    if size > MAX_OBJECT_BYTES and size > size_of(previous):
        raise Invalid(f"{key} has {size} bytes as JSON, {MAX_OBJECT_BYTES} are allowed")


def check_finalizers(current: Json, desired: Json) -> None:
    """Raises Invalid when finalizers are added to an object under deletion."""
    added = set(finalizers_of(desired)) - set(finalizers_of(current))
    if added and is_terminating(current):
        raise Invalid(
            f"{key_of(current)} is being deleted, so no finalizer can be added: "
            + ", ".join(sorted(added))
        )


# ---- computing the next state -------------------------------------------------------------------


def timestamp(now: datetime) -> str:
    """RFC 3339 in UTC, whole seconds, as Kubernetes writes times."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def generated_name(prefix: str, number: int) -> str:
    """`prefix`, shortened as in Kubernetes, and five letters that `number` decides."""
    letters = []
    for _ in range(_SUFFIX_LENGTH):
        number, index = divmod(number, len(_SUFFIX_ALPHABET))
        letters.append(_SUFFIX_ALPHABET[index])
    return prefix[:_MAX_PREFIX] + "".join(letters)


def tidied(obj: Json) -> Json:
    """`obj` without empty metadata fields, as Kubernetes leaves them out: a null
    creationTimestamp, which Go programs write, or an empty list of finalizers."""
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict):
        return obj
    kept = {
        field: value
        for field, value in metadata.items()
        if value is not None and (value or field not in _OMITTED_WHEN_EMPTY)
    }
    return {**obj, "metadata": kept}


def created(obj: Json, *, name: str, uid: str, now: datetime) -> Json:
    """The first state of a new object; only the resourceVersion is still missing."""
    metadata = {k: v for k, v in obj["metadata"].items() if k not in _SYSTEM_FIELDS}
    metadata.update(
        name=name,
        namespace=obj["metadata"]["namespace"],
        uid=uid,
        creationTimestamp=timestamp(now),
        generation=1,
    )
    return {**obj, "metadata": metadata}


def with_main(current: Json, desired: Json) -> Json:
    """`current` with everything of `desired` but status and the fields that the system owns."""
    wanted = tidied(desired)
    metadata = {k: v for k, v in wanted["metadata"].items() if k not in _SYSTEM_FIELDS}
    owned = current["metadata"]
    metadata.update((field, owned[field]) for field in _SYSTEM_FIELDS if field in owned)
    result = {**_without(wanted, "status"), "metadata": metadata}
    if "status" in current:
        result["status"] = current["status"]
    if _specified(result) != _specified(current):
        metadata["generation"] = owned["generation"] + 1
    return result


def with_status(current: Json, desired: Json) -> Json:
    """`current` with the status of `desired`, or with none when that has none."""
    if "status" not in desired:
        return _without(current, "status")
    return {**current, "status": desired["status"]}


def merge_patch(target: Any, patch: Any) -> Any:
    """JSON merge patch, RFC 7386 section 2."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def marked_for_deletion(current: Json, now: datetime) -> Json:
    deleted = {"deletionTimestamp": timestamp(now), "deletionGracePeriodSeconds": 0}
    return {**current, "metadata": {**current["metadata"], **deleted}}


def without_owners(current: Json, gone: Collection[str]) -> Json:
    """`current` without the references to uids that no longer exist."""
    kept = [ref for ref in current["metadata"]["ownerReferences"] if ref["uid"] not in gone]
    return {**current, "metadata": {**current["metadata"], "ownerReferences": kept}}


def at_version(obj: Json, version: int) -> Json:
    return {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(version)}}


def _specified(obj: Json) -> str:
    return encode({k: v for k, v in obj.items() if k not in ("metadata", "status")})


def _without(obj: Json, field: str) -> Json:
    return {k: v for k, v in obj.items() if k != field}
