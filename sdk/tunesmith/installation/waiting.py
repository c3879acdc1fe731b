# SPDX-License-Identifier: Apache-2.0
"""Until an installation works, and why it does not yet; `doctor` asks the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from tunesmith.errors import StateUnusable
from tunesmith.installation.cluster_objects import ClusterObjects
from tunesmith.installation.databases import SERVERS
from tunesmith.installation.options import PARTS, Installation, selector

Json = dict[str, Any]
Tell = Callable[[str], None]

_LOOK_S: Final = 1.0
_STARTING: Final = frozenset({"ContainerCreating", "PodInitializing", ""})


async def wait_until_ready(
    objects: ClusterObjects, installation: Installation, seconds: float, tell: Tell = print
) -> None:
    """Tells of every part that is ready, and of what hinders the others. Raises StateUnusable with
    that when it takes longer, and PortErrors."""
    waiting, said = dict(workloads(installation)), ""
    try:
        async with asyncio.timeout(seconds):
            while waiting:
                for name, kind in tuple(waiting.items()):
                    if await readiness(objects, kind, name, installation.namespace) == "":
                        del waiting[name]
                        tell(f"{name} is ready")
                now = "; ".join(await hindrances(objects, installation)) if waiting else ""
                if now != said:
                    said = now
                    tell(f"waiting: {now or ', '.join(waiting)}")
                await asyncio.sleep(_LOOK_S if waiting else 0)
    except TimeoutError:
        why = "; ".join(await hindrances(objects, installation)) or "its pods do not say why"
        raise StateUnusable(
            f"{' and '.join(waiting)} not ready after {seconds:g} s: {why}",
            hint=f"tunesmith doctor -n {installation.namespace}",
        ) from None


def workloads(installation: Installation) -> dict[str, str]:
    """What runs, with its kind."""
    server = SERVERS.get(installation.database)
    database = {server.name: "StatefulSet"} if server else {}
    return {**database, **dict.fromkeys(PARTS, "Deployment")}


async def readiness(objects: ClusterObjects, kind: str, name: str, namespace: str) -> str:
    """Empty when all of it is ready, else "1 of 2 ready"."""
    found = await objects.get(kind, name, namespace)
    if found is None:
        return "it is not there"
    status, wanted = found.get("status") or {}, found["spec"].get("replicas", 1)
    is_seen = status.get("observedGeneration", 0) >= found["metadata"].get("generation", 0)
    ready = min(status.get("updatedReplicas", 0), status.get("readyReplicas", 0)) if is_seen else 0
    return "" if is_seen and ready >= wanted else f"{ready} of {wanted} ready"


async def hindrances(objects: ClusterObjects, installation: Installation) -> list[str]:
    """Why pods do not run, as far as pods, volumes and events say."""
    found = [
        *await _of_claims(objects, installation),
        *await _of_pods(objects, installation),
        *await _of_owners(objects, installation),
    ]
    return list(dict.fromkeys(found))


async def _of_claims(objects: ClusterObjects, installation: Installation) -> list[str]:
    """A volume that nobody makes is the usual reason on small clusters."""
    namespace = installation.namespace
    claims = await objects.list("PersistentVolumeClaim", namespace, labels=selector(installation))
    found = []
    for claim in claims:
        if (claim.get("status") or {}).get("phase") == "Bound":
            continue
        name, asked = claim["metadata"]["name"], claim["spec"].get("storageClassName")
        if not asked and not await _has_default_class(objects):
            found.append(
                f"volume {name} is not bound, and the cluster has no default StorageClass: mark"
                " one as default, or make a PersistentVolume for it"
            )
        elif why := await warning(objects, namespace, claim["metadata"]["uid"]):
            found.append(f"volume {name} is not bound: {why}")
    return found


async def _has_default_class(objects: ClusterObjects) -> bool:
    mark = "storageclass.kubernetes.io/is-default-class"
    classes = await objects.list("StorageClass")
    return any((c["metadata"].get("annotations") or {}).get(mark) == "true" for c in classes)


async def _of_pods(objects: ClusterObjects, installation: Installation) -> list[str]:
    """Pods say what they are part of; a namespace has one installation."""
    found = []
    for pod in await objects.list("Pod", installation.namespace, labels=selector()):
        why, name = hindrance(pod), pod["metadata"]["name"]
        if why is None:  # it is starting; only events say what that waits for
            why = await warning(objects, installation.namespace, pod["metadata"]["uid"])
        if why:
            found.append(f"pod {name}: {why}")
    return found


async def _of_owners(objects: ClusterObjects, installation: Installation) -> list[str]:
    """Pods that are refused: a quota, an admission rule, Pod Security."""
    found = []
    for name, kind in workloads(installation).items():
        obj = await objects.get(kind, name, installation.namespace)
        if obj is None:
            continue
        if kind == "StatefulSet" and not (obj.get("status") or {}).get("replicas"):
            why = await warning(objects, installation.namespace, obj["metadata"]["uid"])
            found += [f"{name}: {why}"] if why else []
        for condition in (obj.get("status") or {}).get("conditions") or []:
            if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
                found.append(f"{name}: {condition.get('message') or condition.get('reason')}")
    return found


def hindrance(pod: Json) -> str | None:
    """Why a pod does not run; empty when it does, None when it is just starting."""
    status = pod.get("status") or {}
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return str(condition.get("message") or condition.get("reason") or "not scheduled")
    containers = status.get("containerStatuses") or []
    for container in containers:
        waiting = (container.get("state") or {}).get("waiting") or {}
        ended = ((container.get("lastState") or {}).get("terminated")) or {}
        if waiting.get("reason", "") not in _STARTING:
            told = f", exit status {ended['exitCode']}" if "exitCode" in ended else ""
            return f"{waiting['reason']}{told}: {waiting.get('message', '')}".rstrip(": ")
    runs = containers and all("running" in (each.get("state") or {}) for each in containers)
    return "" if runs or status.get("phase") == "Succeeded" else None


async def warning(objects: ClusterObjects, namespace: str, uid: str) -> str:
    """The newest warning about an object; empty without one."""
    events = await objects.list("Event", namespace, fields=f"involvedObject.uid={uid},type=Warning")
    newest = max(events, key=_when, default=None)
    return f"{newest.get('reason')}: {newest.get('message')}" if newest else ""


def _when(event: Json) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or "")
