# SPDX-License-Identifier: Apache-2.0
"""Every algorithm on random spaces and histories: only valid points, in the first answer and in
the one that follows it with its record, and no more or fewer than asked for.

Spaces come from a seeded generator, so a failure names the seed that brings it back. In all some
10,000 problems in CI, 10,000 for each algorithm with TUNESMITH_LONG=1 (`make test-long`). Shrinking
is the business of test_algorithm_properties.py.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np
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
    Distribution,
    DoubleParameter,
    IntParameter,
    ListParameter,
    Parameter,
    ParameterType,
    SearchSpace,
)
from tunesmith_suggestion.chance import generator
from tunesmith_suggestion.protocol import Algorithm
from tunesmith_suggestion.registry import BUILT_IN
from tunesmith_suggestion.space import compile_space
from tunesmith_suggestion.testing import METRIC, a_problem

LONG: Final = bool(os.environ.get("TUNESMITH_LONG"))
PROBLEMS: Final = 10_000
IN_CI: Final[Mapping[str, int]] = {"auto": 200, "bayesianoptimization": 200, "cmaes": 600}
OTHERS_IN_CI: Final = 1_800
SETTINGS: Final[Mapping[str, Mapping[str, str]]] = {
    "bayesianoptimization": {"n_initial_points": "3"},
    "multivariate-tpe": {"n_startup_trials": "3"},
    "tpe": {"n_startup_trials": "3"},
}


def a_parameter(name: str, chance: np.random.Generator) -> Parameter:
    spread = list(Distribution)[int(chance.integers(4))]
    kind = int(chance.integers(5))
    if kind < 3 and chance.random() < 0.05:
        return an_odd_parameter(name, spread, chance)
    if kind == 0:
        first = int(chance.integers(1 if spread.is_log else -50, 60))
        width = int(chance.integers(0, 10 ** int(chance.integers(0, 10))))
        return IntParameter(name, first, first + width, int(chance.integers(1, 9)), spread)
    if kind in (1, 2):
        size = float(10.0 ** chance.uniform(-9, 3))
        low = size if spread.is_log or chance.random() < 0.5 else -size
        high = low + size * float(10.0 ** chance.uniform(-3, 6))
        step = (high - low) / float(chance.uniform(0.6, 300)) if kind == 2 else None
        return DoubleParameter(name, low, high, step, spread)
    count = int(chance.integers(1, 8))
    if kind == 3:
        numbers = chance.permutation(np.arange(-20, 60))[:count]
        return ListParameter(name, tuple(str(n / 2) for n in numbers), ParameterType.DISCRETE)
    return ListParameter(name, tuple(f"choice {i}" for i in chance.permutation(count)))


def an_odd_parameter(name: str, spread: Distribution, chance: np.random.Generator) -> Parameter:
    """What users hardly write: a single value, a huge range or step, doubles side by side."""
    if chance.random() < 0.5:
        first = int(chance.integers(1 if spread.is_log else -(2**62), 2**62))
        width = int(chance.choice([0, 1, 2**40, 2**62]))
        return IntParameter(name, first, first + width, int(chance.choice([1, 3, 2**40])), spread)
    low = float(10.0 ** chance.uniform(-300, 290))
    high = float(chance.choice([low, np.nextafter(low, 1e300), low * 1.001, low * 1e9]))
    step = (high - low) * float(chance.choice([0.0, 0.01, 0.5, 1.0, 7.0]))
    return DoubleParameter(name, low, high, step or None, spread)


def a_space(chance: np.random.Generator) -> SearchSpace:
    count = int(chance.integers(1, 8))
    return SearchSpace(tuple(a_parameter(f"p{i}", chance) for i in range(count)))


def what_came_before(space: SearchSpace, chance: np.random.Generator) -> History:
    """Trials that the algorithm did not propose, ended in every way, with gaps and running ones."""
    compiled = compile_space(space)
    count = int(chance.choice([0, 1, 3, 12, 30]))
    losses = [0.0, 1.0, -1e6, 1e12, float(chance.normal()), float(chance.normal())]
    outcomes: list[Outcome] = []
    pending: list[Pending] = []
    for k in range(count):
        point = compiled.draw(chance)
        if chance.random() < 0.15:
            pending.append(Pending(k, point))
            continue
        state = list(OutcomeState)[int(chance.choice(5, p=[0.6, 0.1, 0.1, 0.1, 0.1]))]
        has_value = state in (OutcomeState.SUCCEEDED, OutcomeState.EARLY_STOPPED)
        loss = losses[int(chance.integers(len(losses)))]
        outcomes.append(Outcome(k, point, state, {METRIC: loss} if has_value else {}))
    return History(tuple(outcomes), tuple(pending))


def followed_by(history: History, first: int, found: Proposal) -> History:
    """The points that were proposed: the first of them failed, the others run."""
    failed, *rest = found.assignments
    running = (Pending(first + 1 + i, values) for i, values in enumerate(rest))
    return History(
        (*history.outcomes, Outcome(first, failed, OutcomeState.FAILED)),
        (*history.pending, *running),
    )


def assert_points(space: SearchSpace, found: Proposal | Exhausted, count: int) -> None:
    if isinstance(found, Exhausted):
        assert compile_space(space).count is not None
        return
    wrong = [space.violations(space.texts(values)) for values in found.assignments]
    assert not any(wrong), wrong
    assert len(wrong) == count or (wrong and compile_space(space).count is not None)


def ask_twice(algorithm: Algorithm, problem: Problem, history: History) -> None:
    first = len(history.outcomes) + len(history.pending)
    found = algorithm.suggest(problem, history, range(first, first + 2), "")
    assert_points(problem.space, found, 2)
    if isinstance(found, Proposal):
        later, ordinal = followed_by(history, first, found), first + len(found.assignments)
        answer = algorithm.suggest(problem, later, range(ordinal, ordinal + 1), found.recorded)
        assert_points(problem.space, answer, 1)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_it_proposes_only_points_of_the_space(name: str) -> None:
    algorithm, tried = BUILT_IN[name](), 0
    wanted = PROBLEMS if LONG else IN_CI.get(name, OTHERS_IN_CI)
    for seed in range(wanted * 40):
        if tried == wanted:
            break
        chance = generator("random spaces", name, 1, seed)
        space = a_space(chance)
        problem = a_problem(name, space, seed=seed, settings=SETTINGS.get(name, {}))
        problem = replace(problem, experiment_uid=f"uid-{seed}")
        if algorithm.validate(problem):
            continue
        tried += 1
        try:
            ask_twice(algorithm, problem, what_came_before(space, chance))
        except Exception as error:
            error.add_note(f"{name}, seed {seed}: {space}")
            raise
    assert tried == wanted, "most random spaces are refused"
