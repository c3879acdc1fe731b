# SPDX-License-Identifier: Apache-2.0
"""Follows a growing file and gives its complete lines, in blocks, with their byte offsets.

Used by reader.py, in a thread. A line ends in a newline or a carriage return (progress bars). What
a line is does not depend on how the file grew or on where reading began, as long as that was the
end of a block.

Offsets count the bytes of the stream. They are the file's own until it is replaced, cut or written
anew (some programs keep only their newest figures in a metrics file): then the new content follows
the old one and offsets go on. What was read last is compared with what the file says now, so a file
that got other content of the same size, or more, is noticed too. Of a file that is written again
and again between two looks only the last content is seen.

A reader that starts anew after that cannot know where the new content began. If the file is shorter
than the offset it reads all of it, so lines may be seen twice; else it goes on at the offset. (What
a trial prints, and what it reports by `tunesmith.report`, only ever grows.)
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

MAX_LINE: Final = 1 << 20
"""Bytes of a line that are kept; the rest of it is passed over."""

READ_BYTES: Final = 256 << 10

REMEMBERED_BYTES: Final = 4 << 10
"""Of what was read last: what a file is compared with to see whether it was written anew."""

_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # opening a pipe must not wait


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines with their ends; only a stream's last line may have none.

    `cut`: one line above MAX_LINE, of which `data` has the beginning and the end character.
    """

    data: bytes
    offset: int
    end: int
    cut: bool = False


@dataclass(slots=True)
class LineSplitter:
    """Bytes in any portions to blocks."""

    start: int = 0
    max_line: int = MAX_LINE
    _carry: bytes = field(default=b"", init=False)
    _dropped: int = field(default=0, init=False)

    @property
    def position(self) -> int:
        """The offset of the next byte to be fed."""
        return self.start + len(self._carry) + self._dropped

    def feed(self, data: bytes) -> list[Block]:
        """The lines that `data` completes."""
        blocks: list[Block] = []
        for index in range(0, len(data), self.max_line):
            self._feed_part(data[index : index + self.max_line], blocks)
        return blocks

    def _feed_part(self, data: bytes, blocks: list[Block]) -> None:
        # Only the first line of what is held can be overlong: the others lie within `data`.
        if self._dropped or len(self._carry) + len(data) > self.max_line:
            data = self._feed_overlong(data, blocks)
        held = self._carry + data
        size = max(held.rfind(b"\n"), held.rfind(b"\r")) + 1
        if size:
            blocks.append(Block(held[:size], self.start, self.start + size))
        self.start += size
        self._carry = held[size:]

    def _feed_overlong(self, data: bytes, blocks: list[Block]) -> bytes:
        """Deals with a first line above max_line, if it is one; returns what is left of `data`."""
        room = self.max_line - len(self._carry)
        end = first_break(data)
        if not self._dropped and 0 <= end <= room:
            return data
        before = self.position
        self._carry += data[:room]
        if end < 0:
            self._dropped = before + len(data) - self.start - len(self._carry)
            return b""
        line_end = before + end + 1
        text = self._carry + data[end : end + 1]
        blocks.append(Block(text, self.start, line_end, cut=True))
        self.start, self._carry, self._dropped = line_end, b"", 0
        return data[end + 1 :]

    def finish(self) -> Block | None:
        """The last line when it has no end; what is fed afterwards begins a new line."""
        if not self._carry:
            return None
        block = Block(self._carry, self.start, self.position, cut=self._dropped > 0)
        self.start, self._carry, self._dropped = block.end, b"", 0
        return block


def first_break(data: bytes) -> int:
    """Where the first line of `data` ends; -1 when it does not."""
    newline = data.find(b"\n")
    carriage = data.find(b"\r", 0, newline if newline >= 0 else len(data))
    return newline if carriage < 0 else carriage


class Tail:
    """One file, from `offset` on. Not for several threads at once. `close` when done."""

    def __init__(self, path: Path, offset: int = 0, *, follows_links: bool = True) -> None:
        """Not to follow links is for folders in which somebody else may put one."""
        self._path = path
        self._flags = _FLAGS if follows_links else _FLAGS | os.O_NOFOLLOW
        self._descriptor: int | None = None
        self._base = 0
        self._lines = LineSplitter(offset)
        self._recent = b""
        self._looked_at = (-1, -1)
        self.was_found = False
        """Whether there has been a file at all."""
        self.follows_carriage_return = False
        """Whether the byte before `offset` was a carriage return; known after the first read."""

    @property
    def position(self) -> int:
        """The offset of the next byte to be read."""
        return self._lines.position

    def read(self, *, at_end: bool = False) -> list[Block] | None:
        """The next lines, [] when only part of one was read, None at the end of the file (also
        when there is none yet). `at_end`: nothing will be written any more, so look closely: after
        a quick change the file's time may be the same. Raises OSError."""
        if self._descriptor is None and not self._open():
            return None
        closely = at_end
        while self._is_continued(closely=closely):
            data = self._pread()
            if data:
                self._remember(data)
                return self._lines.feed(data)
            if not self._has_moved():
                return None
            closely = True
        self._base, self._recent = self.position, b""
        last = self._lines.finish()
        return [last] if last else []

    def finish(self) -> Block | None:
        """The last line when it has no end; to be called at the end of the stream."""
        return self._lines.finish()

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> bool:
        try:
            self._descriptor = os.open(self._path, self._flags)
        except FileNotFoundError:
            return False
        self.was_found = True
        if os.fstat(self._descriptor).st_size < self.position - self._base:
            self._base, self._recent = self.position, b""
        else:
            self._recent = self._before()
            self.follows_carriage_return = self._recent.endswith(b"\r")
        return True

    def _pread(self) -> bytes:
        """Raises OSError; a folder is given up, for a file may come in its place."""
        if self._descriptor is None:
            return b""
        try:
            return os.pread(self._descriptor, READ_BYTES, self.position - self._base)
        except IsADirectoryError:
            self.close()
            raise

    def _remember(self, data: bytes) -> None:
        before = self._recent if len(data) < REMEMBERED_BYTES else b""
        self._recent = (before + data)[-REMEMBERED_BYTES:]

    def _before(self) -> bytes:
        """What the file says before the position."""
        read = self.position - self._base
        size = min(read, REMEMBERED_BYTES)
        if self._descriptor is None or not size:
            return b""
        return os.pread(self._descriptor, size, read - size)

    def _is_continued(self, *, closely: bool) -> bool:
        """Whether the open file still has what was read of it; compared when its time or size is
        another than at the last look, or when told to."""
        if self._descriptor is None:
            return False
        found = os.fstat(self._descriptor)
        if found.st_size < self.position - self._base:
            return False
        look = (found.st_mtime_ns, found.st_size)
        if not closely and look == self._looked_at:
            return True
        self._looked_at = look
        return self._before() == self._recent

    def _has_moved(self) -> bool:
        """Whether the path names another file than the open one; it is opened then."""
        if self._descriptor is None:
            return False
        here = os.fstat(self._descriptor)
        try:
            there = os.stat(self._path)
            if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino):
                return False
            replacement = os.open(self._path, self._flags)
        except FileNotFoundError:
            return False
        self.close()
        self._descriptor = replacement
        return True
