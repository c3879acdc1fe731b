# SPDX-License-Identifier: Apache-2.0
"""Sample efficiency: ours beside other people's optimisers, 60 evaluations on 30 problems.

    .venv/bin/python benchmarks/algorithms/efficiency.py [--quick] [--json] [--jobs 2]
        [--methods NAME ...] [--problems NAME ...] [--seeds N] [--modes sequential parallel8]
        [--peers] [--fresh] [--report-only] [--plot FILE]

Runs our algorithms and compares them with the committed results of the others (`results/`);
`--peers` runs the others too, each in a virtual environment of its own. Runs that a result file
has are kept; ours are run again where the algorithm's version changed, or all with `--fresh`.
`--quick`: six problems, three seeds, ours always anew in a temporary folder; minutes.
See README.md for what is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from environments import python_of
from methods import (
    BASELINES,
    FEW_PROBLEMS,
    FEW_SEEDS,
    METHODS,
    QUICK_PROBLEMS,
    SEEDS,
    Method,
    Mode,
)
from plot import svg
from problems import problems
from report import report, text
from runs import Run, Task, read_runs, run_all

from tunesmith_suggestion.registry import BUILT_IN, Registry

RESULTS: Final = Path(__file__).with_name("results")


def tasks(methods: Sequence[Method], options: argparse.Namespace) -> Iterator[Task]:
    """All runs of the methods that the options ask for, a method and mode at a time."""
    for method in methods:
        names = [n for n in options.problems if not method.few or n in FEW_PROBLEMS]
        seeds = min(options.seeds, FEW_SEEDS) if method.few else options.seeds
        for mode in options.modes:
            for seed in range(seeds):  # outside: what is there of an unfinished run is balanced
                for name in names:
                    yield Task(method, mode, problems()[name], seed)


def compared(options: argparse.Namespace) -> list[Method]:
    """The methods asked for; of ours those that there are."""
    found = []
    for name in options.methods:
        method = METHODS[name]
        if method.ours and name not in BUILT_IN:
            print(f"{name}: no such algorithm yet, left out", file=sys.stderr)
        else:
            found.append(method)
    return found


def prepared(methods: Sequence[Method]) -> list[Method]:
    """Those whose environments could be made; why another could not is on standard error."""
    found = []
    for method in methods:
        try:
            python_of(method.environment)
            found.append(method)
        except (subprocess.CalledProcessError, OSError) as error:
            print(f"{method.name}: cannot be installed, left out: {error}", file=sys.stderr)
    return found


def forget(methods: Sequence[Method], folder: Path, fresh: bool, wanted: Sequence[Task]) -> None:
    """Takes back results that count no longer: of other versions of ours, or wanted anew."""
    keys = {(task.method.name, *task.key) for task in wanted}
    for method in methods:
        path = folder / f"{method.name}.jsonl"
        before = read_runs(path)
        version = Registry().find(method.name).version if method.ours else None
        after = [
            run
            for run in before
            if not (fresh and (run.method, *run.key) in keys)
            and (version is None or run.version in (version, ""))
        ]
        if len(after) < len(before):
            path.write_text("".join(json.dumps(asdict(run)) + "\n" for run in after))


def missing(wanted: Sequence[Task], folder: Path) -> list[Task]:
    done = {
        name: {run.key for run in read_runs(folder / f"{name}.jsonl")}
        for name in {task.method.name for task in wanted}
    }
    return [task for task in wanted if task.key not in done[task.method.name]]


def measure(methods: Sequence[Method], folder: Path, options: argparse.Namespace) -> None:
    """Runs what is missing; progress on standard error, about one line in ten seconds."""
    wanted = list(tasks(methods, options))
    forget(methods, folder, options.fresh, wanted)
    left = missing(wanted, folder)
    began = shown = time.monotonic()
    for count, run in enumerate(run_all(left, folder, options.jobs), start=1):
        now = time.monotonic()
        if run.error or now - shown > 10 or count == len(left):
            shown = now
            what = f"{run.method} {run.mode} {run.problem} {run.seed}"
            note = f"failed: {run.error}" if run.error else f"{run.regret['60']:.4f}"
            print(f"{count}/{len(left)} {now - began:.0f} s  {what}  {note}", file=sys.stderr)


def gathered(methods: Sequence[Method], folder: Path, options: argparse.Namespace) -> list[Run]:
    """The results that the options ask for; of ours from `folder`, of the others as committed."""
    found = []
    wanted = {(task.method.name, *task.key) for task in tasks(methods, options)}
    for method in methods:
        own = method.ours and method.name not in BASELINES
        runs = read_runs((folder if own else options.results) / f"{method.name}.jsonl")
        found += [run for run in runs if (run.method, *run.key) in wanted]
    return found


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true", help="the report as one JSON object")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--problems", nargs="+", choices=list(problems()))
    parser.add_argument("--modes", nargs="+", type=Mode, default=list(Mode), choices=list(Mode))
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--peers", action="store_true", help="run the others as well")
    parser.add_argument("--fresh", action="store_true", help="forget earlier results, run again")
    parser.add_argument("--report-only", action="store_true")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--plot", type=Path, help="an SVG file to write")
    options = parser.parse_args(arguments)
    options.problems = options.problems or list(QUICK_PROBLEMS if options.quick else problems())
    options.seeds = options.seeds or (FEW_SEEDS if options.quick else SEEDS)
    return options


def main() -> None:
    options = parse()
    methods = compared(options)
    with contextlib.ExitStack() as stack:
        folder = options.results
        if options.quick:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if not options.report_only:
            own = [m for m in methods if m.ours and m.name not in BASELINES]
            measure(own, folder, options)
            if options.peers:
                others = prepared([m for m in methods if m not in own])
                measure(others, options.results, options)
        found = report(gathered(methods, folder, options))
    print(json.dumps(found.as_json()) if options.json else text(found))
    if found.tables and options.plot:
        options.plot.write_text(svg(found))
        print(f"plot: {options.plot}", file=sys.stderr)


if __name__ == "__main__":
    main()
