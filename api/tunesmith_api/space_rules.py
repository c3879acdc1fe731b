# SPDX-License-Identifier: Apache-2.0
"""The rules of spec.parameters: types, bounds, steps, lists, names. Called by validation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tunesmith_api.field_errors import FieldError, Path, did_you_mean, repeated, shown
from tunesmith_api.problems import parameter_of
from tunesmith_api.resources import Experiment, FeasibleSpace, ParameterSpec
from tunesmith_api.search_space import (
    Distribution,
    DoubleParameter,
    IntParameter,
    ListParameter,
    ParameterType,
    SpaceError,
    parse_finite,
    parse_int,
)

MAX_PARAMETERS: Final = 512
MAX_CATEGORIES: Final = 10_000

_HERE: Final[Path] = ("spec", "parameters")
_LISTED: Final = (ParameterType.DISCRETE, ParameterType.CATEGORICAL)


def parameters(experiment: Experiment) -> Iterator[FieldError]:
    """Every fault of every search parameter."""
    specs = experiment.spec.parameters
    if len(specs) > MAX_PARAMETERS:
        yield FieldError(
            _HERE, f"has {len(specs)} parameters; at most {MAX_PARAMETERS} are possible"
        )
    for index, spec in enumerate(specs[:MAX_PARAMETERS]):
        yield from _parameter(spec, (*_HERE, index))
    for index, first in repeated(spec.name or index for index, spec in enumerate(specs)):
        yield FieldError(
            (*_HERE, index, "name"),
            f"{shown(specs[index].name)} is already the name of parameter {first}",
        )


def _parameter(spec: ParameterSpec, path: Path) -> Iterator[FieldError]:
    if not spec.name:
        yield FieldError((*path, "name"), "must be given")
    faults = [*_words(spec, path), *_space(spec, (*path, "feasibleSpace"))]
    yield from faults
    if faults:
        return
    try:
        parameter = parameter_of(spec)
    except SpaceError as error:
        yield FieldError((*path, *error.field.split(".")), error.reason)
        return
    if not isinstance(parameter, ListParameter) and _is_too_wide(parameter):
        space = spec.feasible_space
        yield FieldError(
            (*path, "feasibleSpace", "step"),
            f"{space.step} is more than there is from min {space.min} to max {space.max}",
        )


def _is_too_wide(parameter: IntParameter | DoubleParameter) -> bool:
    """A step that leaves nothing but min, of a range that has more."""
    span, step = parameter.high - parameter.low, parameter.step
    return step is not None and 0 < span < step and parameter.cardinality == 1


def _words(spec: ParameterSpec, path: Path) -> Iterator[FieldError]:
    """The type and the distribution are known ones."""
    words = (
        (("parameterType",), spec.parameter_type, tuple(ParameterType)),
        (("feasibleSpace", "distribution"), spec.feasible_space.distribution, tuple(Distribution)),
    )
    for below, word, known in words:
        if word in known or (not word and below != ("parameterType",)):
            continue
        message = f"must be one of {', '.join(known)}" + (f", not {shown(word)}" if word else "")
        yield FieldError((*path, *below), message, did_you_mean(word, known))


def _space(spec: ParameterSpec, path: Path) -> Iterator[FieldError]:
    space = spec.feasible_space
    if spec.parameter_type in _LISTED:
        yield from _no_bounds(spec, path)
        yield from _list(spec, (*path, "list"))
    elif spec.parameter_type in (ParameterType.INT, ParameterType.DOUBLE):
        yield from _bounds(space, path, whole=spec.parameter_type == ParameterType.INT)
        if space.list:
            yield FieldError(
                (*path, "list"),
                f"is for discrete and categorical parameters, this one is {spec.parameter_type}",
                "give min and max, or change parameterType",
            )


def _bounds(space: FeasibleSpace, path: Path, *, whole: bool) -> Iterator[FieldError]:
    for key, text in (("min", space.min), ("max", space.max), ("step", space.step)):
        if not text.strip():
            if key != "step":
                yield FieldError((*path, key), "must be given for int and double parameters")
        elif fault := _number_fault(text, whole=whole):
            yield FieldError((*path, key), fault)


def _no_bounds(spec: ParameterSpec, path: Path) -> Iterator[FieldError]:
    space = spec.feasible_space
    for key, text in (("min", space.min), ("max", space.max), ("step", space.step)):
        if text:
            yield FieldError(
                (*path, key),
                f"is for int and double parameters, this one is {spec.parameter_type}",
                "remove it and give a list",
            )


def _list(spec: ParameterSpec, path: Path) -> Iterator[FieldError]:
    choices = spec.feasible_space.list
    if not choices:
        yield FieldError(
            path, f"must have at least one value for a {spec.parameter_type} parameter"
        )
    if len(choices) > MAX_CATEGORIES:
        yield FieldError(path, f"has {len(choices)} values; at most {MAX_CATEGORIES} are possible")
        return
    numeric = spec.parameter_type == ParameterType.DISCRETE
    for index, text in enumerate(choices):
        if "\0" in text:
            yield FieldError((*path, index), "holds a NUL character, which no program can be given")
        elif numeric and (fault := _number_fault(text, whole=False)):
            yield FieldError((*path, index), fault, "categorical takes any text")
    for index, first in repeated(_same(text) if numeric else text for text in choices):
        same = "occurs twice" if choices[index] == choices[first] else "is the same number as"
        other = f" (first at [{first}])" if same == "occurs twice" else f" {choices[first]!r}"
        yield FieldError((*path, index), f"{shown(choices[index])} {same}{other}")


def _same(text: str) -> float | str:
    """What makes two discrete values equal."""
    try:
        return parse_finite(text)
    except ValueError:
        return text


def _number_fault(text: str, *, whole: bool) -> str:
    try:
        _ = parse_int(text) if whole else parse_finite(text)
    except ValueError:
        wanted = "a whole number" if whole else "a finite number"
        return f"must be {wanted}, this is {shown(text)}"
    return ""
