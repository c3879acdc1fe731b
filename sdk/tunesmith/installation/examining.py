# SPDX-License-Identifier: Apache-2.0
"""Looks an installation over, as `tunesmith doctor` does: each thing that has to be right, and what
to do where it is not. Reads only."""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from tunesmith.installation.cluster_objects import ClusterObjects
from tunesmith.installation.installing import hindrances
from tunesmith.installation.options import (
    CONTROLLER,
    OBSERVATION,
    PART_OF,
    SUGGESTION,
    Installation,
)
from tunesmith.installation.rights import (
    CALLERS,
    CLUSTER,
    HOME,
    KNOWN_KINDS,
    REVIEWS,
    TRIALS,
    Right,
)
from tunesmith_api.crd import definitions
from tunesmith_controller.katib_config import CONFIG_MAP, DATA_KEY, parse
from tunesmith_controller.ports import Invalid
from tunesmith_controller.webhook.authority import secret_of
from tunesmith_controller.webhook.certificates import Pair
from tunesmith_controller.webhook.configurations import MUTATING, NAME, VALIDATING

Json = dict[str, Any]

LEAST: Final = (1, 29)
"""Of Kubernetes: native sidecars."""
_PARTS: Final = (CONTROLLER, SUGGESTION, OBSERVATION)
_SOON: Final = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `fault` is empty where it is right; `next` is a command."""

    subject: str
    told: str = ""
    fault: str = ""
    next: str = ""


Check = Callable[[ClusterObjects, Installation], AsyncIterator[Finding]]


async def examine(objects: ClusterObjects, wanted: Installation) -> list[Finding]:
    """In the order in which a fault hinders what follows. Raises PortErrors when the API itself
    cannot be asked."""
    return [found for check in _CHECKS for found in [each async for each in check(objects, wanted)]]


async def _version(objects: ClusterObjects, wanted: Installation) -> AsyncIterator[Finding]:
    said = await objects.version()
    found = re.match(r"v(\d+)\.(\d+)", said)
    is_old = found is None or (int(found[1]), int(found[2])) < LEAST
    fault = f"{said} has no native sidecars; 1.29 or newer is needed" if is_old else ""
    yield Finding("Kubernetes", said, fault)


async def _definitions(objects: ClusterObjects, wanted: Installation) -> AsyncIterator[Finding]:
    for each in definitions():
        name = each["metadata"]["name"]
        there = await objects.get("CustomResourceDefinition", name)
        if there is None:
            yield _install(f"definition {name}", "it is not there", wanted)
            continue
        schemas = [v["schema"] for v in there["spec"]["versions"] if v["name"] == "v1beta1"]
        is_ours = schemas == [each["spec"]["versions"][0]["schema"]]
        fault = "" if is_ours else "it is of another version, or Katib's"
        yield _install(f"definition {name}", fault, wanted)


async def _rights(objects: ClusterObjects, wanted: Installation) -> AsyncIterator[Finding]:
    home, only = wanted.namespace, wanted.only
    for account, rights, where in (
        (CONTROLLER, HOME, home),
        (CONTROLLER, (*TRIALS, *KNOWN_KINDS), only or ""),
        *(() if only else ((CONTROLLER, CLUSTER, ""),)),
        (OBSERVATION, CALLERS, only or ""),
        (OBSERVATION, REVIEWS, ""),
        (SUGGESTION, REVIEWS, ""),
    ):
        missing = [
            f"{verb} {right.resources[0]}{f'.{right.group}' if right.group else ''}"
            for right in rights
            for verb in right.verbs
            if not await _may(objects, (home, account), right, verb, where)
        ]
        subject = f"rights of {account} {f'in {where}' if where else 'everywhere'}"
        fault = f"it may not {', '.join(missing)}" if missing else ""
        yield _install(subject, fault, wanted)


async def _may(
    objects: ClusterObjects, whose: tuple[str, str], right: Right, verb: str, where: str
) -> bool:
    home, account = whose
    resource, _, sub = right.resources[0].partition("/")
    attributes = {"group": right.group, "resource": resource, "subresource": sub, "verb": verb}
    attributes |= {"namespace": where, "name": right.names[0] if right.names else ""}
    spec = {
        "user": f"system:serviceaccount:{home}:{account}",
        "groups": ["system:serviceaccounts", f"system:serviceaccounts:{home}"],
        "resourceAttributes": attributes,
    }
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    return bool((await objects.review(path, body)).get("status", {}).get("allowed"))


async def _services(objects: ClusterObjects, wanted: Installation) -> AsyncIterator[Finding]:
    whys = await hindrances(objects, wanted.namespace)
    for name in _PARTS:
        there = await objects.get("Deployment", name, wanted.namespace)
        if there is None:
            yield _install(f"Deployment {name}", "it is not there", wanted)
            continue
        ready, of = (there.get("status") or {}).get("readyReplicas", 0), there["spec"]["replicas"]
        why = "; ".join(each for each in whys if each.startswith(f"pod {name}"))
        fault = f"{ready} of {of} ready{f': {why}' if why else ''}" if ready < of else ""
        log = f"kubectl logs -n {wanted.namespace} deploy/{name}"
        yield Finding(f"Deployment {name}", f"{ready} of {of} ready", fault, log if fault else "")


async def _images(objects: ClusterObjects, wanted: Installation) -> AsyncIterator[Finding]:
    found = {
        each["spec"]["template"]["spec"]["containers"][0]["image"]
        for name in _PARTS
        if (each := await objects.get("Deployment", name, wanted.namespace)) is not None
    }
    if found:
        fault = f"they differ: {', '.join(sorted(found))}" if len(found) > 1 else ""
        yield _install("versions of images", fault, wanted, told=", ".join(sorted(found)))


async def _certificates(objects: ClusterObjects, wanted: Installation) -> AsyncIterator[Finding]:
    for name in _PARTS:
        secret = await objects.get("Secret", secret_of(name), wanted.namespace)
        subject = f"certificate of {name}"
        if secret is None:
            log = f"kubectl logs -n {wanted.namespace} deploy/{CONTROLLER}"
            yield Finding(subject, fault="it is not there: no controller has made it", next=log)
            continue
        data = {k: base64.b64decode(v) for k, v in (secret.get("data") or {}).items()}
        yield _certificate(subject, data)


def _certificate(subject: str, data: dict[str, bytes]) -> Finding:
    try:
        end = Pair(data.get("tls.crt", b""), data.get("tls.key", b"")).parsed.not_valid_after_utc
    except ValueError:
        return Finding(subject, fault="it cannot be read")
    now = datetime.now(UTC)
    told = f"good until {end:%Y-%m-%d}"
    if end < now:
        return Finding(subject, told, f"it expired on {end:%Y-%m-%d}")
    return Finding(subject, told, "it expires within a week" if end - now < _SOON else "")


async def _webhooks(objects: ClusterObjects, wanted: Installation) -> AsyncIterator[Finding]:
    found = {kind: await objects.get(kind, NAME) for kind in (MUTATING, VALIDATING)}
    if wanted.only or not any(found.values()):
        yield Finding("webhooks", "not installed: collectors are put into templates")
        return
    secret = await objects.get("Secret", secret_of(CONTROLLER), wanted.namespace) or {}
    authority = (secret.get("data") or {}).get("ca.crt", "")
    for kind, there in found.items():
        if there is None:
            yield _install(f"{kind} {NAME}", "it is not there", wanted)
            continue
        bundles = {hook["clientConfig"].get("caBundle", "") for hook in there["webhooks"]}
        fault = "" if bundles == {authority} else "it trusts another authority than the controller"
        log = f"kubectl logs -n {wanted.namespace} deploy/{CONTROLLER}"
        yield Finding(f"{kind} {NAME}", fault=fault, next=log if fault else "")


async def _lease(objects: ClusterObjects, wanted: Installation) -> AsyncIterator[Finding]:
    lease = await objects.get("Lease", CONTROLLER, wanted.namespace)
    holder = ((lease or {}).get("spec") or {}).get("holderIdentity") or ""
    pods = {each["metadata"]["name"] for each in await objects.list("Pod", wanted.namespace)}
    fault = "" if holder in pods else f"nobody leads ({holder or 'the lease is free'})"
    yield Finding("leader", holder, fault)


async def _configuration(objects: ClusterObjects, wanted: Installation) -> AsyncIterator[Finding]:
    there = await objects.get("ConfigMap", CONFIG_MAP, wanted.namespace)
    if there is None:
        yield Finding(f"ConfigMap {CONFIG_MAP}", "not there: defaults hold")
        return
    try:
        parse((there.get("data") or {}).get(DATA_KEY, ""))
        fault = ""
    except Invalid as error:
        fault = str(error)
    edit = f"kubectl edit configmap {CONFIG_MAP} -n {wanted.namespace}"
    yield Finding(f"ConfigMap {CONFIG_MAP}", fault=fault, next=edit if fault else "")


async def _storage(objects: ClusterObjects, wanted: Installation) -> AsyncIterator[Finding]:
    labels = ",".join(f"{name}={value}" for name, value in PART_OF.items())
    for claim in await objects.list("PersistentVolumeClaim", wanted.namespace, labels=labels):
        name, phase = claim["metadata"]["name"], (claim.get("status") or {}).get("phase", "")
        classes = await objects.list("StorageClass")
        why = "; the cluster has no StorageClass" if not classes else ""
        describe = f"kubectl describe pvc {name} -n {wanted.namespace}"
        fault = "" if phase == "Bound" else f"it is {phase or 'not bound'}{why}"
        yield Finding(f"volume {name}", phase, fault, describe if fault else "")


async def _katib(objects: ClusterObjects, wanted: Installation) -> AsyncIterator[Finding]:
    others = [
        f"{each['metadata']['namespace']}/{each['metadata']['name']}"
        for each in await objects.list("Deployment")
        if each["metadata"]["name"] == "katib-controller" and each["spec"].get("replicas", 1)
    ]
    fault = f"Katib's controller runs beside: {', '.join(others)}" if others else ""
    scale = "kubectl scale deploy katib-controller --replicas 0" if others else ""
    yield Finding("Katib", "" if others else "does not run here", fault, scale)


async def _kinds(objects: ClusterObjects, wanted: Installation) -> AsyncIterator[Finding]:
    """Of the templates of experiments that have not ended."""
    path = "/apis/kubeflow.org/v1beta1"
    path += f"/namespaces/{wanted.only}/experiments" if wanted.only else "/experiments"
    experiments = await objects.list("Experiment", path=path)
    wanted_kinds = {found for each in experiments if (found := _kind_of(each))}
    for version, kind in sorted(wanted_kinds):
        base = f"/apis/{version}" if "/" in version else f"/api/{version}"
        served = await objects.kinds(base)
        fault = "" if kind in served else "Experiments need it and the cluster does not have it"
        yield Finding(f"kind {kind} of {version}", fault=fault)


def _kind_of(experiment: Json) -> tuple[str, str] | None:
    conditions = (experiment.get("status") or {}).get("conditions") or [{}]
    if conditions[-1].get("type") in ("Succeeded", "Failed"):
        return None
    template = (experiment.get("spec") or {}).get("trialTemplate") or {}
    job = template.get("trialSpec") or {}
    version, kind = job.get("apiVersion"), job.get("kind")
    return (version, kind) if version and kind else None


def _install(subject: str, fault: str, wanted: Installation, *, told: str = "") -> Finding:
    again = f"tunesmith install -n {wanted.namespace}"
    return Finding(subject, told, fault, again if fault else "")


_CHECKS: Final[Sequence[Check]] = (
    _version,
    _katib,
    _definitions,
    _rights,
    _storage,
    _services,
    _images,
    _certificates,
    _webhooks,
    _lease,
    _configuration,
    _kinds,
)
