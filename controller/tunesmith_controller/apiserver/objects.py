# SPDX-License-Identifier: Apache-2.0
"""The verbs on objects of the store, with Kubernetes' meaning. Experiments pass admission here.

Called by the server with what a path and a query say; raises what `answers.fault_of` maps.
"""

from __future__ import annotations

from typing import Final

from tunesmith_controller.admission import local
from tunesmith_controller.admission.stored import admitted
from tunesmith_controller.apiserver.answers import Fault, bad_request
from tunesmith_controller.apiserver.resources import Target
from tunesmith_controller.apiserver.selectors import Selection
from tunesmith_controller.ports import Conflict, Json, Key, NotFound, ObjectList, ObjectStore
from tunesmith_controller.stores import semantics

_TRIES: Final = 20
_SERVERS: Final = (
    *("creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"),
    *("generation", "managedFields", "selfLink"),
)
"""Metadata that only the server writes; clients send it back as they got it."""


class Objects:
    """Over one store."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def create(self, target: Target, body: Json, *, dry_run: bool) -> Json:
        obj = _addressed(target, body)
        if target.resource.status:
            obj = {name: value for name, value in obj.items() if name != "status"}
        if target.resource.kind == "Experiment":
            obj = await admitted(self._store, obj)
        return obj if dry_run else await self._store.create(obj)

    async def get(self, target: Target) -> Json:
        return await self._store.get(key_of(target))

    async def list(self, target: Target, selected: Selection) -> ObjectList:
        found = await self._store.list(
            target.resource.kind, namespace=target.namespace, labels=selected.equal
        )
        items = [obj for obj in found.items if selected.fits(obj)]
        return ObjectList(items, found.resource_version)

    async def replace(self, target: Target, body: Json, *, dry_run: bool) -> Json:
        obj = _addressed(target, body)
        if not obj["metadata"].get("resourceVersion"):
            message = "metadata.resourceVersion: must be specified for an update"
            raise Fault(422, "Invalid", message)
        if target.subresource == "status":
            return obj if dry_run else await self._store.update_status(obj)
        current = await self._store.get(key_of(target))
        return await self._update(current, obj, dry_run=dry_run)

    async def patch(self, target: Target, patch: Json, *, dry_run: bool) -> Json:
        """A merge patch. Without a resourceVersion in it, it is repeated when others write too."""
        cleaned = _cleaned(patch, is_status=target.subresource == "status")
        if cleaned.get("metadata", {}).get("resourceVersion"):
            return await self._patch_once(target, cleaned, dry_run=dry_run)
        for _ in range(_TRIES):
            try:
                return await self._patch_once(target, cleaned, dry_run=dry_run)
            except Conflict:
                continue
        raise Conflict(f"{key_of(target)} is being written by others; try again")

    async def _patch_once(self, target: Target, patch: Json, *, dry_run: bool) -> Json:
        if target.subresource == "status" and not dry_run:
            return await self._store.patch(key_of(target), patch, status=True)
        current = await self._store.get(key_of(target))
        merged = semantics.merge_patch(current, patch)
        if merged["metadata"].get("uid") != current["metadata"].get("uid"):
            raise Conflict("metadata.uid of the patch is another object's")
        return await self._update(current, _addressed(target, merged), dry_run=dry_run)

    async def _update(self, current: Json, desired: Json, *, dry_run: bool) -> Json:
        if current["kind"] == "Experiment" and current.get("spec") != desired.get("spec"):
            admitted = local.admit_update(current, desired)
            desired = {**desired, "spec": admitted["spec"]}
        return desired if dry_run else await self._store.update(desired)

    async def delete(self, target: Target, options: Json) -> Json | None:
        """The object, when something holds it back for now; None when it is gone."""
        key, wanted = key_of(target), options.get("preconditions") or {}
        uid, version = wanted.get("uid"), wanted.get("resourceVersion")
        await self._store.delete(key, uid=uid, resource_version=version)
        try:
            return await self._store.get(key)
        except NotFound:
            return None

    async def delete_all(self, target: Target, selected: Selection) -> ObjectList:
        found = await self.list(target, selected)
        for obj in found.items:
            try:
                await self._store.delete(semantics.key_of(obj), uid=obj["metadata"]["uid"])
            except NotFound:
                continue
        return found


def key_of(target: Target) -> Key:
    """Of a path that names an object."""
    namespace = (target.namespace or "") if target.resource.namespaced else ""
    return Key(target.resource.kind, namespace, target.name or "")


def _addressed(target: Target, body: Json) -> Json:
    """The body under the address of the path. Raises Fault 400 when it says something else."""
    resource, metadata = target.resource, dict(body.get("metadata") or {})
    for field, wanted in (("apiVersion", resource.api_version), ("kind", resource.kind)):
        if body.get(field, wanted) != wanted:
            raise bad_request(f"{field} is {body[field]!r}; this path takes {wanted}")
    if resource.namespaced:
        namespace = target.namespace or metadata.get("namespace") or "default"
        if metadata.get("namespace", namespace) != namespace:
            raise bad_request(
                f"metadata.namespace is {metadata['namespace']!r}, the path says {namespace!r}"
            )
        metadata["namespace"] = namespace
    else:
        # The store knows no kind without a namespace: such an object lives in its own.
        metadata["namespace"] = metadata.get("name", "")
    if target.name is not None and metadata.setdefault("name", target.name) != target.name:
        raise bad_request(f"metadata.name is {metadata['name']!r}, the path says {target.name!r}")
    return {
        **body,
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": metadata,
    }


def _cleaned(patch: Json, *, is_status: bool) -> Json:
    """A patch without what a client only sends back: Katib's sends the whole object."""
    metadata = {k: v for k, v in (patch.get("metadata") or {}).items() if k not in _SERVERS}
    kept = {k: v for k, v in patch.items() if is_status or k != "status"}
    return {**kept, "metadata": metadata}
