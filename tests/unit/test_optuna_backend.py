# SPDX-License-Identifier: Apache-2.0
"""`backend: optuna`: what its authors read without it, and that its answers are Optuna's."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import pytest

from tunesmith_api.problem import History, Outcome, OutcomeState, Pending, Problem
from tunesmith_api.search_space import (
    Distribution,
    DoubleParameter,
    IntParameter,
    ListParameter,
    ParameterType,
    SearchSpace,
)
from tunesmith_suggestion.algorithms.multivariate_tpe import MultivariateTpe
from tunesmith_suggestion.algorithms.tpe import Tpe
from tunesmith_suggestion.space import compile_space
from tunesmith_suggestion.testing import METRIC, SPACE, a_history, a_problem, proposed

ON = {"backend": "optuna"}
NONE: dict[str, str] = {}
BOTH = pytest.mark.parametrize("algorithm", [Tpe(), MultivariateTpe()], ids=lambda a: str(a.name))
LINE = SearchSpace((DoubleParameter("x", 0.0, 1.0),))
ODD = SearchSpace(
    (
        DoubleParameter("bell", 0.0, 1.0, distribution=Distribution.NORMAL),
        DoubleParameter("log bell", 1e-4, 1.0, distribution=Distribution.LOG_NORMAL),
        DoubleParameter("log steps", 0.1, 1.0, 0.25, Distribution.LOG_UNIFORM),
        IntParameter("huge", -(2**61), 2**61, 3),
        IntParameter("one", 4, 4),
        ListParameter("sizes", ("64", "8", "16"), ParameterType.DISCRETE),
    )
)


def on_optuna(
    algorithm: Tpe,
    space: SearchSpace = SPACE,
    settings: Mapping[str, str] = NONE,
    seed: int = 7,
) -> Problem:
    return a_problem(algorithm.name, space, settings={**ON, **settings}, seed=seed)


@BOTH
def test_without_optuna_the_author_reads_what_to_install(
    algorithm: Tpe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    (found,) = algorithm.validate(on_optuna(algorithm))
    assert "Optuna is not installed" in found and "pip install 'tunesmith[optuna]'" in found
    assert algorithm.validate(a_problem(algorithm.name)) == []


@BOTH
def test_an_unknown_backend_is_refused(algorithm: Tpe) -> None:
    problem = a_problem(algorithm.name, settings={"backend": "hyperopt"})
    (found,) = algorithm.validate(problem)
    assert found == "setting 'backend' is 'hyperopt'; it must be one of tunesmith, optuna"


@BOTH
def test_every_distribution_and_step_works_though_optuna_lacks_them(algorithm: Tpe) -> None:
    history = a_history(ODD, 30, states=tuple(OutcomeState), pending=3)
    found = proposed(algorithm, on_optuna(algorithm, ODD), history, 5)
    assert [ODD.violations(ODD.texts(values)) for values in found] == [[]] * 5


@BOTH
def test_it_learns_from_the_history(algorithm: Tpe) -> None:
    good = tuple(
        Outcome(k, {"x": k / 40}, OutcomeState.SUCCEEDED, {METRIC: abs(k / 40 - 0.3)})
        for k in range(40)
    )
    found = proposed(algorithm, on_optuna(algorithm, LINE), History(good), 20)
    assert sum(abs(float(values["x"]) - 0.3) < 0.15 for values in found) > 12


@BOTH
def test_running_trials_are_told_to_optuna(algorithm: Tpe) -> None:
    outcomes = tuple(
        Outcome(k, {"x": k / 29}, OutcomeState.SUCCEEDED, {METRIC: abs(k / 29 - 0.45)})
        for k in range(30)
    )

    def near_the_best(running: int) -> int:
        pending = tuple(Pending(30 + k, {"x": 0.45}) for k in range(running))
        problems = [on_optuna(algorithm, LINE, seed=seed) for seed in range(40)]
        found = [proposed(algorithm, p, History(outcomes, pending), 1)[0]["x"] for p in problems]
        return sum(abs(float(x) - 0.45) < 0.05 for x in found)

    assert near_the_best(running=20) < 0.7 * near_the_best(running=0)


@pytest.mark.parametrize(
    "settings",
    [
        {"gamma": "0.9"},
        {"prior_weight": "5"},
        {"n_EI_candidates": "3"},
        {"n_startup_trials": "99"},
        {"random_state": "5"},
    ],
)
def test_the_settings_reach_optuna(settings: dict[str, str]) -> None:
    algorithm, history = Tpe(), a_history(SPACE, 60)
    plain = proposed(algorithm, on_optuna(algorithm), history, 3)
    assert proposed(algorithm, on_optuna(algorithm, settings=settings), history, 3) != plain


def test_the_two_names_differ_as_in_katib_one_parameter_at_a_time_or_all_together() -> None:
    """Only different choices are good: drawn one at a time, any pair looks as good."""
    space = SearchSpace((ListParameter("a", ("0", "1")), ListParameter("b", ("0", "1"))))
    compiled = compile_space(space)
    outcomes = tuple(
        Outcome(k, v, OutcomeState.SUCCEEDED, {METRIC: float(v["a"] == v["b"])})
        for k in range(80)
        for v in [compiled.point(k % 4)]
    )

    def different(algorithm: Tpe) -> int:
        problems = [on_optuna(algorithm, space, seed=seed) for seed in range(20)]
        found = [proposed(algorithm, p, History(outcomes), 1)[0] for p in problems]
        return sum(values["a"] != values["b"] for values in found)

    assert different(MultivariateTpe()) == 20 > different(Tpe()) + 4
