# SPDX-License-Identifier: Apache-2.0
"""SMAC's random forest (HyperparameterOptimizationFacade, its default). Run by `efficiency`."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from speak import Axis, Point, Start, serve

SMAC: Any = import_module("smac")
SPACES: Any = import_module("ConfigSpace")
RUNS: Any = import_module("smac.runhistory.dataclasses")


class SmacSearch:
    """Deterministic, told its budget, which sizes its initial design."""

    def __init__(self, start: Start) -> None:
        self._folder = tempfile.TemporaryDirectory()
        space = SPACES.ConfigurationSpace(seed=start.seed)
        space.add([_parameter(axis) for axis in start.space])
        scenario = SMAC.Scenario(
            space,
            deterministic=True,
            n_trials=start.trials,
            seed=start.seed,
            output_directory=Path(self._folder.name),
        )
        self._axes = start.space
        self._facade = SMAC.HyperparameterOptimizationFacade(
            scenario, _never_called, logging_level=False
        )
        self._asked: list[Any] = []

    def ask(self, count: int) -> list[Point]:
        self._asked = [self._facade.ask() for _ in range(count)]
        return [
            {a.name: a.plain(trial.config[a.name]) for a in self._axes} for trial in self._asked
        ]

    def tell(self, points: Sequence[Point], losses: Sequence[float]) -> None:
        for trial, loss in zip(self._asked, losses, strict=True):
            self._facade.tell(trial, RUNS.TrialValue(cost=loss))


def _never_called(config: Any, seed: int = 0) -> float:
    raise RuntimeError("asked and told from outside")


def _parameter(axis: Axis) -> Any:
    if axis.kind == "choice":
        return SPACES.CategoricalHyperparameter(axis.name, list(axis.choices))
    if axis.kind == "int":
        return SPACES.UniformIntegerHyperparameter(
            axis.name, int(axis.low), int(axis.high), log=axis.log
        )
    return SPACES.UniformFloatHyperparameter(axis.name, axis.low, axis.high, log=axis.log)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    serve(version("smac"), SmacSearch)
