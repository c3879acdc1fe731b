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
    algorithm has, None for as many as asked (`sensitive` only).

    `extended_by`: trials that a person adds once all has ended; `at_end`: what becomes of running
    trials then. `ceiling`: a trial whose newest loss is above it may be stopped. `enqueued`: how
    many points a person wants tried first. Deadlines in seconds, of all and of each trial."""

    trials: int = 12
    parallel: int = 1
    algorithm: str = "sensitive"
    failing: frozenset[int] = frozenset()
    silent: frozenset[int] = frozenset()
    max_failed: int | None = None
    goal: float | None = None
    random_state: int | None = 7
    points: int | None = None
    resume_policy: str = "Never"
    extended_by: int = 0
    at_end: str = ""
    ceiling: float | None = None
    enqueued: int = 0
    deadline: int | None = None
    trial_deadline: int | None = None

    def experiment(self) -> Json:
        """The Experiment with every default, as admission stores it."""
        spec: Json = {
            "parameters": [dict(parameter) for parameter in PARAMETERS],
            "objective": self._objective(),
            "algorithm": self._algorithm(),
            "parallelTrialCount": self.parallel,
            "maxTrialCount": self.trials,
            "resumePolicy": self.resume_policy,
            "metricsCollectorSpec": {"collector": {"kind": "StdOut"}},
            "trialTemplate": _template(),
        }
        if self.max_failed is not None:
            spec["maxFailedTrialCount"] = self.max_failed
        spec |= self._ours()
        return {
            "apiVersion": "kubeflow.org/v1beta1",
            "kind": "Experiment",
            "metadata": {"name": NAME, "namespace": NAMESPACE},
            "spec": spec,
        }

    def _ours(self) -> Json:
        policy = {
            "activeDeadlineSeconds": self.deadline,
            "trialActiveDeadlineSeconds": self.trial_deadline,
            "runningTrialsAtEnd": self.at_end or None,
        }
        found: Json = {"runPolicy": {k: v for k, v in policy.items() if v is not None}}
        if self.ceiling is not None:
            limit = {"name": "limit", "value": str(self.ceiling)}
            found["earlyStopping"] = {"algorithmName": "ceiling", "algorithmSettings": [limit]}
        if self.enqueued:
            found["enqueued"] = [
                {"parameterAssignments": [{"name": k, "value": v} for k, v in point.items()]}
                for point in self.wished()
            ]
        return found

    def wished(self) -> list[dict[str, str]]:
        """The points that a person wants tried."""
        return [
            {"lr": "0.01", "momentum": "0.5", "width": "64", "depth": depth, "optimizer": "adam"}
            for depth in ("1", "2", "4")[: self.enqueued]
        ]

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

    def may_be_stopped(self, parameters: Mapping[str, str]) -> bool:
        """Whether a look at the right moment stops it."""
        return self.ceiling is not None and 1.5 * loss(parameters) > self.ceiling

    def may_run_too_long(self, ordinal: int) -> bool:
        """Whether a look at the right moment finds it over its limit. Times on record are whole
        seconds, and what was just seen running may have ended meanwhile."""
        return self.trial_deadline is not None and duration(ordinal) > self.trial_deadline - 1.5

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
