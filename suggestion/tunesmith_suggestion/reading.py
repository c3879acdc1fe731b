# SPDX-License-Identifier: Apache-2.0
"""Texts of a trial to typed values, as fast as thousands of trials in one request need.

The verdict and the values are those of `SearchSpace.violations` and `SearchSpace.values`; common
texts are only read with less work. Used by `katib` and `messages`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final

from tunesmith_api.search_space import (
    DoubleParameter,
    IntParameter,
    ListParameter,
    Parameter,
    SearchSpace,
    Value,
)

Reader = Callable[[str], Value]
"""The value of a text. Raises ValueError when it is none of the parameter."""

_REMEMBERED: Final = 1024
"""Texts of a stepped or unusual number, whose check takes exact arithmetic."""
_LONGEST_REMEMBERED: Final = 64
_LONGEST_PLAIN: Final = 18
"""Digits of an integer that fits in 63 bits whatever they are."""


class SpaceReader:
    """Reads points of one space. Safe from several threads."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self._readers = tuple((p.name, _reader(p)) for p in space)

    def values(self, texts: Mapping[str, str]) -> dict[str, Value] | None:
        """Typed values in the order of the space; None for what is no point of it."""
        if len(texts) != len(self._readers):
            return None
        try:
            return {name: read(texts[name]) for name, read in self._readers}
        except (KeyError, ValueError):
            return None


@lru_cache(maxsize=256)
def reader_of(space: SearchSpace) -> SpaceReader:
    return SpaceReader(space)


def _reader(parameter: Parameter) -> Reader:
    match parameter:
        case IntParameter():
            return _int_reader(parameter)
        case DoubleParameter(step=None):
            return _double_reader(parameter)
        case DoubleParameter():
            return _exact_reader(parameter)
        case ListParameter():
            return _list_reader(parameter)


def _exact_reader(parameter: Parameter) -> Reader:
    def read(text: str) -> Value:
        if reason := parameter.violation(text):
            raise ValueError(reason)
        return parameter.value(text)

    remembering = lru_cache(maxsize=_REMEMBERED)(read)
    return lambda text: (remembering if len(text) <= _LONGEST_REMEMBERED else read)(text)


def _int_reader(parameter: IntParameter) -> Reader:
    low, high, step = parameter.low, parameter.high, parameter.step
    exact = _exact_reader(parameter)

    def read(text: str) -> Value:
        if not (text.isascii() and text.isdigit() and len(text) <= _LONGEST_PLAIN):
            return exact(text)
        value = int(text)
        if not low <= value <= high or (step != 1 and (value - low) % step):
            raise ValueError(text)
        return value

    return read


def _double_reader(parameter: DoubleParameter) -> Reader:
    low, high = parameter.low, parameter.high

    def read(text: str) -> Value:
        value = float(text)
        if not low <= value <= high or "_" in text:  # the bounds are finite
            raise ValueError(text)
        return value

    return read


def _list_reader(parameter: ListParameter) -> Reader:
    choices = frozenset(parameter.choices)

    def read(text: str) -> Value:
        if text not in choices:
            raise ValueError(text)
        return text

    return read
