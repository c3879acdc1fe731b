# SPDX-License-Identifier: Apache-2.0
"""Axes of the search-space compiler over the whole range of numbers: quantile and position are each
other's inverse, cells share [0, 1] out, the scalar and the array form agree, and the normal
distributions are SciPy's truncated ones. And the rows of numbers that models are given.
"""

from __future__ import annotations

import math
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy.stats import truncnorm

from tunesmith_api.search_space import (
    Distribution,
    DoubleParameter,
    IntParameter,
    ListParameter,
    Parameter,
    ParameterType,
    SearchSpace,
    SpaceError,
    Value,
    parse_parameter,
)
from tunesmith_suggestion.coordinates import Coordinates
from tunesmith_suggestion.space import ChoiceAxis, NumberAxis, OrderedAxis, compile_space
from tunesmith_suggestion.testing import CHECKED, search_spaces

MANY = settings(CHECKED, max_examples=400)
PROBABILITIES = st.sampled_from([0.0, 1e-300, 2**-53, 0.5, 1 - 2**-53, 1.0]) | st.floats(0.0, 1.0)
SPREADS = st.sampled_from(Distribution)
SKEWED = Distribution.LOG_UNIFORM
BELLS = (Distribution.NORMAL, Distribution.LOG_NORMAL)
PARTS = st.floats(0.3, 400.0) | st.integers(1, 400).map(float) | st.just(1e6)


def magnitudes() -> st.SearchStrategy[float]:
    """Positive numbers of any size, least and greatest doubles among them."""
    odd = st.sampled_from([5e-324, 2.3e-308, 1.0, 1e16, 1e308])
    return odd | st.floats(5e-324, 1e308) | st.floats(-323, 308).map(lambda e: 10.0**e)


@st.composite
def doubles(draw: st.DrawFn, *, stepped: bool | None = None) -> DoubleParameter:
    """As a user may write them; steps may be wider than the range, bounds a few doubles apart."""
    spread = draw(SPREADS)
    first, second = draw(magnitudes()), draw(magnitudes())
    if draw(st.booleans()):
        second = first * (1 + draw(st.sampled_from([2**-52, 1e-12, 1e-3])))
    if not spread.is_log and draw(st.booleans()):
        first = draw(st.sampled_from([-first, 0.0, -0.0]))
    low, high = sorted((first, second))
    wants_step = draw(st.booleans()) if stepped is None else stepped
    step = repr((high - low) / draw(PARTS)) if wants_step else ""
    try:
        found = parse_parameter(
            "x", "double", low=repr(low), high=repr(high), step=step, distribution=spread
        )
        compile_space(SearchSpace((found,)))
    except SpaceError:
        assume(False)
    assert isinstance(found, DoubleParameter)
    return found


@st.composite
def integers(draw: st.DrawFn) -> IntParameter:
    spread = draw(SPREADS)
    least = 1 if spread.is_log else -(2**62)
    low = draw(st.integers(max(least, -9), 30) | st.integers(least, 2**62))
    high = low + draw(st.integers(0, 300) | st.integers(0, 2**61))
    return IntParameter("x", low, high, draw(st.integers(1, 9) | st.integers(1, 2**62)), spread)


def axis_of(parameter: Parameter) -> NumberAxis:
    (axis,) = compile_space(SearchSpace((parameter,))).axes
    assert isinstance(axis, NumberAxis)
    return axis


def _number(value: Value) -> int | float:
    assert not isinstance(value, str)
    return value


@MANY
@given(parameter=doubles() | integers(), chances=st.lists(PROBABILITIES, min_size=2, max_size=8))
def test_the_quantile_function_ascends_through_valid_values(
    parameter: DoubleParameter | IntParameter, chances: list[float]
) -> None:
    axis = axis_of(parameter)
    values = [axis.at(u) for u in sorted(chances)]
    assert values == sorted(values, key=_number)
    assert [parameter.violation(parameter.text(value)) for value in values] == [None] * len(values)


@MANY
@given(parameter=doubles() | integers(), chances=st.lists(PROBABILITIES, min_size=1, max_size=8))
def test_one_position_and_many_positions_are_the_same(
    parameter: DoubleParameter | IntParameter, chances: list[float]
) -> None:
    axis = axis_of(parameter)
    values = [axis.at(u) for u in chances]
    alone = [axis.position(value) for value in values]
    assert axis.positions(values).tolist() == pytest.approx(alone, abs=1e-12)
    assert all(0.0 <= u <= 1.0 for u in alone)


@MANY
@given(parameter=doubles(stepped=False), chance=PROBABILITIES)
def test_a_real_number_comes_back_from_its_position(
    parameter: DoubleParameter, chance: float
) -> None:
    axis = axis_of(parameter)
    value = float(axis.at(chance))
    again = float(axis.at(axis.position(value)))
    assert math.isclose(again, value, rel_tol=1e-9, abs_tol=1e-9 * (parameter.high - parameter.low))


