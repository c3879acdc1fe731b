# SPDX-License-Identifier: Apache-2.0
"""What medianstop saves on real training curves, and whether it keeps the best trial.

    .venv/bin/python benchmarks/early_stopping.py [--seeds 10] [--json]

The experiment is examples/digits/medianstop.yaml: its space, algorithm, budget, parallelism, rule
and epochs. Every trial is trained to its end with the functions of examples/digits/train.py; then
the experiment is played twice, without stopping and with `LocalRules` asked at every report. Trials
that run side by side report in turn, an epoch each. Random search draws the same trials in both.

A stop takes effect at once here; a real one also costs what the trial does until its report is read
and its process has ended.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import re
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml

from tunesmith_api.problem import Direction, History, Problem, Proposal
from tunesmith_api.problems import problem_of
from tunesmith_api.resources import Experiment
from tunesmith_api.stopping import StopDecision, StopProblem
from tunesmith_controller.admission.local import admit
from tunesmith_earlystopping.core import LocalRules
from tunesmith_suggestion.registry import Registry

DIGITS: Final = Path(__file__).parents[1] / "examples" / "digits"
TARGET_SAVED: Final = 0.25
TARGET_KEPT: Final = 0.9

Curve = Sequence[float]


@dataclass(frozen=True)
class Setup:
    """The example, read. `fixed` are arguments of the program that are the same for all trials."""

    problem: Problem
    rule: StopProblem
    budget: int
    parallel: int
    fixed: Mapping[str, str]


@dataclass(frozen=True)
class Played:
    """An experiment's course: epochs that ran, and what became of which ordinals."""

    epochs: int
    finished: tuple[int, ...]
    stops: tuple[tuple[int, StopDecision], ...] = ()

    def best(self, curves: Sequence[Curve], direction: Direction) -> int:
        """The finished ordinal with the best last value, the example's strategy; ties go to the
        lowest."""
        sign = -1 if direction is Direction.MAXIMIZE else 1
        return min(self.finished, key=lambda ordinal: (sign * curves[ordinal][-1], ordinal))


@dataclass(frozen=True)
class SeedResult:
    seed: int
    epochs_without: int
    epochs_with: int
    stopped: int
    best_without: int
    best_with: int

    @property
    def saved(self) -> float:
        return 1 - self.epochs_with / self.epochs_without


# ---- the example --------------------------------------------------------------------------------


def read_setup(file: Path = DIGITS / "medianstop.yaml") -> Setup:
    """The example as the controller would take it."""
    experiment = Experiment.parse(admit(yaml.safe_load(file.read_text())))
    spec = experiment.spec
    assert spec.early_stopping is not None and spec.max_trial_count is not None  # noqa: S101
    problem = problem_of(experiment, "benchmark", seed=0)
    rule = StopProblem(
        spec.early_stopping.algorithm_name,
        problem.objective.metric,
        problem.objective.direction,
        {s.name: s.value for s in spec.early_stopping.algorithm_settings},
    )
    fixed = dict(re.findall(r"--([a-z-]+)=([^\s$\"']+)(?=[\"'\s])", file.read_text()))
    return Setup(problem, rule, spec.max_trial_count, problem.parallel, fixed)


def draw(setup: Setup, seed: int) -> list[dict[str, str]]:
    """The arguments of every trial of an experiment with this `random_state`."""
    problem = replace(setup.problem, settings={"random_state": str(seed)})
    ordinals = range(setup.budget)
    found = Registry().find(problem.algorithm).suggest(problem, History(), ordinals, "")
    assert isinstance(found, Proposal)  # noqa: S101
    texts = (problem.space.texts(values) for values in found.assignments)
    return [{**setup.fixed, **text} for text in texts]


@cache
def _training() -> Any:
    """examples/digits/train.py as a module, and its data."""
    spec = importlib.util.spec_from_file_location("digits_train", DIGITS / "train.py")
    assert spec is not None and spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module, module.split(*module.load_digits())


