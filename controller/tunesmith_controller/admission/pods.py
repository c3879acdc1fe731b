# SPDX-License-Identifier: Apache-2.0
"""`inject`: a trial's pod with its collector in it; the one place that knows how that looks.

The webhook calls it for pods, KubernetesWorkloads for pod templates where nobody admits pods. Pure,
and the same again when repeated. It adds one native sidecar (an init container that keeps running,
so no process has to be looked for and nothing keeps the pod from ending), the volume that it shares
with the training container, and the launcher in front of that container's argv. All else stays as
it is: other containers, their order, volumes, annotations, the service account, the grace period.
"""

from __future__ import annotations

import copy
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from tunesmith_controller.admission.collection import CollectionPlan
from tunesmith_controller.ports import Invalid, Json

SIDECAR: Final = "metrics-logger-and-collector"
"""Katib's name for it: its SDK reads the log of the container that is called so."""

SHARED: Final = "/tunesmith"
LAUNCHER: Final = f"{SHARED}/launcher"
INSTALLED: Final = "/usr/local/bin/tunesmith-launcher"
"""In the image of the sidecar."""

METRICS_FILE: Final = f"{SHARED}/metrics.jsonl"
STOP_FILE: Final = f"{SHARED}/stop"
IDENTITY: Final = "/var/run/tunesmith"
"""Holds `token` and `ca.crt`, in the sidecar only."""

PLAN_VARIABLE: Final = "TUNESMITH_COLLECTION"
DEFAULT_GRACE_SECONDS: Final = 30
"""What a pod without terminationGracePeriodSeconds has."""

_EPHEMERAL: Final = "ephemeral-storage"


class CollectionMode(StrEnum):
    """How what a pod prints is read."""

    LAUNCHER = "launcher"
    """The launcher runs the program and copies its output into the shared volume."""

    POD_LOG = "podLog"
    """The program runs as its image says, for nobody knows its argv; the controller reads pods/log.
    Files, and what is reported by `tunesmith.report`, are still read by the sidecar."""


@dataclass(frozen=True, slots=True)
class InjectionSettings:
    """What every pod of a cluster gets. `resources` are a container's; `run_as_user` None leaves
    the choice to the image or the platform (OpenShift gives each namespace users of its own).
    `volume_limit` bounds the shared volume (kubelet evicts a pod above it; the launcher and the
    collector keep the output below it)."""

    image: str
    observation_address: str = "tunesmith-observation.kubeflow:6790"
    image_pull_policy: str = "IfNotPresent"
    audience: str = "tunesmith.dev/observation"
    ca_config_map: str = "tunesmith-ca"
    token_seconds: int = 600
    resources: Mapping[str, Any] = field(
        default_factory=lambda: {
            "requests": {"cpu": "20m", "memory": "64Mi"},
            "limits": {"cpu": "1", "memory": "192Mi"},
        }
    )
    volume_limit: str = "2Gi"
    run_as_user: int | None = 65532


def inject(pod: Json, plan: CollectionPlan, settings: InjectionSettings) -> Json:
    """A Pod or a pod template with its collector; a copy. A pod that has one is returned as it is,
    whatever the settings. Raises Invalid with a sentence where it cannot have one."""
    injected = copy.deepcopy(pod)
    spec = injected.get("spec") or {}
    if is_injected(injected):
        return injected
    primary = primary_container(spec, plan)
    _check(spec, primary)
    shared = _free_name(spec, "tunesmith")
    identity = _free_name(spec, "tunesmith-identity")
    added = [_shared_volume(shared, settings), _identity_volume(identity, settings)]
    metrics = _metrics_mount(spec, primary, plan)
    if metrics is not None and metrics.volume is not None:
        added.append(metrics.volume)
    sidecar = _sidecar(spec, primary, plan, settings)
    sidecar["volumeMounts"] = [
        {"name": shared, "mountPath": SHARED},
        {"name": identity, "mountPath": IDENTITY, "readOnly": True},
        *([metrics.in_sidecar] if metrics else []),
    ]
    _wrap(primary, plan, shared)
    if metrics is not None and metrics.in_primary is not None:
        primary["volumeMounts"].append(metrics.in_primary)
    spec["volumes"] = [*(spec.get("volumes") or []), *added]
    spec["initContainers"] = [sidecar, *(spec.get("initContainers") or [])]
    return injected


def is_injected(pod: Json) -> bool:
    """Whether our collector is in the pod already."""
    return any(is_ours(c) for c in (pod.get("spec") or {}).get("initContainers") or [])


def collection_mode(pod: Json, plan: CollectionPlan) -> CollectionMode:
    """How a pod (template) that is to be injected, or was, has its output read. Raises Invalid."""
    primary = primary_container(pod.get("spec") or {}, plan)
    return _mode(primary, plan)


