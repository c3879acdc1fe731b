# SPDX-License-Identifier: Apache-2.0
"""HEBO (Cowen-Rivers et al., JAIR 74, 2022) with its defaults. Run by `efficiency`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Any

import numpy as np
from speak import Axis, Point, Start, serve

TORCH: Any = import_module("torch")
DESIGN: Any = import_module("hebo.design_space.design_space")
HEBO: Any = import_module("hebo.optimizers.hebo")


class HeboSearch:
    def __init__(self, start: Start) -> None:
        np.random.seed(start.seed)
        TORCH.manual_seed(start.seed)
        space = DESIGN.DesignSpace().parse([_parameter(axis) for axis in start.space])
        self._optimizer = HEBO.HEBO(space, scramble_seed=start.seed)
        self._axes = start.space
        self._asked: Any = None

    def ask(self, count: int) -> list[Point]:
        self._asked = self._optimizer.suggest(n_suggestions=count)
        rows = self._asked.to_dict("records")
        return [{a.name: a.plain(row[a.name]) for a in self._axes} for row in rows]

    def tell(self, points: Sequence[Point], losses: Sequence[float]) -> None:
        self._optimizer.observe(self._asked, np.array(losses).reshape(-1, 1))


def _parameter(axis: Axis) -> dict[str, Any]:
    if axis.kind == "choice":
        return {"name": axis.name, "type": "cat", "categories": list(axis.choices)}
    kind = {("int", False): "int", ("int", True): "pow_int", ("double", False): "num"}
    bounds = {"name": axis.name, "lb": axis.low, "ub": axis.high}
    if axis.kind == "int":
        bounds |= {"lb": int(axis.low), "ub": int(axis.high)}
    found = kind.get((axis.kind, axis.log), "pow")
    return {**bounds, "type": found, **({"base": 10} if axis.log else {})}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    serve(version("HEBO"), HeboSearch)
