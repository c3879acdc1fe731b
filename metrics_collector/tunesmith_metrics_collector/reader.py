# SPDX-License-Identifier: Apache-2.0
"""One source of an attempt as batches of rows: a tail, a parser and findings, in a thread.

The collector calls it; each call does a bounded amount of work, so that one chatty trial does not
hold a thread for long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Final

from tunesmith_api.metrics import Row
from tunesmith_api.observations import SourceNotes, SourceState
from tunesmith_metrics_collector.findings import Findings
from tunesmith_metrics_collector.parsers.protocol import Parser
from tunesmith_metrics_collector.sources.tail import Block, Tail

SCAN_BYTES: Final = 8 << 20
"""Read in one call at most, unless rows fill the batch earlier."""

FULL_ROWS: Final = 1000
FULL_BYTES: Final = 512 << 10


@dataclass(slots=True)
class Batch:
    """Rows up to `offset`, where a line begins. `is_last`: the file had no more."""

    rows: list[Row] = field(default_factory=list)
    offset: int = 0
    notes: SourceNotes = field(default_factory=SourceNotes)
    is_last: bool = False
    problem: str = ""

    @property
    def is_full(self) -> bool:
        """Whether it is time to report; a batch ends with a block, so it may hold more rows."""
        if len(self.rows) >= FULL_ROWS:
            return True
        return sum(len(row.metric) + len(row.value) for row in self.rows) >= FULL_BYTES


class SourceReader:
    """Reads on from a stored state. Not for several threads at once. `close` when done."""

    def __init__(
        self,
        path: Path,
        parser: Parser,
        stored: SourceState,
        promised: str = "",
        *,
        follows_links: bool = True,
    ) -> None:
        """`promised`: the name by which the user knows a file that ought to be there."""
        self._shown = promised or path.name
        self._is_promised = bool(promised)
        self._tail = Tail(path, stored.offset, follows_links=follows_links)
        self._parser = parser
        self._stored = stored
        self._findings: Findings | None = None
        self._offset = stored.offset
        self._lock = Lock()  # a cancelled caller may close while its thread still reads

    def next_batch(self, *, at_end: bool) -> Batch:
        """What has been added since the last call. `at_end`: nothing will be added any more, so
        the last line counts without an end. Never raises for the file: `problem` says it."""
        with self._lock:
            return self._next_batch(at_end)

    def _next_batch(self, at_end: bool) -> Batch:
        batch = Batch()
        limit = self._tail.position + SCAN_BYTES
        while not batch.is_last and not batch.is_full and self._tail.position < limit:
            self._take(batch, self._read(batch, at_end), at_end)
        batch.offset, batch.notes = self._offset, self._known().notes()
        return batch

    def _read(self, batch: Batch, at_end: bool) -> Sequence[Block] | None:
        try:
            return self._tail.read(at_end=at_end)
        except OSError as error:
            batch.problem = f"cannot read {self._shown}: {error.strerror}"
            return None

    def _take(self, batch: Batch, blocks: Sequence[Block] | None, at_end: bool) -> None:
        if blocks is None:
            batch.is_last = True
            last = self._tail.finish() if at_end else None
            blocks = [last] if last else []
        for block in blocks:
            parsed = self._parser.parse(block)
            batch.rows += parsed.rows
            self._known().add(block, parsed)
            self._offset = block.end

    def skip(self, values: int) -> None:
        """Counts values of earlier batches that the log refused."""
        self._known().skip(values)

    def last_notes(self, sentence: str) -> SourceNotes:
        """At the end of the stream: with the names on the last lines, and what else to say."""
        findings = self._known()
        findings.add_last_names()
        for remark in (self._unread(findings.notes()), sentence or self._absence()):
            if remark:
                findings.say(remark)
        return findings.notes()

    def _unread(self, notes: SourceNotes) -> str:
        if not self._is_promised or not notes.skipped:
            return ""
        return (
            f"{notes.skipped} of the lines and values in {self._shown} cannot be read as"
            f" {self._parser.form}"
        )

    def _absence(self) -> str:
        if not self._is_promised or self._offset:
            return ""
        if self._tail.was_found:
            return f"the file {self._shown} is empty"
        return f"the file {self._shown} was never written"

    def _known(self) -> Findings:
        # Made late: the tail knows what precedes its first byte only once the file is open.
        if self._findings is None:
            self._findings = Findings(
                self._parser, self._stored.notes, self._tail.follows_carriage_return
            )
        return self._findings

    def close(self) -> None:
        """Waits for a batch that is being read."""
        with self._lock:
            self._tail.close()
