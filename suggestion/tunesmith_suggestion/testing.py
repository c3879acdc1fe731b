# SPDX-License-Identifier: Apache-2.0
"""The contract suite of `Algorithm`, for whoever writes one. Needs pytest and hypothesis.

    class TestMine(AlgorithmContract):
        @pytest.fixture
        def algorithm(self) -> Algorithm:
            return Mine()

The suite asserts what the controller relies on: valid points, and answers that depend on the
arguments alone. The builders below are for tests of your own.
"""

# ruff: noqa: S101

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunesmith_api.problem import (
    Direction,
    Exhausted,
    History,
    Objective,
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
    Value,
)
from tunesmith_suggestion.chance import generator
from tunesmith_suggestion.protocol import Algorithm
from tunesmith_suggestion.space import compile_space

METRIC = "loss"

SPACE = SearchSpace(
    (
        DoubleParameter("lr", 1e-5, 1e-1, distribution=Distribution.LOG_UNIFORM),
        DoubleParameter("dropout", 0.0, 0.5, step=0.1),
        IntParameter("layers", 1, 8),
        IntParameter("width", 16, 1024, step=16, distribution=Distribution.LOG_UNIFORM),
        DoubleParameter("momentum", 0.0, 1.0, distribution=Distribution.NORMAL),
        ListParameter("optimizer", ("sgd", "adam", "rmsprop")),
        ListParameter("batch", ("32", "64", "128"), ParameterType.DISCRETE),
    )
)
"""Every parameter type, three distributions."""

GRID = SearchSpace(
    (
        DoubleParameter("lr", 0.01, 0.1, 0.01, Distribution.LOG_UNIFORM),
        DoubleParameter("dropout", 0.0, 0.5, step=0.1),
        IntParameter("layers", 1, 8),
        IntParameter("width", 16, 1024, step=16, distribution=Distribution.NORMAL),
        DoubleParameter("momentum", 0.0, 1.0, step=0.25),
        ListParameter("optimizer", ("sgd", "adam", "rmsprop")),
        ListParameter("batch", ("32", "64", "128"), ParameterType.DISCRETE),
    )
)
"""The same with steps, for algorithms that need a finite space."""

CHECKED = settings(
    max_examples=50,
    deadline=None,
    database=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.differing_executors,
        HealthCheck.too_slow,
    ],
)


# ---- builders -----------------------------------------------------------------------------------


def a_problem(
    algorithm: str,
    space: SearchSpace = SPACE,
    *,
    settings: Mapping[str, str] | None = None,
    direction: Direction = Direction.MINIMIZE,
    seed: int = 7,
    uid: str = "uid-1",
) -> Problem:
    objectives = (Objective(METRIC, direction),)
    return Problem(uid, "exp", algorithm, dict(settings or {}), space, objectives, seed)


def points(space: SearchSpace, count: int, *, seed: int = 1) -> list[dict[str, Value]]:
    """Random points of a space, always the same ones."""
    compiled = compile_space(space)
    return [compiled.draw(generator("testing", "1", seed, k)) for k in range(count)]


def a_history(
    space: SearchSpace,
    count: int,
    *,
    states: Sequence[OutcomeState] = (OutcomeState.SUCCEEDED,),
    pending: int = 0,
    seed: int = 1,
) -> History:
    """`count` outcomes with the states in turn, then `pending` points still running. Trials that
    succeeded or were stopped early have a value."""
    chance = generator("testing values", "1", seed, 0)
    outcomes: list[Outcome] = []
    drawn = points(space, count + pending, seed=seed)
    for k, values in enumerate(drawn[:count]):
        state = states[k % len(states)]
        has_value = state in (OutcomeState.SUCCEEDED, OutcomeState.EARLY_STOPPED)
        metrics = {METRIC: float(chance.random())} if has_value else {}
        outcomes.append(Outcome(k, values, state, metrics))
    running = tuple(Pending(count + i, values) for i, values in enumerate(drawn[count:]))
    return History(tuple(outcomes), running)


