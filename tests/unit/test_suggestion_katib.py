# SPDX-License-Identifier: Apache-2.0
"""Katib's protocol, both as a service for Katib's clients and as a client of Katib's services."""

from __future__ import annotations

import pytest

from tunesmith_api.errors import Invalid
from tunesmith_api.names import trial_name
from tunesmith_api.problem import Direction, History, OutcomeState
from tunesmith_api.search_space import IntParameter, SearchSpace
from tunesmith_controller.hosts.katib_suggestions import suggest_request, suggested
from tunesmith_controller.ports import Ask, SearchEnded, Suggested
from tunesmith_proto.katib import api_pb2 as pb
from tunesmith_suggestion.algorithms.random import RandomSearch
from tunesmith_suggestion.katib import KatibCore
from tunesmith_suggestion.katib_messages import (
    experiment_message,
    history_of,
    problem_of,
    seed_of,
    trial_messages,
)
from tunesmith_suggestion.katib_requests import opened
from tunesmith_suggestion.testing import METRIC, SPACE, a_history, a_problem, proposed

SIX = SearchSpace((IntParameter("a", 1, 3), IntParameter("b", 1, 2)))
PROBLEM = a_problem("random")
HISTORY = a_history(SPACE, 10, states=tuple(OutcomeState), pending=2)


def request(
    trials: int = 0,
    count: int = 2,
    *,
    handed_out: int | None = None,
    space: SearchSpace = SPACE,
    **settings: str,
) -> pb.GetSuggestionsRequest:
    """As Katib's controller asks, with this many finished trials."""
    problem = a_problem("random", space, settings=settings)
    return pb.GetSuggestionsRequest(
        experiment=experiment_message(problem, settings),
        trials=trial_messages(problem, a_history(space, trials)),
        current_request_number=count,
        total_request_number=(trials if handed_out is None else handed_out) + count,
    )


def points(reply: pb.GetSuggestionsReply) -> list[dict[str, str]]:
    return [{a.name: a.value for a in one.assignments} for one in reply.parameter_assignments]


def test_a_request_gets_as_many_valid_assignments_as_it_asks_for() -> None:
    found = points(KatibCore().suggest(request(trials=3, count=4)))
    assert len(found) == 4
    assert [SPACE.violations(point) for point in found] == [[]] * 4


def test_the_next_request_continues_where_the_last_one_ended() -> None:
    one_call = points(KatibCore().suggest(request(trials=0, count=4)))
    two_calls = points(KatibCore().suggest(request(trials=0, count=2)))
    two_calls += points(KatibCore().suggest(request(trials=2, count=2)))
    assert one_call == two_calls


def test_points_of_trials_that_katib_leaves_out_are_not_proposed_again() -> None:
    """Three were handed out, and one of them lost its metrics: Katib sends only two trials."""
    expected = points(KatibCore().suggest(request(trials=0, count=5)))[3:]
    assert points(KatibCore().suggest(request(trials=2, count=2, handed_out=3))) == expected


def test_the_seed_is_random_state_or_the_name_of_the_experiment() -> None:
    by_name = points(KatibCore().suggest(request()))
    by_state = points(KatibCore().suggest(request(random_state="4")))
    drawn = proposed(RandomSearch(), a_problem("random", seed=seed_of("exp")), History(), 2)
    assert by_name == [SPACE.texts(values) for values in drawn]
    assert by_state != by_name


def test_an_ended_search_has_no_assignments() -> None:
    asked = request(count=10, space=SIX, dedupe="true")
    assert len(points(KatibCore().suggest(asked))) == 6
    for one in KatibCore().suggest(asked).parameter_assignments:
        trial = asked.trials.add(name="t")
        trial.spec.parameter_assignments.assignments.extend(one.assignments)
    assert points(KatibCore().suggest(asked)) == []


def test_bad_settings_and_spaces_are_refused_with_a_sentence() -> None:
    bad = request(random_state="-1")
    with pytest.raises(Invalid, match="'random_state' is '-1'; it must be an integer >= 0"):
        KatibCore().validate(pb.ValidateAlgorithmSettingsRequest(experiment=bad.experiment))
    with pytest.raises(Invalid, match="random_state"):
        KatibCore().suggest(bad)
    wrong = request()
    wrong.experiment.spec.parameter_specs.parameters[0].feasible_space.max = ""
    with pytest.raises(Invalid, match=r"'lr': feasibleSpace.max: must be given"):
        KatibCore().suggest(wrong)
    with pytest.raises(Invalid, match="at most 1000"):
        KatibCore().suggest(request(count=1001))
    with pytest.raises(Invalid, match=r"objective.type must be minimize or maximize"):
        KatibCore().suggest(pb.GetSuggestionsRequest(experiment=pb.Experiment(name="e")))


