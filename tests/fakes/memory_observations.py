# SPDX-License-Identifier: Apache-2.0
"""`MemoryObservationLog`: the observation log for the simulation, in one event loop's memory.

No threads, no time, no chance: a call does its work before it first yields.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tunesmith_api.metrics import Row
from tunesmith_api.observations import Acknowledged, Report, SourceKey, SourceState
from tunesmith_observation.limits import (
    Limits,
    RowLimitReached,
    check_fence,
    check_report,
    check_stop,
)
from tunesmith_observation.statements import merged, notes_text


class MemoryObservationLog:
    """The `ObservationLog` port; passes the same contract suite as the database's."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._rows: dict[SourceKey, dict[int, Row]] = {}
        self._sources: dict[SourceKey, SourceState] = {}
        self._fences: dict[str, int] = {}
        self._stops: dict[tuple[str, int], str] = {}

    async def append(self, report: Report) -> Acknowledged:
        """Raises Invalid; never Unavailable."""
        check_report(report, self._limits)
        stored = self._sources.get(report.key, SourceState())
        if report.key.attempt < self._fences.get(report.key.trial_uid, 0):
            return Acknowledged(stored.offset, fenced=True, stop_reason=self._stop(report.key))
        if report.notes is not None:
            notes_text(report.notes, self._limits)
        rows = self._rows.setdefault(report.key, {})
        added = {row.seq: row for row in reversed(report.rows) if row.seq not in rows}
        if added and self._count(report.key.trial_uid) + len(added) > self._limits.rows_per_trial:
            raise RowLimitReached(report.key.trial_uid, self._limits.rows_per_trial)
        rows.update(added)
        state = self._sources[report.key] = merged(self._sources.get(report.key), report)
        return Acknowledged(state.offset, stop_reason=self._stop(report.key))

    def _stop(self, key: SourceKey) -> str:
        return self._stops.get((key.trial_uid, key.attempt), "")

    def _count(self, trial_uid: str) -> int:
        return sum(len(rows) for key, rows in self._rows.items() if key.trial_uid == trial_uid)

    async def sources(self, trial_uid: str, attempt: int) -> Mapping[str, SourceState]:
        """By name."""
        return {
            key.source: state
            for key, state in sorted(self._sources.items(), key=lambda item: item[0].source)
            if (key.trial_uid, key.attempt) == (trial_uid, attempt)
        }

    async def rows(
        self, trial_uid: str, attempt: int, *, metric: str | None = None
    ) -> Sequence[Row]:
        """Rows in (source, seq) order."""
        keys = [k for k in self._rows if (k.trial_uid, k.attempt) == (trial_uid, attempt)]
        return [
            replace(row, source=key.source)
            for key in sorted(keys, key=lambda key: key.source)
            for _, row in sorted(self._rows[key].items())
            if metric is None or row.metric == metric
        ]

    async def fence(self, trial_uid: str, attempt: int) -> None:
        """A fence never goes down."""
        check_fence(trial_uid, attempt)
        self._fences[trial_uid] = max(attempt, self._fences.get(trial_uid, 0))

    async def stop(self, trial_uid: str, attempt: int, reason: str) -> None:
        """The first reason stays."""
        check_stop(trial_uid, attempt, reason)
        self._stops.setdefault((trial_uid, attempt), reason)

    async def delete(self, trial_uid: str) -> None:
        """Fences stay."""
        for key in [key for key in self._rows if key.trial_uid == trial_uid]:
            self._rows.pop(key)
            self._sources.pop(key, None)
        for stop in [stop for stop in self._stops if stop[0] == trial_uid]:
            del self._stops[stop]
