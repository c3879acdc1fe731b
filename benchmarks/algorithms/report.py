# SPDX-License-Identifier: Apache-2.0
"""What the runs say: regrets, ranks, tests, as data and as text. Called by `efficiency`.

Methods are compared on the runs (problem, seed) that all of them have; a run that ended in an
error is had by nobody, and a method that lacks more than a tenth of the runs is left out.
Regrets are means over problems of means over seeds; ranks are within one (problem, seed), ties
sharing the mean of their places, then averaged over all runs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any, Final

from methods import FEW_PROBLEMS, FEW_SEEDS, MARKS, METHODS, TRIALS, Mode
from problems import problems
from runs import Run
from scipy.stats import rankdata, wilcoxon

_TIE: Final = 0.05
"""A difference that chance explains with at least this probability is a tie."""
_ENOUGH: Final = 0.9
"""Of the runs of the method that has most."""
_YARDSTICKS: Final = (
    ("multivariate-tpe", "optuna-multivariate-tpe"),
    ("tpe", "optuna-tpe"),
    ("cmaes", "optuna-cmaes"),
    ("bayesianoptimization", "optuna-gp"),
    ("auto", "optuna-gp"),
)
Where = tuple[str, int]
"""A problem's name and a seed."""
Found = Mapping[str, Mapping[Where, Run]]
"""Runs of one mode by method."""


@dataclass(frozen=True, slots=True)
class Line:
    """A method's line of a table; `cpu` is seconds a run."""

    method: str
    regret: Mapping[int, float]
    rank: Mapping[int, float]
    cpu: float


@dataclass(frozen=True, slots=True)
class Test:
    """A paired comparison of two methods after `mark` evaluations; `ratio` of mean regrets."""

    one: str
    other: str
    mark: int
    ratio: float
    better_problems: int
    problems: int
    p: float

    @property
    def verdict(self) -> str:
        if self.p >= _TIE:
            return "a tie"
        return f"{self.one if self.ratio < 1 else self.other} is better"


@dataclass(frozen=True, slots=True)
class Table:
    """All methods that have runs in one mode, best rank at the last mark first."""

    title: str
    runs: int
    problems: int
    lines: tuple[Line, ...]
    families: Mapping[str, Mapping[str, float]]
    curves: Mapping[str, Sequence[float]]
    leader: tuple[Test, ...] = ()
    yardsticks: tuple[Test, ...] = ()
    incomplete: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Report:
    tables: tuple[Table, ...]
    parallel: Mapping[str, float]
    errors: Mapping[str, int]

    def as_json(self) -> dict[str, Any]:
        found: dict[str, Any] = asdict(self)
        for table, shown in zip(self.tables, found["tables"], strict=True):
            for kind in ("leader", "yardsticks"):
                for test, row in zip(getattr(table, kind), shown[kind], strict=True):
                    row["verdict"] = test.verdict
        return found


def report(runs: Iterable[Run]) -> Report:
    """Two tables a mode: the methods that ran everything, and all on the few problems."""
    runs = list(runs)
    good = [run for run in runs if not run.error]
    tables = []
    for mode in Mode:
        found = _by_method(run for run in good if run.mode == mode.value)
        wide = {name: own for name, own in found.items() if not METHODS[name].few}
        tables.append(_table(f"{mode.value}, all problems", wide))
        if len(wide) < len(found):
            few = {name: _few(own) for name, own in found.items()}
            tables.append(_table(f"{mode.value}, {len(FEW_PROBLEMS)} problems", few))
    errors: dict[str, int] = defaultdict(int)
    for run in runs:
        errors[run.method] += bool(run.error)
    return Report(
        tuple(table for table in tables if table.runs),
        _parallel(good),
        {name: count for name, count in errors.items() if count},
    )


def _by_method(runs: Iterable[Run]) -> dict[str, dict[Where, Run]]:
    found: dict[str, dict[Where, Run]] = defaultdict(dict)
    for run in runs:
        found[run.method][run.problem, run.seed] = run
    return {name: found[name] for name in METHODS if name in found}


def _few(runs: Mapping[Where, Run]) -> dict[Where, Run]:
    wanted = {(problem, seed) for problem in FEW_PROBLEMS for seed in range(FEW_SEEDS)}
    return {where: run for where, run in runs.items() if where in wanted}


def _table(title: str, all_found: Found) -> Table:
    most = max((len(own) for own in all_found.values()), default=0)
    found = {name: own for name, own in all_found.items() if len(own) >= _ENOUGH * most > 0}
    incomplete = {name: len(own) for name, own in all_found.items() if name not in found}
    shared = sorted(set.intersection(*(set(own) for own in found.values()))) if found else []
    if not shared:
        return Table(title, 0, 0, (), {}, {}, incomplete=incomplete)
    curves = {n: {w: own[w].curve() for w in shared} for n, own in found.items()}
    at = {mark: {n: _at(mark, curves[n]) for n in found} for mark in MARKS}
    ranks = {mark: _ranks(at[mark]) for mark in MARKS}
    lines = [_line(name, at, ranks, [found[name][w].cpu for w in shared]) for name in found]
    lines.sort(key=lambda line: line.rank[MARKS[-1]])
    last = at[MARKS[-1]]
    return Table(
        title,
        len(shared),
        len({problem for problem, _ in shared}),
        tuple(lines),
        {line.method: _families(last[line.method]) for line in lines},
        {name: _mean_curve(own) for name, own in curves.items()},
        _leaders(at, ranks),
        tuple(_test(a, b, MARKS[-1], last) for a, b in _YARDSTICKS if {a, b} <= found.keys()),
        incomplete,
    )


