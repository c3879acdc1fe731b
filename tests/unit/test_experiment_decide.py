# SPDX-License-Identifier: Apache-2.0
"""The policy of Experiments, case by case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import given
import pytest
from given import facts

from tunesmith_api.problems import objective_of
from tunesmith_api.resources import Experiment, Suggestion
from tunesmith_controller.experiment.decide import Plan, Snapshot, decide, wanted
from tunesmith_controller.trial.facts import TrialFacts, census


def snapshot(
    experiment: Experiment,
    trials: Sequence[TrialFacts] = (),
    suggestion: Suggestion | None = None,
    gone: int = 0,
) -> Snapshot:
    objective = objective_of(experiment)
    return Snapshot(experiment, objective, suggestion, census(trials, objective), gone)


def decided(*args: Any, **kwargs: Any) -> Plan:
    return decide(snapshot(*args, **kwargs), given.NOW)


def state_of(plan: Plan) -> tuple[str, str]:
    assert plan.status is not None
    last = plan.status.conditions[-1]
    return last.type, last.reason


def test_a_new_experiment_is_created_and_gets_a_suggestion_with_its_first_requests() -> None:
    plan = decided(given.experiment(parallel=2))
    assert state_of(plan) == ("Created", "ExperimentCreated")
    assert plan.create_suggestion is not None
    assert plan.create_suggestion.spec.requests == 2
    assert plan.create_suggestion.metadata.name == "quick"


@pytest.mark.parametrize(
    ("ended", "parallel", "budget", "want"),
    [(0, 3, 12, 3), (5, 3, 12, 8), (11, 3, 12, 12), (12, 3, 12, 12), (7, 2, None, 9)],
)
def test_requests_are_what_has_ended_plus_parallelism_within_the_budget(
    ended: int, parallel: int, budget: int | None, want: int
) -> None:
    trials = [facts(n, "Succeeded", loss=1.0) for n in range(ended)]
    given_one = snapshot(given.experiment(parallel=parallel, max_trials=budget), trials)
    assert wanted(given_one) == want


def test_requests_never_shrink_when_reads_are_stale() -> None:
    plan = decided(given.experiment(), [], given.suggestion(requests=4))
    assert plan.set_requests is None


def test_every_assignment_without_a_trial_becomes_one_in_ordinal_order() -> None:
    suggestion = given.suggestion(requests=2, count=2, assigned=[1, 0])
    plan = decided(given.experiment(parallel=2), [], suggestion)
    assert [a.ordinal for a in plan.create_trials] == [0, 1]


def test_lower_parallelism_holds_trials_back_and_deletes_nothing() -> None:
    suggestion = given.suggestion(requests=4, count=4, assigned=[2, 3])
    running = [facts(0), facts(1)]
    assert decided(given.experiment(parallel=1), running, suggestion).create_trials == ()


def test_no_more_trials_than_the_budget_exist() -> None:
    suggestion = given.suggestion(requests=5, count=5, assigned=[3, 4])
    trials = [facts(n, "Succeeded", loss=1.0) for n in range(3)]
    plan = decided(given.experiment(parallel=5, max_trials=4), trials, suggestion)
    assert [a.ordinal for a in plan.create_trials] == [3]


def test_a_reached_goal_ends_it_before_the_budget() -> None:
    trials = [facts(0, "Succeeded", loss=0.1), facts(1)]
    plan = decided(given.experiment(goal=0.2), trials, given.suggestion())
    assert state_of(plan) == ("Succeeded", "ExperimentGoalReached")
    assert plan.create_trials == ()


def test_the_goal_itself_counts_as_reached() -> None:
    plan = decided(given.experiment(goal=0.2), [facts(0, "Succeeded", loss=0.2)])
    assert state_of(plan) == ("Succeeded", "ExperimentGoalReached")


@pytest.mark.parametrize("state", ["Failed", "MetricsUnavailable"])
def test_failures_and_missing_metrics_count_against_the_limit(state: str) -> None:
    plan = decided(given.experiment(max_failed=1), [facts(0, state)], given.suggestion())
    assert state_of(plan) == ("Failed", "ExperimentFailed")
    assert plan.status is not None
    assert facts(0).name in plan.status.conditions[-1].message


def test_a_limit_of_zero_means_the_first_failure_fails() -> None:
    assert state_of(decided(given.experiment(max_failed=0), [facts(0, "Failed")]))[0] == "Failed"
    assert state_of(decided(given.experiment(max_failed=0), [facts(0)]))[0] == "Running"


def test_all_trials_ended_is_success_even_when_all_failed_without_a_limit() -> None:
    plan = decided(given.experiment(max_trials=2), [facts(0, "Failed"), facts(1, "Failed")])
    assert state_of(plan) == ("Succeeded", "ExperimentMaxTrialsReached")


def test_trials_deleted_by_hand_count_as_ended() -> None:
    trials = [facts(0, "Succeeded", loss=1.0)]
    plan = decided(given.experiment(max_trials=2), trials, given.suggestion(count=2), gone=1)
    assert state_of(plan) == ("Succeeded", "ExperimentMaxTrialsReached")


def test_an_exhausted_search_is_success_with_its_reason_once_all_trials_ended() -> None:
    suggestion = given.suggestion(count=2, searchEnded="all 2 points were tried")
    running = [facts(0, "Succeeded", loss=1.0), facts(1)]
    assert state_of(decided(given.experiment(), running, suggestion))[0] == "Running"
    ended = [facts(0, "Succeeded", loss=1.0), facts(1, "Succeeded", loss=2.0)]
    plan = decided(given.experiment(), ended, suggestion)
    assert state_of(plan) == ("Succeeded", "ExperimentSuggestionEndReached")
    assert plan.status is not None
    assert "all 2 points were tried" in plan.status.conditions[-1].message


def test_a_failed_suggestion_fails_the_experiment_with_its_message() -> None:
    suggestion = given.suggestion(states=["Created", "Failed"])
    assert state_of(decided(given.experiment(), [], suggestion)) == ("Failed", "ExperimentFailed")


def test_the_best_is_the_lowest_loss_and_ties_go_to_the_first() -> None:
    trials = [facts(n, "Succeeded", loss=v) for n, v in enumerate([0.5, 0.2, 0.2])]
    plan = decided(given.experiment(), trials, given.suggestion())
    assert plan.status is not None
    assert plan.status.current_optimal_trial is not None
    assert plan.status.current_optimal_trial.best_trial_name == trials[1].name


def test_nothing_to_do_writes_nothing() -> None:
    trials = [facts(0), facts(1)]
    first = decided(given.experiment(), trials, given.suggestion(requests=2))
    assert first.status is not None
    again = decided(
        given.experiment().with_(status=first.status), trials, given.suggestion(requests=2)
    )
    assert again == Plan()


def test_status_lists_keep_all_active_names_and_a_window_of_finished_ones() -> None:
    trials = [facts(n, "Succeeded", loss=1.0) for n in range(250)] + [facts(250), facts(251)]
    plan = decided(given.experiment(max_trials=None), trials, given.suggestion())
    assert plan.status is not None
    assert len(plan.status.succeeded_trial_list) == 100
    assert plan.status.trials_succeeded == 250
    assert plan.status.running_trial_list == (trials[250].name, trials[251].name)


def test_an_experiment_under_deletion_is_left_alone() -> None:
    one = given.experiment()
    going = one.with_(metadata=one.metadata.with_(deletion_timestamp=given.NOW))
    assert decided(going, [facts(0)]) == Plan()
