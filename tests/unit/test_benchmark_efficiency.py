# SPDX-License-Identifier: Apache-2.0
"""The sample-efficiency benchmark: runs resume, failures are kept apart, the report is right."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks" / "algorithms"
sys.path.insert(0, str(FOLDER))
try:
    EFFICIENCY: Any = import_module("efficiency")
    METHODS: Any = import_module("methods")
    PLOT: Any = import_module("plot")
    REPORT: Any = import_module("report")
    RUNS: Any = import_module("runs")
finally:
    sys.path.remove(str(FOLDER))
PROBLEMS = ("bbob-f1-d5", "bbob-f2-d5", "bbob-f3-d5", "bbob-f7-d5", "bbob-f12-d5", "bbob-f13-d5")


def run(method: str, problem: str, seed: int, regret: float, mode: str = "sequential") -> Any:
    """A run that starts at 1 and reaches its regret with evaluation 21."""
    improvements = ((1, 1.0), (21, regret))
    return RUNS.Run(method, "1", mode, problem, seed, improvements, {"60": regret}, 0.5)


def options(folder: Path, *more: str) -> Any:
    chosen = ["--methods", "random", "--problems", "bbob-f1-d5", "--seeds", "2"]
    return EFFICIENCY.parse([*chosen, "--modes", "parallel8", "--results", str(folder), *more])


def test_runs_that_a_file_has_are_kept_and_fresh_ones_are_the_same(tmp_path: Path) -> None:
    pytest.importorskip("ioh")
    methods, path = [METHODS.METHODS["random"]], tmp_path / "random.jsonl"
    EFFICIENCY.measure(methods, tmp_path, options(tmp_path))
    first = RUNS.read_runs(path)
    assert [(r.mode, r.seed, r.error) for r in first] == [
        ("parallel8", 0, ""),
        ("parallel8", 1, ""),
    ]
    path.write_text(path.read_text().splitlines()[1] + "\n")
    EFFICIENCY.measure(methods, tmp_path, options(tmp_path))
    assert [r.seed for r in RUNS.read_runs(path)] == [1, 0]
    EFFICIENCY.measure(methods, tmp_path, options(tmp_path, "--fresh"))
    again = RUNS.read_runs(path)
    assert [r.curve() for r in again] == [r.curve() for r in first]
    assert 0 < again[0].curve()[-1] < again[0].curve()[0] <= 1


def test_results_of_another_version_of_ours_are_run_again(tmp_path: Path) -> None:
    pytest.importorskip("ioh")
    methods, path = [METHODS.METHODS["random"]], tmp_path / "random.jsonl"
    EFFICIENCY.measure(methods, tmp_path, options(tmp_path))
    path.write_text(path.read_text().replace('"version": "', '"version": "older-'))
    EFFICIENCY.measure(methods, tmp_path, options(tmp_path))
    assert [r.version.startswith("older") for r in RUNS.read_runs(path)] == [False, False]


def test_a_method_that_fails_leaves_an_error_and_no_regrets(tmp_path: Path) -> None:
    pytest.importorskip("ioh")
    broken = METHODS.Method("random", ("ours_peer.py", "no-such-algorithm"))
    EFFICIENCY.measure([broken], tmp_path, options(tmp_path, "--seeds", "1"))
    (failed,) = RUNS.read_runs(tmp_path / "random.jsonl")
    assert "process ended with 1" in failed.error
    assert "unknown algorithm 'no-such-algorithm'" in failed.error
    assert REPORT.report([failed]).errors == {"random": 1}
    assert REPORT.report([failed]).tables == ()


def test_ranks_share_ties_and_problems_count_alike() -> None:
    runs = [run("auto", name, 0, 0.1) for name in PROBLEMS]
    runs += [run("optuna-gp", name, 0, 0.1) for name in PROBLEMS[:3]]
    runs += [run("optuna-gp", name, 0, 0.4) for name in PROBLEMS[3:]]
    (table,) = REPORT.report(runs).tables
    assert [line.method for line in table.lines] == ["auto", "optuna-gp"]
    assert [line.rank[60] for line in table.lines] == [pytest.approx(1.25), pytest.approx(1.75)]
    assert [line.rank[20] for line in table.lines] == [1.5, 1.5]
    assert table.lines[1].regret == {20: 1.0, 40: pytest.approx(0.25), 60: pytest.approx(0.25)}
    assert table.runs == 6


def test_a_small_difference_is_called_a_tie_and_a_steady_one_is_not() -> None:
    runs = [run("auto", name, 0, 0.1) for name in PROBLEMS]
    mixed = [run("tpe", name, 0, 0.1 + (-1) ** i * 0.01) for i, name in enumerate(PROBLEMS)]
    steady = [run("tpe", name, 0, 0.2 + i / 100) for i, name in enumerate(PROBLEMS)]
    (close,), (far,) = (REPORT.report(runs + other).tables for other in (mixed, steady))
    assert close.leader[-1].verdict == "a tie"
    assert far.leader[-1].verdict == "auto is better"
    assert far.leader[0].verdict == "a tie"  # after 20 evaluations all were alike


def test_methods_are_compared_on_what_all_have_and_unfinished_ones_are_named() -> None:
    runs = [run("auto", name, seed, 0.1) for name in PROBLEMS for seed in range(2)]
    runs += [run("tpe", name, seed, 0.2) for name in PROBLEMS for seed in range(2)][1:]
    runs += [run("cmaes", PROBLEMS[0], 0, 0.2)]
    found = REPORT.report(runs)
    assert found.tables[0].runs == 11
    assert found.tables[0].incomplete == {"cmaes": 1}
    assert "unfinished: cmaes (1 runs)" in REPORT.text(found)
    assert PLOT.svg(found).startswith("<svg")


def test_batches_are_compared_with_single_points_at_equal_evaluations() -> None:
    runs = [run("auto", name, 0, 0.1) for name in PROBLEMS]
    runs += [run("auto", name, 0, 0.15, "parallel8") for name in PROBLEMS]
    assert REPORT.report(runs).parallel == {"auto": pytest.approx(1.5)}
