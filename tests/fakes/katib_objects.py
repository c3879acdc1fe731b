# SPDX-License-Identifier: Apache-2.0
"""An experiment as Katib 0.19's controller leaves it in a cluster (katib-reference 1, 3)."""

from __future__ import annotations

from typing import Any

from tunesmith_controller.ports import Json

API = "kubeflow.org/v1beta1"
TIME = "2025-06-01T12:00:00Z"


def condition(type_: str, reason: str, status: str = "True") -> Json:
    times = {"lastUpdateTime": TIME, "lastTransitionTime": TIME}
    return {"type": type_, "status": status, "reason": reason, "message": reason, **times}


def owner(kind: str, obj: Json) -> Json:
    metadata = obj["metadata"]
    whose = {"apiVersion": API, "kind": kind, "name": metadata["name"], "uid": metadata["uid"]}
    return {**whose, "controller": True, "blockOwnerDeletion": True}


def suggestion(experiment: Json, points: dict[str, str], *, ended: bool) -> Json:
    """`points`: the parameter x by name of the trial, in the order of asking."""
    conditions = [
        condition("Created", "SuggestionCreated"),
        condition("DeploymentReady", "DeploymentReady"),
        condition("Running", "SuggestionRunning", "False" if ended else "True"),
    ]
    if ended:
        conditions.append(condition("Succeeded", "SuggestionSucceeded"))
    spec = experiment["spec"]
    told = [
        {"name": name, "parameterAssignments": [{"name": "x", "value": value}]}
        for name, value in points.items()
    ]
    metadata = experiment["metadata"]
    return {
        "apiVersion": API,
        "kind": "Suggestion",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "ownerReferences": [owner("Experiment", experiment)],
        },
        "spec": {
            "algorithm": spec["algorithm"],
            "requests": len(points),
            "resumePolicy": spec.get("resumePolicy", "Never"),
        },
        "status": {
            "conditions": conditions,
            "startTime": TIME,
            "suggestionCount": len(points),
            "suggestions": told,
        },
    }


def trial(experiment: Json, name: str, value: str, job: Json, loss: float | None) -> Json:
    """One that has succeeded, or one that runs."""
    metadata, spec = experiment["metadata"], experiment["spec"]
    conditions = [condition("Created", "TrialCreated")]
    status: dict[str, Any] = {"startTime": TIME}
    if loss is None:
        conditions.append(condition("Running", "TrialRunning"))
    else:
        reason = "TrialSucceeded. Job reason: CompletionsReached"
        conditions.append(condition("Running", "TrialRunning", "False"))
        conditions.append(condition("Succeeded", reason))
        figures = dict.fromkeys(("min", "max", "latest"), repr(loss))
        status["observation"] = {"metrics": [{"name": "loss", **figures}]}
        status["completionTime"] = TIME
    template = spec["trialTemplate"]
    found = 'status.conditions.#(type=="%s")#|#(status=="True")#'
    return {
        "apiVersion": API,
        "kind": "Trial",
        "metadata": {
            "name": name,
            "namespace": metadata["namespace"],
            "labels": {"katib.kubeflow.org/experiment": metadata["name"]},
            "finalizers": ["clean-metrics-in-db"],
            "ownerReferences": [owner("Experiment", experiment)],
        },
        "spec": {
            "objective": {
                **spec["objective"],
                "metricStrategies": [{"name": "loss", "value": "min"}],
            },
            "parameterAssignments": [{"name": "x", "value": value}],
            "metricsCollector": {"collector": {"kind": "StdOut"}},
            "primaryContainerName": template["primaryContainerName"],
            "runSpec": job,
            "successCondition": found % "Complete",
            "failureCondition": found % "Failed",
        },
        "status": {**status, "conditions": conditions},
    }


def experiment_status(*, trials: int, succeeded: int, ended: bool) -> Json:
    conditions = [
        condition("Created", "ExperimentCreated"),
        condition("Running", "ExperimentRunning", "False" if ended else "True"),
    ]
    if ended:
        conditions.append(condition("Succeeded", "ExperimentMaxTrialsReached"))
    return {
        "conditions": conditions,
        "startTime": TIME,
        "completionTime": TIME if ended else None,
        "trials": trials,
        "trialsSucceeded": succeeded,
    }
