# SPDX-License-Identifier: Apache-2.0
"""Conditions: an ordered list whose last entry is the state; transitions are tables.

Katib's printer columns and gRPC conversion read the last entry, so a condition that is set moves
to the end. The tables say which states may follow which; reconcilers go through `advance`.

Trial:       Created -> Running -> Succeeded | Failed | MetricsUnavailable | EarlyStopped | Killed
Suggestion:  Created -> DeploymentReady -> Running -> Succeeded | Failed
Experiment:  Created -> Running -> Succeeded | Failed -> Restarting -> Running
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final

from tunesmith_api.resources import Condition


class TrialState(StrEnum):
    PENDING = "Pending"
    CREATED = "Created"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    METRICS_UNAVAILABLE = "MetricsUnavailable"
    EARLY_STOPPED = "EarlyStopped"
    KILLED = "Killed"

    @property
    def is_terminal(self) -> bool:
        return self not in (TrialState.PENDING, TrialState.CREATED, TrialState.RUNNING)


class ExperimentState(StrEnum):
    PENDING = "Pending"
    CREATED = "Created"
    RUNNING = "Running"
    RESTARTING = "Restarting"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"

    @property
    def is_terminal(self) -> bool:
        return self in (ExperimentState.SUCCEEDED, ExperimentState.FAILED)


class SuggestionState(StrEnum):
    PENDING = "Pending"
    CREATED = "Created"
    DEPLOYMENT_READY = "DeploymentReady"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"

    @property
    def is_terminal(self) -> bool:
        return self in (SuggestionState.SUCCEEDED, SuggestionState.FAILED)


_TRIAL_ENDS: Final = frozenset(state for state in TrialState if state.is_terminal)

TRIAL_TRANSITIONS: Final[Mapping[TrialState, frozenset[TrialState]]] = {
    TrialState.PENDING: frozenset({TrialState.CREATED}),
    TrialState.CREATED: _TRIAL_ENDS | {TrialState.RUNNING},
    TrialState.RUNNING: _TRIAL_ENDS,
    # A stop that was decided is final, even when the job then succeeds.
    **{state: frozenset() for state in _TRIAL_ENDS},
}

EXPERIMENT_TRANSITIONS: Final[Mapping[ExperimentState, frozenset[ExperimentState]]] = {
    ExperimentState.PENDING: frozenset({ExperimentState.CREATED}),
    ExperimentState.CREATED: frozenset(
        {ExperimentState.RUNNING, ExperimentState.SUCCEEDED, ExperimentState.FAILED}
    ),
    ExperimentState.RUNNING: frozenset({ExperimentState.SUCCEEDED, ExperimentState.FAILED}),
    ExperimentState.SUCCEEDED: frozenset({ExperimentState.RESTARTING}),
    ExperimentState.FAILED: frozenset({ExperimentState.RESTARTING}),
    ExperimentState.RESTARTING: frozenset(
        {ExperimentState.RUNNING, ExperimentState.SUCCEEDED, ExperimentState.FAILED}
    ),
}

SUGGESTION_TRANSITIONS: Final[Mapping[SuggestionState, frozenset[SuggestionState]]] = {
    SuggestionState.PENDING: frozenset({SuggestionState.CREATED}),
    SuggestionState.CREATED: frozenset(
        {SuggestionState.DEPLOYMENT_READY, SuggestionState.SUCCEEDED, SuggestionState.FAILED}
    ),
    SuggestionState.DEPLOYMENT_READY: frozenset(
        {SuggestionState.RUNNING, SuggestionState.SUCCEEDED, SuggestionState.FAILED}
    ),
    SuggestionState.RUNNING: frozenset(
        {SuggestionState.DEPLOYMENT_READY, SuggestionState.SUCCEEDED, SuggestionState.FAILED}
    ),
    # Taken up again with its experiment, from where it was.
    SuggestionState.SUCCEEDED: frozenset(
        {SuggestionState.CREATED, SuggestionState.DEPLOYMENT_READY, SuggestionState.RUNNING}
    ),
    SuggestionState.FAILED: frozenset(),
}


class TransitionError(ValueError):
    """A reconciler tried a step that the table does not have: a defect of ours."""


def state_name(conditions: Sequence[Condition]) -> str:
    """The type of the last condition, "Pending" when there is none."""
    return conditions[-1].type if conditions else "Pending"


def trial_state(conditions: Sequence[Condition]) -> TrialState:
    return TrialState(state_name(conditions))


def experiment_state(conditions: Sequence[Condition]) -> ExperimentState:
    return ExperimentState(state_name(conditions))


def suggestion_state(conditions: Sequence[Condition]) -> SuggestionState:
    return SuggestionState(state_name(conditions))


def find(conditions: Sequence[Condition], type_: str) -> Condition | None:
    """The condition of a type."""
    return next((c for c in conditions if c.type == type_), None)


def set_condition(
    conditions: Sequence[Condition],
    type_: str,
    reason: str,
    message: str,
    now: datetime,
    *,
    status: str = "True",
) -> tuple[Condition, ...]:
    """Katib's rule: same status and reason change nothing; else remove and append at the end.

    lastTransitionTime is kept when the status value stays. A status that is not "True" must not
    become the state, so such a condition keeps its place, or comes before the last.
    """
    current = find(conditions, type_)
    if current and current.status == status and current.reason == reason:
        return tuple(conditions)
    since = current.last_transition_time if current and current.status == status else now
    fresh = Condition(
        type=type_,
        status=status,
        reason=reason,
        message=message,
        last_update_time=now,
        last_transition_time=since,
    )
    if status != "True" and current:
        return tuple(fresh if c.type == type_ else c for c in conditions)
    if status != "True":
        return (*conditions[:-1], fresh, *conditions[-1:])
    return (*(c for c in conditions if c.type != type_), fresh)


def advance_trial(
    conditions: Sequence[Condition], to: TrialState, reason: str, message: str, now: datetime
) -> tuple[Condition, ...]:
    """Moves a trial along its table; Running turns False at the end. Raises TransitionError."""
    here = trial_state(conditions)
    if to is not here and to not in TRIAL_TRANSITIONS[here]:
        raise TransitionError(f"Trial: {here} -> {to} is not a transition")
    return _advance(conditions, to, reason, message, now, ends=to.is_terminal)


def advance_experiment(
    conditions: Sequence[Condition], to: ExperimentState, reason: str, message: str, now: datetime
) -> tuple[Condition, ...]:
    """Moves an experiment along its table. Restarting drops Succeeded and Failed, and is set anew
    each time."""
    here = experiment_state(conditions)
    if to is not here and to not in EXPERIMENT_TRANSITIONS[here]:
        raise TransitionError(f"Experiment: {here} -> {to} is not a transition")
    if to is ExperimentState.RESTARTING:
        conditions = [c for c in conditions if c.type not in ("Succeeded", "Failed", str(to))]
    return _advance(conditions, to, reason, message, now, ends=to.is_terminal)


def advance_suggestion(
    conditions: Sequence[Condition], to: SuggestionState, reason: str, message: str, now: datetime
) -> tuple[Condition, ...]:
    """Moves a suggestion along its table; Running drops Succeeded, as in Katib."""
    here = suggestion_state(conditions)
    if to is not here and to not in SUGGESTION_TRANSITIONS[here]:
        raise TransitionError(f"Suggestion: {here} -> {to} is not a transition")
    if to is SuggestionState.RUNNING:
        conditions = [c for c in conditions if c.type != "Succeeded"]
    return _advance(conditions, to, reason, message, now, ends=to.is_terminal)


def _advance(
    conditions: Sequence[Condition],
    to: str,
    reason: str,
    message: str,
    now: datetime,
    *,
    ends: bool,
) -> tuple[Condition, ...]:
    running = find(conditions, "Running")
    if ends and running and running.status == "True":
        conditions = set_condition(
            conditions, "Running", running.reason, running.message, now, status="False"
        )
    return set_condition(conditions, str(to), reason, message, now)
