# SPDX-License-Identifier: Apache-2.0
"""`bayesianoptimization`: where it looks, what it never repeats, what it takes from a record."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import pytest

from tunesmith_api.problem import History, Outcome, OutcomeState, Pending, Proposal
from tunesmith_api.search_space import (
    DoubleParameter,
    IntParameter,
    ListParameter,
    SearchSpace,
    Value,
)
from tunesmith_suggestion.algorithms.bayesian import BayesianOptimization
from tunesmith_suggestion.testing import METRIC, a_history, a_problem, points, proposed

BOX = SearchSpace((DoubleParameter("x", 0.0, 1.0), DoubleParameter("y", 0.0, 1.0)))
SMALL = SearchSpace((IntParameter("n", 1, 4), ListParameter("c", ("a", "b", "c"))))
NAME = BayesianOptimization.name


def bowl(values: Mapping[str, Value]) -> float:
    return (float(values["x"]) - 0.3) ** 2 + (float(values["y"]) - 0.7) ** 2


def told(loss: Callable[[Mapping[str, Value]], float], count: int) -> History:
    done = OutcomeState.SUCCEEDED
    return History(
        tuple(Outcome(k, p, done, {METRIC: loss(p)}) for k, p in enumerate(points(BOX, count)))
    )


def searched(length: int, **settings: str) -> list[float]:
    """The losses of a sequential search on the bowl."""
    algorithm, problem = BayesianOptimization(), a_problem(NAME, BOX, settings=settings)
    outcomes: tuple[Outcome, ...] = ()
    recorded = ""
    for k in range(length):
        found = algorithm.suggest(problem, History(outcomes), range(k, k + 1), recorded)
        assert isinstance(found, Proposal)
        recorded = found.recorded or recorded
        (point,) = found.assignments
        outcomes += (Outcome(k, point, OutcomeState.SUCCEEDED, {METRIC: bowl(point)}),)
    return [outcome.values[METRIC] for outcome in outcomes]


@pytest.mark.parametrize("acq_func", ["gp_hedge", "EI", "EIps", "PI", "PIps", "LCB"])
def test_a_bowl_is_solved_with_every_acquisition(acq_func: str) -> None:
    assert min(searched(20, acq_func=acq_func)) < 1e-2


def test_sampling_comes_near_and_climbing_nearer() -> None:
    assert min(searched(20, acq_optimizer="sampling")) < 1e-2
    assert min(searched(20, acq_optimizer="lbfgs")) < 1e-4


def test_the_first_points_are_a_design_as_long_as_the_setting_says() -> None:
    problem = a_problem(NAME, BOX, settings={"n_initial_points": "7"})
    other = a_problem(NAME, BOX, settings={"n_initial_points": "3"})
    algorithm = BayesianOptimization()
    design = proposed(algorithm, problem, History(), 7)
    assert proposed(algorithm, other, History(), 3) == design[:3]
    assert proposed(algorithm, problem, told(bowl, 6), 1) == (design[6],)
    assert proposed(algorithm, other, told(bowl, 6), 1) != (design[6],)


def test_a_region_where_trials_fail_is_left_alone() -> None:
    def ended(k: int, point: Mapping[str, Value]) -> Outcome:
        fails = float(point["x"]) < 0.5
        state = OutcomeState.FAILED if fails else OutcomeState.SUCCEEDED
        return Outcome(k, point, state, {} if fails else {METRIC: float(point["x"])})

    history = History(tuple(ended(k, p) for k, p in enumerate(points(BOX, 30))))
    found = proposed(BayesianOptimization(), a_problem(NAME, BOX), history, 6)
    assert sum(float(point["x"]) >= 0.45 for point in found) >= 4


def test_points_asked_for_together_are_apart_and_apart_from_running_ones() -> None:
    history = told(bowl, 12)
    algorithm, problem = BayesianOptimization(), a_problem(NAME, BOX)
    (alone,) = proposed(algorithm, problem, history, 1)
    running = History(history.outcomes, (Pending(12, alone),))
    found = algorithm.suggest(problem, running, range(13, 17), "")
    assert isinstance(found, Proposal)
    together = [alone, *found.assignments]
    rows = [(float(p["x"]), float(p["y"])) for p in together]
    gaps = [max(abs(a - c), abs(b - d)) for i, (a, b) in enumerate(rows) for c, d in rows[:i]]
    assert min(gaps) > 1e-3


@pytest.mark.parametrize("n_initial_points", ["0", "30"])
def test_a_finite_space_is_tried_once_before_anything_is_repeated(n_initial_points: str) -> None:
    problem = a_problem(NAME, SMALL, settings={"n_initial_points": n_initial_points})
    found = proposed(BayesianOptimization(), problem, History(), 14)
    texts = [str(SMALL.texts(point)) for point in found]
    assert len(set(texts[:12])) == 12 and len(found) == 14


def test_a_record_takes_the_place_of_the_fit() -> None:
    problem, history = a_problem(NAME, BOX), told(bowl, 40)
    first = BayesianOptimization().suggest(problem, history, range(40, 41), "")
    assert isinstance(first, Proposal) and first.recorded
    changed = json.loads(first.recorded)
    changed["hyper"] = [value + 1.0 for value in changed["hyper"]]
    again = BayesianOptimization().suggest(problem, history, range(40, 41), first.recorded)
    other = BayesianOptimization().suggest(problem, history, range(40, 41), json.dumps(changed))
    assert isinstance(again, Proposal) and isinstance(other, Proposal)
    assert again.assignments == first.assignments and not again.recorded
    assert other.assignments != first.assignments


@pytest.mark.parametrize("record", ["{", "[]", "null", '{"last": 1}', '{"hyper": ["x"]}'])
def test_a_record_that_is_none_of_its_own_is_as_none(record: str) -> None:
    problem, history = a_problem(NAME, BOX), told(bowl, 20)
    found = BayesianOptimization().suggest(problem, history, range(20, 21), record)
    expected = BayesianOptimization().suggest(problem, history, range(20, 21), "")
    assert found == expected


def test_another_model_is_asked_where_the_setting_names_one() -> None:
    problem = a_problem(NAME, BOX, settings={"base_estimator": "RF", "n_initial_points": "4"})
    assert list(BayesianOptimization().validate(problem)) == []
    gaussian = a_problem(NAME, BOX, settings={"n_initial_points": "4"})
    history = a_history(BOX, 12)
    forest = proposed(BayesianOptimization(), problem, history, 2)
    assert len(forest) == 2
    assert forest != proposed(BayesianOptimization(), gaussian, history, 2)
