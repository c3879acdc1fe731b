# SPDX-License-Identifier: Apache-2.0
"""Inputs for tests of algorithms: problems, histories, ordinary and random search spaces.

`testing` offers all of them; the names are imported from there. Needs hypothesis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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

FEW = SearchSpace((IntParameter("layers", 1, 3), ListParameter("optimizer", ("sgd", "adam"))))
"""Six points."""

ONE_VALUE_EACH = SearchSpace(
    (
        DoubleParameter("lr", 0.1, 0.1),
        DoubleParameter("dropout", 0.0, 0.5, step=2.0),
        IntParameter("layers", 4, 4, distribution=Distribution.LOG_UNIFORM),
        IntParameter("width", 16, 20, step=16),
        ListParameter("optimizer", ("sgd",)),
        ListParameter("batch", ("32",), ParameterType.DISCRETE),
    )
)
"""A single point."""

ONE_VALUE_MOSTLY = SearchSpace(
    (
        *ONE_VALUE_EACH,
        DoubleParameter("momentum", 0.0, 1.0, step=0.01),
        IntParameter("epochs", 1, 30),
    )
)
"""Two parameters that vary among six that do not."""

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


def irregular_history(space: SearchSpace, seed: int, *, below: int = 100) -> History:
    """Some of the ordinals under `below`, in any state, the pending ones among the ended."""
    chance = generator("testing gaps", "1", seed, 0)
    kept = sorted(int(k) for k in chance.permutation(below)[: below // 2])
    all_of_them = a_history(space, below, states=tuple(OutcomeState), seed=seed).outcomes
    pending = {k for k in kept if chance.random() < 0.2}
    return History(
        tuple(all_of_them[k] for k in kept if k not in pending),
        tuple(Pending(k, all_of_them[k].parameters) for k in kept if k in pending),
    )


def all_told(space: SearchSpace) -> History:
    """Every point of a finite space, succeeded."""
    compiled = compile_space(space)
    told = [compiled.point(k) for k in range(compiled.count or 0)]
    done = OutcomeState.SUCCEEDED
    return History(tuple(Outcome(k, v, done, {METRIC: float(k)}) for k, v in enumerate(told)))


def with_values(history: History, values: Sequence[float]) -> History:
    """The same trials, all succeeded, with these objective values in turn."""
    done = OutcomeState.SUCCEEDED
    return History(
        tuple(
            Outcome(o.ordinal, o.parameters, done, {METRIC: values[i % len(values)]})
            for i, o in enumerate(history.outcomes)
        ),
        history.pending,
    )


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
