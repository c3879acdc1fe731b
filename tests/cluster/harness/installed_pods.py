# SPDX-License-Identifier: Apache-2.0
"""An installation whose pods run because a test says so: the API tier has no node."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import subprocess
import sys
from datetime import UTC, datetime

from cluster_client import Json, Refused
from cluster_transport import transport_to
from running_cluster import Cluster

from tunesmith_controller.clock import SystemClock
from tunesmith_controller.webhook.authority import CertificateKeeper, CertificateSettings

OURS = "labelSelector=app.kubernetes.io/part-of=tunesmith"
_NUMBERS = itertools.count(1)
LEASES = "/apis/coordination.k8s.io/v1/namespaces"


def tunesmith(
    cluster: Cluster, *words: str, account: tuple[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The command line, as the administrator or as a service account (namespace and name)."""
    config = cluster.kubeconfig_of(*account) if account else cluster.kubeconfig
    argv = [sys.executable, "-m", "tunesmith", *words, "--kubeconfig", str(config)]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)


def installed(cluster: Cluster, *words: str) -> str:
    """What `tunesmith install` says that does not wait."""
    done = tunesmith(cluster, "install", "--image", "test.local/tunesmith:1", *words, "--wait", "0")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def pods(cluster: Cluster, namespace: str) -> list[Json]:
    path = f"/api/v1/namespaces/{namespace}/pods?{OURS}"
    return list(cluster.api.request("GET", path)["items"])


def run_everything(cluster: Cluster, namespace: str, count: int, only: str | None = None) -> None:
    """Volumes are bound, `count` pods run, the controller has made certificates and leads."""
    claims = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims"
    for claim in cluster.api.request("GET", f"{claims}?{OURS}")["items"]:
        _bind_volume(cluster, claim)
    cluster.wait_until(lambda: len(pods(cluster, namespace)) == count, f"{count} pods", 30)
    node = _new_node(cluster)
    for number, pod in enumerate(pods(cluster, namespace)):
        _run_pod(cluster, pod, node, f"198.18.0.{number + 10}")
    asyncio.run(_certify(cluster, namespace, only))
    leader = next(p for p in pods(cluster, namespace) if "controller" in p["metadata"]["name"])
    lead(cluster, namespace, leader["metadata"]["name"])


def _bind_volume(cluster: Cluster, claim: Json) -> None:
    name, namespace = claim["metadata"]["name"], claim["metadata"]["namespace"]
    spec = {
        "capacity": claim["spec"]["resources"]["requests"],
        "accessModes": claim["spec"]["accessModes"],
        "hostPath": {"path": "/nowhere"},
        "claimRef": {"name": name, "namespace": namespace},
        "persistentVolumeReclaimPolicy": "Retain",
    }
    body = {"metadata": {"name": f"{namespace}-{name}"}, "spec": spec}
    if not cluster.exists(f"/api/v1/persistentvolumes/{namespace}-{name}"):
        cluster.api.request("POST", "/api/v1/persistentvolumes", body)
    path = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{name}"
    # By itself the cluster looks for volumes every 15 s.
    cluster.api.request("PATCH", path, {"spec": {"volumeName": f"{namespace}-{name}"}})
    cluster.wait_until(
        lambda: cluster.api.request("GET", path)["status"].get("phase") == "Bound", path, 30
    )


def _new_node(cluster: Cluster) -> str:
    """Good for less than a minute: then the cluster misses its heartbeat."""
    name = f"node-{next(_NUMBERS)}"
    cluster.api.request("POST", "/api/v1/nodes", {"metadata": {"name": name}})
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    cluster.api.request("PATCH", f"/api/v1/nodes/{name}/status", {"status": ready})
    return name


def _run_pod(cluster: Cluster, pod: Json, node: str, address: str) -> None:
    path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"
    if not pod["spec"].get("nodeName"):
        target = {"apiVersion": "v1", "kind": "Node", "name": node}
        body = {"metadata": {"name": pod["metadata"]["name"]}, "target": target}
        cluster.api.request("POST", f"{path}/binding", body)
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    conditions = [{"type": t, "status": "True"} for t in ("Ready", "ContainersReady")]
    container = {"name": pod["spec"]["containers"][0]["name"], "image": "none", "imageID": ""}
    running = {"state": {"running": {"startedAt": now}}, "ready": True, "restartCount": 0}
    status = {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": conditions,
        "containerStatuses": [{**container, **running}],
    }
    cluster.api.request("PATCH", f"{path}/status", {"status": status})


def lead(cluster: Cluster, namespace: str, holder: str) -> None:
    """As if that pod had taken the lease."""
    path = f"{LEASES}/{namespace}/leases"
    body = {"metadata": {"name": "tunesmith-controller"}, "spec": {"holderIdentity": holder}}
    with contextlib.suppress(Refused):
        cluster.api.request("DELETE", f"{path}/tunesmith-controller")
    cluster.api.request("POST", path, body)


async def _certify(cluster: Cluster, namespace: str, only: str | None) -> None:
    """As the controller's account does it, with no more rights."""
    token = cluster.service_account_token(namespace, "tunesmith-controller")
    transport = transport_to(cluster, token)
    try:
        within = None if only is None else (only,)
        settings = CertificateSettings(namespace, namespaces=within, webhooks=only is None)
        await CertificateKeeper(transport, SystemClock(), settings).step()
    finally:
        await transport.aclose()
