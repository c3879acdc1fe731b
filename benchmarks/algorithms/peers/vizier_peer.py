# SPDX-License-Identifier: Apache-2.0
"""Google Vizier's default, the Gaussian-process bandit GP-UCB-PE on JAX. Run by `efficiency`."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Any

from speak import Axis, Point, Start, serve

JAX: Any = import_module("jax")
VZ: Any = import_module("vizier.pyvizier")
CORE: Any = import_module("vizier.algorithms")
BANDIT: Any = import_module("vizier._src.algorithms.designers.gp_ucb_pe")


class VizierSearch:
    """Doubles, as Vizier's own service computes with; with JAX's floats some answers are NaN."""

    def __init__(self, start: Start) -> None:
        problem = VZ.ProblemStatement()
        for axis in start.space:
            _add(problem.search_space.root, axis)
        goal = VZ.ObjectiveMetricGoal.MINIMIZE
        problem.metric_information.append(VZ.MetricInformation(name="loss", goal=goal))
        self._designer = BANDIT.VizierGPUCBPEBandit(problem, rng=JAX.random.PRNGKey(start.seed))
        self._axes = start.space
        self._told = 0
        self._asked: list[Any] = []

    def ask(self, count: int) -> list[Point]:
        suggested = self._designer.suggest(count)
        self._asked = [s.to_trial(self._told + i + 1) for i, s in enumerate(suggested)]
        return [
            {a.name: a.plain(trial.parameters.get_value(a.name)) for a in self._axes}
            for trial in self._asked
        ]

    def tell(self, points: Sequence[Point], losses: Sequence[float]) -> None:
        for trial, loss in zip(self._asked, losses, strict=True):
            trial.complete(VZ.Measurement(metrics={"loss": loss}))
        self._told += len(self._asked)
        self._designer.update(CORE.CompletedTrials(self._asked), CORE.ActiveTrials([]))


def _add(root: Any, axis: Axis) -> None:
    scale = VZ.ScaleType.LOG if axis.log else VZ.ScaleType.LINEAR
    if axis.kind == "choice":
        root.add_categorical_param(axis.name, list(axis.choices))
    elif axis.kind == "int":
        root.add_int_param(axis.name, int(axis.low), int(axis.high), scale_type=scale)
    else:
        root.add_float_param(axis.name, axis.low, axis.high, scale_type=scale)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    JAX.config.update("jax_enable_x64", True)
    serve(version("google-vizier"), VizierSearch)
