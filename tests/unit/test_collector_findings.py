# SPDX-License-Identifier: Apache-2.0
"""The notes of a stream are the same however it was cut into blocks and collectors."""

from __future__ import annotations

import pytest

from tunesmith_api.observations import SourceNotes
from tunesmith_metrics_collector.findings import Findings, last_lines
from tunesmith_metrics_collector.parsers.text import TextParser
from tunesmith_metrics_collector.sources.tail import Block, LineSplitter

STREAM = b"a=1\r\nb=2\r\n\n\rloss=\r\nlast=3"
PARSER = TextParser(["loss"])


def notes(parts: list[bytes], before: SourceNotes | None = None, after: bytes = b"") -> SourceNotes:
    """Of a stream that is fed in these parts after the byte `after`."""
    findings = Findings(PARSER, before or SourceNotes(), follows_carriage_return=after == b"\r")
    lines = LineSplitter(before.bytes if before else 0)
    blocks = [block for part in parts for block in lines.feed(part)]
    last = lines.finish()
    for block in [*blocks, *([last] if last else [])]:
        findings.add(block, PARSER.parse(block))
    return findings.notes()


@pytest.mark.parametrize("place", range(len(STREAM) + 1))
def test_notes_do_not_depend_on_blocks(place: int) -> None:
    whole = notes([STREAM])
    assert notes([STREAM[:place], STREAM[place:]]) == whole
    assert whole.metric_names == ("a", "b", "last", "loss")
    assert whole.last_lines == ("a=1", "b=2", "loss=", "last=3")
    assert (whole.lines, whole.bytes, whole.skipped) == (6, len(STREAM), 1)


@pytest.mark.parametrize("place", [i + 1 for i, byte in enumerate(STREAM) if byte in b"\r\n"])
def test_a_later_collector_adds_to_the_notes_of_an_earlier_one(place: int) -> None:
    first = notes([STREAM[:place]])
    assert notes([STREAM[place:]], first, STREAM[place - 1 : place]) == notes([STREAM])


def test_a_cut_line_counts_as_skipped() -> None:
    findings = Findings(PARSER, SourceNotes(), follows_carriage_return=False)
    block = Block(b"x" * 10 + b"\n", 0, 99, cut=True)
    findings.add(block, PARSER.parse(block))
    assert (findings.notes().lines, findings.notes().bytes, findings.notes().skipped) == (1, 99, 1)


def test_the_last_lines_are_found_behind_much_blank_text() -> None:
    data = b"first\n" + b"\n" * 20_000 + b"second\n" + b" \n" * 20_000
    assert last_lines(data) == ["first", "second"]
