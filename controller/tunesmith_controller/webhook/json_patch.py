# SPDX-License-Identifier: Apache-2.0
"""JSON patches (RFC 6902) from one object to another, as admission replies have them. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tunesmith_controller.ports import Json


def json_patch(before: Json, after: Json) -> list[Json]:
    """Operations that make `after` of `before`: mappings key by key, lists whole."""
    return list(_changes("", before, after))


def _changes(path: str, before: Json, after: Json) -> Iterator[Json]:
    for name in before:
        if name not in after:
            yield {"op": "remove", "path": _below(path, name)}
    for name, value in after.items():
        place = _below(path, name)
        if name not in before:
            yield {"op": "add", "path": place, "value": value}
        elif isinstance(value, dict) and isinstance(before[name], dict):
            yield from _changes(place, before[name], value)
        elif not _same(before[name], value):
            yield {"op": "replace", "path": place, "value": value}


def _below(path: str, name: str) -> str:
    return f"{path}/{name.replace('~', '~0').replace('/', '~1')}"


def _same(left: Any, right: Any) -> bool:
    """As JSON: 1 and true are two values, 1 and 1.0 are one."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(left[k], right[k]) for k in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    return bool(left == right)
