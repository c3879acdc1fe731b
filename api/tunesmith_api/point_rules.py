# SPDX-License-Identifier: Apache-2.0
"""The rules of spec.enqueued: every point is one of the search space. Called by validation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from tunesmith_api.field_errors import FieldError, Path, did_you_mean, listed, repeated, shown
from tunesmith_api.problems import parameter_of
from tunesmith_api.resources import EnqueuedPoint, Experiment
from tunesmith_api.search_space import Parameter, SpaceError

MAX_POINTS: Final = 1_000

_HERE: Final[Path] = ("spec", "enqueued")


def enqueued(experiment: Experiment) -> Iterator[FieldError]:
    """Every fault of every point that is to be tried before the algorithm is asked."""
    points = experiment.spec.enqueued
    if len(points) > MAX_POINTS:
        yield FieldError(_HERE, f"has {len(points)} points; at most {MAX_POINTS} are possible")
    parameters = _parameters(experiment)
    if points and not parameters:
        yield FieldError(_HERE, "needs parameters: a point gives each of them a value")
        return
    for index, point in enumerate(points[:MAX_POINTS]):
        yield from _point(point, parameters, (*_HERE, index, "parameterAssignments"))


def _parameters(experiment: Experiment) -> Mapping[str, Parameter | None]:
    """By name; None for one that is faulty itself."""
    found: dict[str, Parameter | None] = {}
    for spec in experiment.spec.parameters:
        try:
            found[spec.name] = parameter_of(spec)
        except SpaceError:
            found[spec.name] = None
    return found


def _point(
    point: EnqueuedPoint, parameters: Mapping[str, Parameter | None], path: Path
) -> Iterator[FieldError]:
    given = [assignment.name for assignment in point.parameter_assignments]
    for index, assignment in enumerate(point.parameter_assignments):
        name, parameter = assignment.name, parameters.get(assignment.name)
        if not name:
            yield FieldError((*path, index, "name"), "must be given")
        elif name not in parameters:
            message = f"{shown(name)} is no search parameter; there are: {listed(parameters)}"
            yield FieldError((*path, index, "name"), message, did_you_mean(name, parameters))
        elif parameter is not None and (fault := parameter.violation(assignment.value)):
            yield FieldError((*path, index, "value"), f"for {name}: {fault}")
    for index, first in repeated(name or place for place, name in enumerate(given)):
        message = f"{shown(given[index])} is given twice (first at [{first}])"
        yield FieldError((*path, index, "name"), message)
    if missing := [name for name in parameters if name and name not in given]:
        yield FieldError(
            path, f"gives no value for {listed(missing)}; a point names all parameters"
        )
