# SPDX-License-Identifier: Apache-2.0
"""Real time and chance, and their deterministic stand-ins."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from deterministic import START, CountingRng, TickingClock

from tunesmith_controller.clock import SystemClock, SystemRng
from tunesmith_controller.ports import Clock, Rng


def test_the_system_clock_is_utc_now() -> None:
    clock: Clock = SystemClock()
    now = clock.now()
    assert now.tzinfo is UTC
    assert abs(now - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize("rng", [SystemRng(), CountingRng()])
def test_chance_is_in_its_ranges_and_does_not_repeat(rng: Rng) -> None:
    seeds = [rng.seed() for _ in range(200)]
    assert all(0 <= seed < 1 << 63 for seed in seeds)
    uids = [rng.uid() for _ in range(200)]
    assert all(UUID(uid).version == 4 for uid in uids)
    jitters = [rng.jitter() for _ in range(200)]
    assert all(0 <= jitter < 1 for jitter in jitters)
    assert [len(set(drawn)) for drawn in (seeds, uids, jitters)] == [200, 200, 200]


def test_the_ticking_clock_moves_only_when_told() -> None:
    clock = TickingClock(step=timedelta(0))
    assert clock.now() == clock.now() == START
    clock.advance(timedelta(hours=1))
    assert clock.now() == START + timedelta(hours=1)
