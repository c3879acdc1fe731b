# SPDX-License-Identifier: Apache-2.0
"""Every algorithm of the registry, 200 searches each, in services that are killed at random: the
assignments and the records are those of the undisturbed search.

With TUNESMITH_LONG=1 (`make test-long`) all algorithms run all 200 seeds in both forms; otherwise
those that take long run some of them. `auto` also hands over from one algorithm to another.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import pytest

from tunesmith_api.problem import Problem, Proposal
from tunesmith_suggestion.algorithms.auto import Auto
from tunesmith_suggestion.registry import BUILT_IN
from tunesmith_suggestion.testing import GRID, SPACE, a_problem
from tunesmith_suggestion.testing_chain import killed_at_random, search

LONG: Final = bool(os.environ.get("TUNESMITH_LONG"))
SEEDS: Final = 200
LENGTH: Final = 20
FEWER_SEEDS: Final[Mapping[str, int]] = {"auto": 20, "bayesianoptimization": 20, "cmaes": 60}
"""Without TUNESMITH_LONG."""
EARLY: Final[Mapping[str, Mapping[str, str]]] = {
    "bayesianoptimization": {"n_initial_points": "4"},
    "multivariate-tpe": {"n_startup_trials": "5"},
    "tpe": {"n_startup_trials": "5"},
}
"""So that most of a short search rests on the model."""


def problem_of(name: str, seed: int, parallel: int) -> Problem:
    space = GRID if name == "grid" else SPACE
    problem = a_problem(name, space, seed=seed, settings=EARLY.get(name, {}), uid=f"uid-{seed}")
    return replace(problem, parallel=parallel)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("parallel", [1, 4])
@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_a_search_killed_at_any_moment_is_the_undisturbed_one(name: str, parallel: int) -> None:
    undisturbed = BUILT_IN[name]()
    for seed in range(SEEDS if LONG else FEWER_SEEDS.get(name, SEEDS)):
        problem = problem_of(name, seed, parallel)
        expected = search(undisturbed.suggest, problem, length=LENGTH)
        killed = search(killed_at_random(BUILT_IN[name], seed), problem, length=LENGTH)
        assert killed == expected, f"seed {seed}"
        assert sum(len(step.ordinals) for step in expected) == LENGTH


class HandsOver(Auto):
    """In the middle of a search, not after a thousand trials."""

    def __init__(self) -> None:
        super().__init__(most_for_few=LENGTH // 2)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("parallel", [1, 4])
def test_a_hand_over_is_the_same_when_the_service_is_killed_around_it(parallel: int) -> None:
    undisturbed = HandsOver()
    for seed in range(SEEDS if LONG else 5):
        problem = problem_of("auto", seed, parallel)
        expected = search(undisturbed.suggest, problem, length=LENGTH)
        killed = search(killed_at_random(HandsOver, seed), problem, length=LENGTH)
        assert killed == expected, f"seed {seed}"
        by_gp = [k for k, step in enumerate(expected) if _is_recorded(step.answer)]
        assert by_gp and max(by_gp) < len(expected) - 2


def _is_recorded(answer: object) -> bool:
    """The Gaussian process records its fits, its successor nothing."""
    return isinstance(answer, Proposal) and bool(answer.recorded)
