# SPDX-License-Identifier: Apache-2.0
"""The search spaces a service is tried on, and what makes an assignment a point of one."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final

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
from tunesmith_proto.katib import api_pb2 as pb

Texts = Mapping[str, str]

_INTEGER = re.compile(r"[+-]?[0-9]+")
_CHANCES = 2.0**64
_STEPS = 20
"""Steps of a double that is given some."""


def _numbers(spread: Distribution) -> SearchSpace:
    """Ints and doubles, with and without steps, of one distribution."""
    return SearchSpace(
        (
            DoubleParameter("lr", 1e-5, 1e-1, distribution=spread),
            DoubleParameter("decay", 0.01, 0.5, step=0.01, distribution=spread),
            IntParameter("layers", 1, 8, distribution=spread),
            IntParameter("width", 16, 1024, step=16, distribution=spread),
        )
    )


_CATEGORICAL = (
    ListParameter("optimizer", ("sgd", "adam", "rmsprop")),
    ListParameter("odd", ("true", "1e3", "with blank", "ünï", "-0")),
)
_DISCRETE = (
    ListParameter("batch", ("128", "32", "64"), ParameterType.DISCRETE),
    ListParameter("rate", ("0.1", "0.10", "1e-3", "2"), ParameterType.DISCRETE),
)

MIXED: Final = SearchSpace(
    (
        DoubleParameter("lr", 1e-5, 1e-1, distribution=Distribution.LOG_UNIFORM),
        DoubleParameter("dropout", 0.0, 0.5, step=0.1),
        IntParameter("layers", 1, 8),
        IntParameter("width", 16, 1024, step=16),
        DoubleParameter("momentum", 0.0, 1.0),
        _CATEGORICAL[0],
        _DISCRETE[0],
    )
)
"""An ordinary search space: every type."""

NUMBERS: Final = _numbers(Distribution.UNIFORM)

SPACES: Final[Mapping[str, SearchSpace]] = {
    "int": SearchSpace((IntParameter("layers", 1, 64), IntParameter("offset", -50, 50))),
    "double": SearchSpace((DoubleParameter("x", 0.5, 4.0), DoubleParameter("y", -1.0, 1.0))),
    "categorical": SearchSpace((*_CATEGORICAL, IntParameter("n", 1, 9), IntParameter("m", 1, 9))),
    "discrete": SearchSpace((*_DISCRETE, IntParameter("n", 1, 9), IntParameter("m", 1, 9))),
    "steps": SearchSpace(
        (
            DoubleParameter("third", 0.0, 1.0, step=0.3),
            DoubleParameter("tenth", -0.3, 0.35, step=0.1),
            IntParameter("seven", 3, 100, step=7),
            IntParameter("coarse", 1, 10, step=6),
        )
    ),
    "log-uniform": _numbers(Distribution.LOG_UNIFORM),
    "normal": _numbers(Distribution.NORMAL),
    "log-normal": _numbers(Distribution.LOG_NORMAL),
    "wide": SearchSpace(
        (
            DoubleParameter("small", 1e-12, 1e-9),
            DoubleParameter("large", -1e12, 1e12),
            DoubleParameter("decades", 1e-12, 1e12, distribution=Distribution.LOG_UNIFORM),
            IntParameter("huge", -(2**40), 2**40),
        )
    ),
    "one-value": SearchSpace(
        (
            IntParameter("fixed", 4, 4),
            DoubleParameter("still", 0.5, 0.5),
            IntParameter("too-wide-a-step", 16, 20, step=16),
            ListParameter("only", ("sgd",)),
            ListParameter("only-number", ("32",), ParameterType.DISCRETE),
            DoubleParameter("x", 0.5, 4.0),
            IntParameter("n", 1, 64),
        )
    ),
}
"""One kind of parameter each, with as much beside it as most algorithms want: two numbers."""

FEW: Final = SearchSpace((IntParameter("layers", 1, 3), IntParameter("width", 1, 2)))
"""Six points."""


# ---- other spaces made from one -----------------------------------------------------------------


def with_steps(space: SearchSpace) -> SearchSpace:
    """The same space, finite: for algorithms that enumerate."""

    def stepped(parameter: Parameter) -> Parameter:
        if not isinstance(parameter, DoubleParameter) or parameter.cardinality is not None:
            return parameter
        return replace(parameter, step=(parameter.high - parameter.low) / _STEPS)

    return SearchSpace(tuple(stepped(parameter) for parameter in space))


def elsewhere(space: SearchSpace) -> SearchSpace:
    """Parameters of the same names with no value in common."""

    def moved(parameter: Parameter) -> Parameter:
        match parameter:
            case ListParameter():
                return replace(parameter, choices=tuple(_other(text) for text in parameter.choices))
            case IntParameter(low=low, high=high):
                first = high + max(high - low, 1)
                return replace(parameter, low=first, high=first + high - low)
            case DoubleParameter(low=low, high=high):
                start = high + ((high - low) or 1.0)
                return replace(parameter, low=start, high=start + (high - low))

    return SearchSpace(tuple(moved(parameter) for parameter in space))


def _other(text: str) -> str:
    try:
        return repr(float(text) + 1000.0)
    except ValueError:
        return f"other {text}"


# ---- points -------------------------------------------------------------------------------------


def drawn(space: SearchSpace, count: int, key: str) -> list[dict[str, str]]:
    """Points that nobody suggested, always the same ones for a key."""
    return [
        {p.name: p.text(_value(p, _chance(f"{key}/{k}/{p.name}"))) for p in space}
        for k in range(count)
    ]


def _chance(name: str) -> float:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / _CHANCES


def _value(parameter: Parameter, u: float) -> Value:
    if isinstance(parameter, DoubleParameter) and parameter.step is None:
        value = parameter.low + u * (parameter.high - parameter.low)
        return min(max(value, parameter.low), parameter.high)
    count = parameter.cardinality or 1
    index = min(int(u * count), count - 1)
    match parameter:
        case ListParameter():
            return parameter.choices[index]
        case IntParameter():
            return parameter.low + index * parameter.step
        case DoubleParameter():
            return parameter.at(index)


def loss(space: SearchSpace, texts: Texts) -> float:
    """A smooth made-up objective: the squared distance from a point inside the space."""
    return math.fsum((_place(p, texts[p.name]) - 0.3) ** 2 for p in space)


def _place(parameter: Parameter, text: str) -> float:
    if isinstance(parameter, ListParameter):
        return parameter.choices.index(text) / len(parameter.choices)
    width = float(parameter.high) - float(parameter.low)
    return (float(text) - float(parameter.low)) / width if width else 0.0


def faults(
    space: SearchSpace, assignment: pb.GetSuggestionsReply.ParameterAssignments
) -> list[str]:
    """Why an assignment is no point of the space, with every value as it is written."""
    pairs = assignment.assignments
    names = sorted(pair.name for pair in pairs)
    twice = [f"{one}: assigned twice" for one, next_ in pairwise(names) if one == next_]
    texts = {pair.name: pair.value for pair in pairs}
    return [*twice, *space.violations(texts), *_odd_integers(space, texts)]


def _odd_integers(space: SearchSpace, texts: Texts) -> list[str]:
    """Training scripts read an int as an int: 3.0 and 1e3 end them."""
    return [
        f"{p.name}: {texts[p.name]!r} is not written as an integer"
        for p in space
        if isinstance(p, IntParameter)
        and not p.violation(texts.get(p.name, ""))
        and not _INTEGER.fullmatch(texts[p.name])
    ]


def shown(texts: Texts) -> str:
    """ "lr=0.1, layers=3"."""
    return ", ".join(f"{name}={text}" for name, text in texts.items())


def repeated(points: Sequence[Texts]) -> list[Texts]:
    """The points that came before in the sequence."""
    seen: set[tuple[str, ...]] = set()
    found = []
    for texts in points:
        key = tuple(texts[name] for name in sorted(texts))
        if key in seen:
            found.append(texts)
        seen.add(key)
    return found
