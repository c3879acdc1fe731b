# SPDX-License-Identifier: Apache-2.0
"""The search-space compiler: every parameter becomes an axis of the unit interval.

An axis maps a probability u in [0, 1] to a valid value (`at`, the quantile function of the
parameter's distribution) and back (`position`). Drawing is therefore `at` of a uniform number, and
a model that works on [0, 1] sees every distribution flat. Used by all algorithms.

Distributions are Katib's (hyperopt service): mu = (min + max) / 2 and sigma = (max - min) / 6 on
the linear or log scale, but truncated to the bounds, where Katib's could leave them.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import lru_cache
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

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
    parse_finite,
)

Floats = npt.NDArray[np.float64]

_LOG_NEAR = 1e15
"""Above this ratio to the lower bound log1p gains nothing over log, and may overflow."""
_LARGEST_EXPONENT = 709.78
"""exp of more overflows a double."""
_LEAST_DEVIATION = sys.float_info.min
"""A bell narrower than the least normal double has no digits left; its range has few values."""
_MOST_TIMES = 2.0**53
_ROOM = 4
"""So many times a range must be a finite number: cells end outside it and have middles."""


@dataclass(frozen=True, slots=True)
class ChoiceAxis:
    """Categorical parameters: the distinct choices, equally likely, in no order."""

    name: str
    choices: tuple[str, ...]

    @property
    def count(self) -> int:
        return len(self.choices)

    def at(self, u: float) -> Value:
        return self.choices[min(int(u * self.count), self.count - 1)]

    def value(self, index: int) -> Value:
        return self.choices[index]

    def index(self, value: Value) -> int:
        """Raises ValueError when it is not a choice."""
        return self.choices.index(str(value))


@dataclass(frozen=True, slots=True)
class OrderedAxis:
    """Discrete parameters: numbers in ascending order, as the user's texts, equally likely.

    Each owns an equal cell of [0, 1], whatever the numbers' distances: lists like 32, 64, 128 are
    meant as steps.
    """

    name: str
    choices: tuple[str, ...]

    @property
    def count(self) -> int:
        return len(self.choices)

    def at(self, u: float) -> Value:
        return self.choices[min(int(u * self.count), self.count - 1)]

    def value(self, index: int) -> Value:
        return self.choices[index]

    def index(self, value: Value) -> int:
        """Raises ValueError when it is not a choice."""
        return self.choices.index(str(value))

    def position(self, value: Value) -> float:
        """The middle of the value's cell. Raises ValueError when it is not a choice."""
        return (self.index(value) + 0.5) / self.count

    def edges(self) -> list[float]:
        """Where the cells begin and end in [0, 1]: count + 1 numbers."""
        return [i / self.count for i in range(self.count + 1)]


