# SPDX-License-Identifier: Apache-2.0
"""What the algorithm and the early stopping rule themselves say about an Experiment.

Called by admission once the Experiment is right in itself, so that a wrong setting is refused at
once and not when the service is asked for the first time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from tunesmith_api.errors import Invalid
from tunesmith_api.field_errors import FieldError, Path
from tunesmith_api.problems import objective_of, problem_of
from tunesmith_api.resources import AlgorithmSpec, Experiment
from tunesmith_api.stopping import StopProblem
from tunesmith_controller.ports import StoppingRules
from tunesmith_suggestion.registry import Registry

_ALGORITHM: Final[Path] = ("spec", "algorithm")
_STOPPING: Final[Path] = ("spec", "earlyStopping")
_BUDGET: Final[Path] = ("spec", "maxTrialCount")
_PARAMETER: Final = re.compile(r"parameter (?P<name>'[^']*'|\"[^\"]*\"): (?P<rest>.*)", re.DOTALL)
_FIELD: Final = re.compile(r"(feasibleSpace(?:\.\w+)?|parameterType): (.*)", re.DOTALL)


def algorithm_faults(experiment: Experiment, registry: Registry) -> Iterator[FieldError]:
    """What the algorithm has against the problem; its name is a known one."""
    spec = experiment.spec.algorithm
    if spec is None or not experiment.spec.parameters:
        return
    try:
        algorithm = registry.find(spec.algorithm_name)
    except Invalid as error:
        yield FieldError((*_ALGORITHM, "algorithmName"), str(error))
        return
    problem = problem_of(experiment, uid="", seed=0)
    for sentence in algorithm.validate(problem):
        yield _placed(sentence, experiment, spec, _ALGORITHM)


def stopping_faults(experiment: Experiment, rules: StoppingRules) -> Iterator[FieldError]:
    """What the early stopping rule has against its settings; its name is a known one."""
    spec = experiment.spec.early_stopping
    if spec is None:
        return
    objective = objective_of(experiment)
    problem = StopProblem(
        spec.algorithm_name,
        objective.metric,
        objective.direction,
        {setting.name: setting.value for setting in spec.algorithm_settings},
    )
    for sentence in rules.validate(problem):
        yield _placed(sentence, experiment, spec, _STOPPING)


# ---- places -------------------------------------------------------------------------------------


def _placed(sentence: str, experiment: Experiment, spec: AlgorithmSpec, path: Path) -> FieldError:
    """A sentence at the field that it begins with or names; else at the algorithm as a whole."""
    if sentence.startswith("maxTrialCount "):
        return FieldError(_BUDGET, sentence.removeprefix("maxTrialCount "))
    if match := _PARAMETER.fullmatch(sentence):
        names = [parameter.name for parameter in experiment.spec.parameters]
        name = match["name"][1:-1]
        if name in names:
            return _in_parameter(match["rest"], names.index(name))
    for index, setting in enumerate(spec.algorithm_settings):
        if f"setting {setting.name!r}" in sentence:
            return FieldError((*path, "algorithmSettings", index), sentence)
    return FieldError(path, sentence)


def _in_parameter(reason: str, index: int) -> FieldError:
    path: Path = ("spec", "parameters", index)
    if match := _FIELD.fullmatch(reason):
        return FieldError((*path, *match[1].split(".")), match[2])
    return FieldError(path, reason)
