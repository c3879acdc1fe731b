# SPDX-License-Identifier: Apache-2.0
"""`cmaes` keeps the promises of every algorithm."""

from __future__ import annotations

import pytest

from tunesmith_suggestion.algorithms.cmaes import CmaEs
from tunesmith_suggestion.protocol import Algorithm
from tunesmith_suggestion.testing import AlgorithmContract


class TestCmaEs(AlgorithmContract):
    max_cpu_s = 0.3
    max_cpu_s_at_most = 3.0

    @pytest.fixture
    def algorithm(self) -> Algorithm:
        return CmaEs()
