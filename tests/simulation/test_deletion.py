# SPDX-License-Identifier: Apache-2.0
"""A person deletes the experiment at any moment, and the controller may crash over it (G16)."""

from __future__ import annotations

from functools import cache

import pytest
from faults import Fault, Kind, Place
from scenarios import Scenario
from schedules import check, failure
from world import Setting, simulate

SCENARIO = Scenario(4, 2)
GONE_WITHIN_S = 60.0
CRASHES_AFTER = (1, 2, 3, 5, 8, 13, 21)
"""Steps from the deletion to a crash."""


@cache
def moments() -> list[int]:
    """The first step of each state of the world in an undisturbed run."""
    first: dict[object, int] = {}
    for (number, place), moment in sorted(simulate(Setting(SCENARIO)).plan.moments.items()):
        if place is Place.BEFORE:
            first.setdefault(moment, number)
    return list(first.values())


def check_deletion(*faults: Fault) -> None:
    setting = Setting(SCENARIO, faults)
    report = simulate(setting)
    assert not report.violations, failure(setting, check(setting), "deletion")
    deleted_at = next(s.time for f, s in report.plan.fired if f.kind is Kind.DELETE_ALL)
    assert report.ended_at <= deleted_at + GONE_WITHIN_S


def test_an_experiment_can_be_deleted_at_any_moment() -> None:
    assert len(moments()) > 40
    for number in moments():
        check_deletion(Fault(number, Kind.DELETE_ALL))


@pytest.mark.parametrize("after", CRASHES_AFTER)
def test_a_crash_after_a_deletion_leaves_nothing_behind(after: int) -> None:
    for number in moments()[after % 3 :: 3]:
        crash = Fault(number + after, Kind.CRASH, Place.LOST)
        check_deletion(Fault(number, Kind.DELETE_ALL), crash)
