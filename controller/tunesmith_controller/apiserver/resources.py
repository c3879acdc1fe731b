# SPDX-License-Identifier: Apache-2.0
"""The resources that are served, and discovery made from them. Data, and the paths they stand for.

/api/v1/..., /apis/kubeflow.org/v1beta1/...
    [namespaces/NAMESPACE/]PLURAL[/NAME[/SUBRESOURCE]]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tunesmith_controller.ports import Json

KATIB: Final = "kubeflow.org/v1beta1"
_READ: Final = ("get", "list", "watch")
_WRITE: Final = ("create", "update", "patch", "delete", "deletecollection")


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind. `stored`: an object of the store; others are made from what is there."""

    kind: str
    plural: str
    api_version: str
    short_names: tuple[str, ...] = ()
    verbs: tuple[str, ...] = (*_READ, *_WRITE)
    namespaced: bool = True
    status: bool = False
    stored: bool = True

    @property
    def singular(self) -> str:
        return self.kind.lower()


RESOURCES: Final[Sequence[Resource]] = (
    Resource("Experiment", "experiments", KATIB, status=True),
    Resource("Suggestion", "suggestions", KATIB, status=True),
    Resource("Trial", "trials", KATIB, status=True),
    Resource("ConfigMap", "configmaps", "v1", ("cm",)),
    Resource("Event", "events", "v1", ("ev",), _READ),
    Resource("Namespace", "namespaces", "v1", ("ns",), (*_READ, "create"), namespaced=False),
    Resource("Pod", "pods", "v1", ("po",), _READ, stored=False),
)

BY_PLURAL: Final[Mapping[tuple[str, str], Resource]] = {
    (resource.api_version, resource.plural): resource for resource in RESOURCES
}


@dataclass(frozen=True, slots=True)
class Target:
    """What a path names. `namespace` None: all of them; `name` None: the collection."""

    resource: Resource
    namespace: str | None = None
    name: str | None = None
    subresource: str = ""


def target_of(path: str) -> Target | None:
    """What a path of a resource names; None for any other."""
    match path.strip("/").split("/"):
        case ["api", "v1", *rest]:
            return _target("v1", rest)
        case ["apis", group, version, *rest]:
            return _target(f"{group}/{version}", rest)
    return None


def _target(api_version: str, parts: list[str]) -> Target | None:
    namespace = None
    if len(parts) >= 3 and parts[0] == "namespaces":
        namespace, parts = parts[1], parts[2:]
    if not parts or len(parts) > 3 or not all(parts):
        return None
    resource = BY_PLURAL.get((api_version, parts[0]))
    if resource is None or (namespace is not None and not resource.namespaced):
        return None
    name = parts[1] if len(parts) > 1 else None
    return Target(resource, namespace, name, parts[2] if len(parts) > 2 else "")


# ---- discovery ----------------------------------------------------------------------------------


def discovery(path: str, server: str) -> Json | None:
    """The documents by which clients find out what there is; None for another path."""
    match path.strip("/").split("/"):
        case ["api"]:
            addresses = [{"clientCIDR": "0.0.0.0/0", "serverAddress": server}]
            return {
                "kind": "APIVersions",
                "versions": ["v1"],
                "serverAddressByClientCIDRs": addresses,
            }
        case ["apis"]:
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group()]}
        case ["apis", "kubeflow.org"]:
            return {"kind": "APIGroup", "apiVersion": "v1", **_group()}
        case ["api", "v1"]:
            return _resource_list("v1")
        case ["apis", "kubeflow.org", "v1beta1"]:
            return _resource_list(KATIB)
    return None


def _group() -> Json:
    version = {"groupVersion": KATIB, "version": "v1beta1"}
    return {"name": "kubeflow.org", "versions": [version], "preferredVersion": version}


def _resource_list(api_version: str) -> Json:
    found = [
        entry
        for resource in RESOURCES
        if resource.api_version == api_version
        for entry in _entries(resource)
    ]
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": api_version,
        "resources": found,
    }


def _entries(resource: Resource) -> list[Json]:
    entry: Json = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        entry["shortNames"] = list(resource.short_names)
    if resource.api_version == KATIB:
        entry["categories"] = ["all", "kubeflow", "katib"]
    below = {"namespaced": resource.namespaced, "kind": resource.kind, "singularName": ""}
    found = [entry]
    if resource.status:
        verbs = ["get", "patch", "update"]
        found.append({"name": f"{resource.plural}/status", "verbs": verbs, **below})
    if resource.kind == "Pod":
        found.append({"name": "pods/log", "verbs": ["get"], **below})
    return found
