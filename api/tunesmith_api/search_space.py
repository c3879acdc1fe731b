# SPDX-License-Identifier: Apache-2.0
"""The search space as typed values, and the one place that reads and writes parameter texts.

Katib carries every number as text. Texts become typed values here and are written back here;
algorithms see `Value`, objects and wires see text. Used by validation, by the suggestion services
and by the controller, which checks every reply with `SearchSpace.violations`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from enum import StrEnum

Value = int | float | str

_MOST_STEPS = 2.0**53  # beyond it neighbouring indices are no longer distinct doubles
_NEARLY_A_STEP = Decimal("1e-9")  # of a step may be missing to the upper bound: 3 x 0.33333333333


class Distribution(StrEnum):
    """How values between the bounds are drawn."""

    UNIFORM = "uniform"
    LOG_UNIFORM = "logUniform"
    NORMAL = "normal"
    LOG_NORMAL = "logNormal"

    @property
    def is_log(self) -> bool:
        return self in (Distribution.LOG_UNIFORM, Distribution.LOG_NORMAL)


class ParameterType(StrEnum):
    """Katib's parameter types."""

    DOUBLE = "double"
    INT = "int"
    DISCRETE = "discrete"
    CATEGORICAL = "categorical"


class SpaceError(ValueError):
    """A parameter that cannot be read. `field` is the path below the parameter."""

    def __init__(self, parameter: str, field: str, reason: str) -> None:
        super().__init__(f"parameter {parameter!r}: {field}: {reason}")
        self.parameter = parameter
        self.field = field
        self.reason = reason


@dataclass(frozen=True, slots=True)
class IntParameter:
    """Integers low, low + step, ... not above high."""

    name: str
    low: int
    high: int
    step: int = 1
    distribution: Distribution = Distribution.UNIFORM

    @property
    def cardinality(self) -> int:
        return (self.high - self.low) // self.step + 1

    def text(self, value: Value) -> str:
        return str(int(value))

    def value(self, text: str) -> Value:
        return parse_int(text)

    def violation(self, text: str) -> str | None:
        try:
            value = parse_int(text)
        except ValueError:
            return f"{text!r} is not an integer"
        if not self.low <= value <= self.high:
            return f"{text} is outside [{self.low}, {self.high}]"
        if (value - self.low) % self.step:
            return f"{text} is not {self.low} plus a multiple of {self.step}"
        return None


@dataclass(frozen=True, slots=True)
class DoubleParameter:
    """Real numbers in [low, high]; with a step only low + k * step."""

    name: str
    low: float
    high: float
    step: float | None = None
    distribution: Distribution = Distribution.UNIFORM

    @property
    def cardinality(self) -> int | None:
        """How many values there are; None without a step."""
        if self.step is None:
            return 1 if self.low == self.high else None
        span = Decimal(repr(self.high)) - Decimal(repr(self.low))
        return math.floor(span / Decimal(repr(self.step)) + _NEARLY_A_STEP) + 1

    def text(self, value: Value) -> str:
        return repr(float(value))

    def value(self, text: str) -> Value:
        return parse_finite(text)

    def at(self, index: int) -> float:
        """The `index`-th value of a stepped parameter, rounded as a person would write it."""
        if self.step is None:
            raise SpaceError(self.name, "step", "a parameter without a step has no grid")
        exact = Decimal(repr(self.low)) + index * Decimal(repr(self.step))
        return min(float(exact), self.high)

    def violation(self, text: str) -> str | None:
        try:
            value = parse_finite(text)
        except ValueError:
            return f"{text!r} is not a finite number"
        if not self.low <= value <= self.high:
            return f"{text} is outside [{self.low!r}, {self.high!r}]"
        if self.step is not None:
            nearest = self.at(round((value - self.low) / self.step))
            if not math.isclose(value, nearest, rel_tol=1e-9, abs_tol=self.step * 1e-9):
                return f"{text} is not {self.low!r} plus a multiple of {self.step!r}"
        return None


@dataclass(frozen=True, slots=True)
class ListParameter:
    """Discrete (numbers as texts) or categorical (any texts); the user's texts, in their order."""

    name: str
    choices: tuple[str, ...]
    type: ParameterType = ParameterType.CATEGORICAL
    distribution: Distribution = Distribution.UNIFORM

    @property
    def cardinality(self) -> int:
        return len(self.choices)

    def text(self, value: Value) -> str:
        return str(value)

    def value(self, text: str) -> Value:
        return text

    def violation(self, text: str) -> str | None:
        if text in self.choices:
            return None
        shown = ", ".join(self.choices[:8]) + (", ..." if len(self.choices) > 8 else "")
        return f"{text!r} is not one of {shown}"


