# SPDX-License-Identifier: Apache-2.0
"""The node tier runs what trials and our services are made of."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from cluster_images import PYTHON, TUNESMITH
from killed_runs import killed_run, wait_until_gone
from node_files import NODE_ADDRESS
from running_cluster import Cluster

# A cold cache makes the images first.
pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


def container(name: str, *command: str, image: str = PYTHON) -> dict[str, Any]:
    return {"name": name, "image": image, "command": list(command)}


def job(namespace: str, name: str, *containers: dict[str, Any], **pod: Any) -> dict[str, Any]:
    spec = {"restartPolicy": "Never", "containers": list(containers), **pod}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"backoffLimit": 0, "template": {"spec": spec}},
    }


def run(cluster: Cluster, one: dict[str, Any]) -> str:
    """The log of a Job's first container, once it is complete."""
    name, namespace = one["metadata"]["name"], one["metadata"]["namespace"]
    cluster.apply(one)
    path = f"/apis/batch/v1/namespaces/{namespace}/jobs/{name}"
    ended = {"Complete", "Failed"}

    def over() -> bool:
        conditions = cluster.api.request("GET", path)["status"].get("conditions", [])
        return any(it["type"] in ended for it in conditions)

    cluster.wait_until(over, f"Job {name} over", 60, watch="kubelet")
    assert cluster.api.request("GET", path)["status"].get("succeeded") == 1, cluster.kubectl(
        "describe", "pods", "-n", namespace
    )
    main = one["spec"]["template"]["spec"]["containers"][0]["name"]
    return cluster.kubectl("logs", f"job/{name}", "-c", main, "-n", namespace)


def test_a_job_completes_and_its_log_is_readable(node_cluster: Cluster) -> None:
    namespace = node_cluster.namespace_of_test()
    numbers = "import numpy, scipy, sklearn; print(numpy.arange(4).sum())"
    assert run(node_cluster, job(namespace, "sum", container("m", "python3", "-c", numbers))) == (
        "6\n"
    )


def test_a_native_sidecar_runs_beside_the_job_and_does_not_keep_it(node_cluster: Cluster) -> None:
    namespace = node_cluster.namespace_of_test()
    mount = {"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}
    sidecar = container("side", "bash", "-c", "echo up >/shared/side; exec sleep 600") | mount
    probe = {"exec": {"command": ["test", "-e", "/shared/side"]}, "periodSeconds": 1}
    sidecar |= {"restartPolicy": "Always", "startupProbe": probe}
    main = container("main", "cat", "/shared/side") | mount
    volumes = [{"name": "shared", "emptyDir": {}}]

    one = job(
        namespace,
        "two",
        main,
        initContainers=[sidecar],
        volumes=volumes,
        terminationGracePeriodSeconds=1,
    )

    assert run(node_cluster, one) == "up\n"


def test_a_service_is_reached_by_its_name(node_cluster: Cluster) -> None:
    namespace = node_cluster.namespace_of_test()
    serve = container("web", "python3", "-m", "http.server", "8000", "--directory", "/etc")
    serve["readinessProbe"] = {"tcpSocket": {"port": 8000}, "periodSeconds": 1}
    labels = {"app": "web"}
    meta = {"name": "web", "namespace": namespace}
    node_cluster.apply(
        [
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": meta | {"labels": labels},
                "spec": {"containers": [serve], "terminationGracePeriodSeconds": 0},
            },
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": meta,
                "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8000}]},
            },
        ]
    )
    node_cluster.kubectl("wait", "--for=condition=Ready", "pod/web", "-n", namespace)
    url = f"http://web.{namespace}.svc.cluster.local/debian_version"
    ask = f"import urllib.request; print(urllib.request.urlopen({url!r}).read().decode())"

    from_a_pod = run(node_cluster, job(namespace, "ask", container("m", "python3", "-c", ask)))
    from_the_node = subprocess.check_output(
        node_cluster.enter(["python3", "-c", ask]), text=True, timeout=20
    )

    assert from_a_pod == from_the_node
    assert from_a_pod.startswith("12.")


def test_our_image_runs_read_only_and_without_rights(node_cluster: Cluster) -> None:
    namespace = node_cluster.namespace_of_test()
    ours = container("m", "tunesmith", "--help", image=TUNESMITH)
    ours["securityContext"] = {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    label = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    node_cluster.api.request("PATCH", f"/api/v1/namespaces/{namespace}", label)
    assert "Usage" in run(node_cluster, job(namespace, "help", ours))


def test_nothing_in_the_node_reaches_the_world_outside(node_cluster: Cluster) -> None:
    routes = subprocess.check_output(node_cluster.enter(["ip", "route"]), text=True, timeout=20)
    assert "default" not in routes
    assert NODE_ADDRESS in routes


def test_the_node_leaves_the_machine_alone(node_cluster: Cluster) -> None:
    """Its mounts are in a namespace of its own, though its processes are seen from here."""
    scratch = str(node_cluster.kubeconfig.parent)
    assert scratch not in Path("/proc/mounts").read_text()
    theirs = Path(f"/proc/{node_cluster.pids()['kubelet']}/mounts").read_text()
    assert f"{scratch}/kubelet" in theirs


@pytest.mark.usefixtures("node_cluster")
def test_nothing_of_a_node_is_left_when_the_test_run_is_killed() -> None:
    scratch, pids = killed_run("node_tier")
    assert len(pids) == 10
    wait_until_gone(scratch, pids)
    groups = Path("/sys/fs/cgroup")
    assert not [*groups.glob(scratch.name), *groups.glob(f"*/{scratch.name}")]
