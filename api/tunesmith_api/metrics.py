# SPDX-License-Identifier: Apache-2.0
"""Rows of metrics and what they say: min, max, latest; which trial is best. Pure arithmetic.

Order is by `seq`, never by time. NaN and infinities are kept as printed but are never a minimum,
a maximum or a best; a text that is no number counts only as `latest`.

A metric is read from one source, for the `seq` of different sources cannot be compared: what the
program reported by a call comes before what it printed, whatever the values are. Only parts of one
source are put together: "stdout@1-a" and "stdout@2-b" are what two pods of an attempt printed, one
after the other in the order of their names.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from tunesmith_api.problem import Objective

UNAVAILABLE = "unavailable"
"""Katib's word for a metric without a value."""

PUSH_SOURCE = "push"
"""Rows of `tunesmith.report`."""

KATIB_SOURCE = "katib"
"""Rows of Katib's `report_metrics`."""

PART = "@"
"""Between the name of a source and that of a part of it."""

_FIRST = (PUSH_SOURCE, KATIB_SOURCE)
_FINDABLE = re.compile(r"[\w|-]+", re.ASCII)


class Strategy(StrEnum):
    """Which of a metric's three figures speaks for a trial."""

    MIN = "min"
    MAX = "max"
    LATEST = "latest"


@dataclass(frozen=True, slots=True)
class Row:
    """One reported value. `seq` grows within a source; `time_us` is UTC microseconds, 0 = none.

    `source` is told by a log that is read; it is no part of the value.
    """

    seq: int
    metric: str
    value: str
    time_us: int = 0
    step: int | None = None
    source: str = field(default="", compare=False)


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


def has_findable_name(metric: str) -> bool:
    """Whether Katib's default filter can find a metric of this name in what is printed."""
    return _FINDABLE.fullmatch(metric) is not None


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

    Rows may come in any order: of those that count, the one with the highest seq of the last part
    is the latest.
    """
    wanted: dict[str, list[Row]] = {name: [] for name in metrics}
    for row in rows:
        if row.metric in wanted:
            wanted[row.metric].append(row)
    return [_summary(name, counted(found)) for name, found in wanted.items() if found]


def counted(rows: Iterable[Row]) -> list[Row]:
    """Of the rows of one metric, those of the source that speaks for it, by part and seq."""
    by_source: dict[str, list[Row]] = {}
    for row in rows:
        by_source.setdefault(row.source.partition(PART)[0], []).append(row)
    speaker = next((name for name in _FIRST if name in by_source), min(by_source, default=""))
    return sorted(by_source.get(speaker, ()), key=lambda row: (row.source, row.seq))


def _summary(name: str, ordered: Sequence[Row]) -> MetricSummary:
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