Parameter = IntParameter | DoubleParameter | ListParameter


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """The parameters of an experiment, in the order of its spec."""

    parameters: tuple[Parameter, ...]

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self.parameters)

    def __len__(self) -> int:
        return len(self.parameters)

    @property
    def cardinality(self) -> int | None:
        """The number of distinct points, None when infinite."""
        total = 1
        for parameter in self.parameters:
            count = parameter.cardinality
            if count is None:
                return None
            total *= count
        return total

    def values(self, texts: Mapping[str, str]) -> dict[str, Value]:
        """Typed values of an assignment. Raises KeyError or ValueError on a foreign one."""
        return {p.name: p.value(texts[p.name]) for p in self.parameters}

    def texts(self, values: Mapping[str, Value]) -> dict[str, str]:
        """The assignment as texts, in the order of the spec."""
        return {p.name: p.text(values[p.name]) for p in self.parameters}

    def violations(self, texts: Mapping[str, str]) -> list[str]:
        """Why an assignment is not a point of this space; empty when it is one."""
        known = {p.name for p in self.parameters}
        found = [
            f"{name}: not a parameter of this experiment" for name in texts if name not in known
        ]
        for parameter in self.parameters:
            if parameter.name not in texts:
                found.append(f"{parameter.name}: missing")
            elif reason := parameter.violation(texts[parameter.name]):
                found.append(f"{parameter.name}: {reason}")
        return found


def parse_int(text: str) -> int:
    """An integer from a user's text: "3", " 3 ", "3.0", "1e3". Raises ValueError otherwise."""
    try:
        number = Decimal("" if "_" in text else text.strip())
    except InvalidOperation:
        raise ValueError(f"{text!r} is not an integer") from None
    if not number.is_finite() or number != number.to_integral_value() or abs(number) >= 2**63:
        raise ValueError(f"{text!r} is not an integer")
    return int(number)


def parse_finite(text: str) -> float:
    """A finite float from a user's text. Raises ValueError otherwise."""
    try:
        number = float("" if "_" in text else text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None
    if not math.isfinite(number):
        raise ValueError(f"{text!r} is not a finite number")
    return number


def parse_parameter(
    name: str,
    type_: str,
    *,
    low: str = "",
    high: str = "",
    step: str = "",
    choices: tuple[str, ...] = (),
    distribution: str = "",
) -> Parameter:
    """A typed parameter from the texts of a ParameterSpec. Raises SpaceError with the field."""
    try:
        kind = ParameterType(type_)
    except ValueError:
        known = ", ".join(ParameterType)
        raise SpaceError(name, "parameterType", f"{type_!r} is not one of {known}") from None
    try:
        spread = Distribution(distribution or "uniform")
    except ValueError:
        known = ", ".join(Distribution)
        reason = f"{distribution!r} is not one of {known}"
        raise SpaceError(name, "feasibleSpace.distribution", reason) from None
    if kind in (ParameterType.DISCRETE, ParameterType.CATEGORICAL):
        if not choices:
            raise SpaceError(
                name, "feasibleSpace.list", f"a {kind} parameter needs a list of values"
            )
        return ListParameter(name, choices, kind, spread)
    if kind is ParameterType.INT:
        return _int_parameter(name, low, high, step, spread)
    return _double_parameter(name, low, high, step, spread)


def _number(name: str, field: str, text: str, *, integer: bool) -> Decimal:
    if not text.strip():
        raise SpaceError(name, field, "must be given")
    try:
        return Decimal(parse_int(text)) if integer else Decimal(repr(parse_finite(text)))
    except ValueError as error:
        raise SpaceError(name, field, str(error)) from None


def _bounds(
    name: str, low: str, high: str, step: str, spread: Distribution, *, integer: bool
) -> tuple[Decimal, Decimal, Decimal | None]:
    first = _number(name, "feasibleSpace.min", low, integer=integer)
    last = _number(name, "feasibleSpace.max", high, integer=integer)
    width = _number(name, "feasibleSpace.step", step, integer=integer) if step.strip() else None
    if first > last:
        raise SpaceError(name, "feasibleSpace.min", f"{low} is greater than max {high}")
    if width is not None and width <= 0:
        raise SpaceError(name, "feasibleSpace.step", f"{step} is not greater than 0")
    if spread.is_log and first <= 0:
        raise SpaceError(name, "feasibleSpace.min", f"{spread} needs min > 0, got {low}")
    return first, last, width


def _int_parameter(name: str, low: str, high: str, step: str, spread: Distribution) -> IntParameter:
    first, last, width = _bounds(name, low, high, step, spread, integer=True)
    return IntParameter(name, int(first), int(last), int(width) if width else 1, spread)


def _double_parameter(
    name: str, low: str, high: str, step: str, spread: Distribution
) -> DoubleParameter:
    first, last, width = _bounds(name, low, high, step, spread, integer=False)
    span = float(last) - float(first)
    if not math.isfinite(span):
        reason = f"{high} is too far from min {low}: their difference is no finite number"
        raise SpaceError(name, "feasibleSpace.max", reason)
    if width and float(width) < sys.float_info.min:
        raise SpaceError(name, "feasibleSpace.step", f"{step} is too small a number")
    if width and span / float(width) >= _MOST_STEPS:
        reason = f"{step} makes more than 2**53 steps from {low} to {high}"
        raise SpaceError(name, "feasibleSpace.step", reason)
    return DoubleParameter(name, float(first), float(last), float(width) if width else None, spread)
