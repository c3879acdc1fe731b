# SPDX-License-Identifier: Apache-2.0
"""tpe beside Optuna's and beside random: the best loss after a budget, and the CPU it took.

    .venv/bin/python benchmarks/tpe_against_optuna.py [--seeds 10] [--trials 60] [--json]

All sides run in one process, one trial at a time, on the same functions and seeds. Printed are
medians over seeds and their ratio to Optuna's (below 1: better than Optuna).
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
from tunesmith_suggestion.algorithms.random import RandomSearch
from tunesmith_suggestion.algorithms.tpe import Tpe
from tunesmith_suggestion.protocol import Algorithm

Loss = Callable[[Mapping[str, Value]], float]


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


def ours(algorithm: Algorithm, function: Function, seed: int, trials: int) -> float:
    """The best loss of one search, told one trial at a time."""
    problem = Problem(
        experiment_uid="benchmark",
        experiment_name="benchmark",
        algorithm=algorithm.name,
        settings={},
        space=function.space,
        objectives=(Objective("loss", Direction.MINIMIZE),),
        seed=seed,
    )
    outcomes: list[Outcome] = []
    for ordinal in range(trials):
        history = History(tuple(outcomes))
        proposal = algorithm.suggest(problem, history, range(ordinal, ordinal + 1), "")
        if not isinstance(proposal, Proposal):
            raise TypeError(f"{algorithm.name} ended the search: {proposal.reason}")
        point = proposal.assignments[0]
        values = {"loss": function.loss(point)}
        outcomes.append(Outcome(ordinal, point, OutcomeState.SUCCEEDED, values))
    return min(outcome.values["loss"] for outcome in outcomes)


def optunas(function: Function, seed: int, trials: int) -> float:
    """The same with Optuna's default sampler."""
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))

    def objective(trial: optuna.Trial) -> float:
        return function.loss({p.name: _ask(trial, p) for p in function.space})

    study.optimize(objective, n_trials=trials)
    return float(study.best_value)


def _ask(trial: optuna.Trial, parameter: object) -> Value:
    match parameter:
        case IntParameter(name, low, high, step):
            return trial.suggest_int(name, low, high, step=step)
        case DoubleParameter(name, low, high, _, spread):
            return trial.suggest_float(name, low, high, log=spread.is_log)
        case ListParameter(name, choices):
            return str(trial.suggest_categorical(name, choices))
    raise TypeError(f"{parameter!r} is no parameter")


def measured(search: Callable[[int], float], seeds: int) -> tuple[float, float]:
    """Median best loss, and CPU seconds of all seeds."""
    started = time.process_time()
    best = statistics.median(search(seed) for seed in range(seeds))
    return best, time.process_time() - started


def compare(function: Function, seeds: int, trials: int) -> dict[str, float | str]:
    random, _ = measured(lambda s: ours(RandomSearch(), function, s, trials), seeds)
    tpe, tpe_cpu = measured(lambda s: ours(Tpe(), function, s, trials), seeds)
    peer, peer_cpu = measured(lambda s: optunas(function, s, trials), seeds)
    return {
        "function": function.name,
        "random": random,
        "tpe": tpe,
        "optuna": peer,
        "loss ratio": tpe / peer,
        "CPU ratio": tpe_cpu / peer_cpu,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore")
    for function in FUNCTIONS:
        row = compare(function, options.seeds, options.trials)
        if options.json:
            print(json.dumps(row))
        else:
            cells = "  ".join(f"{k} {v:.3g}" for k, v in row.items() if isinstance(v, float))
            print(f"{function.name:38} {cells}", flush=True)


if __name__ == "__main__":
    main()
