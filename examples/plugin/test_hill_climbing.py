# SPDX-License-Identifier: Apache-2.0
"""The contract suite that comes with tunesmith, and what is special about hill climbing."""

# ruff: noqa: S101

from __future__ import annotations

import pytest

from tunesmith_api.problem import History, Outcome, OutcomeState
from tunesmith_hill_climbing import HillClimbing
from tunesmith_suggestion.protocol import Algorithm
from tunesmith_suggestion.testing import METRIC, SPACE, AlgorithmContract, a_problem, proposed


class TestContract(AlgorithmContract):
    @pytest.fixture
    def algorithm(self) -> Algorithm:
        return HillClimbing()


def test_later_points_are_near_the_best_one() -> None:
    first = proposed(HillClimbing(), a_problem("hill-climbing"), History(), 40)
    told = History(
        tuple(
            Outcome(
                k, values, OutcomeState.SUCCEEDED, {METRIC: abs(float(values["momentum"]) - 0.5)}
            )
            for k, values in enumerate(first)
        )
    )
    later = proposed(HillClimbing(), a_problem("hill-climbing"), told, 20)
    assert all(abs(float(point["momentum"]) - 0.5) < 0.25 for point in later)
    assert {name for point in later for name in point} == {p.name for p in SPACE}
