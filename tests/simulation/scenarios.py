# SPDX-License-Identifier: Apache-2.0
"""What is simulated: one experiment, and what its trials do. Pure; `world` runs it.

What a trial prints is a function of its parameters, how long it takes one of its ordinal, so two
runs of a scenario that make the same decisions end alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tunesmith_api import names
from tunesmith_api.metrics import Row
from tunesmith_controller.ports import Json, TrialRun

NAMESPACE: Final = "default"
NAME: Final = "simulated"
OBJECTIVE: Final = "loss"
ATTEMPT_METRIC: Final = "attempt"
"""Every attempt prints its own number, so that rows of another attempt show."""

_SUCCESS = 'status.conditions.#(type=="Complete")#|#(status=="True")#'
_FAILURE = 'status.conditions.#(type=="Failed")#|#(status=="True")#'

PARAMETERS: Final[Sequence[Mapping[str, Any]]] = (
    {
        "name": "lr",
        "parameterType": "double",
        "feasibleSpace": {"min": "1e-4", "max": "0.1", "distribution": "logUniform"},
    },
    {
        "name": "momentum",
        "parameterType": "double",
        "feasibleSpace": {"min": "0", "max": "1", "step": "0.25", "distribution": "uniform"},
    },
    {
        "name": "width",
        "parameterType": "int",
        "feasibleSpace": {"min": "8", "max": "64", "step": "8", "distribution": "uniform"},
    },
    {"name": "depth", "parameterType": "discrete", "feasibleSpace": {"list": ["1", "2", "4"]}},
    {
        "name": "optimizer",
        "parameterType": "categorical",
        "feasibleSpace": {"list": ["sgd", "adam"]},
    },
)


@dataclass(frozen=True, slots=True)
class Scenario:
    """An experiment and the fates of its trials: ordinals whose command fails, and ordinals whose
    command prints nothing. `random_state` None: the seed is drawn. `points`: how many the
    algorithm has, None for as many as asked (`sensitive` only)."""

    trials: int = 12
    parallel: int = 1
    algorithm: str = "sensitive"
    failing: frozenset[int] = frozenset()
    silent: frozenset[int] = frozenset()
    max_failed: int | None = None
    goal: float | None = None
    random_state: int | None = 7
    points: int | None = None

    def experiment(self) -> Json:
        """The Experiment with every default, as admission stores it."""
        spec: Json = {
            "parameters": [dict(parameter) for parameter in PARAMETERS],
            "objective": self._objective(),
            "algorithm": self._algorithm(),
            "parallelTrialCount": self.parallel,
            "maxTrialCount": self.trials,
            "resumePolicy": "Never",
            "metricsCollectorSpec": {"collector": {"kind": "StdOut"}},
            "trialTemplate": _template(),
        }
        if self.max_failed is not None:
            spec["maxFailedTrialCount"] = self.max_failed
        return {
            "apiVersion": "kubeflow.org/v1beta1",
            "kind": "Experiment",
            "metadata": {"name": NAME, "namespace": NAMESPACE},
            "spec": spec,
        }

    def _objective(self) -> Json:
        objective: Json = {
            "type": "minimize",
            "objectiveMetricName": OBJECTIVE,
            "additionalMetricNames": ["accuracy", ATTEMPT_METRIC],
            "metricStrategies": [
                {"name": OBJECTIVE, "value": "min"},
                {"name": "accuracy", "value": "max"},
                {"name": ATTEMPT_METRIC, "value": "latest"},
            ],
        }
        return objective if self.goal is None else {**objective, "goal": self.goal}

    def _algorithm(self) -> Json:
        given = (("random_state", self.random_state), ("points", self.points))
        settings = [{"name": k, "value": str(v)} for k, v in given if v is not None]
        return {"algorithmName": self.algorithm, "algorithmSettings": settings}

    # ---- fates ----------------------------------------------------------------------------------

    def fate(self, ordinal: int) -> str:
        """The state in which a trial ends when nobody stops it."""
        if ordinal in self.failing:
            return "Failed"
        return "MetricsUnavailable" if ordinal in self.silent else "Succeeded"

    def exit_code(self, ordinal: int) -> int:
        return 1 if ordinal in self.failing else 0

    def rows(self, ordinal: int, parameters: Mapping[str, str], attempt: int) -> list[Row]:
        """What an attempt prints, in two halves of equal length."""
        if ordinal in self.silent:
            return []
        value = loss(parameters)
        printed = (
            (OBJECTIVE, 1.5 * value),
            (ATTEMPT_METRIC, float(attempt)),
            (OBJECTIVE, value),
            ("accuracy", 1 / (1 + value)),
            (ATTEMPT_METRIC, float(attempt)),
            (OBJECTIVE, 1.1 * value),
        )
        return [Row(10 * i, metric, repr(number)) for i, (metric, number) in enumerate(printed)]


def duration(ordinal: int) -> float:
    """Seconds that a trial runs; neighbours differ, so that they end out of order."""
    return 1.0 + (ordinal * 5 % 7) * 0.6


def rows_late_by(ordinal: int) -> float:
    """Seconds from the end of a job to its last rows; mostly they come before it."""
    return 0.4 if ordinal % 4 == 3 else -0.01


def ordinal_of(run: TrialRun) -> int:
    """Raises ValueError for a trial that has no name of ours."""
    ordinal = names.trial_ordinal(run.trial.name)
    if ordinal is None:
        raise ValueError(f"{run.trial} is not a name of ours")
    return ordinal


def parameters_of(run: TrialRun) -> dict[str, str]:
    """The parameters as the command of a job reads them. Raises KeyError for another job."""
    [container] = run.spec["spec"]["template"]["spec"]["containers"]
    pairs = (word.removeprefix("--").split("=", 1) for word in container["command"][2:])
    return {name: value for name, value in pairs}


def loss(parameters: Mapping[str, str]) -> float:
    """Somewhere between 0 and 6; its lowest value is at lr=0.01 with wide, deep, adam."""
    return (
        abs(math.log10(float(parameters["lr"])) + 2)
        + abs(float(parameters["momentum"]) - 0.5)
        + (64 - int(parameters["width"])) / 64
        + 1 / int(parameters["depth"])
        + (parameters["optimizer"] == "sgd")
    )


def figures(parameters: Mapping[str, str]) -> dict[str, float]:
    """What a complete trial's metrics say, each by its strategy; but for the attempt."""
    value = loss(parameters)
    return {OBJECTIVE: value, "accuracy": 1 / (1 + value)}


def _template() -> Json:
    words = [f"--{p['name']}=${{trialParameters.{p['name']}}}" for p in PARAMETERS]
    container = {"name": "main", "image": "train:1", "command": ["python3", "train.py", *words]}
    return {
        "primaryContainerName": "main",
        "successCondition": _SUCCESS,
        "failureCondition": _FAILURE,
        "trialParameters": [{"name": p["name"], "reference": p["name"]} for p in PARAMETERS],
        "trialSpec": {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [container]}}},
        },
    }
