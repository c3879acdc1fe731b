# SPDX-License-Identifier: Apache-2.0
"""Objects of an installation in a cluster's API: put there, looked at, taken away."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from tunesmith_controller.ports import NotFound
from tunesmith_controller.stores.rest import Resource
from tunesmith_controller.stores.rest_errors import json_of, raise_for
from tunesmith_controller.stores.rest_transport import ApiReply, ApiRequest, ApiTransport

Json = dict[str, Any]

MANAGER: Final = "tunesmith-install"
"""Of the fields that we have set, by server-side apply."""

_RBAC: Final = "rbac.authorization.k8s.io/v1"
_ADMISSION: Final = "admissionregistration.k8s.io/v1"
_CERTIFICATES: Final = "cert-manager.io/v1"
RESOURCES: Final[Mapping[str, Resource]] = {
    "Namespace": Resource("v1", "namespaces", namespaced=False),
    "CustomResourceDefinition": Resource(
        "apiextensions.k8s.io/v1", "customresourcedefinitions", namespaced=False
    ),
    "ServiceAccount": Resource("v1", "serviceaccounts"),
    "Role": Resource(_RBAC, "roles"),
    "RoleBinding": Resource(_RBAC, "rolebindings"),
    "ClusterRole": Resource(_RBAC, "clusterroles", namespaced=False),
    "ClusterRoleBinding": Resource(_RBAC, "clusterrolebindings", namespaced=False),
    "ConfigMap": Resource("v1", "configmaps"),
    "Secret": Resource("v1", "secrets"),
    "PersistentVolumeClaim": Resource("v1", "persistentvolumeclaims"),
    "StatefulSet": Resource("apps/v1", "statefulsets"),
    "Deployment": Resource("apps/v1", "deployments"),
    "Service": Resource("v1", "services"),
    "PodDisruptionBudget": Resource("policy/v1", "poddisruptionbudgets"),
    "MutatingWebhookConfiguration": Resource(
        _ADMISSION, "mutatingwebhookconfigurations", namespaced=False
    ),
    "ValidatingWebhookConfiguration": Resource(
        _ADMISSION, "validatingwebhookconfigurations", namespaced=False
    ),
    "Issuer": Resource(_CERTIFICATES, "issuers"),
    "Certificate": Resource(_CERTIFICATES, "certificates"),
    "Pod": Resource("v1", "pods"),
    "Lease": Resource("coordination.k8s.io/v1", "leases"),
    "EndpointSlice": Resource("discovery.k8s.io/v1", "endpointslices"),
    "StorageClass": Resource("storage.k8s.io/v1", "storageclasses", namespaced=False),
}


class ClusterObjects:
    """Errors are those of `stores.rest_errors`, all of them PortErrors."""

    def __init__(self, transport: ApiTransport) -> None:
        self._transport = transport

    async def version(self) -> str:
        """As the API server says it: v1.34.2."""
        reply = await self._answered(ApiRequest("GET", "/version"), "read the version")
        return str(json_of(reply).get("gitVersion", ""))

    async def get(self, kind: str, name: str, namespace: str = "") -> Json | None:
        """None where there is none, or the API has no such kind."""
        try:
            reply = await self._answered(
                ApiRequest("GET", _path(kind, name, namespace)), f"read {kind} {name}"
            )
        except NotFound:
            return None
        return json_of(reply)

    async def list(
        self, kind: str, namespace: str = "", *, labels: str = "", path: str = ""
    ) -> list[Json]:
        """Empty where the API has no such kind."""
        query = {"labelSelector": labels} if labels else {}
        where = path or RESOURCES[kind].path(namespace or None)
        try:
            reply = await self._answered(ApiRequest("GET", where, query), f"list {kind}s")
        except NotFound:
            return []
        return list(json_of(reply).get("items") or [])

    async def kinds(self, group_version: str) -> set[str]:
        """What the API serves of a group and version, given as its path."""
        try:
            reply = await self._answered(ApiRequest("GET", group_version), "discover kinds")
        except NotFound:
            return set()
        return {str(each.get("kind")) for each in json_of(reply).get("resources") or []}

    async def apply(self, obj: Json) -> Json:
        """Makes it, or makes it so; fields that others have set stay. Returns it as it is now."""
        metadata = obj["metadata"]
        path = _path(obj["kind"], metadata["name"], metadata.get("namespace", ""))
        query = {"fieldManager": MANAGER, "force": "true"}
        body, form = json.dumps(obj).encode(), "application/apply-patch+yaml"
        request = ApiRequest("PATCH", path, query, body, form)
        return json_of(await self._answered(request, f"apply {obj['kind']} {metadata['name']}"))

    async def create(self, kind: str, obj: Json) -> Json:
        """Raises AlreadyExists."""
        path = RESOURCES[kind].path(obj["metadata"].get("namespace"))
        request = ApiRequest("POST", path, {}, json.dumps(obj).encode())
        return json_of(await self._answered(request, f"create {kind} {obj['metadata']['name']}"))

    async def delete(self, kind: str, name: str, namespace: str = "") -> bool:
        """Whether there was one."""
        request = ApiRequest("DELETE", _path(kind, name, namespace))
        try:
            await self._answered(request, f"delete {kind} {name}")
        except NotFound:
            return False
        return True

    async def review(self, path: str, body: Json) -> Json:
        """A question that is asked by creating it, such as a SubjectAccessReview."""
        request = ApiRequest("POST", path, {}, json.dumps(body).encode())
        return json_of(await self._answered(request, "ask for an access review"))

    async def _answered(self, request: ApiRequest, doing: str) -> ApiReply:
        reply = await self._transport.request(request)
        raise_for(reply, doing)
        return reply


def _path(kind: str, name: str, namespace: str) -> str:
    resource = RESOURCES[kind]
    within = resource.path(namespace if resource.namespaced else None)
    return f"{within}/{quote(name, safe='')}"
