# SPDX-License-Identifier: Apache-2.0
"""A real API server takes pods and Jobs with a collector, also where Pod Security is restricted."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from cluster_client import Refused
from running_cluster import Cluster

from tunesmith_controller.admission.collection import CollectionPlan, mark
from tunesmith_controller.admission.pods import InjectionSettings, inject

pytestmark = pytest.mark.integration

Json = dict[str, Any]
SETTINGS = InjectionSettings(image="test.local/tunesmith:1")
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "seccompProfile": {"type": "RuntimeDefault"},
}
MAIN: Json = {
    "name": "main",
    "image": "test.local/python:1",
    "command": ["python3", "-c", "print('loss=0.5')\n# $(id) \"' "],
    "securityContext": RESTRICTED,
}


def plan(namespace: str, **changes: Any) -> CollectionPlan:
    return CollectionPlan("t1", namespace, "uid-1", 1, "main", metrics=("loss",), **changes)


def template(**spec: Any) -> Json:
    return {"metadata": {}, "spec": {"restartPolicy": "Never", "containers": [MAIN], **spec}}


def restricted(cluster: Cluster) -> str:
    namespace = cluster.namespace_of_test()
    level = "pod-security.kubernetes.io/enforce=restricted"
    cluster.kubectl("label", "namespace", namespace, level)
    return namespace


def created(cluster: Cluster, namespace: str, pod: Json) -> Json:
    body = copy.deepcopy(pod)
    body["metadata"]["generateName"] = "t1-"
    found: Json = cluster.api.request("POST", f"/api/v1/namespaces/{namespace}/pods", body)
    return found


@pytest.mark.parametrize(
    ("spec", "changes"),
    [
        ({}, {}),
        ({"terminationGracePeriodSeconds": 5, "restartPolicy": "OnFailure"}, {}),
        ({}, {"collector": "File", "metrics_path": "/var/log/katib/metrics.log"}),
        ({"volumes": [{"name": "tunesmith", "emptyDir": {}}]}, {"collector": "Push"}),
        ({"initContainers": [{**MAIN, "name": "first"}]}, {}),
        ({"initContainers": [{**MAIN, "name": "proxy", "restartPolicy": "Always"}]}, {}),
        ({"containers": [{**MAIN, "command": None, "args": ["x"]}]}, {}),
        ({"containers": [{**MAIN, "name": "other"}, MAIN]}, {"entrypoint": ("unused",)}),
    ],
)
def test_pods_are_admitted_where_pod_security_is_restricted(
    api_cluster: Cluster, spec: Json, changes: Json
) -> None:
    namespace = restricted(api_cluster)
    collection = plan(namespace, **changes)
    pod = template(**spec)
    pod["metadata"] = mark(pod["metadata"], collection)

    stored = created(api_cluster, namespace, inject(pod, collection, SETTINGS))

    assert stored["spec"]["initContainers"][0]["name"] == "metrics-logger-and-collector"
    assert inject(stored, collection, SETTINGS) == stored


def test_what_restricted_refuses_it_refuses_with_a_collector_too(api_cluster: Cluster) -> None:
    namespace = restricted(api_cluster)
    pod = template(containers=[{**MAIN, "securityContext": {"privileged": True}}])
    with pytest.raises(Refused, match="privileged"):
        created(api_cluster, namespace, inject(pod, plan(namespace), SETTINGS))


def test_a_job_keeps_the_argv_of_its_template(api_cluster: Cluster) -> None:
    namespace = api_cluster.namespace_of_test()
    body = inject(template(), plan(namespace), SETTINGS)
    job = {"metadata": {"name": "t1"}, "spec": {"template": body}}
    path = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    stored = api_cluster.api.request("POST", path, job)
    containers = stored["spec"]["template"]["spec"]["containers"]
    assert containers[0]["command"] == ["/tunesmith/launcher", "--", *MAIN["command"]]
