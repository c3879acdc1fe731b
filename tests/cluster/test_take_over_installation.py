# SPDX-License-Identifier: Apache-2.0
"""`tunesmith install --take-over` on a cluster with an installation of Katib; no pod runs here, its
objects are those of Katib 0.19."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from cluster_client import Json
from cluster_programs import Tier, require
from installed_pods import tunesmith
from running_cluster import Cluster, api_tier

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

HOME = "kubeflow"
HOOKS = "/apis/admissionregistration.k8s.io/v1"
KATIBS = ("katib-controller", "katib-db-manager", "katib-ui")
WORDS = ("install", "--take-over", "--image", "test.local/tunesmith:1", "--wait", "0")


def metadata(name: str) -> Json:
    return {"name": name, "namespace": HOME}


def deployment(name: str) -> Json:
    component = {"katib.kubeflow.org/component": name.removeprefix("katib-")}
    pod = {"containers": [{"name": "katib", "image": f"ghcr.io/kubeflow/katib/{name}:v0.19.0"}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(name),
        "spec": {
            "selector": {"matchLabels": component},
            "template": {"metadata": {"labels": component}, "spec": pod},
        },
    }


def service(name: str, port: int, component: str) -> Json:
    spec: Json = {"ports": [{"name": "api", "port": port, "protocol": "TCP"}]}
    spec["selector"] = {"katib.kubeflow.org/component": component}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata(name), "spec": spec}


def webhooks(kind: str) -> Json:
    hook: Json = {
        "name": "experiment.mutator.katib.kubeflow.org",
        "clientConfig": {"service": {"name": "katib-controller", "namespace": HOME}},
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "rules": [],
    }
    head = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind}
    return {**head, "metadata": {"name": "katib.kubeflow.org"}, "webhooks": [hook]}


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One of its own, with Katib."""
    with api_tier(require(Tier.API), tmp_path_factory.mktemp("katibs-cluster")) as found:
        found.create_namespace(HOME)
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata("katib-mysql-secrets")}
        secret["stringData"] = {"MYSQL_ROOT_PASSWORD": "test"}
        config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata("katib-config")}
        config["data"] = {"katib-config.yaml": "kind: KatibConfig\nruntime: {}\n"}
        found.apply(
            [
                *map(deployment, (*KATIBS, "katib-mysql")),
                service("katib-db-manager", 6789, "db-manager"),
                service("katib-mysql", 3306, "mysql"),
                webhooks("MutatingWebhookConfiguration"),
                webhooks("ValidatingWebhookConfiguration"),
                secret,
                config,
            ]
        )
        for name in KATIBS:
            found.wait_until(
                lambda name=name: of(found, name)["status"].get("replicas"),  # type: ignore[misc]
                f"a pod of {name}",
            )
        yield found


def of(cluster: Cluster, name: str) -> dict[str, Any]:
    return cluster.api.request("GET", f"/apis/apps/v1/namespaces/{HOME}/deployments/{name}")


def check_that_all_is_ours(cluster: Cluster) -> None:
    for name in KATIBS:
        assert of(cluster, name)["spec"]["replicas"] == 0
    assert of(cluster, "katib-mysql")["spec"]["replicas"] == 1
    for kind in ("mutatingwebhookconfigurations", "validatingwebhookconfigurations"):
        names = {
            e["metadata"]["name"] for e in cluster.api.request("GET", f"{HOOKS}/{kind}")["items"]
        }
        assert "katib.kubeflow.org" not in names
        assert "tunesmith.kubeflow.org" in names
    path = f"/api/v1/namespaces/{HOME}/services/katib-db-manager"
    selected = cluster.api.request("GET", path)["spec"]["selector"]
    assert "katib.kubeflow.org/component" not in selected
    assert "tunesmith-observation" in selected.values()
    config = f"/api/v1/namespaces/{HOME}/configmaps/katib-config"
    assert "KatibConfig" in cluster.api.request("GET", config)["data"]["katib-config.yaml"]
    path = f"/apis/batch/v1/namespaces/{HOME}/jobs/tunesmith-import-katib-db"
    [container] = cluster.api.request("GET", path)["spec"]["template"]["spec"]["containers"]
    assert "mysql://root@katib-mysql:3306/katib" in container["args"]


def test_katib_is_stopped_and_ours_is_there_and_twice_is_once(cluster: Cluster) -> None:
    refused = tunesmith(cluster, "install", "--wait", "0")
    assert refused.returncode == 2 and "tunesmith install --take-over" in refused.stderr
    asked = tunesmith(cluster, *WORDS)  # nobody is there to agree
    assert asked.returncode == 1 and "katib-controller" in asked.stdout
    assert of(cluster, "katib-controller")["spec"]["replicas"] == 1

    done = tunesmith(cluster, *WORDS, "--yes")
    assert done.returncode == 0, done.stderr
    assert "stopped  Deployment kubeflow/katib-controller" in done.stdout
    check_that_all_is_ours(cluster)

    again = tunesmith(cluster, *WORDS, "--yes")
    assert again.returncode == 0, again.stderr
    assert "0 created, 0 changed" in again.stdout
    check_that_all_is_ours(cluster)
    uninstalled = tunesmith(cluster, "uninstall", "--yes")
    assert uninstalled.returncode == 0, uninstalled.stderr
    assert of(cluster, "katib-controller")["spec"]["replicas"] == 0


def test_whatever_interrupts_it_the_same_command_completes_it(cluster: Cluster) -> None:
    argv = [sys.executable, "-m", "tunesmith", *WORDS, "--yes", "--kubeconfig"]
    for lines in (1, 3, 12):  # so much is said, then it is killed
        process = subprocess.Popen(
            [*argv, str(cluster.kubeconfig)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert process.stdout is not None
        for _ in range(lines):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=10)
        process.stdout.close()
    done = tunesmith(cluster, *WORDS, "--yes")
    assert done.returncode == 0, done.stderr
    check_that_all_is_ours(cluster)
