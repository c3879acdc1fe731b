# SPDX-License-Identifier: Apache-2.0
"""Katib's defaults, field by field."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import written

from tunesmith_api.defaulting import default


def defaulted(path: written.Path, value: Any, asked: written.Path) -> Any:
    return written.at(default(written.bent(path, value)), asked)


def template(api_version: str, kind: str) -> Any:
    job = {"apiVersion": api_version, "kind": kind}
    return defaulted(written.JOB, job, written.TEMPLATE)


def test_counts_policy_and_collector_get_katibs_defaults() -> None:
    spec = default(written.experiment())["spec"]

    assert spec["parallelTrialCount"] == 3
    assert spec["resumePolicy"] == "Never"
    assert spec["metricsCollectorSpec"] == {"collector": {"kind": "StdOut"}}
    assert [p["feasibleSpace"]["distribution"] for p in spec["parameters"]] == ["uniform"] * 4


def test_what_is_given_stays() -> None:
    given = written.experiment()
    given["spec"] |= {"parallelTrialCount": 1, "resumePolicy": "LongRunning"}
    given["spec"]["parameters"][0]["feasibleSpace"]["distribution"] = "logUniform"
    given["spec"]["trialTemplate"] |= {"successCondition": "a", "failureCondition": "b"}

    spec = default(given)["spec"]

    assert (spec["parallelTrialCount"], spec["resumePolicy"]) == (1, "LongRunning")
    assert spec["parameters"][0]["feasibleSpace"]["distribution"] == "logUniform"
    assert spec["trialTemplate"]["successCondition"] == "a"
    assert spec["trialTemplate"]["failureCondition"] == "b"


@pytest.mark.parametrize(
    ("type_", "rule"), [("minimize", "min"), ("maximize", "max"), ("other", "latest")]
)
def test_every_metric_without_a_strategy_gets_the_rule_of_the_objective(
    type_: str, rule: str
) -> None:
    objective = {
        "type": type_,
        "objectiveMetricName": "loss",
        "additionalMetricNames": ["accuracy", "time"],
        "metricStrategies": [{"name": "time", "value": "latest"}],
    }

    found = defaulted(("spec", "objective"), objective, ("spec", "objective", "metricStrategies"))

    assert [(s["name"], s["value"]) for s in found] == [
        ("time", "latest"),
        ("loss", rule),
        ("accuracy", rule),
    ]


def test_a_job_gets_conditions_and_no_pod_labels() -> None:
    found = template("batch/v1", "Job")

    assert found["successCondition"] == 'status.conditions.#(type=="Complete")#|#(status=="True")#'
    assert found["failureCondition"] == 'status.conditions.#(type=="Failed")#|#(status=="True")#'
    assert "primaryPodLabels" not in found


@pytest.mark.parametrize("kind", ["PyTorchJob", "TFJob", "XGBoostJob", "MPIJob"])
def test_a_training_job_gets_conditions_and_the_master_as_primary_pod(kind: str) -> None:
    found = template("kubeflow.org/v1", kind)

    assert '"Succeeded"' in found["successCondition"]
    assert found["primaryPodLabels"] == {"training.kubeflow.org/job-role": "master"}


def test_a_train_job_gets_its_first_node_as_primary_pod() -> None:
    found = template("trainer.kubeflow.org/v1alpha1", "TrainJob")

    assert '"Complete"' in found["successCondition"]
    assert found["primaryPodLabels"] == {
        "jobset.sigs.k8s.io/replicatedjob-name": "node",
        "batch.kubernetes.io/job-completion-index": "0",
    }


def test_the_mpi_operators_own_job_has_its_launcher_as_primary_pod() -> None:
    found = template("kubeflow.org/v2beta1", "MPIJob")

    assert found["primaryPodLabels"] == {"training.kubeflow.org/job-role": "launcher"}


def test_the_kind_alone_decides_as_in_katib() -> None:
    assert "successCondition" in template("example.org/v7", "Job")


def test_an_unknown_kind_and_a_config_map_get_nothing() -> None:
    assert "successCondition" not in template("example.org/v7", "Dance")
    source = {"configMap": {"configMapName": "a"}}
    assert defaulted(written.TEMPLATE, source, written.TEMPLATE) == source


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        (
            "File",
            {
                "fileSystemPath": {
                    "kind": "File",
                    "path": "/var/log/katib/metrics.log",
                    "format": "TEXT",
                }
            },
        ),
        (
            "TensorFlowEvent",
            {"fileSystemPath": {"kind": "Directory", "path": "/var/log/katib/tfevent/"}},
        ),
        ("PrometheusMetric", {"httpGet": {"path": "/metrics", "port": 8080}}),
    ],
)
def test_a_collector_gets_the_place_it_reads(kind: str, source: Any) -> None:
    here = ("spec", "metricsCollectorSpec")

    assert defaulted(here, {"collector": {"kind": kind}}, (*here, "source")) == source


def test_a_port_of_zero_is_no_port() -> None:
    here = ("spec", "metricsCollectorSpec")
    given = {"collector": {"kind": "PrometheusMetric"}, "source": {"httpGet": {"port": 0}}}

    assert defaulted(here, given, (*here, "source", "httpGet", "port")) == 8080


@pytest.mark.parametrize("sent", [["a", "b"], "['a', 'b']", ' ["a", "b"]'])
def test_a_list_that_katibs_sdk_put_into_distribution_moves_to_list(sent: Any) -> None:
    space = ("spec", "parameters", 3, "feasibleSpace")

    found = defaulted(space, {"distribution": sent}, space)

    assert found == {"distribution": "uniform", "list": ["a", "b"]}


@pytest.mark.parametrize("sent", ["[1, (2, 3)]", "[__import__('os')]", "[" * 9000, [["a"]], {}])
def test_other_things_in_distribution_stay_for_validation(sent: Any) -> None:
    space = ("spec", "parameters", 3, "feasibleSpace")

    found = defaulted(space, {"distribution": sent}, space)

    assert "list" not in found


def test_the_argument_is_not_changed_and_unknown_fields_stay() -> None:
    given = written.bent(("spec", "objective", "weight"), None)
    given["spec"]["later"] = {"a": [None]}
    before = copy.deepcopy(given)

    found = default(given)

    assert given == before
    assert found["spec"]["later"] == {"a": [None]}
    assert "weight" in found["spec"]["objective"]


def test_defaulting_twice_is_defaulting_once() -> None:
    once = default(written.experiment())

    assert default(once) == once
