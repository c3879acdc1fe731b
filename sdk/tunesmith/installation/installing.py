# SPDX-License-Identifier: Apache-2.0
"""Puts an installation on a cluster and waits until it works; takes it away again.

Called by `tunesmith install` and `uninstall`. Doing it again changes what has changed, and nothing
else: passwords, certificates, rows and the configuration that people have written stay.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import Callable, Sequence
from typing import Any, Final

from tunesmith.errors import NotPossible, StateUnusable
from tunesmith.installation.cluster_objects import ClusterObjects
from tunesmith.installation.manifests import manifests
from tunesmith.installation.options import (
    CONTROLLER,
    DATABASE_SECRET,
    OBSERVATION,
    PART_OF,
    SUGGESTION,
    Database,
    Installation,
)
from tunesmith_controller import katib_config
from tunesmith_controller.ports import AlreadyExists

Json = dict[str, Any]
Tell = Callable[[str], None]

_LOOK_S: Final = 1.0
_KATIBS: Final = ("katib-controller", "katib-db-manager")
_KEPT: Final = ("Namespace", "CustomResourceDefinition", "PersistentVolumeClaim", "Secret")
"""What an installation leaves behind: what people have made with it."""


async def refuse_beside_katib(objects: ClusterObjects) -> None:
    """Two controllers of the same objects would undo each other's work. Raises NotPossible."""
    found = [
        f"Deployment {each['metadata']['namespace']}/{each['metadata']['name']}"
        for each in await objects.list("Deployment")
        if each["metadata"]["name"] in _KATIBS and each["spec"].get("replicas", 1)
    ]
    for kind in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"):
        if await objects.get(kind, "katib.kubeflow.org"):
            found.append(f"{kind} katib.kubeflow.org")
    if found:
        raise NotPossible(
            f"Katib runs on this cluster: {', '.join(found)}. Both would control the same objects",
            hint="scale katib-controller to 0 and delete Katib's webhook configurations first",
        )


async def install(
    objects: ClusterObjects, installation: Installation, password: str = "", tell: Tell = print
) -> None:
    """Applies everything, in order. Raises NotPossible beside Katib, and PortErrors."""
    await refuse_beside_katib(objects)
    wanted = manifests(installation)
    for obj in wanted[:1]:
        await objects.apply(obj)
    if installation.database is not Database.SQLITE:
        await _keep_password(objects, installation, password)
    for obj in wanted[1:]:
        if await _is_peoples(objects, obj):
            continue
        await objects.apply(obj)
        tell(f"{obj['kind']} {obj['metadata']['name']}")


async def _is_peoples(objects: ClusterObjects, obj: Json) -> bool:
    """The configuration is made once; then it is theirs."""
    metadata = obj["metadata"]
    if (obj["kind"], metadata["name"]) != ("ConfigMap", katib_config.CONFIG_MAP):
        return False
    return await objects.get("ConfigMap", metadata["name"], metadata["namespace"]) is not None


async def _keep_password(objects: ClusterObjects, installation: Installation, given: str) -> None:
    """The one that is there, unless another one is given; else one by chance."""
    namespace = installation.namespace
    there = await objects.get("Secret", DATABASE_SECRET, namespace)
    if there is not None and not given:
        return
    if installation.database is Database.EXTERNAL and not given:
        raise NotPossible(
            f"the password of the database is not known: there is no Secret {DATABASE_SECRET} in"
            f" namespace {namespace}",
            hint="give --database-password-file",
        )
    password = given or secrets.token_urlsafe(24)
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": DATABASE_SECRET, "namespace": namespace, "labels": PART_OF},
        "type": "Opaque",
        "data": {"password": base64.b64encode(password.encode()).decode()},
    }
    if there is not None:
        await objects.apply(secret)
        return
    try:
        await objects.create("Secret", secret)
    except AlreadyExists:
        return


# ---- until it works -----------------------------------------------------------------------------


async def wait_until_ready(
    objects: ClusterObjects, installation: Installation, seconds: float, tell: Tell = print
) -> None:
    """Raises StateUnusable with what keeps it, when it takes longer."""
    parts, said = [CONTROLLER, SUGGESTION, OBSERVATION], ""
    try:
        async with asyncio.timeout(seconds):
            while parts:
                for name in tuple(parts):
                    if await _is_ready(objects, name, installation.namespace):
                        parts.remove(name)
                        tell(f"{name} is ready")
                now = "; ".join(await hindrances(objects, installation.namespace))
                if parts and now and now != said:
                    said = now
                    tell(f"waiting: {now}")
                await asyncio.sleep(_LOOK_S if parts else 0)
    except TimeoutError:
        why = "; ".join(await hindrances(objects, installation.namespace)) or "nobody says why"
        raise StateUnusable(
            f"not ready after {seconds:g} s: {', '.join(parts)}: {why}",
            hint=f"tunesmith doctor -n {installation.namespace}",
        ) from None


async def _is_ready(objects: ClusterObjects, name: str, namespace: str) -> bool:
    found = await objects.get("Deployment", name, namespace)
    if found is None:
        return False
    status, wanted = found.get("status") or {}, found["spec"].get("replicas", 1)
    is_seen = status.get("observedGeneration", 0) >= found["metadata"].get("generation", 0)
    updated, ready = status.get("updatedReplicas", 0), status.get("readyReplicas", 0)
    return bool(is_seen and min(updated, ready) >= wanted)


async def hindrances(objects: ClusterObjects, namespace: str) -> Sequence[str]:
    """Why pods of the installation do not run, as far as they say."""
    selector = ",".join(f"{name}={value}" for name, value in PART_OF.items())
    found = []
    for pod in await objects.list("Pod", namespace, labels=selector):
        why = _hindrance(pod)
        if why:
            found.append(f"pod {pod['metadata']['name']}: {why}")
    return found


def _hindrance(pod: Json) -> str:
    status = pod.get("status") or {}
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return str(condition.get("message") or condition.get("reason") or "not scheduled")
    for container in status.get("containerStatuses") or []:
        state = container.get("state") or {}
        waiting, ended = state.get("waiting") or {}, (container.get("lastState") or {})
        if waiting.get("reason") and waiting["reason"] != "ContainerCreating":
            last = (ended.get("terminated") or {}).get("exitCode")
            told = f", exit status {last}" if last is not None else ""
            return f"{waiting['reason']}{told}: {waiting.get('message', '')}".rstrip(": ")
    return ""


# ---- and away -----------------------------------------------------------------------------------


async def uninstall(
    objects: ClusterObjects, installation: Installation, *, everything: bool, tell: Tell = print
) -> None:
    """Takes away what `install` has put there, the last first. Definitions, volumes, passwords and
    the namespace stay unless `everything` is to go, and with them all experiments."""
    for obj in reversed(manifests(installation)):
        kind, metadata = obj["kind"], obj["metadata"]
        if kind == "Namespace" or (kind in _KEPT and not everything):
            continue
        if await objects.delete(kind, metadata["name"], metadata.get("namespace", "")):
            tell(f"deleted {kind} {metadata['name']}")
    if everything:
        await objects.delete("Secret", DATABASE_SECRET, installation.namespace)
    for name in ("tunesmith-ca", *(f"{p}-tls" for p in (CONTROLLER, SUGGESTION, OBSERVATION))):
        await objects.delete("Secret", name, installation.namespace)
    await objects.delete("Lease", CONTROLLER, installation.namespace)