@dataclass(frozen=True, slots=True)
class NumberAxis:
    """Int and double parameters.

    `scale` is the distance from the lower bound, or its logarithm. Values of a stepped parameter
    own the cell that is nearer to them than to their neighbours on the scale; `left` and `right`
    are where the outermost cells end, half a cell beyond the values, so no value is short-changed.
    """

    parameter: IntParameter | DoubleParameter
    count: int | None
    is_log: bool
    left: float
    right: float
    bell: NormalDist | None

    @property
    def name(self) -> str:
        return self.parameter.name

    def at(self, u: float) -> Value:
        if self.count is not None:
            return self.value(self._nearest(self._quantile(u)))
        value = self.parameter.low + self._offset(self._quantile(u))
        return min(max(value, self.parameter.low), self.parameter.high)

    def value(self, index: int) -> Value:
        """The `index`-th value of a finite axis."""
        if isinstance(self.parameter, IntParameter):
            return self.parameter.low + index * self.parameter.step
        if self.parameter.step is None:
            return self.parameter.low + 0.0  # zero, where it is minus zero
        return self.parameter.at(index)

    def index(self, value: Value) -> int:
        """Which value of a finite axis a valid value is; the nearest one for a rounded double."""
        parameter = self.parameter
        if self.count == 1 or parameter.step is None:
            return 0
        if isinstance(parameter, IntParameter):
            return (int(value) - parameter.low) // parameter.step
        offset = Decimal(repr(float(value))) - Decimal(repr(parameter.low))
        nearest = int((offset / Decimal(repr(parameter.step))).to_integral_value())
        # Where a step is about as fine as doubles are, rounding may be off by one.
        last = (self.count or 1) - 1
        near = [min(max(nearest + i, 0), last) for i in (0, -1, 1)]
        return next((i for i in near if parameter.at(i) == value), near[0])

    def position(self, value: Value) -> float:
        """The u in [0, 1] of a value; for a stepped parameter a point inside its cell."""
        if self.count == 1:
            return 0.5
        return self._probability(self._scale(value))

    def positions(self, values: Sequence[Value]) -> Floats:
        """`position` of many values at once; each result depends on its own value only."""
        if self.count == 1:
            return np.full(len(values), 0.5)
        low = self.parameter.low
        offsets = np.array([float(v - low) for v in values if not isinstance(v, str)])  # exact: int
        scaled = self._scaled(offsets) if self.is_log else offsets
        if self.bell is not None:
            return np.array([self._probability(float(x)) for x in scaled])
        found: Floats = np.clip((scaled - self.left) / (self.right - self.left), 0.0, 1.0)
        return found

    def _scaled(self, offsets: Floats) -> Floats:
        low = float(self.parameter.low)
        with np.errstate(over="ignore"):  # such a ratio is far, however far it is
            ratios = offsets / low
        far: Floats = np.log(offsets + low) - math.log(low)
        near: Floats = np.log1p(np.minimum(ratios, _LOG_NEAR))
        return np.where(ratios < _LOG_NEAR, near, far)

    def edges(self) -> list[float]:
        """Where the cells of a finite axis begin and end in [0, 1]: count + 1 numbers."""
        on_scale = [self._scale(self.value(i)) for i in range(self.count or 0)]
        between = [(a + b) / 2 for a, b in itertools.pairwise(on_scale)]
        return [0.0, *(self._probability(x) for x in between), 1.0]

    def _scale(self, value: Value) -> float:
        return _to_scale(value, self.parameter.low, self.is_log)

    def _offset(self, x: float) -> float:
        """How far above the lower bound a point of the scale is."""
        low = self.parameter.low
        if not self.is_log:
            return x
        if x < math.log(_LOG_NEAR):
            return low * math.expm1(x)
        return math.exp(min(math.log(low) + x, _LARGEST_EXPONENT))

    def _quantile(self, u: float) -> float:
        if self.bell is None:
            return self.left + u * (self.right - self.left)
        first, last = self.bell.cdf(self.left), self.bell.cdf(self.right)
        x = self.bell.inv_cdf(first + u * (last - first))
        return min(max(x, self.left), self.right)

    def _probability(self, x: float) -> float:
        if self.bell is None:
            u = (x - self.left) / (self.right - self.left)
        else:
            first, last = self.bell.cdf(self.left), self.bell.cdf(self.right)
            u = (self.bell.cdf(x) - first) / (last - first)
        return min(max(u, 0.0), 1.0)

    def _nearest(self, x: float) -> int:
        last = (self.count or 1) - 1
        if last == 0:  # its scale is the unit interval, whatever its step
            return 0
        step = self.parameter.step or 1
        below = min(max(math.floor(self._offset(x) / step), 0), last)
        if below == last:
            return last
        middle = (self._scale(self.value(below)) + self._scale(self.value(below + 1))) / 2
        return below if x < middle else below + 1


Axis = ChoiceAxis | OrderedAxis | NumberAxis