def proposed(
    algorithm: Algorithm, problem: Problem, history: History, count: int
) -> tuple[Mapping[str, Value], ...]:
    """The next `count` assignments; none when the search has ended."""
    first = len(history.outcomes) + len(history.pending)
    found = algorithm.suggest(problem, history, range(first, first + count), "")
    return () if isinstance(found, Exhausted) else found.assignments


# ---- random spaces ------------------------------------------------------------------------------


def search_spaces(max_parameters: int = 5) -> st.SearchStrategy[SearchSpace]:
    """Spaces with every type, distribution and kind of step, narrow and wide, tiny and huge."""
    count = st.integers(1, max_parameters)
    names = [f"p{i}" for i in range(max_parameters)]
    return count.flatmap(
        lambda n: st.tuples(*(parameters(name) for name in names[:n])).map(SearchSpace)
    )


def parameters(name: str) -> st.SearchStrategy[Parameter]:
    return st.one_of(_int_parameters(name), _double_parameters(name), _list_parameters(name))


@st.composite
def _int_parameters(draw: st.DrawFn, name: str) -> Parameter:
    spread = draw(st.sampled_from(Distribution))
    least = 1 if spread.is_log else -(2**62)
    low = draw(st.integers(max(least, -20), 20) | st.integers(least, 2**62))
    high = low + draw(st.integers(0, 40) | st.integers(0, 2**61))
    step = draw(st.integers(1, 7) | st.integers(1, 2**62))
    return IntParameter(name, low, high, step, spread)


@st.composite
def _double_parameters(draw: st.DrawFn, name: str) -> Parameter:
    spread = draw(st.sampled_from(Distribution))
    least = 1e-300 if spread.is_log else -1e100
    bounds = st.floats(max(least, -10.0), 10.0) | st.floats(least, 1e100)
    low, high = sorted((draw(bounds), draw(bounds)))
    parts = draw(st.none() | st.floats(0.5, 1000.0))
    step = None if parts is None else (high - low) / parts
    return DoubleParameter(name, low, high, step or None, spread)


@st.composite
def _list_parameters(draw: st.DrawFn, name: str) -> Parameter:
    if draw(st.booleans()):
        numbers = draw(st.lists(st.integers(-99, 99), min_size=1, max_size=6))
        return ListParameter(name, tuple(map(str, numbers)), ParameterType.DISCRETE)
    words = draw(st.lists(st.text(max_size=5), min_size=1, max_size=6))
    return ListParameter(name, tuple(words))


# ---- the suite ----------------------------------------------------------------------------------


