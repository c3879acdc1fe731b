# SPDX-License-Identifier: Apache-2.0
"""Every algorithm on hundreds of random spaces: only valid points; and the axes below them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith_api.problem import History, OutcomeState
from tunesmith_api.search_space import SearchSpace
from tunesmith_suggestion.registry import BUILT_IN
from tunesmith_suggestion.space import ChoiceAxis, compile_space
from tunesmith_suggestion.testing import CHECKED, a_history, a_problem, proposed, search_spaces

MANY = settings(CHECKED, max_examples=300)
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
    problem = a_problem(name, space, seed=seed, settings={"dedupe": dedupe})
    assert list(BUILT_IN[name]().validate(problem)) == []
    history = a_history(space, told, states=tuple(OutcomeState)[:3], pending=1)
    for values in proposed(BUILT_IN[name](), problem, history, 3):
        assert space.violations(space.texts(values)) == []


@pytest.mark.parametrize("name", sorted(BUILT_IN))
@settings(CHECKED, max_examples=40)
@given(space=search_spaces(2).filter(lambda s: (compile_space(s).count or 99) <= 60))
def test_without_repeats_a_finite_space_is_proposed_once_and_then_ends(
    name: str, space: SearchSpace
) -> None:
    problem = a_problem(name, space, settings={"dedupe": "true"})
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
