# SPDX-License-Identifier: Apache-2.0
"""scikit-optimize's Gaussian process with its defaults, which Katib's service runs.

Run by `efficiency`. Batches by its default strategy, the lie of the minimum.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from speak import Axis, Point, Start, serve

SKOPT: Any = import_module("skopt")
SPACE: Any = import_module("skopt.space")


class SkoptSearch:
    def __init__(self, start: Start) -> None:
        self._axes = start.space
        dimensions = [_dimension(axis) for axis in start.space]
        self._optimizer = SKOPT.Optimizer(dimensions, "GP", random_state=start.seed)
        self._asked: list[list[Any]] = []

    def ask(self, count: int) -> list[Point]:
        # Optimizer.ask() without a count remembers no lie, as sequential users call it.
        alone = count == 1
        self._asked = [self._optimizer.ask()] if alone else self._optimizer.ask(count)
        return [self._point(row) for row in self._asked]

    def _point(self, row: list[Any]) -> Point:
        return {axis.name: axis.plain(x) for axis, x in zip(self._axes, row, strict=True)}

    def tell(self, points: Sequence[Point], losses: Sequence[float]) -> None:
        if len(losses) == 1:
            self._optimizer.tell(self._asked[0], losses[0])
        else:
            self._optimizer.tell(self._asked, list(losses))


def _dimension(axis: Axis) -> Any:
    if axis.kind == "choice":
        return SPACE.Categorical(list(axis.choices))
    prior = "log-uniform" if axis.log else "uniform"
    if axis.kind == "int":
        return SPACE.Integer(int(axis.low), int(axis.high), prior=prior)
    return SPACE.Real(axis.low, axis.high, prior=prior)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    serve(SKOPT.__version__, SkoptSearch)
