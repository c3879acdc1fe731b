# SPDX-License-Identifier: Apache-2.0
"""`CollectionPlan`: what a pod has to know to have its metrics collected, as one annotation.

KubernetesWorkloads writes it where it creates a job; the webhook and `pods.inject` read it off the
pod, so that neither needs to ask anybody; the sidecar gets it as it is. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from tunesmith_controller.ports import Invalid, Json, TrialRun

LABEL_COLLECT: Final = "tunesmith.dev/collect"
"""With the value "true" on every pod that takes part; objectSelectors ask for it."""

ANNOTATION_COLLECTION: Final = "tunesmith.dev/collection"
ANNOTATION_TRIAL_UID: Final = "tunesmith.dev/trial-uid"
ANNOTATION_ATTEMPT: Final = "tunesmith.dev/attempt"

_KEYS: Final[Mapping[str, str]] = {
    "trial_name": "trialName",
    "namespace": "namespace",
    "trial_uid": "trialUid",
    "attempt": "attempt",
    "primary_container": "primaryContainer",
    "metrics": "metrics",
    "filters": "filters",
    "collector": "collector",
    "metrics_path": "metricsPath",
    "metrics_format": "metricsFormat",
    "entrypoint": "entrypoint",
    "image_args": "imageArgs",
}


@dataclass(frozen=True, slots=True)
class CollectionPlan:
    """One attempt's collection. `entrypoint` and `image_args` are ENTRYPOINT and CMD of the primary
    container's image, resolved beforehand where that container has no `command`; with both empty
    such a container is collected by its pod's log (`pods.collection_mode`)."""

    trial_name: str
    namespace: str
    trial_uid: str
    attempt: int
    primary_container: str
    metrics: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()
    collector: str = "StdOut"
    metrics_path: str = ""
    metrics_format: str = "TEXT"
    entrypoint: tuple[str, ...] = ()
    image_args: tuple[str, ...] = ()

    @classmethod
    def from_run(cls, run: TrialRun) -> CollectionPlan:
        """The plan of an attempt, with nothing resolved."""
        return cls(
            trial_name=run.trial.name,
            namespace=run.trial.namespace,
            trial_uid=run.trial_uid,
            attempt=run.attempt,
            primary_container=run.primary_container,
            metrics=tuple(run.metrics),
            filters=tuple(run.filters),
            collector=run.collector,
            metrics_path=run.metrics_path,
            metrics_format=run.metrics_format or "TEXT",
        )

    @classmethod
    def from_json(cls, text: str) -> CollectionPlan:
        """Reads `to_json`; keys of a newer version are passed over. Raises Invalid."""
        try:
            found = json.loads(text)
        except ValueError as error:
            raise Invalid(f"the annotation {ANNOTATION_COLLECTION} is no JSON: {error}") from None
        if not isinstance(found, dict):
            raise Invalid(f"the annotation {ANNOTATION_COLLECTION} is no JSON object")
        values = {name: found[key] for name, key in _KEYS.items() if key in found}
        missing = sorted(_KEYS[name] for name in _REQUIRED if name not in values)
        if missing:
            raise Invalid(f"the annotation {ANNOTATION_COLLECTION} lacks {', '.join(missing)}")
        return cls(**{name: _typed(name, value) for name, value in values.items()})

    def to_json(self) -> str:
        """Compact, the same for the same plan, without what is empty."""
        values = {key: getattr(self, name) for name, key in _KEYS.items()}
        required = {_KEYS[name] for name in _REQUIRED}
        kept = {key: value for key, value in values.items() if value or key in required}
        return json.dumps(kept, separators=(",", ":"))


_REQUIRED: Final = ("trial_name", "namespace", "trial_uid", "attempt", "primary_container")
_LISTS: Final = frozenset(f.name for f in fields(CollectionPlan) if str(f.type).startswith("tuple"))


def _typed(name: str, value: Any) -> Any:
    if name in _LISTS:
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
    elif name == "attempt":
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    elif isinstance(value, str):
        return value
    raise Invalid(f"the annotation {ANNOTATION_COLLECTION} has {_KEYS[name]}: {value!r}")


def plan_of(pod: Json) -> CollectionPlan | None:
    """The plan on a pod or a pod template, None where there is none. Raises Invalid."""
    annotations = (pod.get("metadata") or {}).get("annotations") or {}
    text = annotations.get(ANNOTATION_COLLECTION)
    return None if text is None else CollectionPlan.from_json(text)


def mark(metadata: Json, plan: CollectionPlan) -> Json:
    """The metadata of a pod template with the label and annotations that `plan_of` and the
    observation service read; what else is there stays."""
    labels = {**(metadata.get("labels") or {}), LABEL_COLLECT: "true"}
    annotations = {
        **(metadata.get("annotations") or {}),
        ANNOTATION_TRIAL_UID: plan.trial_uid,
        ANNOTATION_ATTEMPT: str(plan.attempt),
        ANNOTATION_COLLECTION: plan.to_json(),
    }
    return {**metadata, "labels": labels, "annotations": annotations}
