# SPDX-License-Identifier: Apache-2.0
"""The policy of Experiments, case by case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import given
import pytest
from given import facts

from tunesmith_api.problems import objective_of
from tunesmith_api.resources import Experiment, RunPolicy, Suggestion
from tunesmith_controller.experiment.decide import Plan, Snapshot, decide, may_finish, wanted
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


# ---- the whole life cycle -----------------------------------------------------------------------


def over(reason: str, *, policy: str = "LongRunning", **more: Any) -> Experiment:
    """An experiment that has ended in success."""
    ended = given.experiment(startTime="2026-01-02T03:00:00Z", **more)
    conditions = given.conditions("Created", "Running")
    conditions.append({"type": "Succeeded", "status": "True", "reason": reason, "message": ""})
    return Experiment.parse(
        {
            **ended.json(),
            "spec": {**ended.json()["spec"], "resumePolicy": policy},
            "status": {"conditions": conditions, "completionTime": "2026-01-02T03:04:00Z"},
        }
    )


def annotated(experiment: Experiment, **annotations: str) -> Experiment:
    given_ones = {f"tunesmith.dev/{name}": value for name, value in annotations.items()}
    return experiment.with_(metadata=experiment.metadata.with_(annotations=given_ones))


def with_policy(experiment: Experiment, **policy: Any) -> Experiment:
    return experiment.with_(spec=experiment.spec.with_(run_policy=RunPolicy(**policy)))


FOUR_ENDED = [facts(n, "Succeeded", loss=1.0 + n) for n in range(4)]


@pytest.mark.parametrize("policy", ["LongRunning", "FromVolume"])
def test_a_raised_budget_restarts_what_ended_by_its_budget(policy: str) -> None:
    plan = decided(over("ExperimentMaxTrialsReached", policy=policy, max_trials=6), FOUR_ENDED)
    assert plan.status is not None
    assert [c.type for c in plan.status.conditions] == ["Created", "Running", "Restarting"]
    assert plan.status.completion_time is None


def test_without_a_budget_that_allows_more_nothing_restarts() -> None:
    ended = over("ExperimentMaxTrialsReached", max_trials=4)
    status = decided(ended, FOUR_ENDED).status
    assert status is None or status.conditions[-1].type == "Succeeded"


@pytest.mark.parametrize(
    ("reason", "policy"),
    [
        ("ExperimentMaxTrialsReached", "Never"),
        ("ExperimentGoalReached", "LongRunning"),
        ("ExperimentSuggestionEndReached", "FromVolume"),
    ],
)
def test_other_ends_are_final(reason: str, policy: str) -> None:
    status = decided(over(reason, policy=policy, max_trials=None), FOUR_ENDED).status
    assert status is None or status.conditions[-1].type == "Succeeded"


def test_a_person_ends_it_with_what_it_has_found() -> None:
    stopped = annotated(given.experiment(max_trials=9), stopped="true")
    plan = decided(stopped, [*FOUR_ENDED, facts(4)], given.suggestion())
    assert state_of(plan) == ("Succeeded", "ExperimentStopped")
    assert plan.create_trials == ()


def test_what_a_person_stopped_goes_on_when_they_say_so() -> None:
    still = decided(annotated(over("ExperimentStopped", max_trials=9), stopped="true"), FOUR_ENDED)
    assert still.status is None or still.status.conditions[-1].type == "Succeeded"
    plan = decided(over("ExperimentStopped", max_trials=9), FOUR_ENDED)
    assert plan.status is not None
    assert plan.status.conditions[-1].type == "Restarting"


def test_a_wall_clock_limit_ends_it_and_is_looked_at_in_time() -> None:
    started = with_policy(
        given.experiment(startTime="2026-01-02T03:04:00Z", max_trials=9),
        active_deadline_seconds=10,
    )
    suggestion = given.suggestion()
    assert decided(started, [facts(0)], suggestion).again == 5.0
    assert state_of(decide_at(started, 10)) == ("Succeeded", "ExperimentDeadlineReached")


def decide_at(experiment: Experiment, seconds: float) -> Plan:
    """The plan so many seconds after 03:04:00."""
    now = given.NOW - timedelta(seconds=5) + timedelta(seconds=seconds)
    return decide(snapshot(experiment, [facts(0)], given.suggestion()), now)


def test_an_ended_experiment_is_taken_up_again_long_after_its_limit_would_have_passed() -> None:
    extended = with_policy(
        over("ExperimentMaxTrialsReached", max_trials=9), active_deadline_seconds=10
    )
    started = extended.with_(
        status=extended.status.with_(start_time=datetime(2020, 1, 1, tzinfo=UTC))
    )
    plan = decided(started, FOUR_ENDED)
    assert plan.status is not None
    assert plan.status.conditions[-1].type == "Restarting"


def test_what_its_limit_has_ended_goes_on_only_with_a_larger_one() -> None:
    ended = over("ExperimentDeadlineReached", max_trials=9)
    started = ended.with_(status=ended.status.with_(start_time=given.NOW - timedelta(seconds=60)))
    plan = decided(with_policy(started, active_deadline_seconds=10), FOUR_ENDED)
    assert plan.status is not None
    assert plan.status.conditions[-1].reason == "ExperimentDeadlineReached"
    plan = decided(with_policy(started, active_deadline_seconds=100), FOUR_ENDED)
    assert plan.status is not None
    assert plan.status.conditions[-1].type == "Restarting"


def test_a_restart_begins_the_limit_anew() -> None:
    restarted = {
        "type": "Restarting",
        "status": "True",
        "lastTransitionTime": "2026-01-02T03:04:05Z",
    }
    experiment = given.experiment(
        startTime="2026-01-01T00:00:00Z",
        conditions=[*given.conditions("Created"), restarted],
    )
    limited = with_policy(experiment, active_deadline_seconds=10)
    assert decided(limited, [facts(0)], given.suggestion()).again == 10.0


def test_less_parallelism_holds_the_newest_back_and_touches_nothing_else() -> None:
    trials = [facts(0, "Succeeded", loss=1.0), facts(1), facts(2), facts(3)]
    plan = decided(given.experiment(parallel=1, max_trials=9), trials, given.suggestion(requests=9))
    assert plan.hold == (facts(2).name, facts(3).name)
    assert plan.unhold == () and plan.create_trials == ()


def test_who_was_held_back_gets_its_place_when_there_is_one() -> None:
    held = [replace(facts(n), held=True) for n in (1, 2)]
    plan = decided(given.experiment(parallel=2), [facts(0), *held], given.suggestion())
    assert (plan.hold, plan.unhold) == ((), (facts(1).name,))


def test_running_trials_outlive_a_reached_goal_only_by_policy() -> None:
    reached = over("ExperimentGoalReached")
    assert not may_finish(reached)
    assert may_finish(with_policy(reached, running_trials_at_end="Finish"))
    assert not may_finish(with_policy(over("ExperimentStopped"), running_trials_at_end="Finish"))
