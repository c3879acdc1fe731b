# SPDX-License-Identifier: Apache-2.0
"""Namespaces: "default", those that were created, and those in which an experiment lives.

All carry the label that Katib's webhooks ask for, so that its clients find them ready.
"""

from __future__ import annotations

import hashlib
from typing import Final

from tunesmith_controller.ports import Json, NotFound, ObjectList, ObjectStore

READY: Final = "katib.kubeflow.org/metrics-collector-injection"


async def every(store: ObjectStore) -> ObjectList:
    """All of them by name. Raises Unavailable."""
    created = await store.list("Namespace")
    found = {obj["metadata"]["name"]: obj for obj in created.items}
    lived_in = {obj["metadata"]["namespace"] for obj in (await store.list("Experiment")).items}
    for name in {"default", *lived_in} - found.keys():
        found[name] = _made(name)
    items = [labelled(found[name]) for name in sorted(found)]
    return ObjectList(items, created.resource_version)


async def one(store: ObjectStore, name: str) -> Json:
    """Raises NotFound, Unavailable."""
    for namespace in (await every(store)).items:
        if namespace["metadata"]["name"] == name:
            return namespace
    raise NotFound(f'namespaces "{name}" not found')


def _made(name: str) -> Json:
    uid = hashlib.sha256(f"namespace {name}".encode()).hexdigest()
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "uid": f"{uid[:8]}-{uid[8:12]}-{uid[12:16]}-{uid[16:20]}"},
    }


def labelled(namespace: Json) -> Json:
    """A namespace as it is shown."""
    metadata = namespace["metadata"]
    metadata = {k: v for k, v in metadata.items() if k != "namespace"}
    labels = {"kubernetes.io/metadata.name": metadata["name"], READY: "enabled"}
    return {
        **namespace,
        "metadata": {**metadata, "labels": {**labels, **(metadata.get("labels") or {})}},
        "status": {"phase": "Active"},
    }
