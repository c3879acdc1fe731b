# SPDX-License-Identifier: Apache-2.0
"""multivariate-tpe beside Optuna's: CPU a suggestion and a batch, and the best loss of a search.

    .venv/bin/python benchmarks/tpe_against_optuna.py [--quick] [--json]

Both sides run in one process on the same histories, functions and seeds. Speed: ten mixed
parameters; a suggestion is told one more finished trial each time, as in a search; the points of a
batch count as running for the next ones. Losses: one trial at a time, medians over seeds. Ratios
are ours to Optuna's (below 1: better). `benchmarks/algorithms` compares on many more problems.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import optuna

from tunesmith_api.problem import (
    Direction,
    History,
    Objective,
    Outcome,
    OutcomeState,
    Problem,
    Proposal,
)
from tunesmith_api.search_space import (
    Distribution,
    DoubleParameter,
    IntParameter,
    ListParameter,
    SearchSpace,
    Value,
)
from tunesmith_suggestion.algorithms.multivariate_tpe import MultivariateTpe
from tunesmith_suggestion.chance import generator
from tunesmith_suggestion.protocol import Algorithm
from tunesmith_suggestion.space import compile_space

Loss = Callable[[Mapping[str, Value]], float]
Row = dict[str, float | str]

SUGGESTIONS = 20
BATCH = 64


@dataclass(frozen=True)
class Function:
    name: str
    space: SearchSpace
    loss: Loss


def _box(low: float, high: float, dimensions: int = 4) -> SearchSpace:
    return SearchSpace(tuple(DoubleParameter(f"x{i}", low, high) for i in range(dimensions)))


def _xs(point: Mapping[str, Value]) -> list[float]:
    return [float(value) for value in point.values()]


def sphere(point: Mapping[str, Value]) -> float:
    return sum((x - 1) ** 2 for x in _xs(point))


def rosenbrock(point: Mapping[str, Value]) -> float:
    xs = _xs(point)
    return sum(100 * (b - a**2) ** 2 + (1 - a) ** 2 for a, b in itertools.pairwise(xs))


def ackley(point: Mapping[str, Value]) -> float:
    xs = [x - 0.7 for x in _xs(point)]
    square = sum(x * x for x in xs) / len(xs)
    waves = sum(math.cos(2 * math.pi * x) for x in xs) / len(xs)
    return -20 * math.exp(-0.2 * math.sqrt(square)) - math.exp(waves) + 20 + math.e


def mixed(point: Mapping[str, Value]) -> float:
    rate = math.log10(float(point["lr"])) + 2.5
    return (
        rate**2
        + ((int(point["n"]) - 40) / 64) ** 2
        + {"a": 0.3, "b": 0.0, "c": 0.6}[str(point["kind"])]
        + (float(point["drop"]) - 0.3) ** 2
    )


FUNCTIONS = (
    Function("sphere, 4 dimensions", _box(-4, 4), sphere),
    Function("Rosenbrock, 4 dimensions", _box(-2, 2), rosenbrock),
    Function("Ackley, 4 dimensions", _box(-5, 5), ackley),
    Function(
        "mixed: log, int, categorical, double",
        SearchSpace(
            (
                DoubleParameter("lr", 1e-5, 1e-1, distribution=Distribution.LOG_UNIFORM),
                IntParameter("n", 8, 128, 8),
                ListParameter("kind", ("a", "b", "c")),
                DoubleParameter("drop", 0.0, 0.9),
            )
        ),
        mixed,
    ),
)

TEN = SearchSpace(
    (
        *(DoubleParameter(f"x{i}", -5.0, 5.0) for i in range(4)),
        DoubleParameter("lr", 1e-5, 1e-1, distribution=Distribution.LOG_UNIFORM),
        DoubleParameter("decay", 1e-8, 1e-2, distribution=Distribution.LOG_UNIFORM),
        IntParameter("layers", 1, 10),
        IntParameter("width", 16, 512),
        ListParameter("kind", ("a", "b", "c", "d")),
        ListParameter("optimizer", ("sgd", "adam", "rmsprop")),
    )
)


def _problem(algorithm: Algorithm, space: SearchSpace, seed: int) -> Problem:
    objectives = (Objective("loss", Direction.MINIMIZE),)
    return Problem("benchmark", "benchmark", algorithm.name, {}, space, objectives, seed)


def _suggested(
    algorithm: Algorithm, problem: Problem, outcomes: tuple[Outcome, ...], count: int
) -> tuple[Mapping[str, Value], ...]:
    first = len(outcomes)
    found = algorithm.suggest(problem, History(outcomes), range(first, first + count), "")
    if not isinstance(found, Proposal):
        raise TypeError(f"{algorithm.name} ended the search: {found.reason}")
    return found.assignments


# Losses -----------------------------------------------------------------------------------------


def our_best(function: Function, seed: int, trials: int) -> float:
    """The best loss of one search, told one trial at a time."""
    algorithm = MultivariateTpe()
    problem = _problem(algorithm, function.space, seed)
    told: tuple[Outcome, ...] = ()
    for ordinal in range(trials):
        (point,) = _suggested(algorithm, problem, told, 1)
        values = {"loss": function.loss(point)}
        told += (Outcome(ordinal, point, OutcomeState.SUCCEEDED, values),)
    return min(outcome.values["loss"] for outcome in told)


def optunas_best(function: Function, seed: int, trials: int) -> float:
    """The same with Optuna's multivariate sampler."""
    study = optuna.create_study(sampler=_sampler(seed))
    distributions = _distributions(function.space)
    for _ in range(trials):
        trial = study.ask(distributions)
        study.tell(trial, function.loss(trial.params))
    return float(study.best_value)


