# SPDX-License-Identifier: Apache-2.0
"""The policy of Suggestions, case by case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import given
import pytest
from given import facts

from tunesmith_api.errors import Unavailable
from tunesmith_api.problems import problem_of
from tunesmith_api.resources import Batch, Suggestion
from tunesmith_controller.ports import Endpoint, HostFailed, NotReady, SearchEnded, Suggested
from tunesmith_controller.suggestion.decide import (
    Plan,
    Snapshot,
    answered,
    ask_for,
    begin,
    decide,
    next_batch,
    trim,
    unhealthy,
)
from tunesmith_controller.trial.facts import TrialFacts, census

PROBLEM = problem_of(given.experiment(), "uid-quick", 7)
SERVICE = Endpoint("unix:/tmp/s")


def snapshot(suggestion: Suggestion, trials: Sequence[TrialFacts] = (), **more: Any) -> Snapshot:
    counted = census(trials, PROBLEM.objective)
    return Snapshot(suggestion, PROBLEM, counted, **{"endpoint": SERVICE, **more})


def decided(suggestion: Suggestion, trials: Sequence[TrialFacts] = (), **more: Any) -> Plan:
    return decide(snapshot(suggestion, trials, **more), given.NOW)


def ended(count: int) -> list[TrialFacts]:
    return [facts(n, "Succeeded", loss=float(n)) for n in range(count)]


def test_the_seed_is_recorded_when_the_search_begins() -> None:
    fresh = given.suggestion(states=[])
    assert begin(fresh, 99, given.NOW).seed == "99"


def test_settings_are_validated_before_anything_is_asked() -> None:
    plan = decided(given.suggestion(states=["Created", "DeploymentReady"]))
    assert plan.validate and plan.ask is None


def test_a_questions_inputs_are_written_down_before_it_is_asked() -> None:
    plan = decided(given.suggestion(requests=2))
    assert plan.ask is None
    assert plan.status is not None
    assert plan.status.asking == Batch(first=0, count=2, pending=(), parallel=2, max_trials=4)


def test_a_recorded_question_is_asked_with_its_recorded_inputs() -> None:
    asking = Batch(first=3, count=1, pending=(1,))
    suggestion = given.suggestion(requests=4, count=3, asking=asking.json())
    # Ordinal 1 has ended meanwhile; the question was recorded while it ran.
    plan = decided(suggestion, ended(3))
    assert plan.ask is not None
    assert [o.ordinal for o in plan.ask.history.outcomes] == [0, 2]
    assert [p.ordinal for p in plan.ask.history.pending] == [1]
    assert plan.ask.request_id == "uid-quick/3/1"


def test_a_stale_cache_that_lacks_an_outcome_waits_instead_of_asking() -> None:
    asking = Batch(first=2, count=1, pending=())
    suggestion = given.suggestion(requests=3, count=2, asking=asking.json())
    plan = decided(suggestion, [facts(0, "Succeeded", loss=1.0), facts(1)])
    assert plan.ask is None and plan.again is not None


def test_pending_are_the_ordinals_without_an_outcome() -> None:
    suggestion = given.suggestion(requests=4, count=3)
    batch = next_batch(snapshot(suggestion, [facts(0, "Failed"), facts(1), facts(2)]))
    assert batch is not None
    assert batch.pending == (1, 2)


def test_an_outcome_told_once_stays_told_on_a_stale_read() -> None:
    told = Batch(first=2, count=1, pending=(1,))
    suggestion = given.suggestion(requests=5, count=3, batches=[told.json()])
    # The cache shows ordinal 0 running again; it was told with the last batch.
    batch = next_batch(snapshot(suggestion, [facts(0), facts(1), facts(2)]))
    assert batch is not None
    assert batch.pending == (1, 2)


def test_a_trial_deleted_by_hand_is_neither_pending_nor_waited_for() -> None:
    suggestion = given.suggestion(requests=3, count=2)
    found = snapshot(suggestion, [facts(1, "Succeeded", loss=1.0)], missing=frozenset({0}))
    batch = next_batch(found)
    assert batch is not None and batch.pending == ()
    ask = ask_for(found, batch)
    assert ask is not None
    assert [o.ordinal for o in ask.history.outcomes] == [1]


def test_large_wishes_are_split() -> None:
    batch = next_batch(snapshot(given.suggestion(requests=1200)))
    assert batch is not None
    assert batch.count == 500


def ask_first(suggestion: Suggestion, trials: Sequence[TrialFacts] = ()) -> Any:
    found = snapshot(suggestion, trials)
    batch = next_batch(found)
    assert batch is not None
    return found, ask_for(found, batch)


def test_an_answer_becomes_named_assignments_with_the_record_of_their_batch() -> None:
    found, ask = ask_first(given.suggestion(requests=2))
    status = answered(found, ask, Suggested([{"x": "1.0"}, {"x": "2.0"}], "v1"), given.NOW)
    assert [a.ordinal for a in status.suggestions] == [0, 1]
    assert status.suggestion_count == 2 and status.asking is None
    assert status.batches[-1].algorithm_version == "v1"
    assert len({a.name for a in status.suggestions}) == 2


def test_fewer_assignments_than_asked_are_fine() -> None:
    found, ask = ask_first(given.suggestion(requests=2))
    status = answered(found, ask, Suggested([{"x": "1.0"}]), given.NOW)
    assert status.suggestion_count == 1
    assert status.batches[-1].count == 1


@pytest.mark.parametrize("answer", [SearchEnded("all tried"), Suggested([])])
def test_no_assignment_ends_the_search_which_is_no_failure(answer: Any) -> None:
    found, ask = ask_first(given.suggestion())
    status = answered(found, ask, answer, given.NOW)
    assert status.search_ended
    assert status.conditions[-1].type == "Running"


@pytest.mark.parametrize(
    "texts",
    [{"x": "9"}, {"x": "nan"}, {}, {"x": "1", "y": "2"}, {"x": "one"}],
)
def test_a_point_outside_the_space_fails_whoever_proposed_it(texts: dict[str, str]) -> None:
    found, ask = ask_first(given.suggestion())
    status = answered(found, ask, Suggested([texts]), given.NOW)
    assert status.conditions[-1].type == "Failed"
    assert "outside the search space" in status.conditions[-1].message
    assert status.suggestions == ()


def test_more_assignments_than_asked_are_refused() -> None:
    found, ask = ask_first(given.suggestion(requests=1))
    status = answered(found, ask, Suggested([{"x": "1"}, {"x": "2"}]), given.NOW)
    assert status.conditions[-1].type == "Failed"


def test_a_service_that_cannot_be_had_fails_with_its_reason() -> None:
    plan = decided(given.suggestion(), endpoint=HostFailed("no such image"))
    assert plan.release and plan.status is not None
    assert plan.status.conditions[-1].message == "no such image"


def test_a_lost_service_is_a_false_condition_and_never_the_state() -> None:
    plan = decided(given.suggestion(requests=0), endpoint=NotReady("it died"))
    assert plan.status is not None
    assert plan.status.conditions[-1].type == "Running"
    (ready,) = [c for c in plan.status.conditions if c.type == "DeploymentReady"]
    assert (ready.status, ready.message) == ("False", "it died")


def test_after_several_failed_calls_it_says_why_nothing_moves() -> None:
    one = given.suggestion()
    assert unhealthy(one, Unavailable("refused"), 2, given.NOW) is None
    status = unhealthy(one, Unavailable("refused"), 3, given.NOW)
    assert status is not None
    assert any("refused" in c.message for c in status.conditions)


def test_when_the_experiment_is_over_the_service_is_released() -> None:
    plan = decided(given.suggestion(), experiment_over="Succeeded")
    assert plan.release and plan.status is not None
    assert plan.status.conditions[-1].type == "Succeeded"


def test_the_object_keeps_unborn_assignments_and_a_window_of_older_ones() -> None:
    suggestion = given.suggestion(requests=300, count=300, assigned=list(range(300)))
    trimmed = trim(suggestion.status, census(ended(298), PROBLEM.objective))
    assert [a.ordinal for a in trimmed.suggestions] == list(range(298 - 64, 300))


def test_what_was_fitted_long_ago_is_still_handed_to_the_next_request() -> None:
    status = given.suggestion(requests=300, count=300, assigned=list(range(300))).status
    batches = tuple(Batch(first=k, count=1, recorded="fit" if k == 20 else "") for k in range(300))
    trimmed = trim(status.with_(batches=batches), census(ended(298), PROBLEM.objective))
    assert [b.first for b in trimmed.batches if b.recorded] == [20]
    suggestion = given.suggestion(requests=2)
    _, ask = ask_first(suggestion.with_(status=suggestion.status.with_(batches=trimmed.batches)))
    assert ask.recorded == "fit"


def test_peoples_points_come_before_the_algorithms_and_need_no_service() -> None:
    suggestion = given.suggestion(requests=4, count=2)
    points = [{"x": "1.0"}, {"x": "2.0"}, {"x": "3.0"}]
    plan = decided(suggestion, ended(2), enqueued=points)
    assert plan.status is not None and plan.ask is None and plan.status.asking is None
    fresh = {a.ordinal: a.parameter_assignments[0].value for a in plan.status.suggestions}
    assert fresh == {2: "1.0", 3: "2.0"}
    assert (plan.status.enqueued_taken, plan.status.suggestion_count) == (2, 4)
    assert plan.status.batches[-1].algorithm_version == "enqueued"


def test_points_that_were_taken_are_not_tried_again() -> None:
    suggestion = given.suggestion(requests=4, count=2, enqueuedTaken=1)
    plan = decided(suggestion, ended(2), enqueued=[{"x": "1.0"}])
    assert plan.status is not None and plan.status.asking is not None


def test_a_point_outside_the_space_is_passed_over() -> None:
    plan = decided(given.suggestion(requests=1), enqueued=[{"x": "99"}, {"x": "1.0"}])
    assert plan.status is not None
    assert (plan.status.enqueued_taken, plan.status.suggestion_count) == (1, 0)


def test_a_suggestion_goes_on_when_its_experiment_is_restarted() -> None:
    over = given.suggestion(states=["Created", "DeploymentReady", "Running", "Succeeded"])
    plan = decided(over, ended(2))
    assert plan.status is not None
    assert plan.status.conditions[-1].type == "Running"


def test_a_long_running_suggestion_stays_running_and_keeps_no_service() -> None:
    suggestion = given.suggestion().with_(
        spec=given.suggestion().spec.with_(resume_policy="LongRunning")
    )
    assert decided(suggestion, experiment_over="Succeeded") == Plan(release=True)
