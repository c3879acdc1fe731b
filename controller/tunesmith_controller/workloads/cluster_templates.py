# SPDX-License-Identifier: Apache-2.0
"""Where the kinds of jobs keep their pod templates, and which of a job's pods is the primary one.

Data, and pure functions over it. `cluster_object.py` writes labels, annotations and, where nobody
admits pods, the collector into what is found here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from tunesmith_controller.ports import Json

Path = tuple[str, ...]

_POD_TEMPLATES: Final[Mapping[tuple[str, str], tuple[Path, ...]]] = MappingProxyType(
    {
        ("batch", "Job"): (("spec", "template"),),
        ("kubeflow.org", "PyTorchJob"): (("spec", "pytorchReplicaSpecs", "*", "template"),),
        ("kubeflow.org", "TFJob"): (("spec", "tfReplicaSpecs", "*", "template"),),
        ("kubeflow.org", "XGBoostJob"): (("spec", "xgbReplicaSpecs", "*", "template"),),
        ("kubeflow.org", "JAXJob"): (("spec", "jaxReplicaSpecs", "*", "template"),),
        ("kubeflow.org", "PaddleJob"): (("spec", "paddleReplicaSpecs", "*", "template"),),
        ("kubeflow.org", "MPIJob"): (("spec", "mpiReplicaSpecs", "*", "template"),),
        ("jobset.x-k8s.io", "JobSet"): (
            ("spec", "replicatedJobs", "*", "template", "spec", "template"),
        ),
        ("ray.io", "RayJob"): (
            ("spec", "rayClusterSpec", "headGroupSpec", "template"),
            ("spec", "rayClusterSpec", "workerGroupSpecs", "*", "template"),
            ("spec", "submitterPodTemplate"),
        ),
    }
)
"""By group and kind; "*" stands for every value of a mapping and every item of a list."""

_POD_METADATA: Final[Mapping[tuple[str, str], tuple[Path, ...]]] = MappingProxyType(
    {
        ("argoproj.io", "Workflow"): (("spec", "podMetadata"),),
        ("sparkoperator.k8s.io", "SparkApplication"): (("spec", "driver"), ("spec", "executor")),
        ("trainer.kubeflow.org", "TrainJob"): (("spec",),),
    }
)
"""Kinds without templates whose operators give `labels` and `annotations` of these places to the
pods that they make."""

_FIRST_ROLES: Final = ("Master", "Chief", "Launcher")
_ROLE: Final = "training.kubeflow.org/job-role"
_REPLICA: Final = "training.kubeflow.org/replica-type"


@dataclass(frozen=True, slots=True)
class Template:
    """A pod template inside a job. `marks` are labels that its operator will put on the pods, by
    name the values that are possible; names that are not there are not known."""

    value: Json
    marks: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def may_match(self, wanted: Mapping[str, str]) -> bool:
        """Whether a pod of it can have all of these labels."""
        labels = (self.value.get("metadata") or {}).get("labels") or {}
        return all(
            labels.get(name) == value
            or (name not in labels and value in self.marks.get(name, frozenset({value})))
            for name, value in wanted.items()
        )


def pod_templates(job: Json) -> list[Template]:
    """The templates of a job; none for kinds whose pods are made in ways not known here. They are
    parts of `job`: what is changed in them is changed in it."""
    found = []
    for path in _POD_TEMPLATES.get(_kind(job), ()):
        for steps, value in _at(job, path, ()):
            if isinstance(value, dict):
                found.append(Template(value, _marks(job, steps)))
    return found


def pod_metadata(job: Json) -> list[Json]:
    """Places whose `labels` and `annotations` become those of pods, made where they are missing."""
    return [_made(job, path) for path in _POD_METADATA.get(_kind(job), ())]


def primary(templates: list[Template], wanted: Mapping[str, str]) -> list[Template]:
    """Those whose pods may be the primary ones; all where no label says so or none fits."""
    return [each for each in templates if each.may_match(wanted)] or templates


def _kind(job: Json) -> tuple[str, str]:
    return str(job.get("apiVersion", "")).rpartition("/")[0], str(job.get("kind", ""))


def _at(
    tree: Any, path: Path, steps: tuple[str | int, ...]
) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if not path:
        yield steps, tree
    elif path[0] != "*":
        if isinstance(tree, dict) and path[0] in tree:
            yield from _at(tree[path[0]], path[1:], (*steps, path[0]))
    elif isinstance(tree, dict):
        for name, below in tree.items():
            yield from _at(below, path[1:], (*steps, name))
    elif isinstance(tree, list):
        for index, below in enumerate(tree):
            yield from _at(below, path[1:], (*steps, index))


def _made(job: Json, path: Path) -> Json:
    place = job
    for step in path:
        place = place.setdefault(step, {})
    return place


def _marks(job: Json, steps: tuple[Any, ...]) -> Mapping[str, frozenset[str]]:
    group, kind = _kind(job)
    if group == "kubeflow.org":
        return _replica_marks(list(job["spec"][steps[1]]), str(steps[2]))
    if kind == "JobSet":
        name = job["spec"]["replicatedJobs"][steps[2]].get("name", "")
        return {"jobset.sigs.k8s.io/replicatedjob-name": frozenset({str(name)})}
    if kind == "RayJob" and "rayClusterSpec" in steps:
        return {"ray.io/node-type": frozenset({"head" if "headGroupSpec" in steps else "worker"})}
    return {}


def _replica_marks(roles: list[str], role: str) -> Mapping[str, frozenset[str]]:
    """The training operator's and the MPI operator's labels of a replica: the first role is the
    master, and where there is none the first worker."""
    first = next((name for name in _FIRST_ROLES if name in roles), "Worker")
    names = {"master", role.lower()} if role == first else {role.lower()}
    return {_ROLE: frozenset(names), _REPLICA: frozenset({role.lower()})}
