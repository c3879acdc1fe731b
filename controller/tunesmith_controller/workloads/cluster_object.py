# SPDX-License-Identifier: Apache-2.0
"""The job of an attempt as the cluster gets it, and whose a job that is there is. Pure.

Called by `KubernetesWorkloads`. The job carries its identity (owner, trial uid, attempt), and its
pods what they need to be recognised and to have their metrics collected.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any, Final

from tunesmith_api import names
from tunesmith_controller.admission.collection import (
    ANNOTATION_ATTEMPT,
    ANNOTATION_TRIAL_UID,
    CollectionPlan,
    mark,
)
from tunesmith_controller.admission.pods import InjectionSettings, inject
from tunesmith_controller.ports import Invalid, Json, TrialRun
from tunesmith_controller.workloads.cluster_templates import (
    Template,
    pod_metadata,
    pod_templates,
    primary,
)

ANNOTATION_PRIMARY: Final = "tunesmith.dev/primary-pod-labels"
"""On a pod that may be a primary one: as JSON, the labels that it must have to be one."""

ANNOTATION_RETAIN: Final = "tunesmith.dev/retain"
"""On a job that stays when its trial has ended."""

_JOB_CONTROLLER: Final = "kubernetes.io/job-controller"
_OWNER_API: Final = "kubeflow.org/v1beta1"
_ENDS: Final = frozenset({"Complete", "Completed", "Succeeded", "Failed"})
_SUSPENDING: Final = (("spec", "suspend"), ("spec", "runPolicy", "suspend"))


def kind_of(run: TrialRun) -> tuple[str, str]:
    """apiVersion and kind of the job. Raises Invalid."""
    api_version, kind = run.spec.get("apiVersion"), run.spec.get("kind")
    if not isinstance(api_version, str) or not isinstance(kind, str) or not (api_version and kind):
        raise Invalid(f"the job of trial {run.trial.name} has no apiVersion and kind")
    return api_version, kind


def job_object(
    run: TrialRun,
    plan: CollectionPlan,
    injection: InjectionSettings | None,
    *,
    inject_templates: bool,
) -> Json:
    """What is created. With `injection` the collector is tried on the templates of the primary
    pods, so that what the webhook would refuse is refused here, and with `inject_templates` it
    stays in them. Raises Invalid."""
    job = copy.deepcopy(run.spec)
    templates = pod_templates(job)
    chosen = primary(templates, run.primary_pod_labels)
    for template in templates:
        _mark_pods(template.value, run, plan if template in chosen else None)
    if injection is not None:
        for template in chosen:
            _inject(template, plan, injection, keep=inject_templates)
    if not templates:
        _mark_unknown(job, run, plan)
    job["metadata"] = _metadata(job.get("metadata") or {}, run)
    return job


def attempt_of(job: Json, trial_uid: str) -> int | None:
    """Which attempt of the trial a job is; None when it is none of them. A job that Katib made
    says nothing but whose it is, and is the first."""
    annotations = job["metadata"].get("annotations") or {}
    if ANNOTATION_TRIAL_UID in annotations:
        attempt = str(annotations.get(ANNOTATION_ATTEMPT, ""))
        ours = annotations[ANNOTATION_TRIAL_UID] == trial_uid
        return int(attempt) if ours and attempt.isdecimal() else None
    owners = job["metadata"].get("ownerReferences") or []
    return 1 if any(o.get("uid") == trial_uid and o.get("controller") for o in owners) else None


def trial_uid_of(job: Json) -> str:
    """The trial that a job says it is of, by our annotation or its controller; else empty."""
    annotations = job["metadata"].get("annotations") or {}
    owners = job["metadata"].get("ownerReferences") or []
    theirs = [o.get("uid", "") for o in owners if o.get("controller") and o.get("kind") == "Trial"]
    return str(annotations.get(ANNOTATION_TRIAL_UID) or next(iter(theirs), ""))


def name_conflict(job: Json) -> Invalid:
    """Somebody else's object has the name that the trial's job would have."""
    metadata = job["metadata"]
    owner = next((o for o in metadata.get("ownerReferences") or [] if o.get("controller")), None)
    whose = f"of {owner.get('kind')} {owner.get('name')}" if owner else "not made by tunesmith"
    kind, name, namespace = job.get("kind", "object"), metadata["name"], metadata["namespace"]
    return Invalid(
        f"namespace {namespace} has a {kind} named {name} already, {whose}: the trial's job "
        f"would have this name. See it with `kubectl get {str(kind).lower()} {name} -n "
        f"{namespace}`, and delete it if nobody needs it"
    )


def is_finished(job: Json) -> bool:
    """Whether a job says in one of the usual ways that it is over."""
    conditions = (job.get("status") or {}).get("conditions") or []
    return any(c.get("type") in _ENDS and c.get("status") == "True" for c in conditions)


def has_failed(job: Json) -> bool:
    conditions = (job.get("status") or {}).get("conditions") or []
    return any(c.get("type") == "Failed" and c.get("status") == "True" for c in conditions)


def is_retained(job: Json) -> bool:
    """Whether it stays when its trial has ended."""
    annotations = job["metadata"].get("annotations") or {}
    return annotations.get(ANNOTATION_RETAIN) == "true"


def foreseen(job: Json) -> Json | None:
    """The Job as its controller is about to write it once its only pod has ended well; None where
    that takes more than this pod, or is somebody else's to say."""
    spec = job.get("spec") or {}
    is_usual = job.get("apiVersion") == "batch/v1" and job.get("kind") == "Job"
    is_single = (spec.get("completions") or 1) == 1 and (spec.get("parallelism") or 1) == 1
    if not is_usual or not is_single or spec.get("managedBy", _JOB_CONTROLLER) != _JOB_CONTROLLER:
        return None
    status = job.get("status") or {}
    ended = [{"type": "Complete", "status": "True", "reason": "CompletionsReached"}]
    conditions = [*(status.get("conditions") or []), *ended]
    return {**job, "status": {**status, "succeeded": 1, "active": 0, "conditions": conditions}}


