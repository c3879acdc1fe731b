# SPDX-License-Identifier: Apache-2.0
"""What an installation of Katib 0.19 leaves in a cluster: its own objects, and those of experiments
as its controller writes them (katib-reference 1, 3, 12). For tests of taking over."""

from __future__ import annotations

from typing import Any

import katib_objects as katib
from controlled_cluster import experiment
from running_cluster import Cluster

from tunesmith_controller.ports import Json

API = "/apis/kubeflow.org/v1beta1/namespaces"


class Left:
    """What Katib has left in a namespace."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster, self.namespace = cluster, namespace

    def create(self, plural: str, body: Json, status: Json | None = None) -> Json:
        path = f"{API}/{self.namespace}/{plural}"
        made = self.cluster.api.request("POST", path, body)
        told = body.get("status") if status is None else status
        where = f"{path}/{made['metadata']['name']}/status"
        return self.cluster.api.request("PUT", where, {**made, "status": told})

    def experiment(
        self, name: str, *, trials: int, succeeded: int, ended: bool, **spec: Any
    ) -> Json:
        body = experiment(name, self.namespace, **spec)
        body["metadata"]["finalizers"] = ["update-prometheus-metrics"]
        body["spec"] |= {"parallelTrialCount": 2, "resumePolicy": spec.get("resumePolicy", "Never")}
        template = body["spec"]["trialTemplate"]
        found = 'status.conditions.#(type=="%s")#|#(status=="True")#'
        template["successCondition"], template["failureCondition"] = (
            found % "Complete",
            found % "Failed",
        )
        body["spec"]["objective"]["metricStrategies"] = [{"name": "loss", "value": "min"}]
        status = katib.experiment_status(trials=trials, succeeded=succeeded, ended=ended)
        return self.create("experiments", body, status)

    def job(self, trial: Json) -> Json:
        """Of a trial that runs; somebody else than the Job controller ends it."""
        container = {"name": "main", "image": "none", "command": ["train"]}
        pod = {"spec": {"restartPolicy": "Never", "containers": [container]}}
        body = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": trial["metadata"]["name"],
                "labels": {
                    "katib.kubeflow.org/trial": trial["metadata"]["name"],
                    **trial["metadata"]["labels"],
                },
                "ownerReferences": [katib.owner("Trial", trial)],
            },
            "spec": {"managedBy": "example.org/katib", "template": pod},
        }
        path = f"/apis/batch/v1/namespaces/{self.namespace}/jobs"
        return self.cluster.api.request("POST", path, body)


def job_spec(name: str, namespace: str) -> Json:
    container = {"name": "main", "image": "none", "command": ["train"]}
    pod = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    metadata = {"name": name, "namespace": namespace}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {"template": pod},
    }


# ---- its installation ---------------------------------------------------------------------------

HOME = "kubeflow"
PARTS = ("katib-controller", "katib-db-manager", "katib-ui")
WEBHOOKS = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")


def installation() -> list[Json]:
    """With MySQL, as katib-standalone. Its definitions are plain_definitions."""
    return [
        *map(deployment, (*PARTS, "katib-mysql")),
        service("katib-db-manager", 6789, "db-manager"),
        service("katib-mysql", 3306, "mysql"),
        *map(webhooks, WEBHOOKS),
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": metadata("katib-mysql-secrets"),
            "stringData": {"MYSQL_ROOT_PASSWORD": "test"},
        },
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata("katib-config"),
            "data": {"katib-config.yaml": "kind: KatibConfig\nruntime: {}\n"},
        },
    ]


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
            "replicas": 1,
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


def suggestion_service(suggestion: Json) -> list[Json]:
    """The Deployment and the Service that Katib's controller makes for a search."""
    of, algorithm = suggestion["metadata"], suggestion["spec"]["algorithm"]["algorithmName"]
    name = f"{of['name']}-{algorithm}"
    labels = {
        "katib.kubeflow.org/deployment": name,
        "katib.kubeflow.org/experiment": of["name"],
        "katib.kubeflow.org/suggestion": of["name"],
    }
    owned = {"ownerReferences": [katib.owner("Suggestion", suggestion)], "labels": labels}
    head = {"name": name, "namespace": of["namespace"], **owned}
    image = "ghcr.io/kubeflow/katib/suggestion-hyperopt:v0.19.0"
    pod = {"containers": [{"name": "suggestion", "image": image}]}
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": head,
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": head,
            "spec": {"selector": labels, "ports": [{"name": "suggestion-api", "port": 6789}]},
        },
    ]
