# SPDX-License-Identifier: Apache-2.0
"""grid: every point once, in an order fixed by the seed, whatever people and crashes do."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice

import pytest

from tunesmith_api.errors import Invalid
from tunesmith_api.problem import Exhausted, History, Outcome, OutcomeState, Pending, Problem
from tunesmith_api.search_space import (
    Distribution,
    DoubleParameter,
    IntParameter,
    ListParameter,
    ParameterType,
    SearchSpace,
    Value,
)
from tunesmith_proto.katib import api_pb2 as katib
from tunesmith_proto.v1 import suggestions_pb2 as pb
from tunesmith_suggestion.algorithms.grid import GridSearch
from tunesmith_suggestion.chance import ordering
from tunesmith_suggestion.core import SuggestionCore
from tunesmith_suggestion.katib import KatibCore
from tunesmith_suggestion.katib_messages import experiment_message, trial_messages
from tunesmith_suggestion.messages import problem_message
from tunesmith_suggestion.testing import a_problem, proposed

TWELVE = SearchSpace(
    (
        DoubleParameter("rate", 0.1, 0.3, 0.1),
        IntParameter("layers", 2, 5, 3),
        ListParameter("kind", ("a", "b"), ParameterType.CATEGORICAL),
    )
)
Point = tuple[Value, ...]


def grid(space: SearchSpace = TWELVE, **settings: str) -> Problem:
    return a_problem("grid", space, settings=settings)


def points(found: tuple[Mapping[str, Value], ...]) -> list[Point]:
    return [tuple(values.values()) for values in found]


def ended(
    tried: tuple[Mapping[str, Value], ...], state: OutcomeState = OutcomeState.FAILED
) -> tuple[Outcome, ...]:
    return tuple(Outcome(k, values, state) for k, values in enumerate(tried))


WHOLE = proposed(GridSearch(), grid(), History(), 99)
IN_ORDER = [
    (0.1, 2, "a"),
    (0.1, 2, "b"),
    (0.1, 5, "a"),
    (0.1, 5, "b"),
    (0.2, 2, "a"),
    (0.2, 2, "b"),
    (0.2, 5, "a"),
    (0.2, 5, "b"),
    (0.3, 2, "a"),
    (0.3, 2, "b"),
    (0.3, 5, "a"),
    (0.3, 5, "b"),
]


def test_every_point_comes_once_in_an_order_that_the_seed_decides() -> None:
    other = proposed(GridSearch(), grid(random_state="8"), History(), 99)
    assert sorted(points(WHOLE)) == sorted(points(other)) == sorted(IN_ORDER)
    assert points(WHOLE) != points(other) != IN_ORDER


def test_without_shuffling_the_last_parameter_changes_fastest() -> None:
    assert points(proposed(GridSearch(), grid(shuffle="false"), History(), 99)) == IN_ORDER


@pytest.mark.parametrize("spread", list(Distribution))
def test_a_distribution_changes_nothing_about_the_values(spread: Distribution) -> None:
    space = SearchSpace(
        (IntParameter("n", 1, 7, 2, spread), DoubleParameter("x", 1.0, 2.0, 0.5, spread))
    )
    found = proposed(GridSearch(), grid(space, shuffle="false"), History(), 99)
    assert points(found) == [(n, x) for n in (1, 3, 5, 7) for x in (1.0, 1.5, 2.0)]


@pytest.mark.parametrize("state", list(OutcomeState))
def test_a_tried_point_is_not_tried_again_however_it_ended(state: OutcomeState) -> None:
    history = History(ended(WHOLE[:5], state), (Pending(5, WHOLE[5]),))
    assert proposed(GridSearch(), grid(), history, 99) == WHOLE[6:]


def test_points_that_people_enqueued_are_left_out_and_no_other() -> None:
    theirs = (WHOLE[7], {**WHOLE[2], "rate": float(WHOLE[2]["rate"]) + 1e-12})
    found = proposed(GridSearch(), grid(), History(ended(theirs)), 99)
    assert found == tuple(p for k, p in enumerate(WHOLE) if k not in (2, 7))


def test_the_point_of_a_deleted_trial_is_tried_again() -> None:
    outcomes = ended(WHOLE[:6])
    history = History((*outcomes[:2], *outcomes[3:]))
    found = GridSearch().suggest(grid(), history, range(6, 8), "")
    assert not isinstance(found, Exhausted)
    assert found.assignments == (WHOLE[2], WHOLE[6])


def test_the_last_batch_is_short_and_then_the_search_ends_with_a_reason() -> None:
    assert proposed(GridSearch(), grid(), History(ended(WHOLE[:10])), 5) == WHOLE[10:]
    over = GridSearch().suggest(grid(), History(ended(WHOLE)), range(12, 13), "")
    assert over == Exhausted("all 12 points of the grid were tried")


def test_choices_that_are_given_twice_count_once() -> None:
    space = SearchSpace((ListParameter("kind", ("a", "b", "a")),))
    assert sorted(points(proposed(GridSearch(), grid(space), History(), 9))) == [("a",), ("b",)]


def test_steps_about_as_fine_as_doubles_are_taken_together() -> None:
    space = SearchSpace((DoubleParameter("x", 1e16, 1e16 + 8, 0.5),))
    found = points(proposed(GridSearch(), grid(space), History(), 99))
    assert sorted(found) == [(1e16,), (1e16 + 4,), (1e16 + 8,)]


@pytest.mark.parametrize(
    ("space", "count"),
    [
        (SearchSpace((IntParameter("n", 1, 10**9),)), 10**9),
        (SearchSpace(tuple(IntParameter(f"n{i}", 1, 1000) for i in range(20))), 10**60),
    ],
)
def test_a_huge_grid_costs_nothing(space: SearchSpace, count: int) -> None:
    assert space.cardinality == count
    began = time.process_time()
    found = points(proposed(GridSearch(), grid(space), History(), 100))
    assert len(set(found)) == 100
    assert time.process_time() - began < 0.2


def test_a_long_history_is_passed_over_quickly() -> None:
    space = SearchSpace(tuple(IntParameter(f"n{i}", 1, 1000) for i in range(3)))
    tried = proposed(GridSearch(), grid(space), History(), 100_000)
    history = History(ended(tried))
    began = time.process_time()
    found = proposed(GridSearch(), grid(space), history, 4)
    assert len(found) == 4
    assert time.process_time() - began < 2.0


@pytest.mark.parametrize("shuffle", ["true", "false"])
def test_at_ten_thousand_trials_another_costs_milliseconds_in_a_running_service(
    shuffle: str,
) -> None:
    space = SearchSpace(tuple(DoubleParameter(f"x{i}", 0.0, 1.0, 0.01) for i in range(10)))
    problem, algorithm = grid(space, shuffle=shuffle), GridSearch()
    tried = ended(proposed(algorithm, problem, History(), 10_010))
    proposed(algorithm, problem, History(tried[:10_000]), 1)
    began = time.process_time()
    for told in range(10_001, 10_011):
        found = proposed(algorithm, problem, History(tried[:told]), 1)
        assert found == proposed(algorithm, problem, History(tried[:told]), 2)[:1]
    assert time.process_time() - began < 20 * 0.010
    assert found == proposed(GridSearch(), problem, History(tried), 1)


def test_several_threads_walk_one_order() -> None:
    space = SearchSpace((IntParameter("n", 1, 3000),))
    problem, algorithm = grid(space), GridSearch()
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(proposed, algorithm, problem, History(), 3000) for _ in range(8)]
    want = proposed(GridSearch(), problem, History(), 3000)
    assert len(set(points(want))) == 3000
    assert [answer.result() == want for answer in asked] == [True] * 8


def test_every_order_is_equally_likely_and_a_permutation() -> None:
    orders = [tuple(ordering("test", "1", seed, 3)) for seed in range(3000)]
    assert {orders.count(order) // 100 for order in set(orders)} <= {4, 5}
    assert len(set(orders)) == 6
    for count in (1, 2, 17, 500):
        assert sorted(ordering("test", "1", 5, count)) == list(range(count))


def test_a_longer_look_at_an_order_begins_like_a_shorter_one() -> None:
    def first(length: int) -> list[int]:
        return list(islice(ordering("test", "1", 5, 10**30), length))

    assert first(300)[:7] == first(7)


# ---- what is refused ----------------------------------------------------------------------------


def test_a_double_needs_a_step_unless_it_has_one_value() -> None:
    space = SearchSpace((DoubleParameter("lr", 0.1, 0.2), DoubleParameter("fixed", 3.0, 3.0)))
    assert list(GridSearch().validate(grid(space))) == [
        "parameter 'lr': feasibleSpace.step: grid needs a step for a double"
    ]


def test_a_budget_beyond_the_grid_is_refused() -> None:
    assert list(GridSearch().validate(replace(grid(), max_trials=12))) == []
    assert list(GridSearch().validate(replace(grid(), max_trials=13))) == [
        "maxTrialCount is 13, and the grid has only 12 points: set maxTrialCount to 12 or less, "
        "or use smaller steps"
    ]


def test_a_budget_raised_beyond_the_grid_while_it_runs_does_not_fail_the_search() -> None:
    problem = problem_message(replace(grid(), max_trials=13))
    core = SuggestionCore()
    assert core.validate(pb.ValidateRequest(problem=problem)).problems
    assert len(core.suggest(pb.SuggestRequest(problem=problem, count=20)).assignments) == 12


# ---- Katib's clients ----------------------------------------------------------------------------


class KatibController:
    """Katib's side of a search: it sends all trials but those whose metrics are missing."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.outcomes: list[Outcome] = []

    def ask(self, count: int) -> int:
        """Asks for trials, runs them, and returns how many there were."""
        request = katib.GetSuggestionsRequest(
            experiment=experiment_message(self.problem, self.problem.settings),
            trials=trial_messages(self.problem, History(tuple(self.outcomes))),
            current_request_number=count,
            total_request_number=len(self.outcomes) + count,
        )
        states = (OutcomeState.SUCCEEDED, OutcomeState.METRICS_UNAVAILABLE, OutcomeState.FAILED)
        reply = KatibCore().suggest(request)
        for one in reply.parameter_assignments:
            k = len(self.outcomes)
            values = self.problem.space.values({a.name: a.value for a in one.assignments})
            self.outcomes.append(Outcome(k, values, states[k % 3]))
        return len(reply.parameter_assignments)


def test_katibs_controller_gets_every_point_once_and_then_nothing() -> None:
    controller = KatibController(grid())
    assert [controller.ask(5) for _ in range(5)] == [5, 5, 2, 0, 0]
    found = [tuple(o.parameters.values()) for o in controller.outcomes]
    assert sorted(found) == sorted(IN_ORDER)


def test_katibs_controller_is_told_of_a_budget_beyond_the_grid() -> None:
    experiment = experiment_message(replace(grid(), max_trials=13), {})
    request = katib.ValidateAlgorithmSettingsRequest(experiment=experiment)
    with pytest.raises(Invalid, match="the grid has only 12 points"):
        KatibCore().validate(request)