def primary_container(spec: Json, plan: CollectionPlan) -> Json:
    """The container that trains, by its name. Raises Invalid, naming those that there are."""
    containers: Sequence[Json] = spec.get("containers") or []
    for container in containers:
        if container.get("name") == plan.primary_container:
            return container
    if not plan.primary_container and len(containers) == 1:
        return containers[0]
    names = ", ".join(str(c.get("name")) for c in containers) or "none at all"
    raise Invalid(
        f"trial {plan.namespace}/{plan.trial_name}: its pod has no container named "
        f"{plan.primary_container!r}; there is: {names}. Set "
        "spec.trialTemplate.primaryContainerName to the one that prints the metrics"
    )


def _mode(primary: Json, plan: CollectionPlan) -> CollectionMode:
    is_known = primary.get("command") or plan.entrypoint or plan.image_args
    return CollectionMode.LAUNCHER if is_known else CollectionMode.POD_LOG


def is_ours(container: Json) -> bool:
    """Whether a container is our collector."""
    names = {entry.get("name") for entry in container.get("env") or []}
    return container.get("name") == SIDECAR and PLAN_VARIABLE in names


def _check(spec: Json, primary: Json) -> None:
    if (spec.get("os") or {}).get("name") == "windows":
        raise Invalid(
            "the pod runs on Windows, where metrics cannot be collected from a pod; use collector"
            " kind Push and report_metrics, and leave the label tunesmith.dev/collect out"
        )
    everyone = [*(spec.get("initContainers") or []), *spec["containers"]]
    if any(container.get("name") == SIDECAR for container in everyone):
        raise Invalid(
            f"the pod has a container named {SIDECAR} already, which is what tunesmith calls its "
            "own; rename it, or remove it if it is Katib's"
        )
    mounts = primary.get("volumeMounts") or []
    if any(posixpath.normpath(mount["mountPath"]) == SHARED for mount in mounts):
        raise Invalid(
            f"container {primary['name']} mounts a volume at {SHARED}, where tunesmith mounts its "
            "own; choose another path"
        )


# ---- the training container ---------------------------------------------------------------------


def _wrap(primary: Json, plan: CollectionPlan, shared: str) -> None:
    argv = _argv(primary, plan)
    if argv:
        primary["command"] = [LAUNCHER, "--", *argv]
        primary.pop("args", None)
    ours = _variables(plan)
    theirs = [entry for entry in primary.get("env") or [] if entry.get("name") not in ours]
    # First, so that a program's own variables may refer to them as $(KATIB_TRIAL_NAME).
    primary["env"] = [*({"name": n, "value": v} for n, v in ours.items()), *theirs]
    mounts = primary.get("volumeMounts") or []
    primary["volumeMounts"] = [*mounts, {"name": shared, "mountPath": SHARED}]


def _argv(primary: Json, plan: CollectionPlan) -> list[str]:
    """What the container would run: Kubernetes' rules for command, args and the image's own."""
    if _mode(primary, plan) is CollectionMode.POD_LOG:
        return []
    command, args = primary.get("command") or [], primary.get("args") or []
    if command:
        return [*command, *args]
    entrypoint = [_literal(part) for part in plan.entrypoint]
    return [*entrypoint, *(args or [_literal(part) for part in plan.image_args])]


def _literal(text: str) -> str:
    """The text so that Kubernetes, which expands $(NAME) in what a pod says, leaves it as it is."""
    return text.replace("$", "$$")


def _variables(plan: CollectionPlan) -> dict[str, str]:
    own = {"TUNESMITH_METRICS_PATH": plan.metrics_path} if plan.collector == "File" else {}
    values = {
        "KATIB_TRIAL_NAME": plan.trial_name,
        "TUNESMITH_TRIAL_NAME": plan.trial_name,
        "TUNESMITH_TRIAL_UID": plan.trial_uid,
        "TUNESMITH_ATTEMPT": str(plan.attempt),
        "TUNESMITH_METRICS_FILE": METRICS_FILE,
        "TUNESMITH_STOP_FILE": STOP_FILE,
        **own,
    }
    return {name: _literal(value) for name, value in values.items()}


# ---- the sidecar --------------------------------------------------------------------------------


