# SPDX-License-Identifier: Apache-2.0
"""What may change of a stored Experiment: its budgets, its runPolicy, and points that are added.

Called by admission beside the rules for a new one. An experiment that has ended goes on only where
its end and its resumePolicy allow it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Final

from tunesmith_api.defaulting import default
from tunesmith_api.field_errors import FieldError, Path, clipped
from tunesmith_api.reading import read
from tunesmith_api.resources import Experiment, ExperimentSpec

EDITABLE: Final = ("parallelTrialCount", "maxTrialCount", "maxFailedTrialCount", "runPolicy")
"""The fields of a spec that may change after creation; `enqueued` may grow."""

RESTARTABLE: Final = (
    "ExperimentMaxTrialsReached",
    "ExperimentStopped",
    "ExperimentDeadlineReached",
)
"""Ends that a changed budget can undo."""
RESUMABLE_POLICIES: Final = ("LongRunning", "FromVolume")

_SPEC: Final[Path] = ("spec",)
_ENQUEUED: Final[Path] = ("spec", "enqueued")
_ENDS: Final = ("Succeeded", "Failed")


def validate_update(old: object, new: object) -> list[FieldError]:
    """Why `old` may not become `new`; empty when it may. Both may lack defaults. Never raises.

    Absent, null and empty are the same, as are 1 and "1" where a text is wanted.
    """
    was, now = read(_defaulted(old)), read(_defaulted(new))
    if now.experiment is None or now.errors:
        return [clipped(error) for error in now.errors]
    if was.experiment is None:
        return []
    return [clipped(error) for error in _faults(was.experiment, now.experiment)]


def _defaulted(data: object) -> object:
    return default(data) if isinstance(data, dict) else data


def _faults(old: Experiment, new: Experiment) -> Iterator[FieldError]:
    was, now = _plain(old.spec), _plain(new.spec)
    changed = [key for key in dict.fromkeys([*was, *now]) if was.get(key) != now.get(key)]
    for key in changed:
        if key not in (*EDITABLE, "enqueued"):
            yield FieldError(
                (*_SPEC, key),
                "cannot be changed after creation",
                f"only {', '.join(EDITABLE)} can, and points can be added to enqueued; "
                "create an experiment of another name",
            )
    yield from _enqueued(was.get("enqueued", []), now.get("enqueued", []))
    yield from _restart(old, changed)
    if "maxTrialCount" in changed:
        yield from _fewer_trials(old, new)


def _plain(spec: ExperimentSpec) -> dict[str, Any]:
    return spec.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude_none=True)


def _enqueued(was: list[Any], now: list[Any]) -> Iterator[FieldError]:
    """Points are asked for in order, and how many were taken is counted: they stay as they are."""
    if len(now) < len(was):
        message = f"has {len(now)} points, {len(was)} are stored; points can only be added"
        yield FieldError(_ENQUEUED, message)
        return
    for index, (before, after) in enumerate(zip(was, now, strict=False)):
        if before != after:
            message = "is not the point that is stored; points can only be added, at the end"
            yield FieldError((*_ENQUEUED, index), message)
            return


def _restart(old: Experiment, changed: Collection[str]) -> Iterator[FieldError]:
    if not changed or not old.status.conditions:
        return
    last, policy = old.status.conditions[-1], old.spec.resume_policy
    if last.type not in _ENDS:
        return
    if last.type == "Failed" or last.reason not in RESTARTABLE or policy not in RESUMABLE_POLICIES:
        yield FieldError(
            (*_SPEC, "resumePolicy"),
            f"this experiment has ended ({last.reason or last.type}, resumePolicy {policy}); it "
            f"could go on after {' or '.join(RESTARTABLE)}, with resumePolicy "
            f"{' or '.join(RESUMABLE_POLICIES)}",
            "create an experiment of another name",
        )


def _fewer_trials(old: Experiment, new: Experiment) -> Iterator[FieldError]:
    """Katib refuses every change of a spec here once the budget is used up; only less than there
    is makes no sense."""
    most, there, name = new.spec.max_trial_count, old.status.trials, old.metadata.name
    if most is not None and most < there:
        yield FieldError(
            (*_SPEC, "maxTrialCount"),
            f"is {most}, and there are {there} trials already",
            f"`tunesmith stop {name}` ends the experiment now with what it has found, "
            f"`tunesmith pause {name}` interrupts it",
        )
