# SPDX-License-Identifier: Apache-2.0
"""Two thousand random experiments under random faults, and the schedules that once broke."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from faults import Fault, Kind, Place
from scenarios import Scenario
from schedules import check, failure, run_all, schedule, shrink
from world import Setting, simulate

SEEDS = 2000
CHUNKS = 40


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_random_schedules_break_no_rule(chunk: int) -> None:
    seeds = range(chunk, SEEDS, CHUNKS)
    failures = run_all([(f"schedule({seed})", schedule(seed)) for seed in seeds])
    assert not failures, "\n\n".join(failures)


def test_random_schedules_break_no_rule_with_an_algorithm_that_fits_a_model() -> None:
    settings = [(f"schedule({seed}) with tpe", with_tpe(schedule(seed))) for seed in range(20)]
    failures = run_all(settings)
    assert not failures, "\n\n".join(failures)


def with_tpe(setting: Setting) -> Setting:
    """Twelve trials: some are proposed by the model."""
    tpe = replace(setting.scenario, algorithm="tpe", points=None, trials=12)
    return replace(setting, scenario=tpe)


ONCE_BROKEN = {
    "trials of an experiment that goes on again after a pause go on at once": Setting(
        Scenario(5, 3, "random", goal=2.0, random_state=1),
        (Fault(50, Kind.PAUSE, seconds=8.0),),
        39,
    ),
    "a crash between fencing an attempt and recording the next one": Setting(
        Scenario(2, 5, goal=2.0, random_state=1),
        (
            Fault(38, Kind.DELAY, seconds=1.0),
            Fault(61, Kind.CRASH, Place.AFTER),
            Fault(58, Kind.PAUSE, seconds=8.0),
        ),
        1461,
    ),
    "the same, half of the rows being told": Setting(
        Scenario(9, 5, silent=frozenset({5}), max_failed=2, random_state=2),
        (
            Fault(150, Kind.CRASH),
            Fault(44, Kind.CONFLICT),
            Fault(129, Kind.PAUSE, seconds=1.0),
        ),
        922,
    ),
}


@pytest.mark.parametrize("name", ONCE_BROKEN)
def test_what_once_broke_holds(name: str) -> None:
    checked = check(ONCE_BROKEN[name])
    assert not checked.violations, failure(ONCE_BROKEN[name], checked, name)


def test_a_long_experiment_survives_crashes_beyond_every_window() -> None:
    """150 trials: more than a Suggestion keeps assignments and a status keeps names."""
    scenario = Scenario(150, 8, failing=frozenset(range(5, 150, 10)))
    faults = tuple(Fault(n, Kind.CRASH, Place.LOST) for n in range(700, 7000, 1500))
    setting = Setting(scenario, faults)
    checked = check(setting)
    assert not checked.violations, failure(setting, checked, "long")
    assert checked.report.lives > 3


# ---- the schedules themselves -------------------------------------------------------------------


def trace_digest(seed: int) -> str:
    """Names everything that happens in a schedule."""
    steps = map(str, simulate(schedule(seed)).plan.steps)
    return hashlib.sha256("\n".join(steps).encode()).hexdigest()


def test_a_seed_gives_the_same_run_in_any_process() -> None:
    """Also with another hash seed: no decision may depend on the order of a set of texts."""
    here = Path(__file__).parent
    paths = [str(here), str(here.parent / "fakes")]
    program = (
        f"import sys; sys.path[:0] = {paths!r}; import test_random_schedules as t; "
        "print(t.trace_digest(3), t.trace_digest(4))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONDONTWRITEBYTECODE": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ran.stdout.split() == [trace_digest(3), trace_digest(4)]


def test_seeds_differ_in_scenario_faults_and_order() -> None:
    settings = [schedule(seed) for seed in range(100)]
    in_schedules = set(Kind) - {Kind.DELETE_ALL}
    assert len({setting.scenario for setting in settings}) > 80
    assert len({setting.faults for setting in settings}) > 95
    assert {fault.kind for setting in settings for fault in setting.faults} == in_schedules


def test_shrinking_keeps_only_the_faults_that_matter() -> None:
    setting = Setting(faults=tuple(Fault(n, Kind.ERROR) for n in range(1, 11)))

    def fails(fewer: Setting) -> bool:
        return {3, 7} <= {fault.at for fault in fewer.faults}

    assert [fault.at for fault in shrink(setting, fails).faults] == [3, 7]
