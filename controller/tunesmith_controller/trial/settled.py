# SPDX-License-Identifier: Apache-2.0
"""Trials that are over and released: nothing is ever done about them but deletion.

Most Trials of a long experiment are such; the cache keeps only their address, and the roster has
counted them before.
"""

from __future__ import annotations

from tunesmith_api import names
from tunesmith_api.conditions import TrialState
from tunesmith_controller.ports import Json

_SETTLED = "settled"
_METADATA = ("name", "namespace", "uid", "resourceVersion", "ownerReferences", "finalizers")


def without_details(trial: Json) -> Json:
    """A Trial as the cache keeps it: whole while anything may be done about it."""
    if trial["metadata"].get("deletionTimestamp") or not _is_released(trial):
        return trial
    metadata = trial["metadata"]
    kept = {name: metadata[name] for name in _METADATA if name in metadata}
    labels = metadata.get("labels") or {}
    if names.LABEL_EXPERIMENT in labels:
        kept["labels"] = {names.LABEL_EXPERIMENT: labels[names.LABEL_EXPERIMENT]}
    return {
        "kind": trial["kind"],
        "metadata": kept,
        "status": {"conditions": [{"type": trial["status"]["conditions"][-1]["type"]}]},
        _SETTLED: True,
    }


def is_settled(obj: Json) -> bool:
    """Whether this is what the cache kept of a settled Trial; such a copy is never written."""
    return _SETTLED in obj


def _is_released(trial: Json) -> bool:
    status = trial.get("status")
    if not isinstance(status, dict):
        return False
    run, conditions = status.get("run"), status.get("conditions")
    if not isinstance(run, dict) or run.get("released") is not True:
        return False
    last = conditions[-1] if isinstance(conditions, list) and conditions else None
    return isinstance(last, dict) and last.get("type") in _ENDS


_ENDS = frozenset(str(state) for state in TrialState if state.is_terminal)
