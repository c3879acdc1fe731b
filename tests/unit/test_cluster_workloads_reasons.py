# SPDX-License-Identifier: Apache-2.0
"""What pods and refusals say about why an attempt does not run."""

from __future__ import annotations

from typing import Any

import pytest

from tunesmith_controller.workloads.cluster_pods import pod_facts
from tunesmith_controller.workloads.cluster_refusals import refusal
from tunesmith_controller.workloads.cluster_view import hindrance


def pod(status: dict[str, Any]) -> dict[str, Any]:
    return {
        "metadata": {
            "namespace": "default",
            "name": "p",
            "uid": "u",
            "labels": {"katib.kubeflow.org/trial": "t"},
            "annotations": {"tunesmith.dev/trial-uid": "tu", "tunesmith.dev/attempt": "3"},
        },
        "status": status,
    }


def waiting(reason: str, *, field: str = "containerStatuses") -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": "because"}}
    return {"phase": "Pending", field: [{"name": "c", "state": state}]}


def unscheduled(message: str) -> dict[str, Any]:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    return {"phase": "Pending", "conditions": [{**condition, "message": message}]}


@pytest.mark.parametrize(
    ("status", "wanted"),
    [
        ({}, ""),
        (waiting("ContainerCreating"), ""),
        (waiting("ErrImagePull"), "container c of pod p cannot start, ErrImagePull: because"),
        (
            waiting("CreateContainerConfigError"),
            "container c of pod p cannot start, CreateContainerConfigError: because",
        ),
        (waiting("CrashLoopBackOff"), ""),
        (
            waiting("CrashLoopBackOff", field="initContainerStatuses"),
            "container c of pod p cannot start, CrashLoopBackOff: because",
        ),
        (unscheduled("no node"), "pod p is not scheduled: no node"),
        ({**unscheduled("no node"), "phase": "Running"}, ""),
    ],
)
def test_a_pod_says_why_it_does_not_start(status: dict[str, Any], wanted: str) -> None:
    assert pod_facts(pod(status)).hindrance == wanted


def test_one_pod_that_runs_is_enough_for_an_attempt_to_run() -> None:
    stuck, running = pod_facts(pod(waiting("ErrImagePull"))), pod_facts(pod({"phase": "Running"}))
    assert hindrance([stuck], "")
    assert not hindrance([stuck, running], "told by events")
    assert hindrance([], "told by events") == "told by events"


def test_a_pod_knows_its_attempt() -> None:
    facts = pod_facts(pod({"phase": "Failed"}))
    assert (facts.trial, facts.trial_uid, facts.attempt, facts.over) == ("t", "tu", 3, True)


def test_an_evicted_pod_says_by_whom() -> None:
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "PreemptionByScheduler",
        "message": "preempting",
    }
    facts = pod_facts(pod({"phase": "Failed", "conditions": [condition]}))
    assert facts.disrupted == "PreemptionByScheduler: preempting"


def test_missing_rights_are_a_rule_to_add() -> None:
    said = (
        'create PyTorchJob/a/b: pytorchjobs.kubeflow.org is forbidden: User "system:serviceaccount:'
        'kubeflow:tunesmith-controller" cannot create resource "pytorchjobs" in API group '
        '"kubeflow.org" in the namespace "team-a"'
    )
    assert refusal(said) == (
        "the controller's service account kubeflow/tunesmith-controller may not create pytorchjobs "
        "of API group kubeflow.org in namespace team-a: add to its role the rule apiGroups: "
        '["kubeflow.org"], resources: ["pytorchjobs"], verbs: [get, list, watch, create, delete]'
    )


def test_what_else_forbids_a_job_speaks_for_itself() -> None:
    said = 'jobs.batch "x" is forbidden: exceeded quota: q, requested: count/jobs.batch=1'
    assert refusal(said) == said
