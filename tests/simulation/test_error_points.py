# SPDX-License-Identifier: Apache-2.0
"""Calls fail with Unavailable, before or after they took effect: retried, and nothing changes.

One error a run at every call of a short experiment; at every call of the 12-trial experiment, many
errors a run.
"""

from __future__ import annotations

from functools import cache

import pytest
from faults import Fault, Kind, Place
from scenarios import Scenario
from schedules import check, failure
from world import READS, Report, Setting, simulate

CHUNKS = 10
EVERY = 24
"""Calls from one error to the next in runs of many errors."""

SHORT = Scenario(3, 1, failing=frozenset({1}))
PLACES = (Place.BEFORE, Place.LOST)


def long(parallel: int) -> Scenario:
    return Scenario(12, parallel, failing=frozenset({4}), silent=frozenset({7}))


@cache
def undisturbed(scenario: Scenario) -> Report:
    return simulate(Setting(scenario))


@cache
def single_errors() -> list[Fault]:
    """At every call; a reading that is lost is a reading that failed before."""
    plan = undisturbed(SHORT).plan
    calls = [step for step in plan.steps if not step.is_told]
    before = [Fault(step.number, Kind.ERROR) for step in calls]
    writes = [step for step in calls if (step.port, step.method) not in READS]
    return before + [Fault(step.number, Kind.ERROR, Place.LOST) for step in writes]


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_one_error_at_any_call_changes_nothing_but_time(chunk: int) -> None:
    quiet = undisturbed(SHORT)
    for fault in single_errors()[chunk::CHUNKS]:
        setting = Setting(SHORT, (fault,))
        checked = check(setting, quiet)
        assert not checked.violations, failure(setting, checked, str(fault))
        assert checked.report.lives == 1


@pytest.mark.parametrize("first", range(1, EVERY + 1, 2))
@pytest.mark.parametrize("parallel", [1, 3])
def test_errors_at_every_so_many_calls_change_nothing_but_time(parallel: int, first: int) -> None:
    quiet = undisturbed(long(parallel))
    for offset, place in enumerate(PLACES):
        calls = range(first + offset, len(quiet.plan.steps), EVERY)
        setting = Setting(long(parallel), tuple(Fault(n, Kind.ERROR, place) for n in calls))
        checked = check(setting, quiet if parallel == 1 else None)
        assert not checked.violations, failure(setting, checked, f"every {EVERY} from {first}")
        assert len(checked.report.plan.fired) > 10
