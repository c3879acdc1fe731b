# SPDX-License-Identifier: Apache-2.0
"""Conditions: order, times and the tables of transitions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from tunesmith_api.conditions import (
    EXPERIMENT_TRANSITIONS,
    SUGGESTION_TRANSITIONS,
    TRIAL_TRANSITIONS,
    ExperimentState,
    SuggestionState,
    TransitionError,
    TrialState,
    advance_experiment,
    advance_suggestion,
    advance_trial,
    experiment_state,
    find,
    set_condition,
    state_name,
    suggestion_state,
    trial_state,
)
from tunesmith_api.resources import Condition

T0 = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
T1 = T0 + timedelta(minutes=1)


def types(conditions: Sequence[Condition]) -> list[str]:
    return [f"{c.type}={c.status}" for c in conditions]


def trial(*states: TrialState) -> tuple[Condition, ...]:
    conditions: tuple[Condition, ...] = ()
    for state in states:
        conditions = advance_trial(conditions, state, f"Trial{state}", "", T0)
    return conditions


def experiment(*states: ExperimentState) -> tuple[Condition, ...]:
    conditions: tuple[Condition, ...] = ()
    for state in states:
        conditions = advance_experiment(conditions, state, f"Experiment{state}", "", T0)
    return conditions


def test_without_conditions_the_state_is_pending() -> None:
    assert trial_state(()) is TrialState.PENDING
    assert experiment_state(()) is ExperimentState.PENDING
    assert suggestion_state(()) is SuggestionState.PENDING


def test_a_condition_that_is_set_becomes_the_last() -> None:
    conditions = set_condition((), "Created", "A", "", T0)
    conditions = set_condition(conditions, "Running", "B", "", T0)

    conditions = set_condition(conditions, "Created", "C", "again", T1)

    assert types(conditions) == ["Running=True", "Created=True"]
    assert state_name(conditions) == "Created"


def test_the_same_status_and_reason_change_nothing_not_even_the_message() -> None:
    before = set_condition((), "Created", "A", "first", T0)

    assert set_condition(before, "Created", "A", "second", T1) == before


def test_the_transition_time_stays_while_the_status_stays() -> None:
    before = set_condition((), "Running", "A", "", T0)

    (again,) = set_condition(before, "Running", "B", "", T1)
    (turned,) = set_condition(before, "Running", "A", "", T1, status="False")

    assert (again.last_update_time, again.last_transition_time) == (T1, T0)
    assert (turned.last_update_time, turned.last_transition_time) == (T1, T1)


def test_a_status_that_is_not_true_never_becomes_the_state() -> None:
    before = set_condition((), "Created", "A", "", T0)

    after = set_condition(before, "DeploymentReady", "NotYet", "", T1, status="False")

    assert types(after) == ["DeploymentReady=False", "Created=True"]


@pytest.mark.parametrize("end", [state for state in TrialState if state.is_terminal])
def test_a_trial_that_ends_is_no_longer_running(end: TrialState) -> None:
    conditions = trial(TrialState.CREATED, TrialState.RUNNING, end)

    assert trial_state(conditions) is end
    running = find(conditions, "Running")
    assert running is not None
    assert (running.status, running.reason) == ("False", "TrialRunning")


def test_a_stopped_trial_stays_stopped_when_its_job_succeeds() -> None:
    stopped = trial(TrialState.CREATED, TrialState.RUNNING, TrialState.EARLY_STOPPED)

    with pytest.raises(TransitionError, match="EarlyStopped -> Succeeded"):
        advance_trial(stopped, TrialState.SUCCEEDED, "TrialSucceeded", "", T1)


def test_a_trial_may_end_before_it_is_seen_running() -> None:
    assert trial_state(trial(TrialState.CREATED, TrialState.FAILED)) is TrialState.FAILED


@pytest.mark.parametrize("end", [ExperimentState.SUCCEEDED, ExperimentState.FAILED])
def test_a_restarted_experiment_has_not_ended(end: ExperimentState) -> None:
    ended = experiment(ExperimentState.CREATED, ExperimentState.RUNNING, end)

    restarting = advance_experiment(ended, ExperimentState.RESTARTING, "Again", "", T1)
    running = advance_experiment(restarting, ExperimentState.RUNNING, "Runs", "", T1)

    assert types(restarting) == ["Created=True", "Running=False", "Restarting=True"]
    assert types(running) == ["Created=True", "Restarting=True", "Running=True"]


def test_an_experiment_goes_on_after_its_end_only_by_restarting() -> None:
    ended = experiment(ExperimentState.CREATED, ExperimentState.SUCCEEDED)

    with pytest.raises(TransitionError, match="Succeeded -> Running"):
        advance_experiment(ended, ExperimentState.RUNNING, "Runs", "", T1)


def test_a_suggestion_that_runs_again_has_not_succeeded() -> None:
    conditions: tuple[Condition, ...] = ()
    for state in (
        SuggestionState.CREATED,
        SuggestionState.DEPLOYMENT_READY,
        SuggestionState.SUCCEEDED,
        SuggestionState.RUNNING,
    ):
        conditions = advance_suggestion(conditions, state, str(state), "", T0)

    assert types(conditions) == ["Created=True", "DeploymentReady=True", "Running=True"]


def test_a_failed_suggestion_stays_failed() -> None:
    failed = (Condition(type="Failed", reason="SuggestionFailed"),)

    for state in SuggestionState:
        if state is not SuggestionState.FAILED:
            with pytest.raises(TransitionError):
                advance_suggestion(failed, state, "R", "", T1)


def test_every_state_has_a_row_and_is_reachable_from_pending() -> None:
    for table, states in (
        (TRIAL_TRANSITIONS, TrialState),
        (EXPERIMENT_TRANSITIONS, ExperimentState),
        (SUGGESTION_TRANSITIONS, SuggestionState),
    ):
        reached = {"Pending"} | {to for ends in table.values() for to in ends}
        assert set(table) == set(states)
        assert reached == set(states)
