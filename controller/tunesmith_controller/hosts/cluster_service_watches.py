# SPDX-License-Identifier: Apache-2.0
"""What a cluster says of suggestion services: their Deployments, their pods, why they do not run.

Owned by one `ClusterAlgorithmHost`; nothing is watched until a service is needed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

from tunesmith_api import names
from tunesmith_controller.hosts.cluster_service import LABEL_DEPLOYMENT
from tunesmith_controller.ports import Json, Key
from tunesmith_controller.stores.rest import Resource
from tunesmith_controller.stores.rest_errors import Denied
from tunesmith_controller.stores.rest_transport import ApiTransport
from tunesmith_controller.workloads.cluster_cache import Watching
from tunesmith_controller.workloads.cluster_pods import PodFacts, pod_facts
from tunesmith_controller.workloads.cluster_refusals import refusal

_log = logging.getLogger(__name__)

DEPLOYMENTS: Final = Resource("apps/v1", "deployments")
_SYNC_S: Final = 10.0


class ServiceWatches:
    """Deployments of suggestion services and their pods, watched once one is needed."""

    def __init__(
        self,
        transport: ApiTransport,
        namespaces: Sequence[str] | None,
        changed: Callable[[Json | None, Json | None], None],
    ) -> None:
        self._transport = transport
        self._namespaced = namespaces is not None
        self._changed = changed
        self._deployments: dict[str, Watching[Json]] = {}
        self._pods: dict[str, Watching[tuple[str, PodFacts]]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def aclose(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def synced(self, namespace: str) -> None:
        """Raises Denied, Unavailable."""
        scope = self._scope(namespace)
        if scope not in self._deployments:
            told = lambda before, after, _: self._changed(before, after)  # noqa: E731
            self._deployments[scope] = self._watch(DEPLOYMENTS, scope, _slim, told)
            self._pods[scope] = self._watch(
                Resource("v1", "pods"), scope, _labelled_pod, lambda before, after, _: None
            )
        for watching in (self._deployments[scope], self._pods[scope]):
            await watching.listed(_SYNC_S)

    async def deployments_of(self, suggestion: Key) -> list[Json]:
        try:
            await self.synced(suggestion.namespace)
        except Denied as error:
            _log.warning("%s", refusal(str(error)))
            return []
        found = self._deployments[self._scope(suggestion.namespace)].all()
        return [
            each
            for each in found
            if each["metadata"]["namespace"] == suggestion.namespace
            and each["metadata"]["labels"].get(names.LABEL_SUGGESTION) == suggestion.name
        ]

    def trouble(self, place: tuple[str, str]) -> str:
        """Why a service does not come up, as its pods and its Deployment say; else empty."""
        for deployment, pod in self._known_pods(place):
            if deployment == place[1] and (pod.hindrance or pod.failing):
                return pod.hindrance or pod.failing
        return _condition(self._deployment(place), "ReplicaFailure", "True")

    def given_up(self, place: tuple[str, str]) -> str:
        """What Kubernetes says once it expects no progress any more; else empty."""
        why = _condition(self._deployment(place), "Progressing", "False")
        return f"{why}; {self.trouble(place)}".rstrip("; ") if why else ""

    def _deployment(self, place: tuple[str, str]) -> Json:
        watching = self._deployments.get(self._scope(place[0]))
        return (watching.get(*place) if watching else None) or {}

    def _known_pods(self, place: tuple[str, str]) -> list[tuple[str, PodFacts]]:
        watching = self._pods.get(self._scope(place[0]))
        found = watching.all() if watching else []
        return [(name, pod) for name, pod in found if pod.namespace == place[0]]

    def _scope(self, namespace: str) -> str:
        return namespace if self._namespaced else ""

    def _watch(
        self,
        resource: Resource,
        scope: str,
        kept: Callable[[Json], Any],
        told: Callable[[Any, Any, Json], None],
    ) -> Watching[Any]:
        watching = Watching(
            self._transport,
            resource,
            selector=LABEL_DEPLOYMENT,
            namespace=scope or None,
            kept=kept,
            told=told,
        )
        self._tasks.append(asyncio.get_running_loop().create_task(watching.run()))
        return watching


def _slim(deployment: Json) -> Json:
    kept = ("name", "namespace", "uid", "labels", "ownerReferences", "deletionTimestamp")
    metadata = {name: v for name, v in deployment["metadata"].items() if name in kept}
    status = deployment.get("status") or {}
    return {"metadata": metadata, "status": {"conditions": status.get("conditions") or []}}


def _labelled_pod(pod: Json) -> tuple[str, PodFacts]:
    return pod["metadata"]["labels"][LABEL_DEPLOYMENT], pod_facts(pod)


def _condition(deployment: Json, type_: str, status: str) -> str:
    for condition in (deployment.get("status") or {}).get("conditions") or []:
        if condition.get("type") == type_ and condition.get("status") == status:
            return str(condition.get("message") or condition.get("reason") or type_)
    return ""
