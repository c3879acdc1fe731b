# SPDX-License-Identifier: Apache-2.0
"""Katib's api.v1.beta1.Suggestion messages to and from the nouns of tunesmith_api.

`katib` reads requests with `*_of`; the controller's client writes them with `*_message` to ask
foreign services. No numpy here: a controller without algorithms imports it.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterable, Mapping
from typing import Final

from tunesmith_api.errors import Invalid
from tunesmith_api.names import trial_name
from tunesmith_api.problem import (
    Direction,
    History,
    Objective,
    Outcome,
    OutcomeState,
    Pending,
    Problem,
)
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
    parse_parameter,
)
from tunesmith_proto.katib import api_pb2 as pb
from tunesmith_suggestion.reading import SpaceReader, reader_of

logger = logging.getLogger(__name__)

_TYPES: Final = {
    pb.DOUBLE: ParameterType.DOUBLE,
    pb.INT: ParameterType.INT,
    pb.DISCRETE: ParameterType.DISCRETE,
    pb.CATEGORICAL: ParameterType.CATEGORICAL,
}
_DISTRIBUTIONS: Final = {
    pb.UNIFORM: Distribution.UNIFORM,
    pb.LOG_UNIFORM: Distribution.LOG_UNIFORM,
    pb.NORMAL: Distribution.NORMAL,
    pb.LOG_NORMAL: Distribution.LOG_NORMAL,
}
_DIRECTIONS: Final = {pb.MINIMIZE: Direction.MINIMIZE, pb.MAXIMIZE: Direction.MAXIMIZE}
_STATES: Final = {
    pb.TrialStatus.SUCCEEDED: OutcomeState.SUCCEEDED,
    pb.TrialStatus.FAILED: OutcomeState.FAILED,
    pb.TrialStatus.EARLYSTOPPED: OutcomeState.EARLY_STOPPED,
    pb.TrialStatus.METRICSUNAVAILABLE: OutcomeState.METRICS_UNAVAILABLE,
    pb.TrialStatus.KILLED: OutcomeState.KILLED,
}


# ---- reading ------------------------------------------------------------------------------------


def problem_of(experiment: pb.Experiment) -> Problem:
    """Raises Invalid for a space or an objective that cannot be read."""
    spec = experiment.spec
    try:
        space = SearchSpace(tuple(_parameter_of(p) for p in spec.parameter_specs.parameters))
    except SpaceError as error:
        raise Invalid(str(error)) from None
    return Problem(
        experiment_uid=experiment.name,
        experiment_name=experiment.name,
        algorithm=spec.algorithm.algorithm_name,
        settings={s.name: s.value for s in spec.algorithm.algorithm_settings},
        space=space,
        objectives=(_objective_of(spec.objective),),
        seed=seed_of(experiment.name),
        parallel=spec.parallel_trial_count or 1,
        max_trials=spec.max_trial_count or None,
    )


def seed_of(experiment_name: str) -> int:
    """Katib's messages have no seed: 63 bits of the SHA-256 of the experiment's name.

    A restarted service continues the same way. The setting random_state overrides it.
    """
    digest = hashlib.sha256(experiment_name.encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def history_of(problem: Problem, trials: Iterable[pb.Trial]) -> History:
    """Trials as outcomes and pending ones. A trial that is no point of the space is left out."""
    outcomes: list[Outcome] = []
    pending: list[Pending] = []
    reader = reader_of(problem.space)
    for ordinal, trial in enumerate(trials):
        match trial_of(reader, trial):
            case (values, None, _):
                pending.append(Pending(ordinal, values))
            case (values, state, metrics):
                outcomes.append(Outcome(ordinal, values, state, metrics))
    return History(tuple(outcomes), tuple(pending))


def trial_of(
    reader: SpaceReader, trial: pb.Trial
) -> tuple[dict[str, Value], OutcomeState | None, dict[str, float]] | None:
    """A trial's point, how it ended (None: it runs) and its metrics; None for a foreign point."""
    texts = {a.name: a.value for a in trial.spec.parameter_assignments.assignments}
    values = reader.values(texts)
    if values is None:
        wrong = "; ".join(reader.space.violations(texts))
        logger.warning("trial %s is ignored: %s", trial.name, wrong)
        return None
    status = trial.status
    return values, _STATES.get(status.condition), _metrics(trial.name, status)


def _metrics(trial: str, status: pb.TrialStatus) -> dict[str, float]:
    found: dict[str, float] = {}
    for metric in status.observation.metrics:
        try:
            found[metric.name] = parse_finite(metric.value)
        except ValueError:
            logger.info("trial %s: %s is %r", trial, metric.name, metric.value)
    return found


