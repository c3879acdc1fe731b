# SPDX-License-Identifier: Apache-2.0
"""Katib's Suggestions and Trials as ours: what they lack are ordinals, and the search a seed. Pure.

An ordinal is the place of an assignment in `Suggestion.status.suggestions`, to which Katib only
appends; a Trial has the name of its assignment. All else is read as it is: conditions, finalizers
and metrics have Katib's names, a Trial without `status.run` is at its first attempt, and its job is
found by its owner. Repeating changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tunesmith_api import names
from tunesmith_controller.ports import Json


def is_foreign(suggestion: Json) -> bool:
    """Whether Katib's controller kept this search last: it knows no seed."""
    status = suggestion.get("status") or {}
    return bool(status.get("conditions")) and not status.get("seed")


def ordinals(suggestion: Json, trials: Sequence[Json]) -> Mapping[str, int]:
    """By name of an assignment. Trials that no assignment explains, since somebody has rewritten
    the Suggestion, follow in the order in which they were made."""
    assigned = [each["name"] for each in _assignments(suggestion)]
    known = set(assigned)
    others = sorted(
        (trial for trial in trials if trial["metadata"]["name"] not in known),
        key=lambda trial: (trial["metadata"].get("creationTimestamp") or "", _name(trial)),
    )
    return {name: place for place, name in enumerate([*assigned, *map(_name, others)])}


def adopted_trial(trial: Json, ordinal: int) -> Json | None:
    """The Trial with its ordinal and the finalizer that keeps its rows; None where it has both."""
    metadata = trial["metadata"]
    annotations = metadata.get("annotations") or {}
    finalizers = list(metadata.get("finalizers") or [])
    is_ours = annotations.get(names.ANNOTATION_ORDINAL, "").isdecimal()
    if is_ours and names.FINALIZER_TRIAL in finalizers:
        return None
    if names.FINALIZER_TRIAL not in finalizers and not metadata.get("deletionTimestamp"):
        finalizers.append(names.FINALIZER_TRIAL)
    kept = annotations if is_ours else {**annotations, names.ANNOTATION_ORDINAL: str(ordinal)}
    return {**trial, "metadata": {**metadata, "annotations": kept, "finalizers": finalizers}}


def adopted_suggestion(suggestion: Json, trials: Sequence[Json], seed: int) -> Json:
    """With ordinals and a seed in its status. Written last: it says that all is done."""
    places = ordinals(suggestion, trials)
    told = [{**each, "ordinal": places[each["name"]]} for each in _assignments(suggestion)]
    told += [
        {
            "name": _name(trial),
            "ordinal": places[_name(trial)],
            "parameterAssignments": trial["spec"].get("parameterAssignments") or [],
        }
        for trial in trials
        if places[_name(trial)] >= len(told)
    ]
    status = {
        **(suggestion.get("status") or {}),
        "suggestions": sorted(told, key=lambda each: each["ordinal"]),
        "suggestionCount": len(places),
        "seed": str(seed),
    }
    return {**suggestion, "status": status}


def needs_its_service(suggestion: Json, trials: Sequence[Json]) -> bool:
    """Whether a pod may still call the service that Katib made for the search: collectors of
    running trials tell it of early stopping, and fail where nobody answers."""
    rule = (suggestion.get("spec") or {}).get("earlyStopping") or {}
    return bool(rule.get("algorithmName")) and any(
        not (trial.get("status") or {}).get("completionTime") for trial in trials
    )


def _assignments(suggestion: Json) -> list[Json]:
    return list((suggestion.get("status") or {}).get("suggestions") or [])


def _name(trial: Json) -> str:
    return str(trial["metadata"]["name"])