def _line(
    name: str,
    at: Mapping[int, Mapping[str, Mapping[Where, float]]],
    ranks: Mapping[int, Mapping[str, float]],
    cpu: Sequence[float],
) -> Line:
    regret = {mark: _mean(at[mark][name]) for mark in MARKS}
    return Line(name, regret, {mark: ranks[mark][name] for mark in MARKS}, fmean(cpu))


def _mean_curve(curves: Mapping[Where, Sequence[float]]) -> list[float]:
    return [_mean({w: curve[i] for w, curve in curves.items()}) for i in range(TRIALS)]


def _at(mark: int, curves: Mapping[Where, Sequence[float]]) -> dict[Where, float]:
    return {where: curve[mark - 1] for where, curve in curves.items()}


def _mean(regrets: Mapping[Where, float]) -> float:
    """Every problem counts the same, however many seeds it has."""
    return fmean(_by_problem(regrets).values())


def _by_problem(regrets: Mapping[Where, float]) -> dict[str, float]:
    found: dict[str, list[float]] = defaultdict(list)
    for (problem, _), regret in regrets.items():
        found[problem].append(regret)
    return {problem: fmean(own) for problem, own in found.items()}


def _families(regrets: Mapping[Where, float]) -> dict[str, float]:
    means = _by_problem(regrets)
    found: dict[str, list[float]] = defaultdict(list)
    for name, problem in problems().items():
        if name in means:
            found[problem.family].append(means[name])
    return {family: fmean(own) for family, own in found.items()}


def _ranks(regrets: Mapping[str, Mapping[Where, float]]) -> dict[str, float]:
    names = list(regrets)
    shared = list(regrets[names[0]])
    places = [rankdata([regrets[name][where] for name in names]) for where in shared]
    return {name: fmean(float(row[i]) for row in places) for i, name in enumerate(names)}


def _leaders(
    at: Mapping[int, Mapping[str, Mapping[Where, float]]], ranks: Mapping[int, Mapping[str, float]]
) -> tuple[Test, ...]:
    """`auto` against the best other one by mean rank, at every mark."""
    if "auto" not in ranks[MARKS[0]] or len(ranks[MARKS[0]]) < 2:
        return ()
    tests = []
    for mark in MARKS:
        others = [name for name in ranks[mark] if name != "auto"]
        second = min(others, key=lambda name: ranks[mark][name])
        tests.append(_test("auto", second, mark, at[mark]))
    return tuple(tests)


def _test(one: str, other: str, mark: int, at: Mapping[str, Mapping[Where, float]]) -> Test:
    """Wilcoxon's signed-rank test, two-sided, on the problems' mean regrets: the seeds of one
    problem are repetitions, not independent problems."""
    mine, theirs = _by_problem(at[one]), _by_problem(at[other])
    differences = [mine[problem] - theirs[problem] for problem in mine]
    p = float(wilcoxon(differences).pvalue) if any(differences) else 1.0
    better = sum(difference < 0 for difference in differences)
    ratio = fmean(mine.values()) / max(fmean(theirs.values()), 1e-12)
    return Test(one, other, mark, ratio, better, len(mine), p)


def _parallel(runs: Sequence[Run]) -> dict[str, float]:
    """Mean regret of batches over that of single points, at the last mark."""
    modes = [_by_method(run for run in runs if run.mode == mode.value) for mode in Mode]
    single, batches = modes
    found = {}
    for name in single.keys() & batches.keys():
        shared = single[name].keys() & batches[name].keys()
        if shared:
            mean = [_mean({w: m[name][w].curve()[-1] for w in shared}) for m in (batches, single)]
            found[name] = mean[0] / max(mean[1], 1e-12)
    return {name: found[name] for name in METHODS if name in found}


def text(found: Report) -> str:
    """For people."""
    parts = [_table_text(table) for table in found.tables]
    if found.parallel:
        shown = "  ".join(f"{name} {ratio:.2f}" for name, ratio in found.parallel.items())
        parts.append(f"regret at {MARKS[-1]}, batches of 8 / sequential:\n  {shown}")
    if found.errors:
        failed = ", ".join(f"{name} {count}" for name, count in found.errors.items())
        parts.append(f"runs that ended in an error: {failed}")
    return "\n\n".join(parts)


def _table_text(table: Table) -> str:
    marks = "".join(f"{f'@{mark}':>8}" for mark in MARKS)
    lines = [
        f"{table.title}, {table.runs} runs a method on {table.problems} problems",
        f"{'':24}{'mean regret':<24}{'mean rank':<24}{'CPU s':>9}",
        f"{'':22}{marks}{marks}{'a run':>11}",
    ]
    for line in table.lines:
        regrets = "".join(f"{line.regret[mark]:8.4f}" for mark in MARKS)
        ranks = "".join(f"{line.rank[mark]:8.2f}" for mark in MARKS)
        lines.append(f"{line.method:24}{regrets}{ranks}{line.cpu:9.3g}")
    families = list(next(iter(table.families.values()), {}))
    lines.append(f"{f'regret @{MARKS[-1]} by family':24}" + "".join(f"{f:>12}" for f in families))
    for name, own in table.families.items():
        lines.append(f"{name:24}" + "".join(f"{own[family]:12.4f}" for family in families))
    lines += [_test_text(test) for test in (*table.yardsticks, *table.leader)]
    if table.incomplete:
        shown = ", ".join(f"{name} ({count} runs)" for name, count in table.incomplete.items())
        lines.append(f"left out, unfinished: {shown}")
    return "\n".join(lines)


def _test_text(test: Test) -> str:
    return (
        f"{test.one} / {test.other} @{test.mark}: {test.ratio:.3f}, better on "
        f"{test.better_problems} of {test.problems} problems, Wilcoxon p = {test.p:.3g}: "
        f"{test.verdict}"
    )