def _parameter_of(message: pb.ParameterSpec) -> Parameter:
    space = message.feasible_space
    return parse_parameter(
        message.name,
        _TYPES.get(message.parameter_type, "unknown"),
        low=space.min,
        high=space.max,
        step=space.step,
        choices=tuple(space.list),
        distribution=_DISTRIBUTIONS.get(space.distribution, ""),
    )


def _objective_of(message: pb.ObjectiveSpec) -> Objective:
    direction = _DIRECTIONS.get(message.type)
    if direction is None:
        raise Invalid("objective.type must be minimize or maximize")
    return Objective(message.objective_metric_name, direction, message.goal or None)


# ---- writing ------------------------------------------------------------------------------------


def assignments_message(texts: Mapping[str, str]) -> pb.GetSuggestionsReply.ParameterAssignments:
    pairs = [pb.ParameterAssignment(name=name, value=text) for name, text in texts.items()]
    return pb.GetSuggestionsReply.ParameterAssignments(assignments=pairs)


def experiment_message(problem: Problem, settings: Mapping[str, str]) -> pb.Experiment:
    """The problem as Katib's controller would send it, with these algorithm settings."""
    return pb.Experiment(
        name=problem.experiment_name,
        spec=pb.ExperimentSpec(
            parameter_specs=pb.ExperimentSpec.ParameterSpecs(
                parameters=[_parameter_message(p) for p in problem.space]
            ),
            objective=_objective_message(problem),
            algorithm=pb.AlgorithmSpec(
                algorithm_name=problem.algorithm,
                algorithm_settings=[
                    pb.AlgorithmSetting(name=name, value=text) for name, text in settings.items()
                ],
            ),
            parallel_trial_count=problem.parallel,
            max_trial_count=problem.max_trials or 0,
        ),
    )


def trial_messages(problem: Problem, history: History) -> list[pb.Trial]:
    """What Katib's controller sends: all but MetricsUnavailable trials and early-stopped ones
    without an observation."""
    conditions = {state: condition for condition, state in _STATES.items()}
    trials = {
        p.ordinal: _trial(problem, p.ordinal, p, pb.TrialStatus.RUNNING, {})
        for p in history.pending
    }
    for outcome in history.outcomes:
        unobserved = problem.objective.metric not in outcome.values
        if outcome.state is OutcomeState.METRICS_UNAVAILABLE or (
            outcome.state is OutcomeState.EARLY_STOPPED and unobserved
        ):
            continue
        condition = conditions[outcome.state]
        trials[outcome.ordinal] = _trial(
            problem, outcome.ordinal, outcome, condition, outcome.values
        )
    return [trials[ordinal] for ordinal in sorted(trials)]


def _trial(
    problem: Problem,
    ordinal: int,
    point: Outcome | Pending,
    condition: pb.TrialStatus.TrialConditionType,
    values: Mapping[str, float],
) -> pb.Trial:
    texts = problem.space.texts(point.parameters)
    pairs = [pb.ParameterAssignment(name=name, value=text) for name, text in texts.items()]
    metrics = [pb.Metric(name=name, value=repr(value)) for name, value in values.items()]
    return pb.Trial(
        name=trial_name(problem.experiment_name, problem.experiment_uid, ordinal),
        spec=pb.TrialSpec(
            objective=_objective_message(problem),
            parameter_assignments=pb.TrialSpec.ParameterAssignments(assignments=pairs),
        ),
        status=pb.TrialStatus(condition=condition, observation=pb.Observation(metrics=metrics)),
    )


def _parameter_message(parameter: Parameter) -> pb.ParameterSpec:
    kinds = {kind: number for number, kind in _TYPES.items()}
    spreads = {spread: number for number, spread in _DISTRIBUTIONS.items()}
    spread = spreads[parameter.distribution]
    match parameter:
        case ListParameter(name, choices, kind):
            space = pb.FeasibleSpace(list=choices, distribution=spread)
            return pb.ParameterSpec(name=name, parameter_type=kinds[kind], feasible_space=space)
        case IntParameter():
            kind = ParameterType.INT
        case DoubleParameter():
            kind = ParameterType.DOUBLE
    step = parameter.step
    space = pb.FeasibleSpace(
        min=repr(parameter.low),
        max=repr(parameter.high),
        step="" if step is None else repr(step),
        distribution=spread,
    )
    return pb.ParameterSpec(name=parameter.name, parameter_type=kinds[kind], feasible_space=space)


def _objective_message(problem: Problem) -> pb.ObjectiveSpec:
    kinds = {direction: number for number, direction in _DIRECTIONS.items()}
    objective = problem.objective
    goal = objective.goal if objective.goal is not None and math.isfinite(objective.goal) else 0.0
    return pb.ObjectiveSpec(
        type=kinds[objective.direction],
        goal=goal,
        objective_metric_name=objective.metric,
        additional_metric_names=[o.metric for o in problem.objectives[1:]],
    )
