# SPDX-License-Identifier: Apache-2.0
"""`Collector`: carries what one attempt writes into an observation log; run by fleet.py.

The files are the spool: nothing is read on while a report waits for its acknowledgement, and a new
collector begins at the offset that was acknowledged last. Reports repeat keys exactly, so being
killed anywhere loses nothing and doubles nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Protocol, TypeVar

from tunesmith_api.errors import Invalid, Unavailable
from tunesmith_api.metrics import Row
from tunesmith_api.observations import (
    Acknowledged,
    Report,
    SourceKey,
    SourceNotes,
    SourceState,
)
from tunesmith_metrics_collector.parsers.protocol import Parser
from tunesmith_metrics_collector.reader import Batch, SourceReader
from tunesmith_metrics_collector.sink import split

T = TypeVar("T")
log = logging.getLogger(__name__)


class Sink(Protocol):
    """The part of `ObservationLog` that a collector needs."""

    async def append(self, report: Report) -> Acknowledged: ...

    async def sources(self, trial_uid: str, attempt: int) -> Mapping[str, SourceState]: ...


@dataclass(frozen=True, slots=True)
class AttemptName:
    """Whose rows they are; the names are for people and for Katib's DBManager."""

    trial_uid: str
    attempt: int
    trial_name: str = ""
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """One stream: its name in row keys, its file, and how to read it. `promised`: the name by
    which the user knows a file that ought to be there, so that its absence is worth telling."""

    name: str
    path: Path
    parser: Parser
    promised: str = ""
    follows_links: bool = True

    def reader(self, stored: SourceState) -> SourceReader:
        """Reads on from what is stored; to be closed."""
        return SourceReader(
            self.path, self.parser, stored, self.promised, follows_links=self.follows_links
        )


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds, on the event loop's clock."""

    first_poll: float = 0.1
    poll: float = 1.0
    """Between looks at a file: the first while it grows, doubling to the other while it does not.
    A trial is judged on what has been read, so a stop can come no sooner."""

    idle_report: float = 5.0
    """Between reports of progress without rows."""

    first_retry: float = 0.2
    last_retry: float = 5.0
    """Pauses while the log is unavailable, doubling from the one to the other."""


class Outcome(StrEnum):
    """How `run` came to its end."""

    ENDED = "ended"
    FENCED = "fenced"


class _Fenced(Exception):
    """A newer attempt has begun."""


class Interrupted(RuntimeError):
    """A call was cancelled from elsewhere, as grpc does when its channel is closed."""


class _Uplink:
    """Reports of one attempt to the log, waiting out its absences."""

    def __init__(
        self, attempt: AttemptName, sink: Sink, timing: Timing, on_rows: Callable[[], None]
    ) -> None:
        self._attempt = attempt
        self._sink = sink
        self._timing = timing
        self._on_rows = on_rows

    async def stored(self) -> Mapping[str, SourceState]:
        """What the log has of the attempt's sources."""
        name = self._attempt
        return await self._patiently(lambda: self._sink.sources(name.trial_uid, name.attempt))

    def report(
        self,
        source: str,
        rows: Sequence[Row],
        offset: int,
        notes: SourceNotes | None = None,
        ended: bool = False,
    ) -> Report:
        """A report in the attempt's name."""
        name = self._attempt
        key = SourceKey(name.trial_uid, name.attempt, source)
        return Report(key, rows, offset, name.trial_name, name.namespace, ended, notes)

    async def append(self, report: Report) -> None:
        """Returns when it is acknowledged. Raises Invalid and _Fenced."""
        acknowledged = await self._patiently(lambda: self._sink.append(report))
        if acknowledged.fenced:
            raise _Fenced
        if report.rows:
            self._on_rows()

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        pause = self._timing.first_retry
        while True:
            try:
                return await call()
            except Unavailable as error:
                if pause == self._timing.first_retry:
                    log.warning("trial %s: %s; waiting", self._attempt.trial_name, error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, self._timing.last_retry)


