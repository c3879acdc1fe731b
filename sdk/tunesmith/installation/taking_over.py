# SPDX-License-Identifier: Apache-2.0
"""Takes a cluster over from Katib. Called by `tunesmith install --take-over`, before it installs.

Katib is stopped, not removed: its Deployments go to 0 replicas, its webhook configurations go, and
its Experiments, Suggestions, Trials, jobs and database stay as they are. What would hinder ours is
asked for first. What is done is done in an order in which one may be killed anywhere and begin
again: the controller's pods have ended before its webhooks go, so nobody writes them anew, and ours
is installed after both. A controller that an earlier try has scaled is waited for like any other.

Our controller adopts the objects when it begins to lead (tunesmith_controller/adoption). A Job
copies the rows of Katib's database, where that is in the same namespace.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from tunesmith.errors import NotPossible, StateUnusable
from tunesmith.installation.cluster_objects import RESOURCES, ClusterObjects
from tunesmith.installation.existing import (
    KATIB_CONTROLLER,
    KATIB_WEBHOOKS,
    Katib,
    controllers_of_katib,
    installed,
    katib_on,
    taking_over_by,
)
from tunesmith.installation.installing import check_possible
from tunesmith.installation.katib_rows import import_job, is_over
from tunesmith.installation.options import IMPORT, Installation
from tunesmith_controller.ports import AlreadyExists

Json = dict[str, Any]
Tell = Callable[[str], None]

_END_S: Final = 120.0
_LOOK_S: Final = 0.2


def told(katib: Katib, installation: Installation) -> str:
    """What would be done, for people to agree to."""
    whose = "tunesmith goes on with them"
    if installation.only:
        whose += f" in namespace {installation.only}; those of other namespaces stand still"
    return (
        f"Katib ends: {katib}. Its Deployments stay, with 0 replicas; its webhook configurations"
        " are deleted. Experiments, Suggestions, Trials, running jobs and its database stay, and"
        f" {whose}."
    )


async def check_takeable(
    objects: ClusterObjects, installation: Installation, password: str
) -> Katib:
    """What there is of Katib; changes nothing. Raises NotPossible where ours could not be installed
    in its place: Katib goes on then."""
    await check_possible(objects, installation, password)
    home, katib = installation.namespace, await katib_on(objects, installation.namespace)
    if not katib.namespaces or home in katib.namespaces or await installed(objects, home):
        return katib
    raise NotPossible(
        f"Katib is in namespace {', '.join(katib.namespaces)}: the pods of its running trials"
        f" report to katib-db-manager there, not in namespace {home}",
        hint=await taking_over_by(objects, katib, installation),
    )


async def stop_katib(objects: ClusterObjects, installation: Installation, tell: Tell) -> None:
    """Nothing where it does not run. Raises StateUnusable where its controller does not end."""
    katib = await katib_on(objects, installation.namespace)
    for controller in await controllers_of_katib(objects, installation.namespace):
        await _stop_controller(objects, controller, tell)
    for kind in katib.webhooks:
        await objects.delete(kind, KATIB_WEBHOOKS)
        tell(f"removed  {kind} {KATIB_WEBHOOKS}")
    for place in katib.deployments:
        if place[1] != KATIB_CONTROLLER:
            await _scale_to_nothing(objects, *place)
            tell(f"stopped  Deployment {place[0]}/{place[1]}")


async def _stop_controller(objects: ClusterObjects, deployment: Json, tell: Tell) -> None:
    place = (deployment["metadata"]["namespace"], deployment["metadata"]["name"])
    is_scaled = deployment["spec"].get("replicas", 1) == 0
    if is_scaled and not await _runs(objects, *place):
        return
    if not is_scaled:
        await _scale_to_nothing(objects, *place)
    await _until_ended(objects, *place)
    tell(f"stopped  Deployment {place[0]}/{place[1]}")


async def _scale_to_nothing(objects: ClusterObjects, namespace: str, name: str) -> None:
    path = f"{RESOURCES['Deployment'].path(namespace)}/{name}"
    await objects.patch(path, {"spec": {"replicas": 0}})


async def _until_ended(objects: ClusterObjects, namespace: str, name: str) -> None:
    """Its pods, the ending ones too."""
    try:
        async with asyncio.timeout(_END_S):
            while await _runs(objects, namespace, name):
                await asyncio.sleep(_LOOK_S)
    except TimeoutError:
        raise StateUnusable(
            f"{namespace}/{name} still has pods {_END_S:g} s after it was scaled to 0; nothing else"
            " was changed",
            hint=f"kubectl get pods -n {namespace}; then do the same again",
        ) from None


async def _runs(objects: ClusterObjects, namespace: str, name: str) -> bool:
    deployment = await objects.get("Deployment", name, namespace)
    if deployment is None:
        return False
    status = deployment.get("status") or {}
    is_seen = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    selected = deployment["spec"]["selector"].get("matchLabels") or {}
    labels = ",".join(f"{key}={value}" for key, value in selected.items())
    return not is_seen or bool(await objects.list("Pod", namespace, labels=labels))


async def import_rows(objects: ClusterObjects, installation: Installation, tell: Tell) -> None:
    """Starts the Job, unless one runs or has copied them; says how to do it where it cannot."""
    job = await import_job(objects, installation)
    if isinstance(job, str):
        tell(f"note: rows of Katib's database are not copied: {job}")
        return
    await _remove_failed(objects, installation.namespace)
    try:
        await objects.create("Job", job)
    except AlreadyExists:
        return
    tell(f"created  Job {job['metadata']['name']}, which copies the rows of Katib's database")


async def _remove_failed(objects: ClusterObjects, namespace: str) -> None:
    """A Job that gave up begins no more; another one goes on. Raises StateUnusable."""
    there = await objects.get("Job", IMPORT, namespace)
    if there is None or not is_over(there):
        return
    await objects.delete("Job", IMPORT, namespace)
    try:
        async with asyncio.timeout(_END_S):
            while await objects.get("Job", IMPORT, namespace):
                await asyncio.sleep(_LOOK_S)
    except TimeoutError:
        raise StateUnusable(
            f"Job {IMPORT}, which failed, is there {_END_S:g} s after its deletion",
            hint=f"kubectl describe job {IMPORT} -n {namespace}",
        ) from None
