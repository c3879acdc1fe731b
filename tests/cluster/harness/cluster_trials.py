# SPDX-License-Identifier: Apache-2.0
"""Trials of a test cluster, as objects that may own jobs, and attempts of them."""

from cluster_client import Json
from running_cluster import Cluster

from tunesmith_controller.ports import Key, TrialRun

TRIALS = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "trials.kubeflow.org"},
    "spec": {
        "group": "kubeflow.org",
        "names": {"kind": "Trial", "plural": "trials", "singular": "trial"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1beta1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "x-kubernetes-preserve-unknown-fields": True,
                    }
                },
            }
        ],
    },
}


def job_of(*command: str, kind: str = "Job", spec: Json | None = None) -> Json:
    """A batch/v1 Job with one container, `main`, that is not tried again."""
    container = {"name": "main", "image": "none", "command": list(command)}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    return {
        "apiVersion": "batch/v1",
        "kind": kind,
        "spec": {"backoffLimit": 0, "template": template, **(spec or {})},
    }


def trial_run(cluster: Cluster, namespace: str, name: str, job: Json) -> TrialRun:
    """The first attempt of a new Trial, an object without which a job would be collected as
    garbage."""
    install_trials(cluster)
    trials = f"/apis/kubeflow.org/v1beta1/namespaces/{namespace}/trials"
    body = {"apiVersion": "kubeflow.org/v1beta1", "kind": "Trial", "metadata": {"name": name}}
    uid = cluster.api.request("POST", trials, body)["metadata"]["uid"]
    spec = {**job, "metadata": {"name": name, "namespace": namespace}}
    return TrialRun(Key("Trial", namespace, name), uid, 1, spec, "main", metrics=("loss",))


def install_trials(cluster: Cluster) -> None:
    """The kind, unless a test has installed it."""
    if not cluster.exists(
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/trials.kubeflow.org"
    ):
        cluster.apply(TRIALS)
    cluster.wait_until(
        lambda: cluster.exists("/apis/kubeflow.org/v1beta1/trials"), "the kind Trial", 30
    )
