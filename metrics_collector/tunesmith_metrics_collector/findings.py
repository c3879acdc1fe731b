# SPDX-License-Identifier: Apache-2.0
"""What a collector remembers of a stream beside its rows: the `SourceNotes` that explain to a
person why a metric is missing. Bounded, and the same however the stream was cut into blocks
(beyond 100 names, which of them are kept depends on it).
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from tunesmith_api.observations import SourceNotes
from tunesmith_metrics_collector.parsers.protocol import MAX_NAME_BYTES, Parsed, Parser, storable
from tunesmith_metrics_collector.sources.tail import Block

MAX_NAMES: Final = 100
LAST_LINES: Final = 10
LINE_CHARACTERS: Final = 500
FILTER_CHARACTERS: Final = 2000
SAMPLED_BYTES: Final = 32 << 10
"""Of the lines that begin here in a stream every name is noted, wanted or not."""

_LINE: Final = re.compile(rb"[^\r\n]+")
_TAIL_BYTES: Final = 8 << 10


class Findings:
    """Adds up blocks in the order of the stream; goes on from the notes of an earlier collector."""

    def __init__(self, parser: Parser, before: SourceNotes, follows_carriage_return: bool) -> None:
        self._parser = parser
        self._names = dict.fromkeys(before.metric_names)
        self._last = deque(before.last_lines, maxlen=LAST_LINES)
        self._lines, self._bytes, self._skipped = before.lines, before.bytes, before.skipped
        self._after_carriage_return = follows_carriage_return

    def add(self, block: Block, parsed: Parsed) -> None:
        """Takes what was found in the next block."""
        self._add_names(parsed.names)
        if block.offset < SAMPLED_BYTES:
            self._sample(block)
        self._count(block.data)
        self._bytes += block.end - block.offset
        self._skipped += parsed.skipped + block.cut
        self._last.extend(last_lines(block.data))

    def notes(self) -> SourceNotes:
        """For a report up to the end of the last block."""
        return SourceNotes(
            tuple(sorted(self._names)),
            tuple(self._last),
            self._lines,
            self._bytes,
            self._skipped,
            self._parser.description[:FILTER_CHARACTERS],
        )

    def add_last_names(self) -> None:
        """At the end of the stream: the names on its last lines."""
        for line in tuple(self._last):
            self._add_names(self._parser.names(line.encode()))

    def skip(self, values: int) -> None:
        """Values that were found and could not be stored."""
        self._skipped += values

    def say(self, sentence: str) -> None:
        """Something for a person that is no line of the stream; shown as the last line."""
        self._last.append(f"[tunesmith] {sentence}"[:LINE_CHARACTERS])

    def _add_names(self, names: Iterable[str]) -> None:
        for name in names:
            if len(self._names) == MAX_NAMES:
                return
            shown = storable(name)
            if shown and len(shown.encode()) <= MAX_NAME_BYTES:
                self._names[shown] = None

    def _sample(self, block: Block) -> None:
        for match in _LINE.finditer(block.data):
            if block.offset + match.start() >= SAMPLED_BYTES:
                return
            self._add_names(self._parser.names(match.group()))

    def _count(self, data: bytes) -> None:
        """Line ends, CR LF being one, and a last line without an end."""
        ends = data.count(b"\n") + data.count(b"\r") - data.count(b"\r\n")
        if self._after_carriage_return and data.startswith(b"\n"):
            ends -= 1
        is_unfinished = not data.endswith((b"\n", b"\r"))
        self._lines += ends + is_unfinished
        self._after_carriage_return = data.endswith(b"\r")


def last_lines(data: bytes) -> Sequence[str]:
    """The last non-empty lines of a block, shortened."""
    found = _shortened(data[-_TAIL_BYTES:])[1:] if len(data) > _TAIL_BYTES else []
    if len(found) < LAST_LINES:
        found = _shortened(data)
    return found[-LAST_LINES:]


def _shortened(data: bytes) -> list[str]:
    lines = (match.group() for match in _LINE.finditer(data))
    # Four bytes a character at most, so the cut bytes hold all the characters that are shown.
    texts = (line[: 4 * LINE_CHARACTERS].decode(errors="replace") for line in lines)
    return [text[:LINE_CHARACTERS] for text in texts if text.strip()]
