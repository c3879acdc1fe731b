# SPDX-License-Identifier: Apache-2.0
"""Objects of an installation in a cluster's API: put there, looked at, taken away."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from tunesmith_controller.stores.rest import Resource
from tunesmith_controller.stores.rest_errors import json_of, raise_for
from tunesmith_controller.stores.rest_transport import ApiReply, ApiRequest, ApiTransport

Json = dict[str, Any]

MANAGER: Final = "tunesmith-install"
"""Of the fields that we have set, by server-side apply."""

_AUTHORIZATION: Final = "authorization.k8s.io/v1"
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
    "Job": Resource("batch/v1", "jobs"),
    "Service": Resource("v1", "services"),
    "PodDisruptionBudget": Resource("policy/v1", "poddisruptionbudgets"),
    "NetworkPolicy": Resource("networking.k8s.io/v1", "networkpolicies"),
    "MutatingWebhookConfiguration": Resource(
        _ADMISSION, "mutatingwebhookconfigurations", namespaced=False
    ),
    "ValidatingWebhookConfiguration": Resource(
        _ADMISSION, "validatingwebhookconfigurations", namespaced=False
    ),
    "Issuer": Resource(_CERTIFICATES, "issuers"),
    "Certificate": Resource(_CERTIFICATES, "certificates"),
    "Event": Resource("v1", "events"),
    "Pod": Resource("v1", "pods"),
    "Lease": Resource("coordination.k8s.io/v1", "leases"),
    "EndpointSlice": Resource("discovery.k8s.io/v1", "endpointslices"),
    "StorageClass": Resource("storage.k8s.io/v1", "storageclasses", namespaced=False),
}


_BOOKKEEPING: Final = frozenset({"resourceVersion", "managedFields", "generation"})


class Applied(StrEnum):
    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"


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
        path = _path(kind, name, namespace)
        reply = await self._found(ApiRequest("GET", path), f"read {kind} {name}")
        return None if reply is None else json_of(reply)

    async def list(
        self, kind: str, namespace: str = "", *, labels: str = "", fields: str = "", path: str = ""
    ) -> list[Json]:
        """Empty where the API has no such kind. `path` is another one than the kind's."""
        selectors = {"labelSelector": labels, "fieldSelector": fields}
        query = {name: value for name, value in selectors.items() if value}
        where = path or RESOURCES[kind].path(namespace or None)
        reply = await self._found(ApiRequest("GET", where, query), f"list {kind}s")
        return [] if reply is None else list(json_of(reply).get("items") or [])

    async def kinds(self, group_version: str) -> Mapping[str, str]:
        """What the API serves of a group and version, given as its path: plural by kind."""
        reply = await self._found(ApiRequest("GET", group_version), "discover kinds")
        found = [] if reply is None else json_of(reply).get("resources") or []
        return {each["kind"]: each["name"] for each in found if "/" not in each["name"]}

    async def apply(self, obj: Json) -> Applied:
        """Makes it, or makes it so; fields that others have set stay."""
        kind, metadata = obj["kind"], obj["metadata"]
        name, namespace = metadata["name"], metadata.get("namespace", "")
        before = await self.get(kind, name, namespace)
        query = {"fieldManager": MANAGER, "force": "true"}
        body, form = json.dumps(obj).encode(), "application/apply-patch+yaml"
        request = ApiRequest("PATCH", _path(kind, name, namespace), query, body, form)
        after = json_of(await self._answered(request, f"apply {kind} {name}"))
        if before is None:
            return Applied.CREATED
        is_same = _content(before) == _content(after)
        return Applied.UNCHANGED if is_same else Applied.CHANGED

    async def create(self, kind: str, obj: Json) -> Json:
        """Raises AlreadyExists."""
        path = RESOURCES[kind].path(obj["metadata"].get("namespace"))
        request = ApiRequest("POST", path, {}, json.dumps(obj).encode())
        return json_of(await self._answered(request, f"create {kind} {obj['metadata']['name']}"))

    async def patch(self, path: str, patch: Json) -> None:
        """A merge patch of what is at a path of the API; nothing where nothing is."""
        body, form = json.dumps(patch).encode(), "application/merge-patch+json"
        await self._found(ApiRequest("PATCH", path, {}, body, form), f"change {path}")

    async def delete(self, kind: str, name: str, namespace: str = "") -> bool:
        """Whether there was one."""
        return await self.delete_at(_path(kind, name, namespace))

    async def delete_at(self, path: str) -> bool:
        """Whether there was something at that path of the API. What it owns goes too."""
        body = json.dumps({"propagationPolicy": "Background"}).encode()
        request = ApiRequest("DELETE", path, {}, body)
        return await self._found(request, f"delete {path}") is not None

    async def may(self, namespace: str, account: str, attributes: Json) -> bool:
        """Whether a service account may do what resourceAttributes say."""
        spec = {
            "user": f"system:serviceaccount:{namespace}:{account}",
            "groups": ["system:serviceaccounts", f"system:serviceaccounts:{namespace}"],
            "resourceAttributes": attributes,
        }
        review = {"apiVersion": _AUTHORIZATION, "kind": "SubjectAccessReview", "spec": spec}
        path = f"/apis/{_AUTHORIZATION}/subjectaccessreviews"
        request = ApiRequest("POST", path, {}, json.dumps(review).encode())
        answer = json_of(await self._answered(request, f"ask what {account} may do"))
        return bool((answer.get("status") or {}).get("allowed"))

    async def _found(self, request: ApiRequest, doing: str) -> ApiReply | None:
        """None for a 404, also that of an API which does not know the path at all."""
        reply = await self._transport.request(request)
        if reply.status == HTTPStatus.NOT_FOUND:
            return None
        raise_for(reply, doing)
        return reply

    async def _answered(self, request: ApiRequest, doing: str) -> ApiReply:
        reply = await self._transport.request(request)
        raise_for(reply, doing)
        return reply


def _content(obj: Json) -> Json:
    """What people have written, without what the cluster itself writes all the time."""
    metadata = {k: v for k, v in obj["metadata"].items() if k not in _BOOKKEEPING}
    return {**{k: v for k, v in obj.items() if k != "status"}, "metadata": metadata}


def _path(kind: str, name: str, namespace: str) -> str:
    resource = RESOURCES[kind]
    within = resource.path(namespace if resource.namespaced else None)
    return f"{within}/{quote(name, safe='')}"
