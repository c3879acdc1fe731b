# SPDX-License-Identifier: Apache-2.0
"""tunesmith.v1.Suggestions messages to and from the nouns of tunesmith_api; both directions.

The service reads with `*_of`, the controller's client writes with `*_message`. No numpy here: a
controller without algorithms imports it.
"""

from __future__ import annotations

from collections.abc import Iterable

from tunesmith_api.errors import Invalid
from tunesmith_api.problem import (
    Direction,
    Objective,
    Outcome,
    OutcomeState,
    Pending,
    Problem,
    outcome_digest,
)
from tunesmith_api.search_space import (
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
from tunesmith_proto.v1 import suggestions_pb2 as pb
from tunesmith_suggestion.reading import reader_of


def problem_message(problem: Problem) -> pb.Problem:
    return pb.Problem(
        experiment_uid=problem.experiment_uid,
        experiment_name=problem.experiment_name,
        algorithm=problem.algorithm,
        settings=dict(problem.settings),
        parameters=[parameter_message(p) for p in problem.space],
        objectives=[_objective_message(o) for o in problem.objectives],
        seed=problem.seed % (1 << 64),
        parallel=problem.parallel,
        max_trials=problem.max_trials,
    )


def problem_of(message: pb.Problem) -> Problem:
    """Raises Invalid for a space or an objective that cannot be read."""
    try:
        space = SearchSpace(tuple(_parameter_of(p) for p in message.parameters))
    except SpaceError as error:
        raise Invalid(str(error)) from None
    if not message.objectives:
        raise Invalid("the problem has no objective")
    return Problem(
        experiment_uid=message.experiment_uid,
        experiment_name=message.experiment_name,
        algorithm=message.algorithm,
        settings=dict(message.settings),
        space=space,
        objectives=tuple(_objective_of(o) for o in message.objectives),
        seed=message.seed,
        parallel=message.parallel or 1,
        max_trials=message.max_trials if message.HasField("max_trials") else None,
    )


def parameter_message(parameter: Parameter) -> pb.Parameter:
    """Numbers as the shortest texts that read back as themselves."""
    match parameter:
        case IntParameter(name, low, high, step, spread):
            return pb.Parameter(
                name=name,
                type=ParameterType.INT,
                min=str(low),
                max=str(high),
                step=str(step),
                distribution=spread,
            )
        case DoubleParameter(name, low, high, step_, spread):
            return pb.Parameter(
                name=name,
                type=ParameterType.DOUBLE,
                min=repr(low),
                max=repr(high),
                step="" if step_ is None else repr(step_),
                distribution=spread,
            )
        case ListParameter(name, choices, kind, spread):
            return pb.Parameter(name=name, type=kind, list=choices, distribution=spread)


def outcome_message(space: SearchSpace, outcome: Outcome) -> pb.Outcome:
    return pb.Outcome(
        ordinal=outcome.ordinal,
        parameters=space.texts(outcome.parameters),
        state=outcome.state,
        values=dict(outcome.values),
    )


def outcome_of(space: SearchSpace, message: pb.Outcome) -> Outcome:
    """Raises Invalid for an outcome that is not a point of the space."""
    texts = dict(message.parameters)
    try:
        state = OutcomeState(message.state)
    except ValueError:
        known = ", ".join(OutcomeState)
        raise Invalid(
            f"ordinal {message.ordinal}: state {message.state!r} is not one of {known}"
        ) from None
    return Outcome(
        message.ordinal, _values(space, message.ordinal, texts), state, dict(message.values)
    )


def message_digest(message: pb.Outcome) -> int:
    """The digest of an outcome as it is on the wire."""
    return outcome_digest(
        message.ordinal, dict(message.parameters), message.state, dict(message.values)
    )


def pending_messages(space: SearchSpace, pending: Iterable[Pending]) -> list[pb.Pending]:
    return [pb.Pending(ordinal=p.ordinal, parameters=space.texts(p.parameters)) for p in pending]


def pending_of(space: SearchSpace, message: pb.Pending) -> Pending:
    """Raises Invalid for a point outside the space."""
    texts = dict(message.parameters)
    return Pending(message.ordinal, _values(space, message.ordinal, texts))


def _values(space: SearchSpace, ordinal: int, texts: dict[str, str]) -> dict[str, Value]:
    values = reader_of(space).values(texts)
    if values is None:
        wrong = "; ".join(space.violations(texts))
        raise Invalid(f"ordinal {ordinal} is not a point of the search space: {wrong}")
    return values


def _parameter_of(message: pb.Parameter) -> Parameter:
    return parse_parameter(
        message.name,
        message.type,
        low=message.min,
        high=message.max,
        step=message.step,
        choices=tuple(message.list),
        distribution=message.distribution,
    )


def _objective_message(objective: Objective) -> pb.Objective:
    return pb.Objective(metric=objective.metric, direction=objective.direction, goal=objective.goal)


def _objective_of(message: pb.Objective) -> Objective:
    try:
        direction = Direction(message.direction)
    except ValueError:
        known = ", ".join(Direction)
        raise Invalid(
            f"objective {message.metric!r}: {message.direction!r} is not one of {known}"
        ) from None
    return Objective(message.metric, direction, message.goal if message.HasField("goal") else None)
