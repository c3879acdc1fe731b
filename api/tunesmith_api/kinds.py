# SPDX-License-Identifier: Apache-2.0
"""What is known of each kind of job: its end conditions and its primary pod, as data.

Read by `defaulting`, which fills in what a template leaves open, as Katib does; validation names
the known kinds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

JOB: Final = ("batch/v1", "Job")


@dataclass(frozen=True, slots=True)
class KindProfile:
    """Defaults for jobs of a kind. The conditions are GJSON paths over the job object."""

    success: str
    failure: str
    primary_pod_labels: Mapping[str, str] = field(default_factory=dict)


def _condition(type_: str) -> str:
    return f'status.conditions.#(type=="{type_}")#|#(status=="True")#'


_BATCH: Final = KindProfile(_condition("Complete"), _condition("Failed"))
_TRAINING: Final = KindProfile(
    _condition("Succeeded"),
    _condition("Failed"),
    {"training.kubeflow.org/job-role": "master"},
)
# The MPI operator of its own names the role of the launcher, where Katib's default never matches.
_MPI_V2: Final = KindProfile(
    _condition("Succeeded"),
    _condition("Failed"),
    {"training.kubeflow.org/job-role": "launcher"},
)
_TRAIN_JOB: Final = KindProfile(
    _condition("Complete"),
    _condition("Failed"),
    {
        "jobset.sigs.k8s.io/replicatedjob-name": "node",
        "batch.kubernetes.io/job-completion-index": "0",
    },
)

BY_API_VERSION: Final[Mapping[tuple[str, str], KindProfile]] = {
    ("kubeflow.org/v2beta1", "MPIJob"): _MPI_V2,
}
"""Kinds whose profile depends on the apiVersion."""

BY_KIND: Final[Mapping[str, KindProfile]] = {
    "Job": _BATCH,
    "PyTorchJob": _TRAINING,
    "TFJob": _TRAINING,
    "XGBoostJob": _TRAINING,
    "MPIJob": _TRAINING,
    "TrainJob": _TRAIN_JOB,
}
"""Katib compares the kind alone, whatever the group, and knows exactly these."""


def profile(api_version: str, kind: str) -> KindProfile | None:
    """The profile of a kind; None where nothing is known and a template must say all itself."""
    return BY_API_VERSION.get((api_version, kind)) or BY_KIND.get(kind)
