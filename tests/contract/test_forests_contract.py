# SPDX-License-Identifier: Apache-2.0
"""The forests behind `bayesianoptimization` keep the promises of every algorithm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tunesmith_api.problem import Exhausted, History, Problem, Proposal
from tunesmith_suggestion.algorithms.bayesian import BayesianOptimization
from tunesmith_suggestion.algorithms.forests import Forests
from tunesmith_suggestion.protocol import Algorithm
from tunesmith_suggestion.settings import Setting
from tunesmith_suggestion.testing import AlgorithmContract


class Forest:
    """A forest as an algorithm of its own, with few initial points."""

    name = "bayesianoptimization"
    version = "1"
    settings: Sequence[Setting] = BayesianOptimization.settings

    def __init__(self) -> None:
        self._forests = Forests()

    def validate(self, problem: Problem) -> Sequence[str]:
        return BayesianOptimization().validate(problem) or self._forests.validate(
            self._with_forest(problem)
        )

    def suggest(
        self, problem: Problem, history: History, ordinals: range, recorded: str
    ) -> Proposal | Exhausted:
        return self._forests.suggest(self._with_forest(problem), history, ordinals, recorded)

    def _with_forest(self, problem: Problem) -> Problem:
        settings = {
            "n_initial_points": "15",
            **problem.settings,
            "base_estimator": "RF",
        }
        return replace(problem, settings=settings)


class TestForest(AlgorithmContract):
    max_cpu_s = 4.0
    large_batch = 8
    kill_and_resume_seeds = 1
    search_length = 19
    irregular_histories = 2

    @pytest.fixture
    def algorithm(self) -> Algorithm:
        return Forest()
