# SPDX-License-Identifier: Apache-2.0
"""The lines of a trial's output file, to its end or as they come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

_MAX_LINE = 64 * 1024


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
