# SPDX-License-Identifier: Apache-2.0
"""multivariate-tpe: the joint estimator under Katib's name and settings."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import geometric_mean

import numpy as np
import pytest

from tunesmith_api.problem import History, Outcome, OutcomeState
from tunesmith_api.search_space import DoubleParameter, ListParameter, SearchSpace, Value
from tunesmith_suggestion.algorithms.multivariate_tpe import MultivariateTpe
from tunesmith_suggestion.algorithms.random import RandomSearch
from tunesmith_suggestion.algorithms.tpe import Tpe
from tunesmith_suggestion.protocol import Algorithm
from tunesmith_suggestion.testing import METRIC, SPACE, a_history, a_problem, proposed

BOX = SearchSpace(tuple(DoubleParameter(f"x{i}", -4.0, 4.0) for i in range(4)))
PAIRS = SearchSpace((ListParameter("a", tuple("01234")), ListParameter("b", tuple("01234"))))
TRIALS, SEEDS = 60, 60


def rotated_ellipse(values: Mapping[str, Value]) -> float:
    """Two long valleys at 45 degrees to the axes, ten times as long as wide."""
    x = np.array([float(v) - 0.6 for v in values.values()])
    along, across = (x[::2] + x[1::2]) / 2**0.5, (x[::2] - x[1::2]) / 2**0.5
    return float(np.sum(along**2 + 100 * across**2))


def best(algorithm: Algorithm, seed: int) -> float:
    problem = a_problem(algorithm.name, BOX, seed=seed)
    outcomes: tuple[Outcome, ...] = ()
    while len(outcomes) < TRIALS:
        for values in proposed(algorithm, problem, History(outcomes), 4):
            told = {METRIC: rotated_ellipse(values)}
            outcomes += (Outcome(len(outcomes), values, OutcomeState.SUCCEEDED, told),)
    return min(outcome.values[METRIC] for outcome in outcomes)


def test_where_parameters_interact_it_finds_as_good_points_as_tpe() -> None:
    """The logarithm of one search's best has a standard deviation of 0.8 over seeds, the difference
    of two means of 60 one of 0.15: a factor of 1.5 is almost three of them. The seeds are fixed."""
    found = {
        algorithm.name: geometric_mean(best(algorithm, seed) for seed in range(SEEDS))
        for algorithm in (MultivariateTpe(), Tpe(), RandomSearch())
    }
    assert found["multivariate-tpe"] < 1.5 * found["tpe"]
    assert found["multivariate-tpe"] < 0.7 * found["random"]


def test_combinations_that_did_well_are_proposed_and_not_their_mixtures() -> None:
    """Only equal choices are good: one parameter at a time, any pair would look as good."""
    tried = (outcome.parameters for outcome in a_history(PAIRS, 200).outcomes)
    outcomes = tuple(
        Outcome(k, p, OutcomeState.SUCCEEDED, {METRIC: float(p["a"] != p["b"])})
        for k, p in enumerate(tried)
    )
    found = [
        values
        for seed in range(10)
        for values in proposed(
            MultivariateTpe(), a_problem("multivariate-tpe", PAIRS, seed=seed), History(outcomes), 4
        )
    ]
    assert sum(values["a"] == values["b"] for values in found) > 30


@pytest.mark.parametrize(
    "settings",
    [
        {"n_startup_trials": "5", "n_ei_candidates": "12", "random_state": "3"},
        {"n_EI_candidates": "12", "gamma": "0.3", "prior_weight": "2"},
    ],
)
def test_katibs_settings_are_taken_under_both_spellings(settings: dict[str, str]) -> None:
    history = a_history(SPACE, 30)
    plain = proposed(MultivariateTpe(), a_problem("multivariate-tpe"), history, 3)
    problem = a_problem("multivariate-tpe", settings=settings)
    assert list(MultivariateTpe().validate(problem)) == []
    assert proposed(MultivariateTpe(), problem, history, 3) != plain


def test_two_spellings_of_candidates_mean_the_same() -> None:
    def found(spelling: str) -> object:
        problem = a_problem("multivariate-tpe", settings={spelling: "3"})
        return proposed(MultivariateTpe(), problem, a_history(SPACE, 30), 3)

    assert found("n_ei_candidates") == found("n_EI_candidates")


def test_it_shows_the_defaults_of_katibs_service() -> None:
    shown = {setting.name: setting.default for setting in MultivariateTpe().settings}
    assert shown["n_startup_trials"] == 10
    assert shown["n_ei_candidates"] == 24
    assert shown["random_state"] is None


def test_the_points_of_tpe_stay_what_they_were() -> None:
    """A change here changes what replays of old experiments propose: raise tpe's version."""
    (values,) = proposed(Tpe(), a_problem("tpe", BOX), a_history(BOX, 30), 1)
    assert list(values.values()) == pytest.approx(
        [2.6445638809448972, -3.346702922645687, 3.9770567073095036, -3.432124421063449],
        rel=1e-12,
    )
