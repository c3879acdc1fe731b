# SPDX-License-Identifier: Apache-2.0
"""The job of an attempt as a cluster gets it, for kinds with and without known pod templates."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest

from tunesmith_controller.admission.collection import CollectionPlan, plan_of
from tunesmith_controller.admission.pods import InjectionSettings, is_injected
from tunesmith_controller.ports import Invalid, Key, TrialRun
from tunesmith_controller.workloads import cluster_object as jobs
from tunesmith_controller.workloads.cluster_templates import pod_templates

TEMPLATE = {"spec": {"containers": [{"name": "main", "image": "i", "command": ["train"]}]}}
MASTER = {"training.kubeflow.org/job-role": "master"}
SETTINGS = InjectionSettings("test.local/tunesmith:1")


def run_of(api_version: str, kind: str, spec: dict[str, Any]) -> TrialRun:
    job = {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"labels": {"a": "b"}},
        "spec": spec,
    }
    return TrialRun(
        Key("Trial", "default", "digits-00000001"),
        "uid-1",
        2,
        job,
        "main",
        metrics=("loss",),
        labels={"katib.kubeflow.org/experiment": "digits", "team": "x"},
    )


def made(run: TrialRun, *, inject_templates: bool = False) -> dict[str, Any]:
    plan = CollectionPlan.from_run(run)
    return jobs.job_object(run, plan, SETTINGS, inject_templates=inject_templates)


def job_run() -> TrialRun:
    return run_of("batch/v1", "Job", {"template": copy.deepcopy(TEMPLATE)})


def replicas(*roles: str) -> TrialRun:
    specs = {role: {"replicas": 1, "template": copy.deepcopy(TEMPLATE)} for role in roles}
    run = run_of("kubeflow.org/v1", "PyTorchJob", {"pytorchReplicaSpecs": specs})
    return replace(run, primary_pod_labels=MASTER)


def test_a_job_says_whose_it_is() -> None:
    metadata = made(job_run())["metadata"]
    assert metadata["ownerReferences"] == [
        {
            "apiVersion": "kubeflow.org/v1beta1",
            "kind": "Trial",
            "name": "digits-00000001",
            "uid": "uid-1",
            "controller": True,
        }
    ]
    assert metadata["name"] == "digits-00000001"
    assert metadata["labels"] == {
        "a": "b",
        "team": "x",
        "katib.kubeflow.org/experiment": "digits",
        "katib.kubeflow.org/trial": "digits-00000001",
    }
    assert metadata["annotations"] == {
        "tunesmith.dev/trial-uid": "uid-1",
        "tunesmith.dev/attempt": "2",
    }


def test_its_attempt_is_read_back_for_its_trial_alone() -> None:
    job = made(job_run())
    assert jobs.attempt_of(job, "uid-1") == 2
    assert jobs.attempt_of(job, "uid-2") is None
    assert jobs.trial_uid_of(job) == "uid-1"


def test_the_template_of_the_trial_is_not_changed() -> None:
    run = job_run()
    before = copy.deepcopy(run.spec)
    made(run, inject_templates=True)
    assert run.spec == before


def test_pods_carry_the_plan_and_get_the_collector_where_nobody_admits_them() -> None:
    run = job_run()
    admitted, injected = made(run), made(run, inject_templates=True)
    for job in (admitted, injected):
        plan = plan_of(job["spec"]["template"])
        assert plan is not None
        assert (plan.trial_uid, plan.attempt, plan.metrics) == ("uid-1", 2, ("loss",))
    assert not is_injected(admitted["spec"]["template"])
    assert is_injected(injected["spec"]["template"])


def collected(job: dict[str, Any]) -> list[bool]:
    return [plan_of(each.value) is not None for each in pod_templates(job)]


@pytest.mark.parametrize(
    ("roles", "wanted"),
    [
        (("Master", "Worker"), [True, False]),
        (("Worker", "Master"), [False, True]),
        (("Launcher", "Worker"), [True, False]),
        (("Worker",), [True]),
    ],
)
def test_only_pods_that_may_be_the_primary_ones_are_collected(
    roles: tuple[str, ...], wanted: list[bool]
) -> None:
    assert collected(made(replicas(*roles))) == wanted


def test_every_pod_of_a_trial_can_be_recognised() -> None:
    for template in pod_templates(made(replicas("Master", "Worker"))):
        assert template.value["metadata"]["labels"]["katib.kubeflow.org/trial"] == "digits-00000001"
        assert template.value["metadata"]["annotations"]["tunesmith.dev/attempt"] == "2"


def test_job_sets_are_collected_in_the_replicated_job_that_is_asked_for() -> None:
    parts = [
        {"name": name, "template": {"spec": {"template": copy.deepcopy(TEMPLATE)}}}
        for name in ("driver", "node")
    ]
    run = run_of("jobset.x-k8s.io/v1alpha2", "JobSet", {"replicatedJobs": parts})
    labels = {
        "jobset.sigs.k8s.io/replicatedjob-name": "node",
        "batch.kubernetes.io/job-completion-index": "0",
    }
    assert collected(made(replace(run, primary_pod_labels=labels))) == [False, True]


def test_kinds_without_known_templates_are_marked_on_the_job() -> None:
    job = made(run_of("example.org/v2", "Dance", {"steps": 3}))
    assert plan_of(job) is not None
    assert job["metadata"]["labels"]["tunesmith.dev/collect"] == "true"
    assert job["spec"] == {"steps": 3}


def test_kinds_whose_operators_pass_labels_on_are_marked_there() -> None:
    job = made(run_of("trainer.kubeflow.org/v1alpha1", "TrainJob", {"runtimeRef": {"name": "t"}}))
    assert job["spec"]["labels"]["tunesmith.dev/collect"] == "true"
    assert plan_of({"metadata": job["spec"]}) is not None
    assert job["spec"]["runtimeRef"] == {"name": "t"}


def test_what_the_webhook_would_refuse_is_refused_before_a_job_is_made() -> None:
    run = replace(job_run(), primary_container="trainer")
    with pytest.raises(Invalid, match="no container named 'trainer'; there is: main"):
        made(run)


@pytest.mark.parametrize("spec", [{"suspend": True}, {"runPolicy": {"suspend": True}}])
def test_a_suspended_job_is_known(spec: dict[str, Any]) -> None:
    assert jobs.is_suspended({"spec": spec})
    assert not jobs.is_suspended({"spec": {"suspend": False}})
