# SPDX-License-Identifier: Apache-2.0
"""What pods and refusals say about why an attempt does not run."""

from __future__ import annotations

from typing import Any

import pytest

from tunesmith_controller.admission.collection import CollectionPlan, mark
from tunesmith_controller.admission.pods import SIDECAR, InjectionSettings, inject
from tunesmith_controller.workloads.cluster_object import foreseen
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


def ended(code: int) -> dict[str, Any]:
    return {"name": "c", "state": {"terminated": {"exitCode": code}}}


@pytest.mark.parametrize(
    ("containers", "statuses", "wanted"),
    [
        (["c"], [ended(0)], True),
        (["c"], [ended(1)], False),
        (["c", "d"], [ended(0)], False),
        (["c"], [], False),
        ([], [], False),
    ],
)
def test_a_pod_has_ended_well_when_all_its_containers_have(
    containers: list[str], statuses: list[dict[str, Any]], wanted: bool
) -> None:
    winding_up = pod({"phase": "Running", "containerStatuses": statuses})
    winding_up["spec"] = {"containers": [{"name": name} for name in containers]}
    assert pod_facts(winding_up).ended_well is wanted
    winding_up["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert not pod_facts(winding_up).ended_well


def collected(mode: str, message: str = "") -> dict[str, Any]:
    plan = CollectionPlan("t", "default", "tu", 3, "main")
    body = pod({"phase": "Running"})
    image = "python3" if mode == "launcher" else None
    container = {"name": "main", **({"command": [image]} if image else {})}
    body["spec"] = {"containers": [container]}
    body["metadata"] = mark(body["metadata"], plan)
    body = inject(body, plan, InjectionSettings("image"))
    if message:
        state = {"terminated": {"exitCode": 0, "message": message}}
        body["status"]["initContainerStatuses"] = [{"name": SIDECAR, "state": state}]
    return body


def test_a_pod_whose_program_nobody_knows_is_read_by_its_log() -> None:
    facts = pod_facts(collected("podLog"))
    assert (facts.is_read, facts.primary) == (True, "main")
    assert not pod_facts(collected("launcher")).is_read


def test_a_collector_that_could_not_deliver_says_so() -> None:
    assert pod_facts(collected("launcher", '{"unsentRows": 3}')).has_unsent
    assert not pod_facts(collected("launcher", "Killed")).has_unsent


def test_a_strangers_plan_breaks_nothing() -> None:
    body = collected("podLog")
    body["metadata"]["annotations"]["tunesmith.dev/collection"] = "[1"
    assert not pod_facts(body).is_read


JOB = {"apiVersion": "batch/v1", "kind": "Job", "status": {"active": 1}}


@pytest.mark.parametrize("spec", [{}, {"completions": 1, "parallelism": 1}])
def test_a_job_of_one_pod_is_foreseen_to_complete(spec: dict[str, Any]) -> None:
    found = foreseen({**JOB, "spec": spec})
    assert found is not None
    assert found["status"]["conditions"][-1]["type"] == "Complete"
    assert found["status"]["succeeded"] == 1


@pytest.mark.parametrize(
    "job",
    [
        {**JOB, "spec": {"completions": 2}},
        {**JOB, "spec": {"parallelism": 2}},
        {**JOB, "spec": {"managedBy": "kueue.x-k8s.io/multikueue"}},
        {**JOB, "kind": "PyTorchJob", "spec": {}},
    ],
)
def test_other_jobs_are_not_foreseen(job: dict[str, Any]) -> None:
    assert foreseen(job) is None
