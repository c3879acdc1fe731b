# SPDX-License-Identifier: Apache-2.0
"""What a user of RF, ET and GBRT can rely on, beyond the contract of every algorithm."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tunesmith_api.problem import (
    Exhausted,
    History,
    Outcome,
    OutcomeState,
    Pending,
    Problem,
    Proposal,
)
from tunesmith_api.search_space import (
    DoubleParameter,
    IntParameter,
    ListParameter,
    SearchSpace,
    Value,
)
from tunesmith_suggestion.algorithms.forests import ESTIMATORS, Forests, defects
from tunesmith_suggestion.testing import METRIC, a_history, a_problem, all_told

MIXED = SearchSpace(
    (
        DoubleParameter("x", 0.0, 1.0),
        DoubleParameter("y", 0.0, 1.0),
        ListParameter("kind", ("a", "b", "c")),
    )
)
FEW = SearchSpace((IntParameter("layers", 1, 3), ListParameter("kind", ("a", "b"))))


def problem(estimator: str, space: SearchSpace = MIXED, **settings: str) -> Problem:
    return a_problem(
        "bayesianoptimization", space, settings={"base_estimator": estimator, **settings}
    )


def points(asked: Problem, history: History, count: int) -> tuple[Mapping[str, Value], ...]:
    first = len(history.outcomes) + len(history.pending)
    found = Forests().suggest(asked, history, range(first, first + count), "")
    assert isinstance(found, Proposal)
    return found.assignments


def loss(values: Mapping[str, Value]) -> float:
    x, y = float(values["x"]), float(values["y"])
    return (x - 0.8) ** 2 + (y - 0.2) ** 2 + (values["kind"] != "b")


def told(count: int) -> History:
    outcomes = a_history(MIXED, count).outcomes
    done = OutcomeState.SUCCEEDED
    return History(
        tuple(
            Outcome(o.ordinal, o.parameters, done, {METRIC: loss(o.parameters)}) for o in outcomes
        )
    )


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_model_works_with_the_installed_packages(estimator: str) -> None:
    assert list(Forests().validate(problem(estimator))) == []
    assert defects(estimator) == []


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_model_proposes_near_the_best(estimator: str) -> None:
    found = points(problem(estimator, acq_func="EI"), told(60), 3)
    assert sum(loss(values) for values in found) / 3 < 0.6  # random points: 1.03
    assert points(problem(estimator, acq_func="EI"), told(60), 3) == found


@pytest.mark.parametrize("acquisition", ["gp_hedge", "LCB", "EI", "PI", "EIps", "PIps"])
def test_every_acquisition_function_of_katib_is_accepted(acquisition: str) -> None:
    asked = problem("ET", acq_func=acquisition)
    assert list(Forests().validate(asked)) == []
    assert len(points(asked, told(20), 1)) == 1


def test_a_missing_package_is_named_with_the_command_that_installs_it() -> None:
    found = Forests(installed=lambda: False).validate(problem("RF"))
    assert len(found) == 1
    assert "pip install 'tunesmith[skopt]'" in found[0]


def test_a_model_that_the_packages_cannot_make_is_refused_with_their_versions() -> None:
    found = defects("no such model")
    assert len(found) == 1
    assert "scikit-learn " in found[0] and "set base_estimator to GP" in found[0]


def test_slopes_are_refused_because_trees_have_none() -> None:
    found = Forests().validate(problem("RF", acq_optimizer="lbfgs"))
    assert len(found) == 1 and "lbfgs" in found[0]


def test_points_come_from_a_sequence_until_there_is_enough_to_learn_from() -> None:
    history = told(9)
    first = points(problem("RF"), History(), 10)
    asked = points(problem("RF"), history, 1)
    assert asked[0] == first[9]
    later = points(problem("RF", n_initial_points="5"), history, 1)
    assert later[0] != first[9]


def test_a_running_trial_counts_as_an_initial_point() -> None:
    outcomes = told(10).outcomes
    running = History(outcomes[:9], (Pending(9, outcomes[9].parameters),))
    sequence = points(problem("RF"), History(), 11)
    assert points(problem("RF"), running, 1)[0] != sequence[10]


def test_failed_trials_are_as_bad_as_the_worst() -> None:
    outcomes = list(told(40).outcomes)
    for k, outcome in enumerate(outcomes):
        if float(outcome.parameters["x"]) > 0.5:
            outcomes[k] = Outcome(k, outcome.parameters, OutcomeState.FAILED)
    found = points(problem("ET", acq_func="EI"), History(tuple(outcomes)), 4)
    assert sum(float(values["x"]) < 0.6 for values in found) >= 3


def test_no_point_is_proposed_twice_while_others_are_left() -> None:
    outcomes = all_told(FEW).outcomes[:5]
    asked = problem("RF", FEW, n_initial_points="2")
    found = points(asked, History(outcomes), 1)[0]
    assert found == all_told(FEW).outcomes[5].parameters


def test_a_used_up_space_gives_points_again() -> None:
    found = Forests().suggest(
        problem("RF", FEW, n_initial_points="2"), all_told(FEW), range(6, 8), ""
    )
    assert not isinstance(found, Exhausted) and len(found.assignments) == 2


def test_the_best_of_a_long_history_are_not_forgotten() -> None:
    outcomes = [o for o in told(2500).outcomes if o.ordinal < 200 or loss(o.parameters) > 0.5]
    found = points(problem("ET", acq_func="EI"), History(tuple(outcomes)), 2)
    assert min(loss(values) for values in found) < 0.2