class AlgorithmContract:
    """What every algorithm must do. Subclass it and give the fixture `algorithm`."""

    splits_batches = True
    """Whether a batch is the same as its ordinals asked one by one, the earlier ones pending."""
    space = SPACE
    """An ordinary search space for the algorithm."""
    max_cpu_s = 0.5
    """For one proposal after 1,000 trials with seven parameters, in seconds of CPU."""

    @pytest.fixture
    def algorithm(self) -> Algorithm:
        raise NotImplementedError("give the algorithm in a fixture of this name")

    def _problem(
        self, algorithm: Algorithm, *, seed: int = 7, settings: Mapping[str, str] | None = None
    ) -> Problem:
        return a_problem(algorithm.name, self.space, seed=seed, settings=settings)

    def test_it_has_a_name_and_a_version(self, algorithm: Algorithm) -> None:
        assert algorithm.name and algorithm.version

    def test_an_ordinary_problem_is_valid(self, algorithm: Algorithm) -> None:
        assert list(algorithm.validate(self._problem(algorithm))) == []

    @CHECKED
    @given(space=search_spaces(), seed=st.integers(0, 2**63), told=st.integers(0, 20))
    def test_every_proposal_is_a_point_of_the_space(
        self, algorithm: Algorithm, space: SearchSpace, seed: int, told: int
    ) -> None:
        problem = a_problem(algorithm.name, space, seed=seed)
        if algorithm.validate(problem):
            return
        found = proposed(algorithm, problem, a_history(space, told, pending=2), 3)
        assert [space.violations(space.texts(values)) for values in found] == [[]] * len(found)

    def test_the_same_question_has_the_same_answer_whatever_was_asked_between(
        self, algorithm: Algorithm
    ) -> None:
        problem, history = self._problem(algorithm), a_history(self.space, 25, pending=2)
        first = proposed(algorithm, problem, history, 3)
        proposed(algorithm, self._problem(algorithm, seed=8), History(), 5)
        assert proposed(algorithm, problem, history, 3) == first

    def test_another_seed_gives_other_points(self, algorithm: Algorithm) -> None:
        answers = {
            str(proposed(algorithm, self._problem(algorithm, seed=seed), History(), 4))
            for seed in range(5)
        }
        assert len(answers) == 5

    @pytest.mark.parametrize("told", [0, 30])
    def test_a_batch_is_the_same_as_asking_one_by_one(
        self, algorithm: Algorithm, told: int
    ) -> None:
        if not self.splits_batches:
            pytest.skip("this algorithm declares that batches matter")
        problem, history = self._problem(algorithm), a_history(self.space, told)
        batch = proposed(algorithm, problem, history, 4)
        pending: tuple[Pending, ...] = ()
        for k, values in enumerate(batch):
            step = proposed(algorithm, problem, History(history.outcomes, pending), 1)
            assert step == (values,)
            pending += (Pending(told + k, values),)

    @pytest.mark.parametrize("states", [(s,) for s in OutcomeState] + [tuple(OutcomeState)])
    def test_trials_that_end_in_any_way_are_learnt_from(
        self, algorithm: Algorithm, states: tuple[OutcomeState, ...]
    ) -> None:
        problem = self._problem(algorithm)
        found = proposed(algorithm, problem, a_history(self.space, 24, states=states), 3)
        assert found
        assert not any(self.space.violations(self.space.texts(values)) for values in found)

    def test_a_constant_objective_gives_finite_points(self, algorithm: Algorithm) -> None:
        outcomes = tuple(
            Outcome(o.ordinal, o.parameters, o.state, {METRIC: 0.0})
            for o in a_history(self.space, 30).outcomes
        )
        found = proposed(algorithm, self._problem(algorithm), History(outcomes), 3)
        numbers = [v for values in found for v in values.values() if not isinstance(v, str)]
        assert numbers and all(math.isfinite(number) for number in numbers)

    def test_a_thousand_trials_are_answered_in_time(self, algorithm: Algorithm) -> None:
        problem, history = self._problem(algorithm), a_history(self.space, 1000)
        proposed(algorithm, problem, a_history(self.space, 30), 1)
        began = time.process_time()
        assert len(proposed(algorithm, problem, history, 1)) == 1
        assert time.process_time() - began < self.max_cpu_s

    def test_an_unknown_setting_is_refused_with_the_known_ones(self, algorithm: Algorithm) -> None:
        found = algorithm.validate(self._problem(algorithm, settings={"no_such_setting": "1"}))
        assert len(found) == 1
        assert "no_such_setting" in found[0]
        assert all(setting.name in found[0] for setting in algorithm.settings)

    def test_a_value_of_the_wrong_type_is_refused_by_name(self, algorithm: Algorithm) -> None:
        for setting in algorithm.settings:
            wrong = {setting.name: "certainly not"}
            found = algorithm.validate(self._problem(algorithm, settings=wrong))
            assert any(setting.name in line and "certainly not" in line for line in found)

    def test_what_it_recorded_can_be_handed_back(self, algorithm: Algorithm) -> None:
        problem, history = self._problem(algorithm), a_history(self.space, 20)
        found = algorithm.suggest(problem, history, range(20, 22), "")
        assert isinstance(found, Proposal)
        later = History(a_history(self.space, 22).outcomes)
        again = algorithm.suggest(problem, later, range(22, 23), found.recorded)
        assert isinstance(again, Proposal) and len(again.assignments) == 1
