# SPDX-License-Identifier: Apache-2.0
"""Rows of metrics and what they say: min, max, latest; which trial is best. Pure arithmetic.

Order is by `seq`, never by time. NaN and infinities are kept as printed but are never a minimum,
a maximum or a best; a text that is no number counts only as `latest`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from tunesmith_api.problem import Objective

UNAVAILABLE = "unavailable"
"""Katib's word for a metric without a value."""


class Strategy(StrEnum):
    """Which of a metric's three figures speaks for a trial."""

    MIN = "min"
    MAX = "max"
    LATEST = "latest"


@dataclass(frozen=True, slots=True)
class Row:
    """One reported value. `seq` grows within a source; `time_us` is UTC microseconds, 0 = none."""

    seq: int
    metric: str
    value: str
    time_us: int = 0
    step: int | None = None


@dataclass(frozen=True, slots=True)
class MetricSummary:
    """Katib's observation of one metric, as texts; `unavailable` where there is no such figure."""

    name: str
    min: str = UNAVAILABLE
    max: str = UNAVAILABLE
    latest: str = UNAVAILABLE

    def figure(self, strategy: Strategy) -> float | None:
        """The finite figure for a strategy, falling back to latest as Katib does."""
        for text in (getattr(self, strategy.value), self.latest):
            value = finite(text)
            if value is not None:
                return value
        return None


def finite(text: str) -> float | None:
    """The text as a finite number, else None."""
    if not text.isascii() or "_" in text:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def summarise(rows: Iterable[Row], metrics: Sequence[str]) -> list[MetricSummary]:
    """Summaries in the order of `metrics`; a metric without rows is left out.

    Rows may come in any order: the one with the highest seq is the latest.
    """
    wanted: dict[str, list[Row]] = {name: [] for name in metrics}
    for row in rows:
        if row.metric in wanted:
            wanted[row.metric].append(row)
    return [_summary(name, found) for name, found in wanted.items() if found]


def _summary(name: str, rows: list[Row]) -> MetricSummary:
    ordered = sorted(rows, key=lambda row: row.seq)
    numbers = [(number, row.value) for row in ordered if (number := finite(row.value)) is not None]
    low = min(numbers, key=lambda pair: pair[0])[1] if numbers else UNAVAILABLE
    high = max(numbers, key=lambda pair: pair[0])[1] if numbers else UNAVAILABLE
    return MetricSummary(name, low, high, ordered[-1].value or UNAVAILABLE)


def best(objective: Objective, candidates: Iterable[tuple[int, float]]) -> int | None:
    """The ordinal with the best finite value; ties go to the lowest ordinal."""
    winner: tuple[int, float] | None = None
    for ordinal, value in sorted(candidates):
        if math.isfinite(value) and (winner is None or objective.better(value, winner[1])):
            winner = (ordinal, value)
    return winner[0] if winner else None
