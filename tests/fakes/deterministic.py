# SPDX-License-Identifier: Apache-2.0
"""Time and chance that are the same in every run, for tests of what takes `Clock` or `Rng`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

START = datetime(2026, 1, 1, tzinfo=UTC)
_PRIME = 6364136223846793005  # Knuth's multiplier: neighbouring numbers look unrelated


class TickingClock:
    """Starts at `start` and goes on by `step` whenever it is read, or by `advance`."""

    def __init__(self, start: datetime = START, step: timedelta = timedelta(seconds=1)) -> None:
        self._next = start
        self._step = step

    def now(self) -> datetime:
        moment = self._next
        self._next += self._step
        return moment

    def advance(self, by: timedelta) -> None:
        self._next += by


class CountingRng:
    """Counts its answers: two of them that are asked the same questions answer alike."""

    def __init__(self, first: int = 1) -> None:
        self._number = first - 1

    def seed(self) -> int:
        return self._count() * _PRIME % (1 << 63)

    def uid(self) -> str:
        return f"00000000-0000-4000-8000-{self._count():012x}"

    def jitter(self) -> float:
        return self.seed() / (1 << 63)

    def _count(self) -> int:
        self._number += 1
        return self._number
