# SPDX-License-Identifier: Apache-2.0
"""What `doctor` looks at around an installation: the cluster, its definitions, who else is there,
what experiments ask for."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

from tunesmith.installation.cluster_objects import ClusterObjects
from tunesmith.installation.existing import katib_on, others_on
from tunesmith.installation.findings import Finding, mended_by, mended_by_install
from tunesmith.installation.installing import is_defined_so
from tunesmith.installation.options import CONTROLLER, Installation, selector
from tunesmith.installation.rights import KINDS_LABEL
from tunesmith_api.crd import definitions

Json = dict[str, Any]

LEAST: Final = (1, 29)
"""Of Kubernetes: native sidecars."""
_OVER: Final = ("Succeeded", "Failed")


async def check_version(objects: ClusterObjects, there: Installation) -> AsyncIterator[Finding]:
    said = await objects.version()
    found = re.match(r"v(\d+)\.(\d+)", said)
    is_old = found is None or (int(found[1]), int(found[2])) < LEAST
    fault = f"{said} has no native sidecars: 1.29 or newer is needed" if is_old else ""
    yield Finding("Kubernetes", said, fault)


async def check_katib(objects: ClusterObjects, there: Installation) -> AsyncIterator[Finding]:
    found = await katib_on(objects, there.namespace)
    fault = f"it runs beside tunesmith ({found}) and undoes its work" if found else ""
    stop = f"tunesmith install -n {there.namespace} --take-over"
    yield mended_by(stop, "Katib", fault, told="" if found else "does not run here")


async def check_others(objects: ClusterObjects, there: Installation) -> AsyncIterator[Finding]:
    """Said only where there are some."""
    for other in await others_on(objects, there):
        namespace = other.removeprefix("namespace ").split(",")[0]
        fault = "it looks after the same experiments"
        stop = f"tunesmith uninstall -n {namespace}"
        yield Finding(f"installation in {other}", "", fault, stop)


async def check_definitions(objects: ClusterObjects, there: Installation) -> AsyncIterator[Finding]:
    for wanted in definitions():
        name = wanted["metadata"]["name"]
        found = await objects.get("CustomResourceDefinition", name)
        fault = ""
        if found is None:
            fault = "it is not there"
        elif not is_defined_so(found, wanted):
            fault = "it is of another version of tunesmith, or Katib's"
        yield mended_by_install(f"definition {name}", fault, there)


async def check_storage(objects: ClusterObjects, there: Installation) -> AsyncIterator[Finding]:
    classes = await objects.list("StorageClass")
    labels = selector(there)
    for claim in await objects.list("PersistentVolumeClaim", there.namespace, labels=labels):
        name, phase = claim["metadata"]["name"], (claim.get("status") or {}).get("phase", "")
        why = "" if classes else "; the cluster has no StorageClass that would make one"
        fault = "" if phase == "Bound" else f"it is {phase or 'not bound'}{why}"
        describe = f"kubectl describe pvc {name} -n {there.namespace}"
        yield mended_by(describe, f"volume {name}", fault, told=phase)


# ---- what experiments ask for -------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class _Kind:
    api_version: str
    kind: str

    @property
    def path(self) -> str:
        return f"/apis/{self.api_version}" if "/" in self.api_version else "/api/v1"


async def check_kinds(objects: ClusterObjects, there: Installation) -> AsyncIterator[Finding]:
    """Of the templates of experiments that have not ended."""
    within = f"/namespaces/{there.only}" if there.only else ""
    path = f"/apis/kubeflow.org/v1beta1{within}/experiments"
    experiments = await objects.list("Experiment", path=path)
    for kind in sorted({found for each in experiments if (found := _kind_of(each))}):
        subject = f"kind {kind.kind} of {kind.api_version}"
        plural = (await objects.kinds(kind.path)).get(kind.kind)
        if plural is None:
            fault = "experiments need it and the cluster does not have it: install what brings it"
            yield mended_by("tunesmith ls -A", subject, fault)
            continue
        group = kind.api_version.rpartition("/")[0]
        if await _may_create(objects, there, group, plural):
            yield Finding(subject)
            continue
        yield Finding(
            subject,
            fault=f"experiments need it and {CONTROLLER} may not create {plural}.{group}",
            next=f"kubectl create clusterrole trial-kinds-{plural} --resource {plural}.{group}"
            " --verb get,list,watch,create,delete && kubectl label clusterrole"
            f" trial-kinds-{plural} {KINDS_LABEL}=true",
        )


def _kind_of(experiment: Json) -> _Kind | None:
    conditions = (experiment.get("status") or {}).get("conditions") or [{}]
    if conditions[-1].get("type") in _OVER:
        return None
    template = (experiment.get("spec") or {}).get("trialTemplate") or {}
    job = template.get("trialSpec") or {}
    version, kind = job.get("apiVersion"), job.get("kind")
    return _Kind(str(version), str(kind)) if version and kind else None


async def _may_create(
    objects: ClusterObjects, there: Installation, group: str, plural: str
) -> bool:
    attributes = {"group": group, "resource": plural, "verb": "create"}
    attributes["namespace"] = there.only or ""
    return await objects.may(there.namespace, CONTROLLER, attributes)
