# SPDX-License-Identifier: Apache-2.0
"""Experiments as people write them, as plain JSON: valid, without defaults, easy to bend.

`written.experiment()` is a fresh tree; `written.bent(path, value)` is one with a place changed.
"""

from __future__ import annotations

from typing import Any, Final

Json = dict[str, Any]
Path = tuple[str | int, ...]

REMOVED: Final = object()
"""As a value: the place is removed."""

SPEC: Final[Path] = ("spec",)
TEMPLATE: Final[Path] = ("spec", "trialTemplate")
JOB: Final[Path] = (*TEMPLATE, "trialSpec")
POD: Final[Path] = (*JOB, "spec", "template", "spec")
CONTAINER: Final[Path] = (*POD, "containers", 0)


def parameter(name: str, type_: str, **space: Any) -> Json:
    return {"name": name, "parameterType": type_, "feasibleSpace": space}


def experiment() -> Json:
    """One parameter of each type, one Job, everything that must be given and no more."""
    names = ("lr", "layers", "width", "optimizer")
    args = [f"--{name}=${{trialParameters.{name}}}" for name in names]
    container = {"name": "main", "image": "python:3.11", "command": ["python3", "a.py"]}
    pod = {"restartPolicy": "Never", "containers": [{**container, "args": args}]}
    return {
        "apiVersion": "kubeflow.org/v1beta1",
        "kind": "Experiment",
        "metadata": {"name": "quick", "namespace": "team"},
        "spec": {
            "objective": {"type": "minimize", "objectiveMetricName": "loss"},
            "algorithm": {"algorithmName": "random"},
            "maxTrialCount": 12,
            "parameters": [
                parameter("lr", "double", min="0.001", max="0.1"),
                parameter("layers", "int", min="1", max="5"),
                parameter("width", "discrete", list=["16", "32", "64"]),
                parameter("optimizer", "categorical", list=["sgd", "adam"]),
            ],
            "trialTemplate": {
                "primaryContainerName": "main",
                "trialParameters": [{"name": name, "reference": name} for name in names],
                "trialSpec": {
                    "apiVersion": "batch/v1",
                    "kind": "Job",
                    "spec": {"template": {"spec": pod}},
                },
            },
        },
    }


def bent(path: Path, value: Any, tree: Json | None = None) -> Json:
    """`tree`, or an experiment, with `value` at a path; mappings on the way are made."""
    found = experiment() if tree is None else tree
    here: Any = found
    for part in path[:-1]:
        here = here.setdefault(part, {}) if isinstance(here, dict) else here[part]
    if value is REMOVED:
        del here[path[-1]]
    elif isinstance(here, list) and path[-1] == len(here):
        here.append(value)
    else:
        here[path[-1]] = value
    return found


def at(tree: Any, path: Path) -> Any:
    """What stands at a path; KeyError or IndexError when nothing does."""
    for part in path:
        tree = tree[part]
    return tree