def train(arguments: Mapping[str, str]) -> list[float]:
    """The validation accuracy of every epoch, to the digits that train.py prints."""
    module, ((images, labels), validation, _) = _training()
    args = module.parser().parse_args([f"--{name}={text}" for name, text in arguments.items()])
    rng = np.random.default_rng(args.seed)
    network = module.Network(args.hidden, args.activation, rng)
    curve = []
    for _ in range(args.epochs):
        order = rng.permutation(len(images))
        for rows in np.split(order, range(args.batch_size, len(order), args.batch_size)):
            network.step(images[rows], labels[rows], args.lr, args.momentum)
        curve.append(float(f"{network.accuracy(*validation):.4f}"))
    return curve


# ---- the play -----------------------------------------------------------------------------------


def play(curves: Sequence[Curve], parallel: int, rule: StopProblem | None) -> Played:
    """Runs trials in ordinal order, `parallel` at a time, each reporting an epoch a round."""
    rules, waiting = LocalRules(), iter(range(len(curves)))
    running = dict.fromkeys(itertools.islice(waiting, parallel), 0)
    digests: list[Sequence[float]] = []
    finished: list[int] = []
    stops: list[tuple[int, StopDecision]] = []
    epochs = 0
    while running:
        for ordinal in list(running):
            running[ordinal] += 1
            epochs += 1
            curve = curves[ordinal][: running[ordinal]]
            verdict = StopDecision(False) if rule is None else rules.judge(rule, curve, digests)
            if len(curve) == len(curves[ordinal]):
                finished.append(ordinal)
                digests += [] if rule is None else [rules.digest(rule, curve)]
            elif verdict.stop:
                stops.append((ordinal, verdict))
            else:
                continue
            del running[ordinal]
            running.update(dict.fromkeys(itertools.islice(waiting, 1), 0))
    return Played(epochs, tuple(finished), tuple(stops))


def compare(setup: Setup, seed: int, curves: Sequence[Curve]) -> SeedResult:
    """The two plays of one seed."""
    without = play(curves, setup.parallel, None)
    with_rule = play(curves, setup.parallel, setup.rule)
    return SeedResult(
        seed,
        without.epochs,
        with_rule.epochs,
        len(with_rule.stops),
        without.best(curves, setup.rule.direction),
        with_rule.best(curves, setup.rule.direction),
    )


def results(setup: Setup, seeds: Iterable[int], processes: int) -> Iterator[SeedResult]:
    """One seed after the other, its trials trained in as many processes of one thread each, as in
    the example. They are spawned: the threads of a NumPy that is loaded stay as they are."""
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        for seed in seeds:
            yield compare(setup, seed, list(pool.map(train, draw(setup, seed))))


def summary(found: Sequence[SeedResult]) -> dict[str, Any]:
    kept = sum(result.best_with == result.best_without for result in found)
    saved = 1 - sum(r.epochs_with for r in found) / sum(r.epochs_without for r in found)
    return {
        "seeds": len(found),
        "epochs_saved": round(saved, 4),
        "epochs_saved_least": round(min(result.saved for result in found), 4),
        "stopped_per_experiment": statistics.mean(result.stopped for result in found),
        "best_trial_kept": kept,
        "meets_targets": saved >= TARGET_SAVED and kept >= TARGET_KEPT * len(found),
        "results": [asdict(result) for result in found],
    }


def main() -> int:
    """Exit status 1 when the targets are missed."""
    parser = argparse.ArgumentParser(description="Epochs saved by medianstop, best trial kept.")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", action="store_true", help="for machines")
    options = parser.parse_args()
    found = []
    for result in results(read_setup(), range(1, options.seeds + 1), options.processes):
        found.append(result)
        if not options.json:
            kept = "kept" if result.best_with == result.best_without else "lost"
            print(
                f"seed {result.seed:2}: {result.saved:5.1%} of {result.epochs_without} epochs "
                f"saved, {result.stopped} trials stopped, best trial {kept}",
                flush=True,
            )
    told = summary(found)
    if options.json:
        print(json.dumps(told))
    else:
        print(
            f"all: {told['epochs_saved']:.1%} saved (least {told['epochs_saved_least']:.1%}), "
            f"best trial kept in {told['best_trial_kept']} of {told['seeds']} seeds"
        )
    return 0 if told["meets_targets"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
