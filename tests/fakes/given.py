# SPDX-License-Identifier: Apache-2.0
"""Builders of objects for tests: `given.experiment(...)`, `given.trial(...)`, small and valid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from tunesmith_api import names
from tunesmith_api.resources import Experiment, Suggestion, Trial
from tunesmith_controller.trial.facts import TrialFacts, facts_of

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SUCCESS = 'status.conditions.#(type=="Complete")#|#(status=="True")#'
FAILURE = 'status.conditions.#(type=="Failed")#|#(status=="True")#'

PARAMETERS: Sequence[Mapping[str, Any]] = (
    {
        "name": "x",
        "parameterType": "double",
        "feasibleSpace": {"min": "-4", "max": "4", "distribution": "uniform"},
    },
)


def experiment(
    name: str = "quick",
    *,
    namespace: str = "default",
    uid: str = "uid-quick",
    parallel: int = 2,
    max_trials: int | None = 4,
    max_failed: int | None = None,
    goal: float | None = None,
    algorithm: str = "random",
    settings: Mapping[str, str] | None = None,
    parameters: Sequence[Mapping[str, Any]] = PARAMETERS,
    command: Sequence[str] = ("python3", "train.py"),
    metric: str = "loss",
    **status: Any,
) -> Experiment:
    """A defaulted Experiment; keyword arguments beyond the named ones become its status."""
    objective: dict[str, Any] = {
        "type": "minimize",
        "objectiveMetricName": metric,
        "metricStrategies": [{"name": metric, "value": "min"}],
    }
    spec: dict[str, Any] = {
        "parameters": [dict(p) for p in parameters],
        "objective": objective | ({} if goal is None else {"goal": goal}),
        "algorithm": {
            "algorithmName": algorithm,
            "algorithmSettings": [
                {"name": n, "value": v} for n, v in (settings or {"random_state": "7"}).items()
            ],
        },
        "parallelTrialCount": parallel,
        "resumePolicy": "Never",
        "metricsCollectorSpec": {"collector": {"kind": "StdOut"}},
        "trialTemplate": _template(parameters, command),
    }
    if max_trials is not None:
        spec["maxTrialCount"] = max_trials
    if max_failed is not None:
        spec["maxFailedTrialCount"] = max_failed
    return Experiment.parse(
        {
            "apiVersion": "kubeflow.org/v1beta1",
            "kind": "Experiment",
            "metadata": {"name": name, "namespace": namespace, "uid": uid, "resourceVersion": "1"},
            "spec": spec,
            "status": status,
        }
    )


def _template(parameters: Sequence[Mapping[str, Any]], command: Sequence[str]) -> dict[str, Any]:
    args = [f"--{p['name']}=${{trialParameters.{p['name']}}}" for p in parameters]
    container = {"name": "main", "image": "python:3.11", "command": [*command, *args]}
    return {
        "primaryContainerName": "main",
        "successCondition": SUCCESS,
        "failureCondition": FAILURE,
        "trialParameters": [{"name": p["name"], "reference": p["name"]} for p in parameters],
        "trialSpec": {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [container]}}},
        },
    }


def conditions(*types: str) -> list[dict[str, str]]:
    """A list of true conditions; the last is the state."""
    return [{"type": type_, "status": "True", "reason": type_, "message": ""} for type_ in types]


def suggestion(
    *,
    requests: int = 2,
    count: int = 0,
    assigned: Sequence[int] = (),
    states: Sequence[str] = ("Created", "DeploymentReady", "Running"),
    **status: Any,
) -> Suggestion:
    """The Suggestion of `experiment()`; `assigned` ordinals stand in status.suggestions."""
    assignments = [
        {
            "name": names.trial_name("quick", "uid-quick", ordinal),
            "ordinal": ordinal,
            "parameterAssignments": [{"name": "x", "value": f"{ordinal}.5"}],
        }
        for ordinal in assigned
    ]
    return Suggestion.parse(
        {
            "apiVersion": "kubeflow.org/v1beta1",
            "kind": "Suggestion",
            "metadata": {"name": "quick", "namespace": "default", "uid": "uid-s"},
            "spec": {"algorithm": {"algorithmName": "random"}, "requests": requests},
            "status": {
                "conditions": conditions(*states),
                "suggestionCount": count,
                "suggestions": assignments,
                "seed": "7",
                **status,
            },
        }
    )


def trial(
    ordinal: int = 0,
    state: str = "Created",
    *,
    loss: float | None = None,
    attempt: int = 1,
    job_uid: str = "",
    deleting: bool = False,
    **run: Any,
) -> Trial:
    """A Trial of `experiment()` in a state, with an observed loss when given."""
    metadata: dict[str, Any] = {
        "name": names.trial_name("quick", "uid-quick", ordinal),
        "namespace": "default",
        "uid": f"uid-t{ordinal}",
        "resourceVersion": "1",
        "labels": {names.LABEL_EXPERIMENT: "quick"},
        "annotations": {names.ANNOTATION_ORDINAL: str(ordinal)},
        "finalizers": [names.FINALIZER_TRIAL],
        "ownerReferences": [
            {
                "apiVersion": "kubeflow.org/v1beta1",
                "kind": "Experiment",
                "name": "quick",
                "uid": "uid-quick",
            }
        ],
    }
    if deleting:
        metadata["deletionTimestamp"] = "2026-01-02T03:04:05Z"
    status: dict[str, Any] = {"run": {"attempt": attempt, "jobUID": job_uid, **run}}
    if state != "Pending":
        status["conditions"] = conditions("Created", *([state] if state != "Created" else []))
    if loss is not None:
        text = repr(loss)
        status["observation"] = {
            "metrics": [{"name": "loss", "min": text, "max": text, "latest": text}]
        }
    return Trial.parse(
        {
            "apiVersion": "kubeflow.org/v1beta1",
            "kind": "Trial",
            "metadata": metadata,
            "spec": {
                "objective": {
                    "type": "minimize",
                    "objectiveMetricName": "loss",
                    "metricStrategies": [{"name": "loss", "value": "min"}],
                },
                "parameterAssignments": [{"name": "x", "value": f"{ordinal}.5"}],
                "runSpec": {"apiVersion": "batch/v1", "kind": "Job"},
                "primaryContainerName": "main",
                "successCondition": SUCCESS,
                "failureCondition": FAILURE,
            },
            "status": status,
        }
    )


def facts(ordinal: int, state: str = "Running", *, loss: float | None = None) -> TrialFacts:
    """What other reconcilers know of `trial(...)`."""
    return facts_of(trial(ordinal, state, loss=loss))


def job(*types: str, reason: str = "", message: str = "") -> dict[str, Any]:
    """A batch/v1 Job whose conditions of these types are true."""
    found = [{"type": t, "status": "True", "reason": reason, "message": message} for t in types]
    return {"apiVersion": "batch/v1", "kind": "Job", "status": {"conditions": found}}
