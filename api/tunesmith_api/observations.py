# SPDX-License-Identifier: Apache-2.0
"""The observation log: what collectors append to and the controller reads, as a port.

Defined here, below both, because the collector may not import the controller. Standard library
only. Implementations raise `errors.Unavailable` (nothing known about the effect): repeat.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tunesmith_api.metrics import Row


@dataclass(frozen=True, slots=True)
class SourceKey:
    """One stream of one attempt: source "stdout", "file:...", "push"."""

    trial_uid: str
    attempt: int
    source: str


@dataclass(frozen=True, slots=True)
class SourceNotes:
    """What a collector saw besides rows; explains a missing metric to a person. Bounded."""

    metric_names: tuple[str, ...] = ()
    last_lines: tuple[str, ...] = ()
    lines: int = 0
    bytes: int = 0
    skipped: int = 0
    filter: str = ""


@dataclass(frozen=True, slots=True)
class SourceState:
    """How far a source is stored: every line before `offset` is; `ended` when no more follows."""

    offset: int = 0
    ended: bool = False
    notes: SourceNotes = field(default_factory=SourceNotes)


@dataclass(frozen=True, slots=True)
class Report:
    """Rows in ascending seq, all of them before byte `offset` of the source."""

    key: SourceKey
    rows: Sequence[Row]
    offset: int
    trial_name: str = ""
    namespace: str = ""
    ended: bool = False
    notes: SourceNotes | None = None


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Durable up to `offset`. `fenced`: a newer attempt has begun, nothing was stored.
    `stop_reason`: why the attempt should end early, empty when it should not."""

    offset: int
    fenced: bool = False
    stop_reason: str = ""


class ObservationLog(Protocol):
    """Rows keyed by (trial uid, attempt, source, seq); repeating a report changes nothing."""

    async def append(self, report: Report) -> Acknowledged:
        """Stores and commits, then answers. Raises Unavailable."""
        ...

    async def sources(self, trial_uid: str, attempt: int) -> Mapping[str, SourceState]:
        """The sources of an attempt by name."""
        ...

    async def rows(
        self, trial_uid: str, attempt: int, *, metric: str | None = None
    ) -> Sequence[Row]:
        """Rows in (source, seq) order, each with its source."""
        ...

    async def fence(self, trial_uid: str, attempt: int) -> None:
        """From now on nothing of an attempt below `attempt` is stored; reports of it are answered
        `fenced`."""
        ...

    async def stop(self, trial_uid: str, attempt: int, reason: str) -> None:
        """From now on reports of the attempt are answered with the reason; of several, the first
        one stays. Raises Invalid for an empty one and Unavailable."""
        ...

    async def delete(self, trial_uid: str) -> None:
        """Removes all rows, sources and stops of a trial; nothing happens when there are none."""
        ...
