# SPDX-License-Identifier: Apache-2.0
"""Follows a growing file and gives its complete lines, in blocks, with their byte offsets.

Used by reader.py, in a thread. A line ends in a newline or a carriage return (progress bars). What
a line is does not depend on how the file grew or on where reading began, as long as that was the
end of a block.

Offsets count the bytes of the stream. They are the file's own until it is replaced or cut: then
the new content follows the old one and offsets go on. A reader that starts anew after that cannot
know where the new content began; it reads the file from its start, so lines may be seen twice, but
none is lost. (A trial's output and its metrics file only ever grow.)
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

MAX_LINE: Final = 1 << 20
"""Bytes of a line that are kept; the rest of it is passed over."""

READ_BYTES: Final = 256 << 10

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

    def __init__(self, path: Path, offset: int = 0) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._base = 0
        self._lines = LineSplitter(offset)
        self.follows_carriage_return = False
        """Whether the byte before `offset` was a carriage return; known after the first read."""

    @property
    def position(self) -> int:
        """The offset of the next byte to be read."""
        return self._lines.position

    def read(self) -> list[Block] | None:
        """The next lines, [] when only part of one was read, None at the end of the file (also
        when there is none yet). Raises OSError."""
        if self._descriptor is None and not self._open():
            return None
        data = self._pread()
        if data:
            return self._lines.feed(data)
        if not self._has_changed():
            return None
        self._base = self.position
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
            self._descriptor = os.open(self._path, _FLAGS)
        except FileNotFoundError:
            return False
        if os.fstat(self._descriptor).st_size < self.position:
            self._base = self.position
        else:
            before = self.position - self._base - 1
            if before >= 0 and os.pread(self._descriptor, 1, before) == b"\r":
                self.follows_carriage_return = True
        return True

    def _pread(self) -> bytes:
        if self._descriptor is None:
            return b""
        return os.pread(self._descriptor, READ_BYTES, self.position - self._base)

    def _has_changed(self) -> bool:
        """Whether the open file was cut, or the path names another one, which is opened then."""
        if self._descriptor is None:
            return False
        here = os.fstat(self._descriptor)
        if here.st_size < self.position - self._base:
            return True
        try:
            there = os.stat(self._path)
            if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino):
                return False
            replacement = os.open(self._path, _FLAGS)
        except FileNotFoundError:
            return False
        self.close()
        self._descriptor = replacement
        return True
