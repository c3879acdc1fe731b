# SPDX-License-Identifier: Apache-2.0
"""What `doctor` looks at of an installation itself: what runs, by whom it is reached and trusted,
who leads, how it is configured."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from tunesmith.installation.cluster_objects import ClusterObjects
from tunesmith.installation.databases import SERVERS
from tunesmith.installation.findings import Finding, mended_by, mended_by_install
from tunesmith.installation.options import (
    CONTROLLER,
    DB_MANAGER,
    OBSERVATION,
    PARTS,
    Installation,
    selector,
)
from tunesmith.installation.waiting import hindrances, readiness, workloads
from tunesmith_controller.katib_config import CONFIG_MAP, DATA_KEY, parse
from tunesmith_controller.ports import Invalid
from tunesmith_controller.webhook.authority import secret_of
from tunesmith_controller.webhook.certificates import Pair
from tunesmith_controller.webhook.configurations import MUTATING, NAME, VALIDATING

Json = dict[str, Any]

_SOON: Final = timedelta(days=7)


async def check_workloads(objects: ClusterObjects, there: Installation) -> AsyncIterator[Finding]:
    """The database first: the others wait for it."""
    whys = await hindrances(objects, there)
    for name, kind in workloads(there).items():
        lacks = await readiness(objects, kind, name, there.namespace)
        if lacks == "it is not there":
            yield mended_by_install(f"{kind} {name}", lacks, there)
            continue
        of_it = [each for each in whys if name in each]
        fault = "; ".join([lacks, *of_it]) if lacks else ""
        log = f"kubectl logs -n {there.namespace} {kind.lower()}/{name} --tail 20"
        yield mended_by(log, f"{kind} {name}", fault, told="" if lacks else "ready")
    if there.database_url:
        yield Finding("database", f"{there.database_url} is asked by {OBSERVATION} alone")


async def check_services(objects: ClusterObjects, there: Installation) -> AsyncIterator[Finding]:
    """By name and whether somebody stands behind it."""
    server = SERVERS.get(there.database)
    names = [*PARTS, *([DB_MANAGER] if there.katib_listener else ())]
    for name in [*names, *([server.name] if server else ())]:
        if await objects.get("Service", name, there.namespace) is None:
            yield mended_by_install(f"Service {name}", "it is not there", there)
            continue
        labels = f"kubernetes.io/service-name={name}"
        slices = await objects.list("EndpointSlice", there.namespace, labels=labels)
        ready = sum(map(_ready, slices))
        fault = "" if ready else "no pod that is ready stands behind it"
        get = f"kubectl get pods -n {there.namespace} -l {selector()}"
        yield mended_by(get, f"Service {name}", fault, told=f"{ready} ready" if ready else "")


def _ready(slice_: Json) -> int:
    conditions = [each.get("conditions") or {} for each in slice_.get("endpoints") or []]
    return sum(1 for each in conditions if each.get("ready"))


async def check_images(objects: ClusterObjects, there: Installation) -> AsyncIterator[Finding]:
    found: dict[str, list[str]] = {}
    for name in PARTS:
        deployment = await objects.get("Deployment", name, there.namespace)
        if deployment is not None:
            [container, *_] = deployment["spec"]["template"]["spec"]["containers"]
            found.setdefault(container["image"], []).append(name)
    told = "; ".join(f"{image} of {', '.join(names)}" for image, names in found.items())
    fault = f"they differ: {told}" if len(found) > 1 else ""
    yield mended_by_install("versions of images", fault, there, told=next(iter(found), ""))


# ---- trust --------------------------------------------------------------------------------------


async def check_certificates(
    objects: ClusterObjects, there: Installation
) -> AsyncIterator[Finding]:
    log = f"kubectl logs -n {there.namespace} deployment/{CONTROLLER} --tail 20"
    if there.cert_manager:
        log = f"kubectl get certificates -n {there.namespace}"
    for name in PARTS:
        secret = await objects.get("Secret", secret_of(name), there.namespace)
        told, fault = _certificate(secret)
        yield mended_by(log, f"certificate of {name}", fault, told=told)


def _certificate(secret: Json | None) -> tuple[str, str]:
    """What is told of it, and its fault."""
    if secret is None:
        return "", "it is not there: nobody has made it yet"
    try:
        data = {k: base64.b64decode(v) for k, v in (secret.get("data") or {}).items()}
        end = Pair(data.get("tls.crt", b""), data.get("tls.key", b"")).parsed.not_valid_after_utc
    except (ValueError, binascii.Error):
        return "", "it cannot be read: delete its Secret, and it is made again"
    left = end - datetime.now(UTC)
    if left < timedelta(0):
        return "", f"it expired on {end:%Y-%m-%d}"
    return f"good until {end:%Y-%m-%d}", "it expires within a week" if left < _SOON else ""


async def check_webhooks(objects: ClusterObjects, there: Installation) -> AsyncIterator[Finding]:
    if not there.has_webhooks:
        yield Finding("webhooks", "not installed: collectors are put into templates")
        return
    secret = await objects.get("Secret", secret_of(CONTROLLER), there.namespace) or {}
    authority = (secret.get("data") or {}).get("ca.crt", "")
    log = f"kubectl logs -n {there.namespace} deployment/{CONTROLLER} --tail 20"
    for kind in (MUTATING, VALIDATING):
        found = await objects.get(kind, NAME)
        if found is None:
            yield mended_by_install(f"{kind} {NAME}", "it is not there", there)
            continue
        clients = [hook["clientConfig"] for hook in found.get("webhooks") or []]
        fault = _distrust(clients, authority, there.namespace)
        yield mended_by(log, f"{kind} {NAME}", fault)


def _distrust(clients: list[Json], authority: str, namespace: str) -> str:
    asked = {(client.get("service") or {}).get("namespace", "") for client in clients}
    if asked != {namespace}:
        return f"the API server asks in namespace {', '.join(sorted(asked))}"
    if {client.get("caBundle", "") for client in clients} != {authority}:
        return "it trusts another authority than the one of the controller's certificate"
    return ""


# ---- the rest -----------------------------------------------------------------------------------


async def check_lease(objects: ClusterObjects, there: Installation) -> AsyncIterator[Finding]:
    lease = await objects.get("Lease", CONTROLLER, there.namespace)
    holder = str(((lease or {}).get("spec") or {}).get("holderIdentity") or "")
    pods = await objects.list("Pod", there.namespace, labels=selector())
    living = {
        each["metadata"]["name"]
        for each in pods
        if (each.get("status") or {}).get("phase") == "Running"
    }
    fault = ""
    if not holder:
        fault = "nobody leads: no controller holds the lease"
    elif holder not in living:
        fault = f"{holder} holds the lease and is no running pod; another takes it over soon"
    log = f"kubectl logs -n {there.namespace} deployment/{CONTROLLER} --tail 20"
    yield mended_by(log, "leader", fault, told=holder)


async def check_configuration(
    objects: ClusterObjects, there: Installation
) -> AsyncIterator[Finding]:
    found = await objects.get("ConfigMap", CONFIG_MAP, there.namespace)
    subject, edit = f"ConfigMap {CONFIG_MAP}", f"kubectl edit cm {CONFIG_MAP} -n {there.namespace}"
    if found is None:
        yield Finding(subject, "not there: defaults hold")
        return
    try:
        config = parse((found.get("data") or {}).get(DATA_KEY, ""))
        config.start()
        for name in sorted(config.algorithms()):
            config.suggestion(name)
        fault = ""
    except Invalid as error:
        fault = str(error)
    yield mended_by(edit, subject, fault)
