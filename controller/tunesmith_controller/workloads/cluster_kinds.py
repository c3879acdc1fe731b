# SPDX-License-Identifier: Apache-2.0
"""Where a cluster's API has a kind of job, and what to do when it has none.

`KubernetesWorkloads` asks by apiVersion and kind, as a trial template names them; the answer comes
from the API's own discovery and is kept, since what is served once stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from tunesmith_controller.ports import Invalid, Json, NotFound, Unavailable
from tunesmith_controller.stores.rest import Resource
from tunesmith_controller.stores.rest_errors import json_of, raise_for
from tunesmith_controller.stores.rest_transport import ApiRequest, ApiTransport

_ABSENT_S: Final = 5.0
"""For how long a missing kind is taken as missing without asking again."""

_BROUGHT_BY: Final[Mapping[tuple[str, str], str]] = MappingProxyType(
    {
        ("kubeflow.org", "PyTorchJob"): "the Kubeflow training operator",
        ("kubeflow.org", "TFJob"): "the Kubeflow training operator",
        ("kubeflow.org", "XGBoostJob"): "the Kubeflow training operator",
        ("kubeflow.org", "JAXJob"): "the Kubeflow training operator",
        ("kubeflow.org", "PaddleJob"): "the Kubeflow training operator",
        ("kubeflow.org", "MPIJob"): "the MPI operator or the Kubeflow training operator",
        ("trainer.kubeflow.org", "TrainJob"): "Kubeflow Trainer",
        ("jobset.x-k8s.io", "JobSet"): "JobSet",
        ("ray.io", "RayJob"): "KubeRay",
        ("sparkoperator.k8s.io", "SparkApplication"): "the Spark operator",
        ("argoproj.io", "Workflow"): "Argo Workflows",
        ("tekton.dev", "PipelineRun"): "Tekton Pipelines",
    }
)


class NotInstalled(Invalid):
    """The cluster does not serve this kind."""


class Kinds:
    """Discovery of one cluster. For one event loop."""

    def __init__(self, transport: ApiTransport) -> None:
        self._transport = transport
        self._served: dict[tuple[str, str], Resource] = {}
        self._absent: dict[tuple[str, str], tuple[float, str]] = {}
        self._asking = asyncio.Lock()

    async def resource(self, api_version: str, kind: str) -> Resource:
        """Raises NotInstalled with a sentence, Invalid for what is in no namespace, Unavailable."""
        wanted = (api_version, kind)
        if wanted in self._served:
            return self._served[wanted]
        async with self._asking:  # many trials of a new kind ask once
            return await self._resource(*wanted)

    async def _resource(self, api_version: str, kind: str) -> Resource:
        wanted = (api_version, kind)
        if wanted in self._served:
            return self._served[wanted]
        now = asyncio.get_running_loop().time()
        until, sentence = self._absent.get(wanted, (0.0, ""))
        if now >= until:
            sentence = await self._discover(api_version, kind)
        if sentence:
            self._absent[wanted] = (until if now < until else now + _ABSENT_S, sentence)
            raise NotInstalled(sentence)
        self._absent.pop(wanted, None)
        return self._served[wanted]

    def forget(self, api_version: str, kind: str) -> None:
        """Asks again at the next use: the API said that it does not know the kind."""
        self._served.pop((api_version, kind), None)

    async def _discover(self, api_version: str, kind: str) -> str:
        """Remembers the kind; what to tell people where there is none."""
        base = "/apis/" if "/" in api_version else "/api/"
        found = await self._get(base + api_version)
        if found is None:
            return await self._missing(api_version, kind)
        for entry in found.get("resources") or []:
            if entry.get("kind") == kind and "/" not in entry.get("name", "/"):
                if not entry.get("namespaced"):
                    raise Invalid(f"{kind} of {api_version} is in no namespace: it can be no trial")
                self._served[api_version, kind] = Resource(api_version, entry["name"])
                return ""
        return await self._missing(api_version, kind)

    async def _missing(self, api_version: str, kind: str) -> str:
        group = api_version.rpartition("/")[0]
        brings = _BROUGHT_BY.get((group, kind), "what brings it")
        others = await self._other_versions(group, api_version, kind)
        instead = f"write {' or '.join(others)}" if others else "use another kind"
        return (
            f"the cluster has no kind {kind} of {api_version}: install {brings}, or {instead} "
            "in spec.trialTemplate"
        )

    async def _other_versions(self, group: str, api_version: str, kind: str) -> list[str]:
        """Versions of the same group that do have the kind."""
        found = (await self._get(f"/apis/{group}") or {}) if group else {}
        versions = [entry.get("groupVersion", "") for entry in found.get("versions") or []]
        return [
            version
            for version in versions
            if version != api_version and kind in _kinds(await self._get(f"/apis/{version}"))
        ]

    async def _get(self, path: str) -> Json | None:
        reply = await self._transport.request(ApiRequest("GET", path))
        if reply.status == 404:
            return None
        try:
            raise_for(reply, f"discovery, GET {path}")
        except NotFound as error:  # pragma: no cover - 404 is answered above
            raise Unavailable(str(error)) from error
        return json_of(reply)


def _kinds(found: Mapping[str, Any] | None) -> set[str]:
    return {entry.get("kind", "") for entry in (found or {}).get("resources") or []}
