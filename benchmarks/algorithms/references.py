# SPDX-License-Identifier: Apache-2.0
"""Writes references.json: the optimum of every instance and the median loss of random points.

    .venv/bin/python benchmarks/algorithms/references.py [--problems NAME ...]

- BBOB: the optimum is ioh's. bbob-mixint: COCO exposes no value; the best point it was built with
  is read from the file that its private `_best_parameter` writes, and evaluated.
- Tables: the smallest loss of each recorded run; the median is that of the whole table.
- Real trainings: nobody knows the optimum. The constant is the best of 2,000 evaluations a split:
  600 random ones, then perturbations of the best twenty with shrinking steps. A search that finds
  better has regret 0 there.

The other medians are of 1,000 random points on each of ten instances (300 where trainings are
real). Run by hand, before and independent of any comparison; about ten minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from problems import (
    REFERENCES,
    TABLES,
    BenchProblem,
    bbob_function,
    mixint_function,
    problems,
    recorded,
)

from tunesmith_suggestion.coordinates import Coordinates
from tunesmith_suggestion.space import compile_space

_SEED: Final = 20261123
_INSTANCES: Final = 10
_RANDOM: Final = 600
_SEARCHED: Final = 1400
_KEPT: Final = 20


def reference(problem: BenchProblem) -> dict[str, Any]:
    """Optima by instance and the median of losses shifted to the optimum of instance 0."""
    if problem.name in TABLES:
        return _of_table(problem.name)
    if problem.family == "real":
        optima = [_searched(problem, i) for i in range(problem.instances.count)]
        median = _median(problem, optima, 300)
        return {"source": "best of 2000 evaluations a split", "optima": optima, "median": median}
    _, number, dimension = problem.name.split("-")
    function = int(number[1:])
    count = problem.instances.count
    if problem.family == "mixint":
        optima = [_mixint_optimum(problem, function, i) for i in range(count)]
        source = "COCO's best parameter"
    else:
        size = int(dimension[1:])
        optima = [float(bbob_function(function, size, i).optimum.y) for i in range(count)]
        source = "ioh"
    return {"source": source, "optima": optima, "median": _median(problem, optima, 1000)}


def _of_table(name: str) -> dict[str, Any]:
    columns = list(zip(*recorded(name).values(), strict=True))
    optima = [min(column) for column in columns]
    shifted = [x - o + optima[0] for column, o in zip(columns, optima, strict=True) for x in column]
    return {"source": "whole table", "optima": optima, "median": statistics.median(shifted)}


def _median(problem: BenchProblem, optima: list[float], points: int) -> float:
    chance = np.random.default_rng(_SEED)
    space = compile_space(problem.space)
    instances = range(min(len(optima), _INSTANCES))
    return statistics.median(
        problem.instances.loss(space.draw(chance), i) - optima[i] + optima[0]
        for i in instances
        for _ in range(points)
    )


def _mixint_optimum(problem: BenchProblem, function: int, instance: int) -> float:
    """COCO's best parameters have a few digits only, which is exact for these functions."""
    with _own_folder() as folder:
        mixint_function(function, instance)._best_parameter("print")
        (written,) = folder.iterdir()
        best = [float(x) for x in written.read_text().split()]
    values = {p.name: x for p, x in zip(problem.space, best, strict=True)}
    return problem.instances.loss(values, instance)


@contextmanager
def _own_folder() -> Iterator[Path]:
    """The current folder, which COCO writes to, is a temporary one meanwhile."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(before)


def _searched(problem: BenchProblem, instance: int) -> float:
    """The best loss of a long search: random points, then perturbations of the best ones."""
    chance = np.random.default_rng([_SEED, instance])
    coordinates = Coordinates(compile_space(problem.space))
    counts = np.array([axis.count or 1 for axis in coordinates.axes], dtype=float)
    widths = np.where(coordinates.is_choice, counts, 1.0)

    def loss(row: Any) -> float:
        return problem.instances.loss(coordinates.point(row), instance)

    rows = chance.random((_RANDOM, len(widths))) * widths
    found = sorted((loss(row), tuple(row)) for row in rows)[:_KEPT]
    for i in range(_SEARCHED):
        step = 0.2 * 0.01 ** (i / _SEARCHED)
        parent = np.array(found[chance.integers(len(found))][1])
        row = np.clip(parent + step * chance.standard_normal(len(widths)), 0, widths * (1 - 1e-9))
        drawn = (chance.random(len(widths)) < 0.1) & coordinates.is_choice
        row = np.where(drawn, chance.random(len(widths)) * widths, row)
        found = sorted([*found, (loss(row), tuple(row))])[:_KEPT]
    return found[0][0]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--problems", nargs="+", default=list(problems()))
    options = parser.parse_args()
    known = json.loads(REFERENCES.read_text()) if REFERENCES.exists() else {}
    for name in options.problems:
        known[name] = reference(problems()[name])
        print(f"{name:28} {known[name]['median'] - known[name]['optima'][0]:.6g}", flush=True)
    ordered = {name: known[name] for name in problems() if name in known}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(ordered[name])}" for name in ordered)
    REFERENCES.write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main()