def _sidecar(
    spec: Json, primary: Json, plan: CollectionPlan, settings: InjectionSettings
) -> dict[str, Any]:
    grace = spec.get("terminationGracePeriodSeconds")
    arguments = {
        "--observation": settings.observation_address,
        "--mode": str(_mode(primary, plan)),
        "--grace": str(DEFAULT_GRACE_SECONDS if grace is None else grace),
    }
    return {
        "name": SIDECAR,
        "image": settings.image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["python3", "-m", "tunesmith_metrics_collector.sidecar"],
        "args": [part for pair in arguments.items() for part in pair],
        "env": [
            {"name": PLAN_VARIABLE, "value": _literal(plan.to_json())},
            _field("TUNESMITH_POD_NAME", "metadata.name"),
            _field("TUNESMITH_POD_UID", "metadata.uid"),
        ],
        "restartPolicy": "Always",
        # Kubelet starts no further container until this has returned. A startupProbe would do as
        # well, a second later: it is asked once a second, after the container was seen to run.
        "lifecycle": {"postStart": {"exec": {"command": [INSTALLED, "copy", LAUNCHER]}}},
        "resources": _resources(spec, settings),
        "securityContext": _security_context(settings),
    }


def _field(name: str, path: str) -> Json:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _security_context(settings: InjectionSettings) -> dict[str, Any]:
    """All that Pod Security "restricted" asks of a container, whatever the pod says."""
    user = {} if settings.run_as_user is None else {"runAsUser": settings.run_as_user}
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
        **user,
    }


def _resources(spec: Json, settings: InjectionSettings) -> dict[str, Any]:
    """The settings', but for a limit of ephemeral storage: kubelet evicts a pod that uses more than
    the sum of its containers' limits, counting all their files and the shared volume. So a limit of
    ours alone would bind everybody's files, and without one we would eat into that of others."""
    resources: dict[str, Any] = copy.deepcopy(dict(settings.resources))
    theirs = [(c.get("resources") or {}).get("limits") or {} for c in spec["containers"]]
    if any(_EPHEMERAL in limits for limits in theirs):
        resources.setdefault("limits", {}).setdefault(_EPHEMERAL, settings.volume_limit)
    elif _EPHEMERAL in resources.get("limits", {}):
        for part in ("requests", "limits"):
            resources.get(part, {}).pop(_EPHEMERAL, None)
    return resources


# ---- volumes ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _MetricsMount:
    """The folder of the File collector: a volume of its own, or the one that is there already."""

    in_sidecar: Json
    in_primary: Json | None = None
    volume: Json | None = None


def _metrics_mount(spec: Json, primary: Json, plan: CollectionPlan) -> _MetricsMount | None:
    if plan.collector != "File" or not plan.metrics_path:
        return None
    folder = posixpath.normpath(posixpath.dirname(plan.metrics_path))
    if not posixpath.isabs(folder) or folder == "/":
        raise Invalid(
            f"the metrics file {plan.metrics_path} is not in a folder of its own, which is what a "
            "volume can be mounted at; choose a path such as /var/log/katib/metrics.log"
        )
    if _is_within(folder, SHARED):
        return None
    existing = _mount_of(primary, folder)
    if existing is not None:
        return _MetricsMount({**existing, "readOnly": True})
    name = _free_name(spec, "tunesmith-metrics")
    mount = {"name": name, "mountPath": folder}
    return _MetricsMount({**mount, "readOnly": True}, mount, {"name": name, "emptyDir": {}})


def _mount_of(primary: Json, folder: str) -> Json | None:
    """The mount of the training container that holds the folder, the innermost if several do."""
    mounts = [m for m in primary.get("volumeMounts") or [] if _is_within(folder, m["mountPath"])]
    if not mounts:
        return None
    found: Json = max(mounts, key=lambda mount: len(posixpath.normpath(mount["mountPath"])))
    if found.get("subPathExpr"):
        raise Invalid(
            f"the metrics file lies on the volume {found['name']}, which container "
            f"{primary['name']} mounts with subPathExpr: that cannot be mounted a second time; "
            "use subPath, or write the metrics elsewhere"
        )
    kept = ("name", "mountPath", "subPath")
    return {key: found[key] for key in kept if key in found}


def _is_within(folder: str, parent: str) -> bool:
    parent = posixpath.normpath(parent)
    return posixpath.isabs(parent) and posixpath.commonpath((folder, parent)) == parent


def _shared_volume(name: str, settings: InjectionSettings) -> Json:
    return {"name": name, "emptyDir": {"sizeLimit": settings.volume_limit}}


def _identity_volume(name: str, settings: InjectionSettings) -> Json:
    token = {
        "path": "token",
        "audience": settings.audience,
        "expirationSeconds": settings.token_seconds,
    }
    authority = {
        "name": settings.ca_config_map,
        "items": [{"key": "ca.crt", "path": "ca.crt"}],
    }
    sources = [{"serviceAccountToken": token}, {"configMap": authority}]
    return {"name": name, "projected": {"sources": sources}}


def _free_name(spec: Json, wanted: str) -> str:
    """The name, or the first of NAME-2, NAME-3, ... that no volume has."""
    taken = {volume.get("name") for volume in spec.get("volumes") or []}
    number, name = 1, wanted
    while name in taken:
        number += 1
        name = f"{wanted}-{number}"
    return name
