# SPDX-License-Identifier: Apache-2.0
"""Objects behind a Kubernetes API: the local one of `tunesmith serve`, or a cluster's.

Follows what Kubernetes does to custom resources with a status subresource, also where the
`ObjectStore` port is kinder: a create drops the status, and a PUT needs a resourceVersion.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final
from urllib.parse import quote

from tunesmith_controller.ports import (
    Conflict,
    Expired,
    Invalid,
    Json,
    Key,
    NotFound,
    ObjectList,
    Unavailable,
    WatchEvent,
)
from tunesmith_controller.stores import semantics
from tunesmith_controller.stores.rest_errors import json_of, raise_for
from tunesmith_controller.stores.rest_transport import ApiRequest, ApiTransport
from tunesmith_controller.stores.rest_watch import (
    RestWatch,
    Watched,
    WatchSettings,
    without_managers,
)

_MERGE_PATCH = "application/merge-patch+json"
_PAGE = 500
_TRIES = 20
"""How often a write without a precondition is read and written again, when others write too."""


@dataclass(frozen=True, slots=True)
class Resource:
    """Where the API has a kind. `status`: whether it has a status subresource."""

    api_version: str
    plural: str
    namespaced: bool = True
    status: bool = True

    def path(self, namespace: str | None) -> str:
        """The collection, of all namespaces when None."""
        group = "apis" if "/" in self.api_version else "api"
        within = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
        return f"/{group}/{self.api_version}{within}/{self.plural}"


_KATIB = "kubeflow.org/v1beta1"
RESOURCES: Final[Mapping[str, Resource]] = MappingProxyType(
    {
        "Experiment": Resource(_KATIB, "experiments"),
        "Suggestion": Resource(_KATIB, "suggestions"),
        "Trial": Resource(_KATIB, "trials"),
        "ConfigMap": Resource("v1", "configmaps", status=False),
        "Event": Resource("v1", "events", status=False),
        "Namespace": Resource("v1", "namespaces", namespaced=False),
        "Pod": Resource("v1", "pods"),
        "Lease": Resource("coordination.k8s.io/v1", "leases", status=False),
    }
)


class RestStore:
    """`ObjectStore` over a transport; holds nothing itself, so any number may share one.

    Errors beyond the port's contract: those of `rest_errors`, which are all PortErrors.
    """

    def __init__(
        self,
        transport: ApiTransport,
        *,
        resources: Mapping[str, Resource] = RESOURCES,
        watching: WatchSettings | None = None,
        only: str | None = None,
    ) -> None:
        """`only`: the one namespace that lists and watches of all namespaces are about, for who has
        rights there alone."""
        self._transport = transport
        self._only = only
        self._resources = resources
        self._watching = watching or WatchSettings()

    async def create(self, obj: Json) -> Json:
        """As the port says. A status takes a second request; a failure of that one leaves the
        object without it."""
        resource = self._resource_of(obj)
        body = _encoded(obj)
        request = ApiRequest("POST", self._collection(resource, obj), body=body)
        created = self._whole(
            await self._call(request, f"create {_named(obj)}"), obj["kind"], resource
        )
        status = obj.get("status")
        if status is None or not resource.status or _same(created.get("status"), status):
            return created
        return await self.update_status(_without_version({**created, "status": status}))

    async def get(self, key: Key) -> Json:
        resource = self._resource(key.kind)
        request = ApiRequest("GET", self._path(resource, key))
        return self._whole(await self._call(request, f"get {key}"), key.kind, resource)

    async def list(
        self, kind: str, *, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> ObjectList:
        """Read in pages of one version; when the server forgets that version meanwhile, once more
        in one piece, as the Kubernetes Go client does."""
        where = namespace or self._only
        try:
            return await self._list(kind, where, labels, {"limit": str(_PAGE)})
        except Expired:
            return await self._list(kind, where, labels, {})

    async def update(self, obj: Json) -> Json:
        return await self._replace(obj, "")

    async def update_status(self, obj: Json) -> Json:
        return await self._replace(obj, "/status")

    async def patch(self, key: Key, patch: Json, *, status: bool = False) -> Json:
        resource = self._resource(key.kind)
        path = self._path(resource, key) + ("/status" if status else "")
        request = ApiRequest("PATCH", path, body=_encoded(patch), content_type=_MERGE_PATCH)
        return self._whole(await self._call(request, f"patch {key}"), key.kind, resource)

    async def delete(
        self, key: Key, *, uid: str | None = None, resource_version: str | None = None
    ) -> None:
        wanted = {"uid": uid, "resourceVersion": resource_version}
        options: Json = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            # The default of some kinds (Job in batch/v1) is to orphan what they own.
            "propagationPolicy": "Background",
        }
        if preconditions := {name: value for name, value in wanted.items() if value}:
            options["preconditions"] = preconditions
        path = self._path(self._resource(key.kind), key)
        await self._call(ApiRequest("DELETE", path, body=_encoded(options)), f"delete {key}")

    def watch(
        self, kind: str, *, namespace: str | None = None, resource_version: str = ""
    ) -> AsyncIterator[WatchEvent]:
        resource = self._resource(kind)
        watched = Watched(
            kind=kind,
            api_version=resource.api_version,
            path=resource.path(namespace or self._only),
            list=lambda: self.list(kind, namespace=namespace),
        )
        return RestWatch(self._transport, watched, resource_version, self._watching)

    # ---- reading ------------------------------------------------------------------------------

    async def _list(
        self,
        kind: str,
        namespace: str | None,
        labels: Mapping[str, str] | None,
        query: Mapping[str, str],
    ) -> ObjectList:
        resource = self._resource(kind)
        selector = ",".join(f"{name}={value}" for name, value in (labels or {}).items())
        query = {**query, **({"labelSelector": selector} if selector else {})}
        items: list[Json] = []
        continued = ""
        while True:
            page = {**query, **({"continue": continued} if continued else {})}
            request = ApiRequest("GET", resource.path(namespace), page)
            found = await self._call(request, f"list {kind}")
            items.extend(self._whole(item, kind, resource) for item in found.get("items") or [])
            metadata = _list_metadata(found, kind)
            continued = metadata.get("continue") or ""
            if not continued:
                return ObjectList(items, str(metadata["resourceVersion"]))

    # ---- writing ------------------------------------------------------------------------------

    async def _replace(self, obj: Json, subresource: str) -> Json:
        """A PUT. Custom resources refuse one without a resourceVersion, so that one is read; then
        a conflict only means that somebody was quicker."""
        resource, key = self._resource_of(obj), _key_of(obj)
        path = self._path(resource, key) + subresource
        if obj["metadata"].get("resourceVersion"):
            return await self._put(path, obj, key, resource)
        for _ in range(_TRIES):
            current = await self.get(key)
            _check_uid(key, current, obj)
            version = current["metadata"]["resourceVersion"]
            draft = {**obj, "metadata": {**obj["metadata"], "resourceVersion": version}}
            try:
                return await self._put(path, draft, key, resource)
            except Conflict as error:
                conflict = error
        raise conflict

    async def _put(self, path: str, obj: Json, key: Key, resource: Resource) -> Json:
        request = ApiRequest("PUT", path, body=_encoded(obj))
        try:
            return self._whole(await self._call(request, f"update {key}"), key.kind, resource)
        except Conflict:
            # Kubernetes checks a uid before existence: its conflict may be with nothing at all.
            await self.get(key)
            raise

    # ---- addresses ----------------------------------------------------------------------------

    def _resource(self, kind: str) -> Resource:
        try:
            return self._resources[kind]
        except KeyError:
            known = ", ".join(sorted(self._resources))
            raise Invalid(f"kind {kind!r} is none of those kept here: {known}") from None

    def _resource_of(self, obj: Json) -> Resource:
        """Raises Invalid unless the object says what it is."""
        kind, metadata = obj.get("kind"), obj.get("metadata")
        if not isinstance(kind, str) or not isinstance(metadata, dict):
            raise Invalid("an object must have apiVersion, kind and metadata")
        resource = self._resource(kind)
        if obj.get("apiVersion") != resource.api_version:
            raise Invalid(f"apiVersion of {kind} must be {resource.api_version}")
        return resource

    def _collection(self, resource: Resource, obj: Json) -> str:
        namespace = obj["metadata"].get("namespace")
        if resource.namespaced and not _is_segment(namespace):
            raise Invalid(f"{_named(obj)}: {namespace!r} is no namespace")
        return resource.path(namespace if resource.namespaced else None)

    def _path(self, resource: Resource, key: Key) -> str:
        """Raises NotFound for a name that would lead to another path than that of an object."""
        if not _is_segment(key.name) or (resource.namespaced and not _is_segment(key.namespace)):
            raise NotFound(f"{key} does not exist: this can be no name")
        collection = resource.path(key.namespace if resource.namespaced else None)
        return f"{collection}/{quote(key.name, safe='')}"

    # ---- requests -----------------------------------------------------------------------------

    async def _call(self, request: ApiRequest, doing: str) -> Json:
        reply = await self._transport.request(request)
        raise_for(reply, doing)
        return json_of(reply)

    def _whole(self, obj: Json, kind: str, resource: Resource) -> Json:
        """With the fields that Kubernetes leaves out of the items of a list."""
        return without_managers({"apiVersion": resource.api_version, "kind": kind, **obj})


def _list_metadata(found: Json, kind: str) -> Json:
    metadata = found.get("metadata")
    if not isinstance(metadata, dict) or not metadata.get("resourceVersion"):
        raise Unavailable(f"list {kind}: the answer has no resourceVersion, so it is no list")
    return metadata


def _encoded(obj: Json) -> bytes:
    """Raises Invalid for what JSON does not have."""
    return semantics.written(obj).encode()


def _same(left: object, right: object) -> bool:
    return semantics.encode({"": left}) == semantics.encode({"": right})


def _is_segment(text: object) -> bool:
    """Whether Kubernetes lets it be a part of a path."""
    return isinstance(text, str) and text not in ("", ".", "..") and not set("/%") & set(text)


def _key_of(obj: Json) -> Key:
    metadata = obj["metadata"]
    return Key(obj["kind"], str(metadata.get("namespace") or ""), str(metadata.get("name") or ""))


def _named(obj: Json) -> str:
    metadata = obj["metadata"]
    name = metadata.get("name") or metadata.get("generateName") or ""
    return f"{obj['kind']}/{metadata.get('namespace') or ''}/{name}"


def _without_version(obj: Json) -> Json:
    kept = {name: value for name, value in obj["metadata"].items() if name != "resourceVersion"}
    return {**obj, "metadata": kept}


def _check_uid(key: Key, current: Json, wanted: Json) -> None:
    uid, found = wanted["metadata"].get("uid"), current["metadata"]["uid"]
    if uid and uid != found:
        raise Conflict(f"{key} now has uid {found}, not {uid}: read it again")
