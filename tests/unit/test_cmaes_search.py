# SPDX-License-Identifier: Apache-2.0
"""What a user of `cmaes` can rely on, beyond the contract of every algorithm."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

import pytest

from tunesmith_api.problem import History, Outcome, OutcomeState, Pending, Problem
from tunesmith_api.search_space import DoubleParameter, ListParameter, SearchSpace, Value
from tunesmith_suggestion.algorithms.cmaes import CmaEs
from tunesmith_suggestion.testing import FEW, METRIC, SPACE, a_history, a_problem, proposed

SQUARE = SearchSpace((DoubleParameter("x", 0.0, 1.0), DoubleParameter("y", 0.0, 1.0)))
DONE = OutcomeState.SUCCEEDED


def bowl(values: Mapping[str, Value]) -> float:
    return sum((float(value) - 0.2) ** 2 for value in values.values())


def succeeded(ordinal: int, values: Mapping[str, Value]) -> Outcome:
    return Outcome(ordinal, values, DONE, {METRIC: bowl(values)})


def searched(problem: Problem, trials: int, algorithm: CmaEs | None = None) -> History:
    """A sequential search of the bowl."""
    algorithm, history = algorithm or CmaEs(), History()
    for k in range(trials):
        values = proposed(algorithm, problem, history, 1)[0]
        history = History((*history.outcomes, succeeded(k, values)))
    return history


def numbers(values: Mapping[str, Value]) -> list[float]:
    return [float(value) for value in values.values()]


def test_a_smooth_bowl_is_found_to_many_digits() -> None:
    history = searched(a_problem("cmaes", SQUARE), 250)
    assert min(o.values[METRIC] for o in history.outcomes) < 1e-7


def test_mixed_parameters_are_all_found() -> None:
    def loss(values: Mapping[str, Value]) -> float:
        numbers = abs(float(values["dropout"]) - 0.4) + abs(int(values["layers"]) - 2) / 8
        return numbers + (values["optimizer"] != "rmsprop") + (values["batch"] != "128")

    algorithm, problem, history = CmaEs(), a_problem("cmaes", SPACE), History()
    for k in range(200):
        values = proposed(algorithm, problem, history, 1)[0]
        history = History((*history.outcomes, Outcome(k, values, DONE, {METRIC: loss(values)})))
    assert sum(loss(o.parameters) < 1e-9 for o in history.outcomes[150:]) > 10


def test_the_first_points_are_around_the_middle_as_far_as_sigma_says() -> None:
    near = proposed(CmaEs(), a_problem("cmaes", SQUARE, settings={"sigma": "0.01"}), History(), 50)
    far = proposed(CmaEs(), a_problem("cmaes", SQUARE), History(), 50)
    assert all(abs(x - 0.5) < 0.06 for values in near for x in numbers(values))
    assert max(abs(x - 0.5) for values in far for x in numbers(values)) > 0.2


def test_sigma_0_is_the_default_as_katib_takes_it() -> None:
    zero = a_problem("cmaes", SQUARE, settings={"sigma": "0"})
    assert proposed(CmaEs(), zero, History(), 3) == proposed(
        CmaEs(), a_problem("cmaes", SQUARE), History(), 3
    )


@pytest.mark.parametrize("spelling", ["None", "none", "IPOP", "bipop"])
def test_katibs_spellings_of_restarts_are_accepted(spelling: str) -> None:
    problem = a_problem("cmaes", SQUARE, settings={"restart_strategy": spelling})
    assert list(CmaEs().validate(problem)) == []


@pytest.mark.parametrize(
    "space",
    [
        SearchSpace((DoubleParameter("x", 0.0, 1.0),)),
        SearchSpace((ListParameter("a", ("u", "v", "w")), ListParameter("b", ("p", "q")))),
        FEW,
    ],
)
def test_spaces_that_katib_refuses_are_searched(space: SearchSpace) -> None:
    problem = a_problem("cmaes", space)
    assert list(CmaEs().validate(problem)) == []
    assert len(proposed(CmaEs(), problem, a_history(space, 20), 3)) == 3


def test_two_objectives_are_refused() -> None:
    problem = a_problem("cmaes", SQUARE)
    twice = replace(problem, objectives=problem.objectives * 2)
    assert list(CmaEs().validate(twice)) == ["cmaes improves one objective, got 2"]


def test_a_running_trial_changes_no_other_point() -> None:
    problem, outcomes = a_problem("cmaes", SQUARE), a_history(SQUARE, 20).outcomes
    running = History(outcomes, (Pending(20, {"x": 0.1, "y": 0.9}),))
    alone = CmaEs().suggest(problem, History(outcomes), range(21, 24), "")
    assert CmaEs().suggest(problem, running, range(21, 24), "") == alone


def test_killed_trials_teach_nothing() -> None:
    problem, outcomes = a_problem("cmaes", SQUARE), a_history(SQUARE, 20).outcomes
    killed = Outcome(20, {"x": 0.0, "y": 0.0}, OutcomeState.KILLED)
    without = CmaEs().suggest(problem, History(outcomes), range(21, 24), "")
    assert CmaEs().suggest(problem, History((*outcomes, killed)), range(21, 24), "") == without


def test_early_stopped_trials_count_with_their_value() -> None:
    problem, history = a_problem("cmaes", SQUARE), a_history(SQUARE, 20)
    stopped = [replace(o, state=OutcomeState.EARLY_STOPPED) for o in history.outcomes]
    want = proposed(CmaEs(), problem, history, 3)
    assert proposed(CmaEs(), problem, History(tuple(stopped)), 3) == want


def test_failing_regions_are_left() -> None:
    algorithm, problem, history = CmaEs(), a_problem("cmaes", SQUARE), History()
    for k in range(60):
        values = proposed(algorithm, problem, history, 1)[0]
        failed = float(values["x"]) < 0.5
        ended = Outcome(k, values, OutcomeState.FAILED) if failed else succeeded(k, values)
        history = History((*history.outcomes, ended))
    assert sum(o.state is OutcomeState.FAILED for o in history.outcomes[30:]) < 10


def test_points_of_a_person_draw_the_search_near() -> None:
    problem = a_problem("cmaes", SQUARE)
    enqueued = [succeeded(k, {"x": 0.1 + k / 100, "y": 0.1}) for k in range(18)]
    found = proposed(CmaEs(), problem, History(tuple(enqueued)), 20)
    assert sum(bowl(values) < 0.05 for values in found) > 8
    middle = proposed(CmaEs(), problem, History(), 20)
    assert sum(bowl(values) < 0.05 for values in middle) < 4


def test_a_far_point_does_not_undo_a_search_that_has_converged() -> None:
    problem, algorithm = a_problem("cmaes", SQUARE), CmaEs()
    history = searched(problem, 149, algorithm)
    far = succeeded(149, {"x": 1.0, "y": 1.0})
    found = proposed(algorithm, problem, History((*history.outcomes, far)), 20)
    assert all(bowl(values) < 1e-3 for values in found)


def test_a_trial_that_ends_late_is_learnt_from_as_if_nothing_was_remembered() -> None:
    problem, algorithm = a_problem("cmaes", SPACE), CmaEs()
    outcomes = a_history(SPACE, 200).outcomes
    late = outcomes[150]
    waiting = History((*outcomes[:150], *outcomes[151:]), (Pending(150, late.parameters),))
    proposed(algorithm, problem, waiting, 1)
    found = proposed(algorithm, problem, History(outcomes), 3)
    assert found == proposed(CmaEs(), problem, History(outcomes), 3)
    assert found != proposed(CmaEs(), problem, waiting, 3)


def test_two_experiments_that_differ_only_in_a_setting_do_not_mix() -> None:
    algorithm, history = CmaEs(), a_history(SQUARE, 40)
    wide = a_problem("cmaes", SQUARE, settings={"sigma": "0.4"})
    proposed(algorithm, a_problem("cmaes", SQUARE), history, 2)
    assert proposed(algorithm, wide, history, 2) == proposed(CmaEs(), wide, history, 2)


def test_dedupe_never_repeats_a_point() -> None:
    algorithm, history = CmaEs(), History()
    problem = a_problem("cmaes", FEW, settings={"dedupe": "true"})
    for k in range(6):
        values = proposed(algorithm, problem, history, 1)[0]
        history = History((*history.outcomes, Outcome(k, values, DONE, {METRIC: 0.0})))
    assert len({str(o.parameters) for o in history.outcomes}) == 6


def test_a_steady_question_costs_little_after_a_thousand_trials() -> None:
    algorithm, problem, outcomes = CmaEs(), a_problem("cmaes"), a_history(SPACE, 1020).outcomes
    proposed(algorithm, problem, History(outcomes[:1000]), 1)
    spent = []
    for k in range(1001, 1020):
        began = time.process_time()
        proposed(algorithm, problem, History(outcomes[:k]), 1)
        spent.append(time.process_time() - began)
    assert sorted(spent)[len(spent) // 2] < 0.01
