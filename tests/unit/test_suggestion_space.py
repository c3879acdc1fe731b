# SPDX-License-Identifier: Apache-2.0
"""The search-space compiler: how values are spread over the probabilities."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from statistics import fmean, stdev

import pytest

from tunesmith_api.search_space import (
    Distribution,
    DoubleParameter,
    IntParameter,
    ListParameter,
    Parameter,
    SearchSpace,
    SpaceError,
)
from tunesmith_suggestion.space import NumberAxis, compile_space

N = 4000
EVENLY = [(i + 0.5) / N for i in range(N)]


def numbers(parameter: Parameter) -> list[float]:
    """The values at evenly spaced probabilities: an exact picture of the distribution."""
    (axis,) = compile_space(SearchSpace((parameter,))).axes
    return [float(axis.at(u)) for u in EVENLY]


def number_axis(parameter: Parameter) -> NumberAxis:
    (axis,) = compile_space(SearchSpace((parameter,))).axes
    assert isinstance(axis, NumberAxis)
    return axis


def test_uniform_integers_are_equally_likely() -> None:
    assert Counter(numbers(IntParameter("n", 1, 4))) == {1: 1000, 2: 1000, 3: 1000, 4: 1000}


def test_every_step_of_a_uniform_double_is_equally_likely() -> None:
    found = Counter(numbers(DoubleParameter("x", 0.0, 0.3, step=0.1)))
    assert found == {0.0: 1000, 0.1: 1000, 0.2: 1000, 0.3: 1000}


def test_log_uniform_gives_every_decade_the_same_share() -> None:
    found = numbers(DoubleParameter("lr", 1e-4, 1.0, distribution=Distribution.LOG_UNIFORM))
    decades = Counter(math.floor(math.log10(value)) for value in found)
    assert decades == {-4: 1000, -3: 1000, -2: 1000, -1: 1000}


def test_stepped_log_uniform_prefers_small_values_and_keeps_both_ends() -> None:
    found = Counter(numbers(IntParameter("n", 1, 8, distribution=Distribution.LOG_UNIFORM)))
    shares = [found[value] for value in range(1, 9)]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] > 100


def test_normal_has_katibs_mean_and_deviation_and_stays_inside() -> None:
    found = numbers(DoubleParameter("x", -3.0, 9.0, distribution=Distribution.NORMAL))
    assert fmean(found) == pytest.approx(3.0, abs=0.01)
    assert stdev(found) == pytest.approx(2.0, rel=0.03)
    assert -3.0 <= min(found) < -2.0 and 8.0 < max(found) <= 9.0


def test_log_normal_is_normal_in_the_logarithm() -> None:
    parameter = DoubleParameter("x", 1e-6, 1.0, distribution=Distribution.LOG_NORMAL)
    logs = [math.log10(value) for value in numbers(parameter)]
    assert fmean(logs) == pytest.approx(-3.0, abs=0.01)
    assert stdev(logs) == pytest.approx(1.0, rel=0.03)


def test_choices_are_equally_likely_and_a_repeated_one_counts_once() -> None:
    (axis,) = compile_space(SearchSpace((ListParameter("c", ("a", "b", "a")),))).axes
    assert Counter(axis.at(u) for u in EVENLY) == {"a": 2000, "b": 2000}


@pytest.mark.parametrize("spread", list(Distribution))
def test_a_value_is_at_home_at_its_own_position(spread: Distribution) -> None:
    axis = number_axis(IntParameter("n", 3, 40, 4, spread))
    values = [axis.value(i) for i in range(axis.count or 0)]
    assert [axis.at(axis.position(value)) for value in values] == values


@pytest.mark.parametrize("spread", list(Distribution))
def test_the_cells_of_a_stepped_axis_hold_their_values(spread: Distribution) -> None:
    axis = number_axis(DoubleParameter("x", 0.5, 2.0, 0.25, spread))
    edges = axis.edges()
    assert edges == sorted(edges) and edges[0] == 0.0 and edges[-1] == 1.0
    for i, (left, right) in enumerate(pairwise(edges)):
        assert left < axis.position(axis.value(i)) < right
        assert axis.at((left + right) / 2) == axis.value(i)


def test_integers_beyond_what_a_float_can_count_stay_exact() -> None:
    axis = number_axis(IntParameter("n", 2**62, 2**62 + 3))
    assert [axis.at(u) for u in (0.1, 0.3, 0.6, 0.9)] == [2**62 + i for i in range(4)]


def test_points_of_a_finite_space_are_numbered_last_parameter_fastest() -> None:
    space = SearchSpace((ListParameter("c", ("a", "b")), IntParameter("n", 1, 2)))
    compiled = compile_space(space)
    assert [tuple(compiled.point(i).values()) for i in range(compiled.count or 0)] == [
        ("a", 1),
        ("a", 2),
        ("b", 1),
        ("b", 2),
    ]


def test_two_parameters_of_one_name_are_refused() -> None:
    with pytest.raises(SpaceError, match="'n': name: given to two parameters"):
        compile_space(SearchSpace((IntParameter("n", 1, 2), IntParameter("n", 1, 2))))


def test_no_parameters_and_endless_ranges_are_refused() -> None:
    with pytest.raises(SpaceError, match="no parameters"):
        compile_space(SearchSpace(()))
    with pytest.raises(SpaceError, match="too large"):
        compile_space(SearchSpace((DoubleParameter("x", -1e308, 1e308),)))


def test_a_single_value_has_any_step() -> None:
    low, high = 1e-300, 1.0000000000000002e-300
    assert set(numbers(DoubleParameter("x", low, high, step=2 * (high - low)))) == {low}
