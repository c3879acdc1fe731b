# SPDX-License-Identifier: Apache-2.0
"""The controller crashes at every call of a 12-trial experiment, before, during and after it.

Crashes at which the durable world is the same, at the same time, are the same crash: each class is
run once. That this is so is tested too.
"""

from __future__ import annotations

from functools import cache

import pytest
from faults import Fault, Kind, Place
from scenarios import Scenario
from schedules import check, failure
from world import Report, Setting, simulate

CHUNKS = 20
SLOWER_BY_S = 12.0
"""How much later, virtually, an experiment may end because of one crash."""


def scenario(parallel: int) -> Scenario:
    return Scenario(12, parallel, failing=frozenset({4}), silent=frozenset({7}))


@cache
def undisturbed(parallel: int) -> Report:
    report = simulate(Setting(scenario(parallel)))
    assert report.violations == ()
    return report


@cache
def crashes(parallel: int) -> dict[object, list[Fault]]:
    """All crash points, by the moment at which they come."""
    moments: dict[object, list[Fault]] = {}
    for (number, place), moment in sorted(undisturbed(parallel).plan.moments.items()):
        moments.setdefault(moment, []).append(Fault(number, Kind.CRASH, place))
    return moments


@pytest.mark.parametrize("chunk", range(CHUNKS))
@pytest.mark.parametrize("parallel", [1, 3])
def test_a_crash_at_any_call_changes_nothing_but_time(parallel: int, chunk: int) -> None:
    quiet = undisturbed(parallel)
    for fault in [same[0] for same in crashes(parallel).values()][chunk::CHUNKS]:
        setting = Setting(scenario(parallel), (fault,))
        checked = check(setting, quiet if parallel == 1 else None)
        assert not checked.violations, failure(setting, checked, str(fault))
        assert checked.report.lives == 2
        assert checked.report.ended_at <= quiet.ended_at + SLOWER_BY_S, str(fault)


def test_every_call_is_a_crash_point_at_three_places() -> None:
    for parallel in (1, 3):
        points = [fault for same in crashes(parallel).values() for fault in same]
        calls = undisturbed(parallel).plan.calls()
        assert {(f.at, f.place) for f in points} == {(n, p) for n in calls for p in Place}
        assert len(points) > 1000


def test_crashes_at_the_same_moment_are_the_same_crash() -> None:
    classes = [same for same in crashes(3).values() if len(same) > 4]
    for same in classes[:: len(classes) // 4]:
        first, last = (simulate(Setting(scenario(3), (fault,))) for fault in (same[0], same[-1]))
        assert (first.final, first.ended_at) == (last.final, last.ended_at)
