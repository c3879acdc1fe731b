# SPDX-License-Identifier: Apache-2.0
"""The lines of a trial's output, to its end or as they come. Called by `client` and `access`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tunesmith.errors import NotThere

_MAX_LINE = 64 * 1024
_REREAD_S = 1.0
"""How often a log that is followed over the network is read."""


@dataclass(frozen=True, slots=True)
class Printed:
    """Where an attempt's output is, or the lines of it, and whether more may come."""

    trial: str
    attempt: int
    path: Path | None
    lines: tuple[str, ...]
    over: bool


def printed_lines(
    printed: Printed, look: Callable[[str], Printed], *, follow: bool
) -> Iterator[str]:
    """What an attempt printed; `follow` waits for more, and goes on with the next attempt. `look`
    finds a trial's newest one and raises NotThere."""
    while True:
        newest = _Newest(printed, look)
        is_over = newest.is_over if follow else None
        if printed.path is not None:
            yield from follow_lines(printed.path, is_over)
        else:
            yield from _reread_lines(newest, is_over)
        if newest.now.attempt == printed.attempt:
            return
        printed = newest.now


@dataclass(slots=True)
class _Newest:
    """What is known of a trial whose attempt `now` began as."""

    now: Printed
    look: Callable[[str], Printed]

    def is_over(self) -> bool:
        """Whether nothing more comes of that attempt."""
        before = self.now.attempt
        try:
            self.now = self.look(self.now.trial)
        except NotThere:  # it was deleted meanwhile
            return True
        return self.now.over or self.now.attempt > before


def _reread_lines(newest: _Newest, is_over: Callable[[], bool] | None) -> Iterator[str]:
    """Each line once of a log that is read whole again and again: a server has no place to read on
    from."""
    told, attempt = 0, newest.now.attempt
    while True:
        if newest.now.attempt == attempt:
            yield from newest.now.lines[told:]
            told = len(newest.now.lines)
        if is_over is None:
            return
        if is_over():
            is_over = None
            continue
        time.sleep(_REREAD_S)


def follow_lines(
    path: Path, is_over: Callable[[], bool] | None, *, poll_s: float = 0.5
) -> Iterator[str]:
    """Lines without their ends; an over-long line comes in pieces.

    is_over: None to stop at the end of the file, else asked at each pause whether more may come.
    """
    while not path.exists():
        if is_over is None or is_over():
            return
        time.sleep(poll_s)
    with path.open("rb") as stream:
        held = b""
        while True:
            for piece in _pieces(stream, held):
                if not piece.endswith(b"\n") and len(piece) < _MAX_LINE:
                    held = piece
                    break
                held = b""
                yield _text(piece)
            if is_over is None:
                break
            if is_over():
                is_over = None
                continue
            time.sleep(poll_s)
        if held:
            yield _text(held)


def _pieces(stream: BinaryIO, held: bytes) -> Iterator[bytes]:
    while True:
        piece = stream.readline(_MAX_LINE - len(held))
        if not piece:
            if held:
                yield held
            return
        yield held + piece
        held = b""


def _text(line: bytes) -> str:
    return line.rstrip(b"\r\n").decode("utf-8", "replace")
