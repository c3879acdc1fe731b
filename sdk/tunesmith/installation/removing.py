# SPDX-License-Identifier: Apache-2.0
"""Takes away what an installation has put on a cluster: all of it, or what a changed choice leaves
over. Its objects are known by their labels, whatever options they were installed with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from tunesmith.installation.cluster_objects import RESOURCES, ClusterObjects
from tunesmith.installation.existing import everywhere
from tunesmith.installation.manifests import ISSUED_AUTHORITY, manifests
from tunesmith.installation.options import (
    CONTROLLER,
    DATABASE_SECRET,
    PART_OF,
    Installation,
    selector,
)
from tunesmith.installation.rights import SECRETS
from tunesmith_controller.stores.rest_errors import Denied
from tunesmith_controller.webhook.copies import CONFIG_MAP as AUTHORITIES
from tunesmith_controller.webhook.copies import LABEL as AUTHORITIES_LABEL

Json = dict[str, Any]
Tell = Callable[[str], None]

_KINDS: Final = (
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
    "PodDisruptionBudget",
    "Deployment",
    "StatefulSet",
    "Service",
    "NetworkPolicy",
    "Certificate",
    "Issuer",
    "ClusterRoleBinding",
    "RoleBinding",
    "ClusterRole",
    "Role",
    "ServiceAccount",
)
"""That nothing is lost with, in the order in which they go."""
_DATA: Final = ("PersistentVolumeClaim", "ConfigMap", "Secret")
_KATIB: Final = "/apis/kubeflow.org/v1beta1"
_GOING_S: Final = 60.0
_LOOK_S: Final = 0.5


async def remove_all_but(
    objects: ClusterObjects, installation: Installation, wanted: Iterable[Json]
) -> list[str]:
    """What is of this installation and not wanted any more; what was removed. Volumes, passwords
    and configurations stay. Raises PortErrors."""
    kept = {_name(each) for each in wanted}
    return await _remove(objects, installation, _KINDS, kept)


async def uninstall(
    objects: ClusterObjects, installation: Installation, *, everything: bool, tell: Tell = print
) -> None:
    """Definitions, and with them the experiments, volumes, the password and the configuration stay
    unless `everything` is to go. The namespace stays. Raises PortErrors."""
    alone = not await _others(objects, installation)
    if everything:
        await _remove_experiments(objects, installation, tell)
    for told in await _remove(objects, installation, ("Job", *_KINDS), set()):
        tell(f"removed  {told}")
    await _remove_made_by_controller(objects, installation)
    if everything:
        for told in await _remove(objects, installation, _DATA, set()):
            tell(f"removed  {told}")
        await objects.delete("Secret", DATABASE_SECRET, installation.namespace)
    if alone:
        await _remove_shared(objects, installation, everything, tell)
    if not alone and everything:
        tell("kept     definitions: another installation of this cluster needs them")


def _name(obj: Json) -> tuple[str, str, str]:
    metadata = obj["metadata"]
    return obj["kind"], metadata.get("namespace", ""), metadata["name"]


async def _remove(
    objects: ClusterObjects,
    installation: Installation,
    kinds: Sequence[str],
    kept: set[tuple[str, str, str]],
) -> list[str]:
    removed = []
    for kind in kinds:
        for each in await _of(objects, installation, kind):
            name = _name({**each, "kind": kind})
            if name not in kept and await objects.delete(kind, name[2], name[1]):
                removed.append(f"{kind} {name[2]}")
    return removed


async def _of(objects: ClusterObjects, installation: Installation, kind: str) -> list[Json]:
    """Roles and bindings may be in the namespace that it looks after. Who may not look at a kind
    of the whole cluster has nothing there to remove."""
    wanted = selector(installation)
    if RESOURCES[kind].namespaced and kind not in ("Role", "RoleBinding"):
        return await objects.list(kind, installation.namespace, labels=wanted)
    try:
        return await everywhere(objects, kind, installation.namespace, labels=wanted)
    except Denied:
        return []


async def _others(objects: ClusterObjects, installation: Installation) -> bool:
    """Whether the cluster has another installation."""
    labels = f"app.kubernetes.io/name={CONTROLLER}"
    found = await everywhere(objects, "Deployment", installation.namespace, labels=labels)
    return any(each["metadata"]["namespace"] != installation.namespace for each in found)


async def _remove_made_by_controller(objects: ClusterObjects, installation: Installation) -> None:
    home = installation.namespace
    for name in (*SECRETS, ISSUED_AUTHORITY):
        await objects.delete("Secret", name, home)
    await objects.delete("Lease", CONTROLLER, home)
    labels = f"{AUTHORITIES_LABEL}=true"
    for copy in await everywhere(objects, "ConfigMap", home, labels=labels):
        where = copy["metadata"]["namespace"]
        if installation.only is None or where in (home, installation.only):
            await objects.delete("ConfigMap", AUTHORITIES, where)


async def _remove_shared(
    objects: ClusterObjects, installation: Installation, everything: bool, tell: Tell
) -> None:
    """What all installations of a cluster share."""
    kinds = ("ClusterRole", "CustomResourceDefinition") if everything else ("ClusterRole",)
    for obj in manifests(Installation(installation.namespace)):
        kind, name, metadata = obj["kind"], obj["metadata"]["name"], obj["metadata"]
        if kind not in kinds or not PART_OF.items() <= metadata["labels"].items():
            continue
        try:
            if await objects.delete(kind, name):
                tell(f"removed  {kind} {name}")
        except Denied:
            tell(f"kept     {kind} {name}: you may not delete it")


# ---- experiments --------------------------------------------------------------------------------


async def _remove_experiments(
    objects: ClusterObjects, installation: Installation, tell: Tell
) -> None:
    """While a controller is there to end their jobs; what it leaves, or what none is there for, is
    let go of then, since a definition waits for every object with a finalizer."""
    found = await _listed(objects, installation, "experiments")
    for each in found:
        await objects.delete_at(_path(each, "experiments"))
        tell(f"removed  Experiment {each['metadata']['namespace']}/{each['metadata']['name']}")
    if found and await _has_controller(objects, installation):
        await _until_gone(objects, installation)
    for plural in ("trials", "suggestions", "experiments"):
        for each in await _listed(objects, installation, plural):
            if each["metadata"].get("finalizers"):
                await objects.patch(_path(each, plural), {"metadata": {"finalizers": None}})
            await objects.delete_at(_path(each, plural))


async def _until_gone(objects: ClusterObjects, installation: Installation) -> None:
    """Or for a minute."""
    try:
        async with asyncio.timeout(_GOING_S):
            while await _listed(objects, installation, "trials"):
                await asyncio.sleep(_LOOK_S)
    except TimeoutError:
        return


async def _has_controller(objects: ClusterObjects, installation: Installation) -> bool:
    there = await objects.get("Deployment", CONTROLLER, installation.namespace) or {}
    return bool((there.get("status") or {}).get("readyReplicas"))


async def _listed(objects: ClusterObjects, installation: Installation, plural: str) -> list[Json]:
    where = f"/namespaces/{installation.only}" if installation.only else ""
    return await objects.list("", path=f"{_KATIB}{where}/{plural}")


def _path(obj: Json, plural: str) -> str:
    metadata = obj["metadata"]
    return f"{_KATIB}/namespaces/{metadata['namespace']}/{plural}/{metadata['name']}"