@MANY
@given(parameter=doubles(stepped=False), chance=st.floats(0.001, 0.999))
def test_a_position_is_the_probability_that_it_was_drawn_with(
    parameter: DoubleParameter, chance: float
) -> None:
    axis = axis_of(parameter)
    assume(axis.count is None and parameter.low > -1e300)
    assume(parameter.high - parameter.low > 1e9 * max(math.ulp(axis.parameter.high), 1e-300))
    assume(not parameter.distribution.is_log or parameter.low > sys.float_info.min * 1e9)
    assert axis.position(axis.at(chance)) == pytest.approx(chance, abs=1e-6)


@settings(MANY, max_examples=200)
@example(parameter=DoubleParameter("x", 4.172054411015702e16, 4.172054411015703e16, 8.0, SKEWED))
@given(parameter=doubles(stepped=True) | integers())
def test_every_value_of_a_finite_axis_owns_a_cell_with_its_position_inside(
    parameter: DoubleParameter | IntParameter,
) -> None:
    axis = axis_of(parameter)
    count = axis.count or 0
    assume(count <= 400)
    edges, values = axis.edges(), [axis.value(i) for i in range(count)]
    assert len(edges) == count + 1 and edges[0] == 0.0 and edges[-1] == 1.0
    assert values == sorted(set(values), key=_number)
    for i, (left, right) in enumerate(pairwise(edges)):
        assert left < right
        assert left <= axis.position(values[i]) <= right
        assert axis.at((left + right) / 2) == axis.at(axis.position(values[i])) == values[i]
        assert axis.index(values[i]) == i


@MANY
@given(
    parameter=doubles(stepped=True) | integers(), where=st.integers(0, 2**63), chance=PROBABILITIES
)
def test_a_value_of_a_huge_finite_axis_knows_its_number(
    parameter: DoubleParameter | IntParameter, where: int, chance: float
) -> None:
    axis = axis_of(parameter)
    count = axis.count or 0
    for index in (0, where % count, count - 1):
        value = axis.value(index)
        assert parameter.violation(parameter.text(value)) is None
        assert axis.index(value) == index
    drawn = axis.at(chance)
    assert axis.value(axis.index(drawn)) == drawn


@MANY
@given(
    low=st.floats(1e-6, 1e3),
    width=st.floats(1e-3, 1e6),
    spread=st.sampled_from(BELLS),
    chance=st.floats(0.0, 1.0),
)
def test_normal_distributions_are_scipys_truncated_normal(
    low: float, width: float, spread: Distribution, chance: float
) -> None:
    high = low + width
    axis = axis_of(DoubleParameter("x", low, high, distribution=spread))
    first, last = (math.log(low), math.log(high)) if spread.is_log else (low, high)
    theirs = truncnorm(-3, 3, loc=(first + last) / 2, scale=(last - first) / 6)
    expected = float(theirs.ppf(chance))
    found = math.log(float(axis.at(chance))) if spread.is_log else float(axis.at(chance))
    assert found == pytest.approx(expected, abs=1e-6 * (last - first) + 1e-12)
    back = math.exp(expected) if spread.is_log else expected
    assert axis.position(min(max(back, low), high)) == pytest.approx(chance, abs=1e-6)


@pytest.mark.parametrize("spread", BELLS)
def test_a_stepped_normal_gives_every_value_the_mass_around_it(spread: Distribution) -> None:
    """The cells reach to the middle between neighbours, on the scale of the distribution."""
    axis = axis_of(IntParameter("x", 1, 9, 2, spread))
    on_scale = [math.log(n) if spread.is_log else float(n) for n in (1, 3, 5, 7, 9)]
    middles = [(a + b) / 2 for a, b in pairwise(on_scale)]
    left = on_scale[0] - (on_scale[1] - on_scale[0]) / 2
    right = on_scale[-1] + (on_scale[-1] - on_scale[-2]) / 2
    mean, deviation = (on_scale[0] + on_scale[-1]) / 2, (on_scale[-1] - on_scale[0]) / 6
    theirs = truncnorm((left - mean) / deviation, (right - mean) / deviation, mean, deviation)
    assert axis.edges() == pytest.approx([0.0, *theirs.cdf(middles), 1.0], abs=1e-12)


@pytest.mark.parametrize("width", [0.0, 5e-324, 1e-310])
@pytest.mark.parametrize("low", [0.0, -0.0, 5e-324, 1e-310])
@pytest.mark.parametrize("spread", list(Distribution))
def test_ranges_narrower_than_normal_doubles_have_valid_values(
    low: float, width: float, spread: Distribution
) -> None:
    low = max(low, 5e-324) if spread.is_log else low
    axis = axis_of(DoubleParameter("x", low, low + width, distribution=spread))
    for k in range(11):
        value = float(axis.at(k / 10))
        assert low <= value <= low + width
        assert 0.0 <= axis.position(value) <= 1.0
        assert repr(value) != "-0.0"


