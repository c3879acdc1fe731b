# SPDX-License-Identifier: Apache-2.0
"""`bayesianoptimization` keeps the promises of every algorithm."""

from __future__ import annotations

import pytest

from tunesmith_suggestion.algorithms.bayesian import BayesianOptimization
from tunesmith_suggestion.protocol import Algorithm
from tunesmith_suggestion.testing import AlgorithmContract


class TestBayesianOptimization(AlgorithmContract):
    max_cpu_s = 10.0  # with a fit; threads of the linear algebra count as well

    @pytest.fixture
    def algorithm(self) -> Algorithm:
        return BayesianOptimization()
