# SPDX-License-Identifier: Apache-2.0
"""The objects of one experiment's suggestion service in a cluster, as Katib makes them. Pure.

Called by `ClusterAlgorithmHost`, which creates them in the order given here.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tunesmith_api import names
from tunesmith_controller.katib_config import (
    SUGGESTION_PORT,
    SUGGESTION_PORT_NAME,
    ImageEntry,
    SuggestionEntry,
)
from tunesmith_controller.ports import Json

LABEL_DEPLOYMENT: Final = "katib.kubeflow.org/deployment"
STOPPING_PORT: Final = 6788
STOPPING_PORT_NAME: Final = "earlystop-api"
HEALTH_SERVICE: Final = "manager.v1beta1.Suggestion"
"""What Katib's images call themselves to the gRPC health protocol."""

_VOLUME: Final = "suggestion-volume"
_NO_MESH: Final = {"sidecar.istio.io/inject": "false"}
KEEPS_SERVICE: Final = "LongRunning"
KEEPS_VOLUME: Final = "FromVolume"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A service that is to run: whose, how, with which early stopping beside it."""

    suggestion: Json
    entry: SuggestionEntry
    stopping: ImageEntry | None = None
    probes: bool = True

    @property
    def name(self) -> str:
        """Of every object: EXPERIMENT-ALGORITHM."""
        return f"{self.suggestion['metadata']['name']}-{self.entry.algorithm}"

    @property
    def namespace(self) -> str:
        return str(self.suggestion["metadata"]["namespace"])

    @property
    def keeps_volume(self) -> bool:
        return resume_policy(self.suggestion) == KEEPS_VOLUME

    def objects(self) -> list[Json]:
        """A service goes before its Deployment does, so a Deployment is all that can be left."""
        storage = [*_volumes(self), _claim(self)] if self.keeps_volume else []
        return [*storage, _deployment(self), _service(self)]


def resume_policy(suggestion: Json) -> str:
    return str((suggestion.get("spec") or {}).get("resumePolicy") or "")


def algorithm_of(suggestion: Json, part: str) -> str:
    """The name of its `algorithm` or `earlyStopping`; empty without one."""
    spec = (suggestion.get("spec") or {}).get(part) or {}
    return str(spec.get("algorithmName") or "")


def _labels(wanted: Wanted) -> Mapping[str, str]:
    metadata = wanted.suggestion["metadata"]
    own = {
        LABEL_DEPLOYMENT: wanted.name,
        names.LABEL_EXPERIMENT: metadata["name"],
        names.LABEL_SUGGESTION: metadata["name"],
    }
    return {**(metadata.get("labels") or {}), **own, **_NO_MESH}


def _metadata(wanted: Wanted) -> Json:
    owner = {
        "apiVersion": "kubeflow.org/v1beta1",
        "kind": "Suggestion",
        "name": wanted.suggestion["metadata"]["name"],
        "uid": wanted.suggestion["metadata"]["uid"],
        "controller": True,
    }
    return {
        "name": wanted.name,
        "namespace": wanted.namespace,
        "labels": dict(_labels(wanted)),
        "ownerReferences": [owner],
    }


def _service(wanted: Wanted) -> Json:
    ports = [{"name": SUGGESTION_PORT_NAME, "port": SUGGESTION_PORT}]
    if wanted.stopping is not None:
        ports.append({"name": STOPPING_PORT_NAME, "port": STOPPING_PORT})
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(wanted),
        "spec": {
            "type": "ClusterIP",
            "selector": {LABEL_DEPLOYMENT: wanted.name},
            "ports": ports,
            # Whether it answers is asked over gRPC, sooner than kubelet's probes would tell.
            "publishNotReadyAddresses": True,
        },
    }


def _deployment(wanted: Wanted) -> Json:
    annotations = wanted.suggestion["metadata"].get("annotations") or {}
    template = {
        "metadata": {"labels": dict(_labels(wanted)), "annotations": dict(annotations)},
        "spec": _pod_spec(wanted),
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(wanted),
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {LABEL_DEPLOYMENT: wanted.name}},
            "template": template,
        },
    }


def _pod_spec(wanted: Wanted) -> Json:
    containers = [_container(wanted)]
    if wanted.stopping is not None:
        containers.append(_stopping_container(wanted.stopping))
    spec: Json = {"containers": containers}
    if wanted.entry.service_account:
        spec["serviceAccountName"] = wanted.entry.service_account
    if wanted.keeps_volume:
        claim = {"claimName": wanted.name}
        spec["volumes"] = [{"name": _VOLUME, "persistentVolumeClaim": claim}]
    return spec


def _container(wanted: Wanted) -> Json:
    container = copy.deepcopy(wanted.entry.container)
    port = {"name": SUGGESTION_PORT_NAME, "containerPort": SUGGESTION_PORT}
    container["ports"] = [*(container.get("ports") or []), port]
    if wanted.probes:
        container.setdefault("readinessProbe", _probe(initialDelaySeconds=1, periodSeconds=5))
        liveness = _probe(initialDelaySeconds=10, periodSeconds=120, failureThreshold=12)
        container.setdefault("livenessProbe", liveness)
    if wanted.keeps_volume:
        mount = {"name": _VOLUME, "mountPath": wanted.entry.mount_path}
        container["volumeMounts"] = [*(container.get("volumeMounts") or []), mount]
    return container


def _probe(**times: int) -> dict[str, Any]:
    return {"grpc": {"port": SUGGESTION_PORT, "service": HEALTH_SERVICE}, **times}


def _stopping_container(stopping: ImageEntry) -> Json:
    return {
        "name": "early-stopping",
        "image": stopping.image,
        "imagePullPolicy": stopping.image_pull_policy,
        "resources": stopping.resources,
        "ports": [{"name": STOPPING_PORT_NAME, "containerPort": STOPPING_PORT}],
    }


def _claim(wanted: Wanted) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": _metadata(wanted),
        "spec": copy.deepcopy(wanted.entry.claim),
    }


def _volumes(wanted: Wanted) -> list[Json]:
    """A volume of no namespace and of no owner, which goes with its claim."""
    if wanted.entry.volume is None:
        return []
    metadata = {
        "name": f"{wanted.name}-{wanted.namespace}",
        "labels": dict(wanted.entry.volume_labels),
    }
    spec = {**copy.deepcopy(wanted.entry.volume), "persistentVolumeReclaimPolicy": "Delete"}
    volume = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": spec}
    return [volume]