def _sampler(seed: int) -> optuna.samplers.TPESampler:
    return optuna.samplers.TPESampler(seed=seed, multivariate=True)


def _distributions(space: SearchSpace) -> dict[str, optuna.distributions.BaseDistribution]:
    return {parameter.name: _distribution(parameter) for parameter in space}


def _distribution(parameter: object) -> optuna.distributions.BaseDistribution:
    match parameter:
        case IntParameter(_, low, high, step):
            return optuna.distributions.IntDistribution(low, high, step=step)
        case DoubleParameter(_, low, high, _, spread):
            return optuna.distributions.FloatDistribution(low, high, log=spread.is_log)
        case ListParameter(_, choices):
            return optuna.distributions.CategoricalDistribution(choices)
    raise TypeError(f"{parameter!r} is no parameter")


def compare_losses(function: Function, seeds: int, trials: int) -> Row:
    ours = statistics.median(our_best(function, seed, trials) for seed in range(seeds))
    peers = statistics.median(optunas_best(function, seed, trials) for seed in range(seeds))
    row: Row = {"what": f"best loss: {function.name}", "ours": ours, "optuna": peers}
    return row | {"ratio": ours / peers}


# Speed ------------------------------------------------------------------------------------------


def _history(count: int) -> tuple[Outcome, ...]:
    """Random points with random losses."""
    compiled = compile_space(TEN)
    chance = generator("benchmark", "1", 0, 0)
    return tuple(
        Outcome(k, compiled.draw(chance), OutcomeState.SUCCEEDED, {"loss": float(chance.random())})
        for k in range(count)
    )


def our_times(told: int) -> tuple[float, float]:
    """CPU seconds of a suggestion after one more trial, and of a batch."""
    algorithm, history = MultivariateTpe(), _history(told + SUGGESTIONS + 1)
    problem = _problem(algorithm, TEN, 1)
    _suggested(algorithm, problem, history[:told], 1)
    began = time.process_time()
    for k in range(told + 1, told + 1 + SUGGESTIONS):
        _suggested(algorithm, problem, history[:k], 1)
    single = (time.process_time() - began) / SUGGESTIONS
    began = time.process_time()
    batch = _suggested(algorithm, problem, history, BATCH)
    took = time.process_time() - began
    if len({str(point) for point in batch}) != BATCH:
        raise AssertionError("points of a batch are equal")
    return single, took


def optunas_times(told: int) -> tuple[float, float]:
    study, distributions = optuna.create_study(sampler=_sampler(1)), _distributions(TEN)
    history = _history(told + SUGGESTIONS + 1)
    frozen = [
        optuna.trial.create_trial(
            params=dict(o.parameters), distributions=distributions, value=o.values["loss"]
        )
        for o in history
    ]
    study.add_trials(frozen[: told + 1])
    study.tell(study.ask(distributions), 0.5)
    began = time.process_time()
    for outcome in history[:SUGGESTIONS]:
        study.tell(study.ask(distributions), outcome.values["loss"])
    single = (time.process_time() - began) / SUGGESTIONS
    began = time.process_time()
    for _ in range(BATCH):
        study.ask(distributions)
    return single, time.process_time() - began


def compare_speed(told: int) -> list[Row]:
    rows: list[Row] = []
    for what, ours, peers in zip(
        ("a suggestion", f"a batch of {BATCH}"), our_times(told), optunas_times(told), strict=True
    ):
        name = f"CPU ms: {what} after {told} trials"
        rows.append(
            {"what": name, "ours": ours * 1e3, "optuna": peers * 1e3, "ratio": ours / peers}
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--quick", action="store_true", help="3 seeds, at most 1,000 trials told")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore")
    sizes = (100, 1000) if options.quick else (100, 1000, 10_000)
    speeds = itertools.chain.from_iterable(map(compare_speed, sizes))
    seeds = 3 if options.quick else options.seeds
    losses = (compare_losses(function, seeds, options.trials) for function in FUNCTIONS)
    for row in itertools.chain(speeds, losses):
        if options.json:
            print(json.dumps(row), flush=True)
        else:
            cells = "  ".join(f"{k} {v:.3g}" for k, v in row.items() if isinstance(v, float))
            print(f"{row['what']:48} {cells}", flush=True)


if __name__ == "__main__":
    main()
