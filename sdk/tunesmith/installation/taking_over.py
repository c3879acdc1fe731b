# SPDX-License-Identifier: Apache-2.0
"""Takes a cluster over from Katib. Called by `tunesmith install --take-over`, before it installs.

Katib is stopped, not removed: its Deployments go to 0 replicas, its webhook configurations go, and
its Experiments, Suggestions, Trials, jobs and database stay as they are. What is done is done in an
order in which one may be killed anywhere and begin again: the controller has ended before its
webhooks go, so nobody writes them anew; and ours is installed after both.

Our controller adopts the objects when it begins to lead (tunesmith_controller/adoption). A Job
copies the rows of Katib's database, where that is in the same namespace.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from tunesmith.errors import StateUnusable
from tunesmith.installation.cluster_objects import RESOURCES, ClusterObjects
from tunesmith.installation.existing import KATIB_WEBHOOKS, Katib, katib_on
from tunesmith.installation.katib_rows import import_job
from tunesmith.installation.options import Installation
from tunesmith_controller.ports import AlreadyExists

Json = dict[str, Any]
Tell = Callable[[str], None]

_END_S: Final = 120.0
_LOOK_S: Final = 0.2
CONTROLLER: Final = "katib-controller"


def told(katib: Katib) -> str:
    """What would be done, for people to agree to."""
    return (
        f"Katib ends: {katib}. Its Deployments stay, with 0 replicas; its webhook configurations"
        " are deleted. Experiments, Suggestions, Trials, running jobs and its database stay, and"
        " tunesmith goes on with them."
    )


async def stop_katib(objects: ClusterObjects, installation: Installation, tell: Tell) -> None:
    """Nothing where it does not run. Raises StateUnusable where its controller does not end."""
    katib = await katib_on(objects, installation.namespace)
    controllers = [place for place in katib.deployments if place[1] == CONTROLLER]
    for place in controllers:
        await _scale_to_nothing(objects, *place)
    for place in controllers:
        await _until_ended(objects, *place)
        tell(f"stopped  Deployment {place[0]}/{place[1]}")
    for kind in katib.webhooks:
        await objects.delete(kind, KATIB_WEBHOOKS)
        tell(f"removed  {kind} {KATIB_WEBHOOKS}")
    for place in katib.deployments:
        if place not in controllers:
            await _scale_to_nothing(objects, *place)
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
    """Starts the Job, unless it was started before; says how to do it where it cannot."""
    job = await import_job(objects, installation)
    if isinstance(job, str):
        tell(f"note: rows of Katib's database are not copied: {job}")
        return
    try:
        await objects.create("Job", job)
    except AlreadyExists:
        return
    tell(f"created  Job {job['metadata']['name']}, which copies the rows of Katib's database")