def is_suspended(job: Json) -> bool:
    """Whether somebody, such as a queue, holds the job back."""
    return any(_value(job, path) is True for path in _SUSPENDING)


def has_known_pods(job: Json) -> bool:
    """Whether all pods of a job of this kind carry the trial's label."""
    return bool(pod_templates(job))


def _value(tree: Any, path: tuple[str, ...]) -> Any:
    for step in path:
        tree = tree.get(step) if isinstance(tree, dict) else None
    return tree


# ---- metadata -----------------------------------------------------------------------------------


def _metadata(metadata: Json, run: TrialRun) -> Json:
    owner = {
        "apiVersion": _OWNER_API,
        "kind": "Trial",
        "name": run.trial.name,
        "uid": run.trial_uid,
        "controller": True,
    }
    retained = {ANNOTATION_RETAIN: "true"} if run.retain else {}
    kept = {name: metadata[name] for name in ("labels", "annotations") if metadata.get(name)}
    return {
        **kept,
        "name": run.trial.name,
        "namespace": run.trial.namespace,
        "labels": {**run.labels, **(kept.get("labels") or {}), **_own_labels(run)},
        "annotations": {**(kept.get("annotations") or {}), **_identity(run), **retained},
        "ownerReferences": [owner],
    }


def _own_labels(run: TrialRun) -> Mapping[str, str]:
    experiment = run.labels.get(names.LABEL_EXPERIMENT) or run.trial.name.rpartition("-")[0]
    return {names.LABEL_EXPERIMENT: experiment, names.LABEL_TRIAL: run.trial.name}


def _identity(run: TrialRun) -> Mapping[str, str]:
    return {ANNOTATION_TRIAL_UID: run.trial_uid, ANNOTATION_ATTEMPT: str(run.attempt)}


def _mark_pods(template: Json, run: TrialRun, plan: CollectionPlan | None) -> None:
    """Recognisable for all pods; to be collected where there is a plan."""
    template["metadata"] = _marked(template.get("metadata") or {}, run, plan)


def _marked(metadata: Json, run: TrialRun, plan: CollectionPlan | None) -> Json:
    labels = {**run.labels, **(metadata.get("labels") or {}), **_own_labels(run)}
    annotations = {**(metadata.get("annotations") or {}), **_identity(run)}
    marked = {**metadata, "labels": labels, "annotations": annotations}
    if plan is None:
        return marked
    marked = mark(marked, plan)
    if run.primary_pod_labels:
        wanted = json.dumps(dict(run.primary_pod_labels), sort_keys=True, separators=(",", ":"))
        marked["annotations"][ANNOTATION_PRIMARY] = wanted
    return marked


def _mark_unknown(job: Json, run: TrialRun, plan: CollectionPlan) -> None:
    """Operators copy what they copy: the marks go on the job and wherever its kind lets pods have
    labels."""
    for place in (job.setdefault("metadata", {}), *pod_metadata(job)):
        place.update(_marked(place, run, plan))


def _inject(
    template: Template, plan: CollectionPlan, injection: InjectionSettings, *, keep: bool
) -> None:
    injected = inject(template.value, plan, injection)
    if keep:
        template.value.clear()
        template.value.update(injected)