def test_a_step_longer_than_the_range_leaves_the_lower_bound() -> None:
    for parameter in (
        IntParameter("x", 3, 9, 7),
        DoubleParameter("x", 0.3, 0.9, 0.7),
        DoubleParameter("x", 0.3, 0.9, 1e300, Distribution.LOG_NORMAL),
    ):
        axis = axis_of(parameter)
        assert axis.count == 1
        assert {axis.at(u) for u in (0.0, 0.4, 1.0)} == {parameter.low}
        assert axis.position(parameter.low) == 0.5


def test_steps_finer_than_doubles_are_taken_together() -> None:
    axis = axis_of(DoubleParameter("x", 1e16, 1e16 + 8, 0.5))
    assert [axis.value(i) for i in range(axis.count or 0)] == [1e16, 1e16 + 4, 1e16 + 8]
    assert axis.index(1e16 + 4) == 1


@pytest.mark.parametrize(("low", "high"), [(2.531058336607551e16, 2.5310583366075516e16)])
def test_neighbours_that_would_be_rounded_to_one_double_are_one_value(
    low: float, high: float
) -> None:
    axis = axis_of(DoubleParameter("x", low, high, 4.0, Distribution.LOG_UNIFORM))
    assert [axis.value(i) for i in range(axis.count or 0)] == [low]
    assert axis.position(low) == 0.5


def test_a_million_million_steps_do_not_add_one_beyond_the_bound() -> None:
    parameter = DoubleParameter("x", -1.0, 1e-273, 1e-12)
    assert parameter.cardinality == 10**12 + 1
    assert DoubleParameter("x", 0.0, 1.0, 0.33333333333).cardinality == 4


def test_discrete_numbers_have_equal_cells_in_ascending_order() -> None:
    texts = ("100", "1e1", "-3", "100", "2.50")
    space = SearchSpace((ListParameter("x", texts, ParameterType.DISCRETE),))
    (axis,) = compile_space(space).axes
    assert isinstance(axis, OrderedAxis)
    assert axis.choices == ("-3", "2.50", "1e1", "100")
    assert axis.edges() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert [axis.at(axis.position(text)) for text in axis.choices] == list(axis.choices)


# ---- rows of numbers ----------------------------------------------------------------------------


@MANY
@given(space=search_spaces(5), seed=st.integers(0, 2**32))
def test_rows_and_points_agree_and_snapping_is_final(space: SearchSpace, seed: int) -> None:
    compiled = compile_space(space)
    coordinates = Coordinates(compiled)
    assume(all(_is_told_apart(parameter) for parameter in space))
    chance = np.random.default_rng(seed)
    drawn = [compiled.draw(chance) for _ in range(6)]
    rows = coordinates.rows(drawn)
    again = coordinates.rows([coordinates.point(row) for row in rows])
    assert np.allclose(rows, again, atol=1e-6)
    snapped = coordinates.snap(rows)
    assert np.array_equal(coordinates.snap(snapped), snapped)
    assert np.allclose(snapped, rows, atol=1e-6)


@MANY
@given(space=search_spaces(4), seed=st.integers(0, 2**32))
def test_any_row_at_all_is_a_valid_point(space: SearchSpace, seed: int) -> None:
    """Also one that an optimiser left outside of the unit cube."""
    coordinates = Coordinates(compile_space(space))
    rows = np.random.default_rng(seed).normal(0.5, 3.0, (5, len(coordinates.axes)))
    for row in rows:
        point = coordinates.point(row)
        assert list(point) == [parameter.name for parameter in space]
        assert space.violations(space.texts(point)) == []


def _is_told_apart(parameter: Parameter) -> bool:
    """Whether doubles have room for its values."""
    if not isinstance(parameter, DoubleParameter):
        return True
    finest = 1e9 * max(math.ulp(parameter.low), math.ulp(parameter.high), 1e-300)
    if parameter.step is not None:
        return parameter.step >= finest
    return parameter.high == parameter.low or parameter.high - parameter.low >= finest


def test_a_space_is_compiled_once() -> None:
    one, same = (SearchSpace((IntParameter("x", 1, 9),)) for _ in range(2))
    assert compile_space(one) is compile_space(same)


def test_a_list_that_is_not_all_numbers_has_no_order() -> None:
    space = SearchSpace((ListParameter("x", ("3", "many"), ParameterType.DISCRETE),))
    (axis,) = compile_space(space).axes
    assert isinstance(axis, ChoiceAxis) and axis.choices == ("3", "many")