@dataclass(frozen=True, slots=True)
class CompiledSpace:
    """The axes of a search space, in the order of its parameters.

    `count` is the number of points, None when infinite.
    """

    space: SearchSpace
    axes: tuple[Axis, ...]
    count: int | None

    def draw(self, chance: np.random.Generator) -> dict[str, Value]:
        """One point from the parameters' distributions."""
        return {
            axis.name: axis.at(u) for axis, u in zip(self.axes, self._uniforms(chance), strict=True)
        }

    def point(self, index: int) -> dict[str, Value]:
        """The `index`-th point of a finite space; the last parameter changes fastest."""
        values: dict[str, Value] = {}
        for axis in reversed(self.axes):
            index, digit = divmod(index, axis.count or 1)
            values[axis.name] = axis.value(digit)
        return {axis.name: values[axis.name] for axis in self.axes}

    def indices(self, points: Sequence[Mapping[str, Value]]) -> list[int]:
        """The inverse of `point` for many points of a finite space, a column at a time."""
        found = [0] * len(points)
        for axis in self.axes:
            column = [values[axis.name] for values in points]
            digits = {value: axis.index(value) for value in set(column)}
            count = axis.count or 1
            found = [i * count + digits[v] for i, v in zip(found, column, strict=True)]
        return found

    def keys(self, points: Sequence[Mapping[str, Value]]) -> Sequence[Hashable]:
        """What tells points apart: their numbers in a finite space, else their values."""
        if self.count is not None:
            return self.indices(points)
        return list(zip(*([v[a.name] for v in points] for a in self.axes), strict=True))

    def _uniforms(self, chance: np.random.Generator) -> list[float]:
        return [float(u) for u in chance.random(len(self.axes))]


@lru_cache(maxsize=128)
def compile_space(space: SearchSpace) -> CompiledSpace:
    """Raises SpaceError for a space that no algorithm can draw from. The last ones are kept."""
    names = Counter(p.name for p in space)
    for name, times in names.items():
        if times > 1:
            raise SpaceError(name, "name", "given to two parameters")
    if not names:
        raise SpaceError("", "parameters", "the experiment has no parameters")
    axes = tuple(_axis(parameter) for parameter in space)
    counts = [axis.count for axis in axes]
    finite = [count for count in counts if count is not None]
    return CompiledSpace(space, axes, math.prod(finite) if len(finite) == len(counts) else None)


def _axis(parameter: Parameter) -> Axis:
    if isinstance(parameter, ListParameter):
        return _list_axis(parameter)
    if not math.isfinite(_ROOM * (float(parameter.high) - float(parameter.low))):
        raise SpaceError(parameter.name, "feasibleSpace", "max - min is too large a number")
    if isinstance(parameter, DoubleParameter):
        parameter = _told_apart(parameter)
    is_log = parameter.distribution.is_log
    count = parameter.cardinality
    width = _to_scale(parameter.high, parameter.low, is_log)
    if count == 1 or width == 0:
        return NumberAxis(parameter, 1, False, 0.0, 1.0, None)
    plain = NumberAxis(parameter, count, is_log, 0.0, width, None)
    left, right = (0.0, width) if count is None else _outer_edges(plain, count)
    bell = None
    is_bell = parameter.distribution in (Distribution.NORMAL, Distribution.LOG_NORMAL)
    if is_bell and width / 6 >= _LEAST_DEVIATION:
        bell = NormalDist(width / 2, width / 6)
    return NumberAxis(parameter, count, is_log, left, right, bell)


def _told_apart(parameter: DoubleParameter) -> DoubleParameter:
    """With a multiple of its step where that is about as fine as doubles are at the bounds.

    Neighbours two doubles apart stay apart however they are rounded.
    """
    step, finest = parameter.step, 2 * max(math.ulp(parameter.low), math.ulp(parameter.high))
    if step is None or step >= finest or parameter.cardinality == 1:
        return parameter
    times = finest / step
    return replace(parameter, step=finest if times >= _MOST_TIMES else step * math.ceil(times))


def _list_axis(parameter: ListParameter) -> Axis:
    distinct = tuple(dict.fromkeys(parameter.choices))
    if parameter.type is not ParameterType.DISCRETE:
        return ChoiceAxis(parameter.name, distinct)
    try:
        return OrderedAxis(parameter.name, tuple(sorted(distinct, key=parse_finite)))
    except ValueError:  # Katib accepts any texts here; they have no order then
        return ChoiceAxis(parameter.name, distinct)


def _outer_edges(axis: NumberAxis, count: int) -> tuple[float, float]:
    def on_scale(index: int) -> float:
        return _to_scale(axis.value(index), axis.parameter.low, axis.is_log)

    last = on_scale(count - 1)
    return -on_scale(1) / 2, last + (last - on_scale(count - 2)) / 2


def _to_scale(value: Value, low: float, is_log: bool) -> float:
    number = value if isinstance(value, int) else float(value)
    offset = float(number - low)
    if not is_log:
        return offset
    ratio = offset / low
    return math.log1p(ratio) if ratio < _LOG_NEAR else math.log(number) - math.log(low)
