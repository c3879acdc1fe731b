# SPDX-License-Identifier: Apache-2.0
"""The life of objects in a table: create, update, delete, and the collection of what lost its
owners. Stores bring a `Rows` and run each call of `Engine` as one transaction.

Every method raises its PortError before the first write, so a refused call needs no undoing.
Owners follow Kubernetes' garbage collector in background mode: an object whose owners are all gone
is deleted, one that lost some of them loses the references, one under deletion is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from tunesmith_controller.ports import (
    AlreadyExists,
    Change,
    Clock,
    Invalid,
    Json,
    Key,
    NotFound,
    Rng,
)
from tunesmith_controller.stores import semantics, validity

COLLECT_AT_ONCE = 500
"""Objects collected in one transaction: stores call `Engine.collect` with it after each write, so
that small families go at once, and again until nothing is left."""

_NAME_TRIES = 8


@dataclass(frozen=True, slots=True)
class Row:
    """An object as it is kept, and what it is found by. Objects under deletion list no owners:
    nothing that happens to an owner concerns them any more."""

    key: Key
    uid: str
    version: int
    text: str
    labels: Mapping[str, str]
    owners: tuple[str, ...]


def row_of(obj: Json, text: str | None = None) -> Row:
    """The row of an object that has its resourceVersion; `text` when it is encoded already."""
    metadata = obj["metadata"]
    return Row(
        key=semantics.key_of(obj),
        uid=metadata["uid"],
        version=int(metadata["resourceVersion"]),
        text=semantics.encode(obj) if text is None else text,
        labels=semantics.labels_of(obj),
        owners=() if semantics.is_terminating(obj) else semantics.owner_uids(obj),
    )


class Rows(Protocol):
    """A table of objects, a log of their changes and a queue of owners that are gone."""

    def find(self, key: Key) -> str | None: ...

    def exists(self, namespace: str, uid: str) -> bool: ...

    def dependents(self, namespace: str, uid: str, limit: int) -> list[Key]:
        """Objects that list this owner, oldest first."""
        ...

    def latest(self) -> int:
        """The resourceVersion of the last change."""
        ...

    def write(self, change: Change, before: Row | None, after: Row) -> None:
        """Keeps or, for DELETED, drops the object and logs the change; `after.version` is
        latest() + 1."""
        ...

    def push_gone(self, namespace: str, uid: str) -> None: ...

    def first_gone(self) -> tuple[str, str] | None: ...

    def drop_gone(self, namespace: str, uid: str) -> None: ...


class Engine:
    """`ObjectStore`'s writes, synchronous. Objects and patches must have passed
    `semantics.copied` and `validity.check_address`, and are then owned by the engine."""

    def __init__(self, rows: Rows, clock: Clock, rng: Rng) -> None:
        self._rows = rows
        self._clock = clock
        self._rng = rng

    def create(self, obj: Json) -> Json:
        draft = semantics.tidied(obj)
        if draft["metadata"].get("resourceVersion"):
            raise Invalid("metadata.resourceVersion must not be set on an object to be created")
        name = draft["metadata"].get("name") or self._free_name(draft)
        key = Key(draft["kind"], draft["metadata"]["namespace"], name)
        validity.check_object({**draft, "metadata": {**draft["metadata"], "name": name}})
        if self._rows.find(key) is not None:
            raise AlreadyExists(f"{key} already exists")
        created = semantics.created(draft, name=name, uid=self._rng.uid(), now=self._clock.now())
        stored = self._put(Change.ADDED, None, created)
        self._settle(key)
        return stored

    def update(self, obj: Json) -> Json:
        current, row = self._load(semantics.key_of(obj))
        _check_same(current, obj)
        return self._replace(current, row, semantics.with_main(current, obj))

    def update_status(self, obj: Json) -> Json:
        current, row = self._load(semantics.key_of(obj))
        _check_same(current, obj)
        return self._replace(current, row, semantics.with_status(current, obj))

    def patch(self, key: Key, patch: Json, *, status: bool) -> Json:
        current, row = self._load(key)
        _check_address_kept(key, patch)
        _check_same(current, patch)
        desired = semantics.merge_patch(current, patch)
        if status:
            return self._replace(current, row, semantics.with_status(current, desired))
        if not isinstance(desired.get("metadata"), dict):
            raise Invalid(f"{key}: the patch would remove metadata")
        return self._replace(current, row, semantics.with_main(current, desired))

    def delete(self, key: Key, *, uid: str | None, resource_version: str | None) -> None:
        current, row = self._load(key)
        semantics.check_preconditions(current, uid=uid, resource_version=resource_version)
        self._begin_delete(current, row)

    def collect(self, budget: int) -> int:
        """Settles up to `budget` objects whose owner is gone; returns how many there were."""
        settled = 0
        while settled < budget and (gone := self._rows.first_gone()) is not None:
            dependents = self._rows.dependents(*gone, limit=budget - settled)
            if not dependents:
                self._rows.drop_gone(*gone)
            for key in dependents:
                self._settle(key)
            settled += len(dependents)
        return settled

    def _free_name(self, draft: Json) -> str:
        metadata = draft["metadata"]
        for _ in range(_NAME_TRIES):
            name = semantics.generated_name(metadata["generateName"], self._rng.seed())
            if self._rows.find(Key(draft["kind"], metadata["namespace"], name)) is None:
                break
        return name

    def _load(self, key: Key) -> tuple[Json, Row]:
        text = self._rows.find(key)
        if text is None:
            raise NotFound(f"{key} does not exist")
        obj = semantics.decode(text)
        return obj, row_of(obj, text)

    def _replace(self, current: Json, row: Row, desired: Json) -> Json:
        """Stores an accepted update, unless nothing changed; the last finalizer of an object
        under deletion takes the object with it."""
        text = semantics.encode(desired)
        if text == row.text:
            return current
        validity.check_object(desired)
        semantics.check_finalizers(current, desired)
        semantics.check_fits(row.key, text, row.text)
        if semantics.is_terminating(desired) and not semantics.finalizers_of(desired):
            return self._remove(row, desired)
        stored = self._put(Change.MODIFIED, row, desired)
        if semantics.owner_uids(desired) != semantics.owner_uids(current):
            self._settle(row.key)
        return stored

    def _put(self, change: Change, before: Row | None, obj: Json) -> Json:
        stored = semantics.at_version(obj, self._rows.latest() + 1)
        after = row_of(stored)
        if before is None:
            semantics.check_fits(after.key, after.text)
        self._rows.write(change, before, after)
        return stored

    def _begin_delete(self, current: Json, row: Row) -> None:
        if not semantics.finalizers_of(current):
            self._remove(row, current)
        elif not semantics.is_terminating(current):
            marked = semantics.marked_for_deletion(current, self._clock.now())
            self._put(Change.MODIFIED, row, marked)

    def _remove(self, row: Row, last: Json) -> Json:
        removed = self._put(Change.DELETED, row, last)
        if self._rows.dependents(row.key.namespace, row.uid, limit=1):
            self._rows.push_gone(row.key.namespace, row.uid)
        return removed

    def _settle(self, key: Key) -> None:
        """Deletes the object if all its owners are gone, else drops the references to those that
        are. Kubernetes does both also for owners that never existed."""
        current, row = self._load(key)
        gone = {uid for uid in row.owners if not self._rows.exists(key.namespace, uid)}
        if not gone:
            return
        if gone.issuperset(row.owners):
            self._begin_delete(current, row)
        else:
            self._put(Change.MODIFIED, row, semantics.without_owners(current, gone))


def _check_same(current: Json, given: Json) -> None:
    metadata = given.get("metadata") or {}
    semantics.check_preconditions(
        current, uid=metadata.get("uid"), resource_version=metadata.get("resourceVersion")
    )


def _check_address_kept(key: Key, patch: Json) -> None:
    """Raises Invalid when a patch would move the object to another kind, namespace or name."""
    named = patch.get("metadata") or {}
    if not isinstance(named, dict):
        raise Invalid(f"{key}: metadata must be an object")
    wanted = (
        patch.get("kind") or key.kind,
        named.get("namespace") or key.namespace,
        named.get("name") or key.name,
    )
    if wanted != (key.kind, key.namespace, key.name):
        raise Invalid(f"{key}: a patch cannot change kind, namespace or name")
    for field in ("uid", "resourceVersion"):
        if not isinstance(named.get(field, ""), str | None):
            raise Invalid(f"{key}: metadata.{field} must be a text, as it was read")
