# SPDX-License-Identifier: Apache-2.0
"""`CollectorFleet`: the collectors of all running attempts on one machine; embedded mode's sidecar.

Its owner repeats `start` and `finish` as it sees attempts, also after a restart; what was done is
found in the log, so repeating is free of effects.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from tunesmith_api.metrics import PART, PUSH_SOURCE
from tunesmith_metrics_collector.collector import AttemptName, Collector, Sink, Source, Timing
from tunesmith_metrics_collector.parsers.json_lines import JsonLinesParser
from tunesmith_metrics_collector.parsers.protocol import Parser
from tunesmith_metrics_collector.parsers.text import FilterError, TextParser
from tunesmith_metrics_collector.parsers.unusable import UnusableParser

log = logging.getLogger(__name__)

STDOUT_SOURCE = "stdout"
FILE_SOURCE = "file"


@dataclass(frozen=True, slots=True)
class MetricsFile:
    """What the program writes and the File collector reads: `path` is where it is, `shown` the
    name by which the user knows it. A `format` other than TEXT and JSON ends without rows."""

    path: Path
    format: str = "TEXT"
    shown: str = ""


@dataclass(frozen=True, slots=True)
class CollectedAttempt:
    """What to collect. `output`: what it prints, as text (kind StdOut). `file`: what it writes
    (kind File). `metrics_file`: the JSON lines of `tunesmith.report` (every kind).

    `filters` are source.filter.metricsFormat of the Experiment; none means Katib's default.
    `part` tells the pods of an attempt apart, whose offsets all begin at zero; in the order of
    their names they follow each other. `is_shared`: the program can put links where the files are.
    """

    trial_uid: str
    attempt: int
    trial_name: str
    namespace: str
    output: Path | None
    metrics_file: Path | None
    metrics: tuple[str, ...]
    filters: tuple[str, ...] = ()
    file: MetricsFile | None = None
    part: str = ""
    is_shared: bool = False


def sources_of(attempt: CollectedAttempt) -> list[Source]:
    """The streams of an attempt."""
    sources = []
    if attempt.output is not None:
        sources.append(Source(STDOUT_SOURCE, attempt.output, _text_parser(attempt)))
    if attempt.file is not None:
        file = attempt.file
        shown = file.shown or str(file.path)
        sources.append(Source(FILE_SOURCE, file.path, _file_parser(attempt, file.format), shown))
    if attempt.metrics_file is not None:
        parser = JsonLinesParser(attempt.metrics)
        sources.append(Source(PUSH_SOURCE, attempt.metrics_file, parser))
    suffix = f"{PART}{attempt.part}" if attempt.part else ""
    is_safe = not attempt.is_shared
    return [replace(s, name=s.name + suffix, follows_links=is_safe) for s in sources]


def _file_parser(attempt: CollectedAttempt, form: str) -> Parser:
    if form == "TEXT":
        return _text_parser(attempt)
    if form == "JSON":
        return JsonLinesParser(attempt.metrics)
    return UnusableParser(f"the format {form!r} is neither TEXT nor JSON")


def _text_parser(attempt: CollectedAttempt) -> Parser:
    try:
        return TextParser(attempt.metrics, attempt.filters)
    except FilterError as error:
        log.error("trial %s/%s: %s", attempt.namespace, attempt.trial_name, error)
        return UnusableParser(str(error))


@dataclass(slots=True, eq=False)
class _Slot:
    """An attempt that is being collected; forgotten once its end is acknowledged."""

    attempt: CollectedAttempt
    finishing: bool = False
    collector: Collector | None = None
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class CollectorFleet:
    """All methods are for the thread of the running event loop, and idempotent."""

    def __init__(self, sink: Sink, timing: Timing | None = None) -> None:
        self._sink = sink
        self._timing = timing or Timing()
        self._slots: dict[tuple[str, int], _Slot] = {}
        self._on_rows: Callable[[str], None] = lambda trial_uid: None

    def __len__(self) -> int:
        """Attempts that are being collected."""
        return len(self._slots)

    def on_rows(self, listener: Callable[[str], None]) -> None:
        """From now on, tells one listener the uid of a trial whose rows were acknowledged: often,
        in the event loop, and never for rows that are stored otherwise."""
        self._on_rows = listener

    def start(self, attempt: CollectedAttempt) -> None:
        """Collects an attempt from where the log has it, until `finish`, `stop` or a fence. Of an
        attempt that has ended the log is asked, and nothing is read.

        A filter that cannot be used makes the attempt end without rows, with the reason noted.
        """
        key = (attempt.trial_uid, attempt.attempt)
        if key not in self._slots:
            slot = self._slots[key] = _Slot(attempt)
            slot.task = asyncio.create_task(self._until_ended(key, slot), name=f"collect {key}")

    def finish(self, trial_uid: str, attempt: int) -> None:
        """The attempt's processes have ended: all its sources will be reported as ended."""
        slot = self._slots.get((trial_uid, attempt))
        if slot is not None:
            slot.finishing = True
            if slot.collector is not None:
                slot.collector.finish()

    async def wait(self, trial_uid: str, attempt: int) -> None:
        """Returns when the attempt is collected or fenced, or at once if it was never started."""
        slot = self._slots.get((trial_uid, attempt))
        if slot is not None and slot.task is not None:
            await asyncio.wait([slot.task])

    async def stop(self, trial_uid: str, attempt: int) -> None:
        """Ends a collector without reading on, and forgets the attempt."""
        slot = self._slots.pop((trial_uid, attempt), None)
        if slot is not None:
            await _cancel([slot])

    async def forget(self, trial_uid: str) -> None:
        """`stop` for all attempts of a trial."""
        for key in [key for key in self._slots if key[0] == trial_uid]:
            await self.stop(*key)

    async def aclose(self) -> None:
        """Stops all; a later fleet goes on from what was acknowledged."""
        slots, self._slots = list(self._slots.values()), {}
        await _cancel(slots)

    async def _until_ended(self, key: tuple[str, int], slot: _Slot) -> None:
        await self._supervise(slot)
        if self._slots.get(key) is slot:
            del self._slots[key]

    async def _supervise(self, slot: _Slot) -> None:
        pause = self._timing.first_retry
        while True:
            try:
                await self._collect(slot)
                return
            except Exception:
                # Whatever it is, the other attempts go on, and this one is tried again.
                log.exception("collecting trial %s failed; again soon", slot.attempt.trial_name)
            await asyncio.sleep(pause)
            pause = min(2 * pause, self._timing.last_retry)

    async def _collect(self, slot: _Slot) -> None:
        attempt = slot.attempt
        name = AttemptName(
            attempt.trial_uid, attempt.attempt, attempt.trial_name, attempt.namespace
        )
        slot.collector = Collector(
            name,
            sources_of(attempt),
            self._sink,
            self._timing,
            lambda: self._on_rows(attempt.trial_uid),
        )
        if slot.finishing:
            slot.collector.finish()
        await slot.collector.run()


async def _cancel(slots: list[_Slot]) -> None:
    tasks = [slot.task for slot in slots if slot.task is not None]
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
