# SPDX-License-Identifier: Apache-2.0
"""However a stream grows, and wherever collectors die, the log ends up with the same rows."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from memory_observations import MemoryObservationLog

from tunesmith_api.errors import Unavailable
from tunesmith_api.metrics import Row
from tunesmith_api.observations import Acknowledged, Report, SourceState
from tunesmith_metrics_collector.collector import AttemptName, Collector, Outcome, Source, Timing
from tunesmith_metrics_collector.parsers.text import TextParser
from tunesmith_metrics_collector.sources.tail import Block, LineSplitter

ATTEMPT = AttemptName("uid", 1, "trial", "team")
FAST = Timing(poll=0.001, idle_report=0.002, first_retry=0.0001, last_retry=0.0002)

text_pieces = [b"loss=1", b"loss=nan ", b" accuracy=0.5", b"lo", b"ss=2", b"loss=\n", b"other\n"]
odd_pieces = [b"\n", b"\r", b"\r\n", b"\xff\x00", b"x" * 9, "é".encode()]
pieces = st.sampled_from([*text_pieces, *odd_pieces])
streams = st.lists(pieces, max_size=40).map(b"".join)
cuts = st.lists(st.integers(0, 200), max_size=8)


def portions(data: bytes, places: Sequence[int]) -> list[bytes]:
    bounds = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(bounds)]


def split_lines(parts: Sequence[bytes], max_line: int) -> list[tuple[int, bytes, bool]]:
    """(offset, line, cut) of every line, whatever blocks they came in."""
    splitter = LineSplitter(max_line=max_line)
    blocks = [block for part in parts for block in splitter.feed(part)]
    last = splitter.finish()
    return [line for block in [*blocks, *([last] if last else [])] for line in lines_of(block)]


def lines_of(block: Block) -> list[tuple[int, bytes, bool]]:
    lines, offset = [], block.offset
    for line in block.data.replace(b"\r", b"\n").splitlines(keepends=True):
        lines.append((offset, line.rstrip(b"\n"), block.cut))
        offset += len(line)
    return lines


@given(streams, cuts, st.integers(1, 20))
def test_lines_do_not_depend_on_the_portions(data: bytes, places: list[int], most: int) -> None:
    assert split_lines(portions(data, places), most) == split_lines([data], most)


@given(streams, st.integers(1, 20))
def test_every_line_is_delivered_at_its_place(data: bytes, most: int) -> None:
    expected, offset = [], 0
    for line in data.replace(b"\r", b"\n").splitlines(keepends=True):
        text = line.rstrip(b"\n")
        expected.append((offset, text[:most], len(text) > most))
        offset += len(line)
    assert split_lines([data], most) == expected


class Death(Exception):
    """The collector's process ends here."""


class FlakyLog(MemoryObservationLog):
    """Answers the n-th calls with Unavailable, before the effect or after it; kills its caller at
    one call."""

    def __init__(self, lost: Mapping[int, bool], deaths: set[int]) -> None:
        super().__init__()
        self._lost, self._deaths, self._call = lost, deaths, 0

    async def append(self, report: Report) -> Acknowledged:
        self._call += 1
        call = self._call
        if call in self._deaths:
            raise Death
        if self._lost.get(call) is False:
            raise Unavailable("refused")
        answer = await super().append(report)
        if self._lost.get(call) is True:
            raise Unavailable("the answer was lost")
        return answer


async def collect(log: MemoryObservationLog, path: Path, parts: Sequence[bytes]) -> SourceState:
    """Writes the parts while collectors run; each that dies is followed by a new one."""
    source = Source("stdout", path, TextParser(["loss", "accuracy"]))
    for part in parts:
        with path.open("ab") as file:
            file.write(part)
        await run_for(Collector(ATTEMPT, [source], log, FAST), seconds=0.004)
    while not (await log.sources("uid", 1)).get("stdout", SourceState()).ended:
        collector = Collector(ATTEMPT, [source], log, FAST)
        collector.finish()
        await run_for(collector, seconds=10)
    return (await log.sources("uid", 1))["stdout"]


async def run_for(collector: Collector, seconds: float) -> None:
    task = asyncio.create_task(collector.run())
    await asyncio.wait([task], timeout=seconds)
    await collector.aclose()
    (result,) = await asyncio.gather(task, return_exceptions=True)
    reasons = result.exceptions if isinstance(result, ExceptionGroup) else [result]
    assert isinstance(reasons[0], Outcome | asyncio.CancelledError | Death), result


def collected(
    log: MemoryObservationLog, parts: Sequence[bytes]
) -> tuple[Sequence[Row], SourceState]:
    async def main() -> tuple[Sequence[Row], SourceState]:
        with tempfile.TemporaryDirectory() as folder:
            state = await collect(log, Path(folder, "output.log"), parts)
            return await log.rows("uid", 1), state

    return asyncio.run(main())


@settings(max_examples=60, deadline=None)
@given(
    streams,
    cuts,
    st.dictionaries(st.integers(1, 30), st.booleans()),
    st.sets(st.integers(1, 20), max_size=4),
)
def test_rows_and_notes_do_not_depend_on_crashes_and_lost_answers(
    data: bytes, places: list[int], lost: dict[int, bool], deaths: set[int]
) -> None:
    undisturbed = collected(MemoryObservationLog(), [data])
    assert collected(FlakyLog(lost, deaths), portions(data, places)) == undisturbed
    assert undisturbed[1].offset == len(data)
    assert undisturbed[1].notes.bytes == len(data)