class Collector:
    """One attempt's sources. `run` once; make a new one to go on after it was cut off."""

    def __init__(
        self,
        attempt: AttemptName,
        sources: Sequence[Source],
        sink: Sink,
        timing: Timing | None = None,
        on_rows: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_rows` is called after each acknowledgement of rows; it must be quick."""
        self._sources = sources
        self._timing = timing or Timing()
        self._uplink = _Uplink(attempt, sink, self._timing, on_rows)
        self._finishing = asyncio.Event()
        self._task: asyncio.Task[object] | None = None

    def finish(self) -> None:
        """Nothing more will be written: read to the end, then report the end."""
        self._finishing.set()

    async def aclose(self) -> None:
        """Stops without reporting an end; what was not acknowledged is for the next collector."""
        task = self._task
        if task is not None and task is not asyncio.current_task():
            task.cancel()
            await asyncio.wait([task])

    async def run(self) -> Outcome:
        """Collects until `finish` has been called and all is acknowledged, or the attempt is
        fenced. Waits out Unavailable. Raises Interrupted, and a group of Invalid when the log
        refuses a report even without rows: another collector may try again."""
        self._task = asyncio.current_task()
        outcome = Outcome.ENDED
        try:
            await self._collect()
        except* _Fenced:
            outcome = Outcome.FENCED
        finally:
            self._task = None
        return outcome

    async def _collect(self) -> None:
        stored = await self._uplink.stored()
        # All sources are known before one can end: who reads that everything has ended is right.
        for source in self._sources:
            if source.name not in stored:
                await self._uplink.append(self._uplink.report(source.name, (), 0))
        following = []
        async with asyncio.TaskGroup() as group:
            for source in self._sources:
                state = stored.get(source.name, SourceState())
                if not state.ended:
                    following.append(group.create_task(self._follow(source, state)))
        if any(task.cancelled() for task in following):  # a task group takes this for an end
            raise Interrupted("collecting was interrupted before its end")

    async def _follow(self, source: Source, stored: SourceState) -> None:
        reader = source.reader(stored)
        stream = _Stream(source.name, reader, self._uplink, self._timing)
        try:
            await stream.follow(self._finishing)
        finally:
            await asyncio.to_thread(reader.close)


class _Stream:
    """The loop over one source; a part of `Collector`."""

    def __init__(self, name: str, reader: SourceReader, uplink: _Uplink, timing: Timing) -> None:
        self._name = name
        self._reader = reader
        self._uplink = uplink
        self._timing = timing
        self._reported = -1
        self._reported_at = asyncio.get_running_loop().time()
        self._refusal = ""

    async def follow(self, finishing: asyncio.Event) -> None:
        """Until the end has been reported."""
        pause, seen = self._timing.first_poll, -1
        while True:
            at_end = finishing.is_set()  # before reading: what is written later is not the end
            batch = await asyncio.to_thread(self._reader.next_batch, at_end=at_end)
            has_grown, seen = batch.offset != seen, batch.offset
            pause = self._timing.first_poll if has_grown else 2 * pause
            if batch.rows or self._is_report_due(batch):
                await self._send(batch)
            if batch.is_last and at_end:
                await self._send_end(batch)
                return
            if batch.is_last:
                await _wait(finishing, min(pause, self._timing.poll))

    def _is_report_due(self, batch: Batch) -> bool:
        waited = asyncio.get_running_loop().time() - self._reported_at
        return batch.offset != self._reported and waited >= self._timing.idle_report

    async def _send(self, batch: Batch) -> None:
        report = self._uplink.report(self._name, batch.rows, batch.offset, batch.notes)
        for part in split(report):
            await self._send_part(part)
        self._reported = batch.offset
        self._reported_at = asyncio.get_running_loop().time()

    async def _send_part(self, part: Report) -> None:
        if not self._refusal and part.rows:
            try:
                await self._uplink.append(part)
                return
            except Invalid as error:
                # The log is full of this trial's rows, say. The end, and the reason, still go out.
                self._refusal = str(error)
                log.warning("source %s: %s", self._name, error)
        self._reader.skip(len(part.rows))
        await self._uplink.append(replace(part, rows=()))

    async def _send_end(self, batch: Batch) -> None:
        notes = self._reader.last_notes(self._refusal or batch.problem)
        report = self._uplink.report(self._name, (), batch.offset, notes, ended=True)
        await self._uplink.append(report)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
