# SPDX-License-Identifier: Apache-2.0
"""Our definitions on a real API server: it takes what people write, refuses what is ill-typed."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import given
import pytest
import yaml
from cluster_client import Refused
from cluster_processes import ClusterError
from running_cluster import Cluster

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
GROUP = "/apis/kubeflow.org/v1beta1"
EXAMPLES = sorted((ROOT / "examples").rglob("*.yaml"))


@pytest.fixture(scope="module")
def server(katib_cluster: Cluster) -> Cluster:
    return katib_cluster


@pytest.fixture
def namespace(server: Cluster) -> str:
    return server.namespace_of_test()


def experiment(**spec: object) -> dict[str, Any]:
    body = copy.deepcopy(given.experiment().json())
    body["metadata"] = {"name": "e"}
    body.pop("status", None)
    body["spec"].update(spec)
    return body


def created(server: Cluster, namespace: str, body: dict[str, Any]) -> dict[str, Any]:
    return server.api.request("POST", f"{GROUP}/namespaces/{namespace}/experiments", body)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_taken_as_it_is(server: Cluster, namespace: str, path: Path) -> None:
    documents = [each for each in yaml.safe_load_all(path.read_text()) if each]
    for document in documents:
        document["metadata"]["namespace"] = namespace
    server.apply(documents)
    for document in documents:
        if document["kind"] != "Experiment":
            continue
        name = document["metadata"]["name"]
        stored = server.api.request("GET", f"{GROUP}/namespaces/{namespace}/experiments/{name}")
        assert stored["spec"] == document["spec"]


@pytest.mark.parametrize(
    "feasible",
    [
        {"min": 0.1, "max": "0.5"},
        {"min": 1, "max": 5, "step": 1},
        {"distribution": ["a", "b"]},  # Katib's SDK 0.19
        {"list": ["a", 1, 2.5, True]},
    ],
)
def test_numbers_and_texts_are_both_taken_for_bounds(
    server: Cluster, namespace: str, feasible: dict[str, Any]
) -> None:
    parameter = {"name": "x", "parameterType": "double", "feasibleSpace": feasible}
    stored = created(server, namespace, experiment(parameters=[parameter]))
    assert stored["spec"]["parameters"] == [parameter]


def test_unknown_fields_and_any_job_are_kept(server: Cluster, namespace: str) -> None:
    body = experiment(somethingNew={"deep": [1, {"x": None}]})
    body["spec"]["trialTemplate"]["trialSpec"] = {
        "apiVersion": "example.org/v7",
        "kind": "Whatever",
        "spec": {"resources": {"cpu": 1.5, "gpu": "2"}, "flags": [True, None]},
    }
    stored = created(server, namespace, body)
    assert stored["spec"]["somethingNew"] == {"deep": [1, {"x": None}]}
    assert stored["spec"]["trialTemplate"] == body["spec"]["trialTemplate"]


@pytest.mark.parametrize(
    ("spec", "where"),
    [
        ({"maxTrialCount": "many"}, "spec.maxTrialCount"),
        ({"parameters": {"x": 1}}, "spec.parameters"),
        ({"objective": {"goal": "0.9"}}, "spec.objective.goal"),
        ({"trialTemplate": {"retain": "yes"}}, "spec.trialTemplate.retain"),
    ],
)
def test_what_is_ill_typed_is_refused_with_its_place(
    server: Cluster, namespace: str, spec: dict[str, Any], where: str
) -> None:
    with pytest.raises(Refused, match=where.replace(".", r"\.")) as refused:
        created(server, namespace, experiment(**spec))
    assert refused.value.code == 422


def test_an_ill_typed_trial_written_by_force_is_refused(server: Cluster, namespace: str) -> None:
    body = {
        "apiVersion": "kubeflow.org/v1beta1",
        "kind": "Trial",
        "metadata": {"name": "t"},
        "spec": {"parameterAssignments": "lr=0.1"},
    }
    with pytest.raises(Refused, match="parameterAssignments"):
        server.api.request("POST", f"{GROUP}/namespaces/{namespace}/trials", body)


def test_kubectl_explains_fields_and_shows_columns(server: Cluster, namespace: str) -> None:
    explained = server.kubectl("explain", "experiment.spec.objective")
    assert "What makes one trial better than another." in explained
    assert "objectiveMetricName" in explained
    created(server, namespace, experiment())
    head, row = server.kubectl("get", "exp", "-n", namespace).splitlines()
    assert head.split() == ["NAME", "TYPE", "STATUS", "AGE", "ALGORITHM", "DONE", "BEST"]
    assert row.split()[0] == "e"
    assert "experiment.kubeflow.org/e" in server.kubectl(
        "get", "katib", "-n", namespace, "-o", "name"
    )


def test_status_is_written_apart(server: Cluster, namespace: str) -> None:
    body = created(server, namespace, {**experiment(), "status": {"trials": 7}})
    assert "status" not in body
    with pytest.raises(ClusterError, match="not found"):
        server.kubectl("get", "exp", "no-such", "-n", namespace)
