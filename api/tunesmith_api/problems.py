# SPDX-License-Identifier: Apache-2.0
"""From an Experiment object to the nouns of tuning: its space, its objective, its problem.

For objects that passed admission; on others these raise SpaceError or ValueError.
"""

from __future__ import annotations

from collections.abc import Mapping

from tunesmith_api.metrics import Strategy
from tunesmith_api.problem import Direction, Objective, Problem
from tunesmith_api.resources import Experiment, ParameterSpec
from tunesmith_api.search_space import Parameter, SearchSpace, parse_parameter


def parameter_of(spec: ParameterSpec) -> Parameter:
    """The typed parameter. Raises SpaceError."""
    space = spec.feasible_space
    return parse_parameter(
        spec.name,
        spec.parameter_type,
        low=space.min,
        high=space.max,
        step=space.step,
        choices=space.list,
        distribution=space.distribution,
    )


def space_of(experiment: Experiment) -> SearchSpace:
    """The search space in the order of the spec. Raises SpaceError."""
    return SearchSpace(tuple(parameter_of(spec) for spec in experiment.spec.parameters))


def objective_of(experiment: Experiment) -> Objective:
    """The objective. Raises ValueError when there is none."""
    spec = experiment.spec.objective
    if spec is None:
        raise ValueError(f"Experiment {experiment.metadata.name} has no objective")
    return Objective(spec.objective_metric_name, Direction(spec.type), spec.goal)


def strategies_of(experiment: Experiment) -> Mapping[str, Strategy]:
    """Which figure speaks for each metric."""
    spec = experiment.spec.objective
    return {} if spec is None else {s.name: Strategy(s.value) for s in spec.metric_strategies}


def problem_of(experiment: Experiment, uid: str, seed: int) -> Problem:
    """The experiment as an algorithm sees it."""
    algorithm = experiment.spec.algorithm
    if algorithm is None:
        raise ValueError(f"Experiment {experiment.metadata.name} has no algorithm")
    return Problem(
        experiment_uid=uid,
        experiment_name=experiment.metadata.name,
        algorithm=algorithm.algorithm_name,
        settings={s.name: s.value for s in algorithm.algorithm_settings},
        space=space_of(experiment),
        objectives=(objective_of(experiment),),
        seed=seed,
        parallel=experiment.spec.parallel_trial_count or 3,
        max_trials=experiment.spec.max_trial_count,
    )
