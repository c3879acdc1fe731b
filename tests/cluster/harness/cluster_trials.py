# SPDX-License-Identifier: Apache-2.0
"""Trials of a test cluster, as objects that may own jobs, and attempts of them."""

from pathlib import Path

from cluster_client import Json
from running_cluster import Cluster

from tunesmith_controller.ports import Key, TrialRun

CRDS = Path(__file__).parents[3] / "deploy" / "crds"


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
    install_kinds(cluster)
    trials = f"/apis/kubeflow.org/v1beta1/namespaces/{namespace}/trials"
    body = {"apiVersion": "kubeflow.org/v1beta1", "kind": "Trial", "metadata": {"name": name}}
    uid = cluster.api.request("POST", trials, body)["metadata"]["uid"]
    spec = {**job, "metadata": {"name": name, "namespace": namespace}}
    return TrialRun(Key("Trial", namespace, name), uid, 1, spec, "main", metrics=("loss",))


def install_kinds(cluster: Cluster) -> None:
    """Experiment, Suggestion and Trial, unless a test has installed them."""
    kinds = [
        f"/apis/kubeflow.org/v1beta1/{name}s" for name in ("experiment", "suggestion", "trial")
    ]
    if not all(cluster.exists(kind) for kind in kinds):
        cluster.apply(CRDS)
    for kind in kinds:
        cluster.wait_until(lambda kind=kind: cluster.exists(kind), kind, 30)  # type: ignore[misc]