def test_trials_that_are_no_points_of_the_space_are_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    trials = trial_messages(PROBLEM, a_history(SPACE, 3))
    trials[1].spec.parameter_assignments.assignments[0].value = "77"
    history = history_of(PROBLEM, trials)
    assert [outcome.ordinal for outcome in history.outcomes] == [0, 2]
    assert f"trial {trials[1].name} is ignored: lr: 77 is outside" in caplog.text


def test_katib_sees_what_its_controller_would_send() -> None:
    trials = trial_messages(PROBLEM, HISTORY)
    status = pb.TrialStatus
    assert [t.status.condition for t in trials] == [
        status.SUCCEEDED,
        status.FAILED,
        status.EARLYSTOPPED,
        status.KILLED,
        status.SUCCEEDED,
        status.FAILED,
        status.EARLYSTOPPED,
        status.KILLED,
        status.RUNNING,
        status.RUNNING,
    ]
    assert trials[0].name == trial_name("exp", "uid-1", 0)
    assert trials[0].spec.objective.objective_metric_name == METRIC
    (metric,) = trials[0].status.observation.metrics
    assert (metric.name, float(metric.value)) == (METRIC, HISTORY.outcomes[0].values[METRIC])


def test_a_problem_survives_katibs_messages() -> None:
    problem = a_problem("tpe", settings={"gamma": "0.3"}, direction=Direction.MAXIMIZE)
    found = problem_of(experiment_message(problem, problem.settings))
    assert (found.space, found.objectives, found.settings) == (
        problem.space,
        problem.objectives,
        problem.settings,
    )


def test_a_metric_that_is_no_number_is_no_value() -> None:
    (trial,) = trial_messages(PROBLEM, a_history(SPACE, 1))
    trial.status.observation.metrics[0].value = "nan"
    (outcome,) = history_of(PROBLEM, [trial]).outcomes
    assert outcome.values == {}


def test_no_assignments_from_a_foreign_service_end_the_search() -> None:
    ask = Ask("id", PROBLEM, HISTORY, 12, 3)
    assert isinstance(suggested(ask, pb.GetSuggestionsReply()), SearchEnded)


def test_settings_that_a_foreign_service_gives_back_are_sent_to_it_again() -> None:
    ask = Ask("id", a_problem("hyperband", settings={"eta": "3"}), HISTORY, 12, 3)
    reply = KatibCore().suggest(request(count=1))
    reply.algorithm.algorithm_settings.add(name="current_s", value="2")
    first = suggested(ask, reply)
    assert isinstance(first, Suggested) and len(first.assignments) == 1
    again = suggest_request(Ask("id2", ask.problem, HISTORY, 13, 3, first.recorded))
    sent = {s.name: s.value for s in again.experiment.spec.algorithm.algorithm_settings}
    assert sent == {"eta": "3", "current_s": "2"}
    assert (again.current_request_number, again.total_request_number) == (3, 16)


@pytest.mark.parametrize("recorded", ["", "not json", "[1]", '{"lengthscales": [0.3]}'])
def test_what_another_kind_of_service_recorded_is_not_sent_as_settings(recorded: str) -> None:
    asked = suggest_request(Ask("id", PROBLEM, HISTORY, 12, 1, recorded))
    assert not asked.experiment.spec.algorithm.algorithm_settings


@pytest.mark.parametrize("name", ["random", "sobol"])
def test_who_does_not_learn_answers_alike_whatever_became_of_the_trials(name: str) -> None:
    problem = a_problem(name)
    asked = [
        pb.GetSuggestionsRequest(
            experiment=experiment_message(problem, {}),
            trials=trial_messages(problem, a_history(SPACE, 10, states=states)),
            current_request_number=2,
            total_request_number=12,
        )
        for states in ((OutcomeState.SUCCEEDED,), (OutcomeState.FAILED,))
    ]
    first, second = (points(KatibCore().suggest(one)) for one in asked)
    assert first == second and len(first) == 2


def test_a_cut_off_trial_is_refused_by_who_does_not_read_it() -> None:
    whole = request(trials=3).SerializeToString(deterministic=True)
    with pytest.raises(Invalid, match="malformed"):
        KatibCore().suggest_to(opened(whole[:-20]))
