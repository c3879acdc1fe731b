# SPDX-License-Identifier: Apache-2.0
"""Every algorithm on hundreds of random spaces: only valid points; and the axes below them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith_api.problem import History, OutcomeState, Pending
from tunesmith_api.search_space import SearchSpace, Value
from tunesmith_suggestion.chance import generator
from tunesmith_suggestion.registry import BUILT_IN
from tunesmith_suggestion.space import ChoiceAxis, compile_space
from tunesmith_suggestion.testing import CHECKED, a_history, a_problem, proposed, search_spaces

MANY = settings(CHECKED, max_examples=300)
DEDUPING = ["multivariate-tpe", "random", "tpe"]
ENDS = [0.0, 1e-300, 2**-53, 0.5, 1 - 2**-53, 1.0]


@pytest.mark.parametrize("name", sorted(BUILT_IN))
@MANY
@given(
    space=search_spaces(6),
    told=st.integers(0, 25),
    seed=st.integers(0, 2**64 - 1),
    dedupe=st.sampled_from(["true", "false"]),
)
def test_every_algorithm_proposes_only_valid_points(
    name: str, space: SearchSpace, told: int, seed: int, dedupe: str
) -> None:
    given_settings = {"dedupe": dedupe} if name in DEDUPING else {}
    problem = a_problem(name, space, seed=seed, settings=given_settings)
    if name == "grid" and compile_space(space).count is None:
        assert "needs a step" in BUILT_IN[name]().validate(problem)[0]
        return
    assert list(BUILT_IN[name]().validate(problem)) == []
    history = a_history(space, told, states=tuple(OutcomeState)[:3], pending=1)
    for values in proposed(BUILT_IN[name](), problem, history, 3):
        assert space.violations(space.texts(values)) == []


@pytest.mark.parametrize("name", [*DEDUPING, "grid"])
@settings(CHECKED, max_examples=40)
@given(space=search_spaces(2).filter(lambda s: (compile_space(s).count or 99) <= 60))
def test_without_repeats_a_finite_space_is_proposed_once_and_then_ends(
    name: str, space: SearchSpace
) -> None:
    problem = a_problem(name, space, settings={"dedupe": "true"} if name in DEDUPING else {})
    count = compile_space(space).count or 0
    found = proposed(BUILT_IN[name](), problem, History(), count + 5)
    texts = [tuple(space.texts(values).values()) for values in found]
    assert len(texts) == len(set(texts)) <= count
    grid = {tuple(space.texts(compile_space(space).point(i)).values()) for i in range(count)}
    assert set(texts) == grid


@MANY
@given(space=search_spaces(1), chance=st.sampled_from(ENDS) | st.floats(0.0, 1.0))
def test_every_probability_has_a_valid_value_at_its_own_place(
    space: SearchSpace, chance: float
) -> None:
    (axis,) = compile_space(space).axes
    value = axis.at(chance)
    assert space.violations(space.texts({axis.name: value})) == []
    if isinstance(axis, ChoiceAxis):
        assert axis.value(axis.index(value)) == value
    else:
        assert 0.0 <= axis.position(value) <= 1.0


@MANY
@given(
    space=search_spaces(4).filter(lambda s: compile_space(s).count is not None),
    seed=st.integers(0, 2**64 - 1),
)
def test_points_of_a_finite_space_know_their_number(space: SearchSpace, seed: int) -> None:
    compiled = compile_space(space)
    drawn = [compiled.draw(generator("numbers", "1", seed, k)) for k in range(5)]
    assert [compiled.point(i) for i in compiled.indices(drawn)] == drawn


@MANY
@given(
    space=search_spaces(4).filter(lambda s: compile_space(s).count is not None),
    told=st.integers(0, 12),
    asks=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    shuffle=st.sampled_from(["true", "false"]),
)
def test_a_grid_never_repeats_a_point_whatever_was_tried_before(
    space: SearchSpace, told: int, asks: list[int], shuffle: str
) -> None:
    """Before are points of people, perhaps the same one twice."""
    problem = a_problem("grid", space, settings={"shuffle": shuffle})
    history = a_history(space, told, states=tuple(OutcomeState))
    before = {str(space.texts(o.parameters)) for o in history.outcomes}
    found: list[str] = []
    for count in asks:
        batch = proposed(BUILT_IN["grid"](), problem, history, count)
        found += [str(space.texts(values)) for values in batch]
        history = History(history.outcomes, (*history.pending, *running(history, batch)))
    assert len(found) == len(set(found))
    assert before.isdisjoint(found)


def running(history: History, batch: Sequence[Mapping[str, Value]]) -> tuple[Pending, ...]:
    first = len(history.outcomes) + len(history.pending)
    return tuple(Pending(first + i, values) for i, values in enumerate(batch))
