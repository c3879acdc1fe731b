# SPDX-License-Identifier: Apache-2.0
"""Our algorithms under the contract suite, and the same answers from another process."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tunesmith_suggestion.algorithms.grid import GridSearch
from tunesmith_suggestion.algorithms.multivariate_tpe import MultivariateTpe
from tunesmith_suggestion.algorithms.random import RandomSearch
from tunesmith_suggestion.algorithms.sobol import SobolSearch
from tunesmith_suggestion.algorithms.tpe import Tpe
from tunesmith_suggestion.protocol import Algorithm
from tunesmith_suggestion.registry import BUILT_IN
from tunesmith_suggestion.testing import (
    GRID,
    AlgorithmContract,
    a_history,
    a_problem,
    proposed,
)

ELSEWHERE = """
import json, sys
from tunesmith_suggestion.registry import Registry
from tunesmith_suggestion.testing import GRID, a_history, a_problem, proposed
problem = a_problem(sys.argv[1], GRID)
found = proposed(Registry().find(sys.argv[1]), problem, a_history(GRID, 40), 5)
print(json.dumps([GRID.texts(values) for values in found]))
"""


class TestGrid(AlgorithmContract):
    space = GRID
    max_cpu_s = 0.1

    @pytest.fixture
    def algorithm(self) -> Algorithm:
        return GridSearch()


class TestMultivariateTpe(AlgorithmContract):
    max_cpu_s = 0.1

    @pytest.fixture
    def algorithm(self) -> Algorithm:
        return MultivariateTpe()


class TestRandom(AlgorithmContract):
    @pytest.fixture
    def algorithm(self) -> Algorithm:
        return RandomSearch()


class TestSobol(AlgorithmContract):
    max_cpu_s = 0.1

    @pytest.fixture
    def algorithm(self) -> Algorithm:
        return SobolSearch()


class TestTpe(AlgorithmContract):
    max_cpu_s = 0.1

    @pytest.fixture
    def algorithm(self) -> Algorithm:
        return Tpe()


@pytest.mark.parametrize("hash_seed", ["0", "4242"])
@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_another_process_with_other_hashes_gives_the_same_points(name: str, hash_seed: str) -> None:
    here = proposed(BUILT_IN[name](), a_problem(name, GRID), a_history(GRID, 40), 5)
    there = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, name],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        check=True,
        text=True,
    )
    assert json.loads(there.stdout) == [GRID.texts(values) for values in here]
