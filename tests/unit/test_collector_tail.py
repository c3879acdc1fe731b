# SPDX-License-Identifier: Apache-2.0
"""Following a file: what is a line, where it is, and what happens when the file is not nice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tunesmith_metrics_collector.sources.tail import MAX_LINE, Block, LineSplitter, Tail


def drain(tail: Tail) -> list[Block]:
    blocks: list[Block] = []
    while (found := tail.read()) is not None:
        blocks += found
    return blocks


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "output.log"


def test_lines_come_when_they_are_complete_and_the_last_one_at_the_end(path: Path) -> None:
    tail = Tail(path)
    assert tail.read() is None  # no file yet
    append(path, b"one\ntw")
    assert drain(tail) == [Block(b"one\n", 0, 4)]
    append(path, b"o\nthree")
    assert drain(tail) == [Block(b"two\n", 4, 8)]
    assert (tail.finish(), tail.finish()) == (Block(b"three", 8, 13), None)


def test_reading_goes_on_at_an_offset(path: Path) -> None:
    append(path, b"one\ntwo\n")
    assert drain(Tail(path, 4)) == [Block(b"two\n", 4, 8)]


def test_a_carriage_return_before_the_offset_is_seen(path: Path) -> None:
    append(path, b"one\r\ntwo\n")
    first, second = Tail(path, 4), Tail(path, 5)
    drain(first), drain(second)
    assert (first.follows_carriage_return, second.follows_carriage_return) == (True, False)


@pytest.mark.parametrize("extra", [0, 1, 3 * MAX_LINE])
def test_a_line_is_cut_at_1_mib(path: Path, extra: int) -> None:
    long = b"x" * (MAX_LINE + extra)
    append(path, b"a\n" + long + b"\rb\n")
    blocks = drain(Tail(path))
    lines = b"".join(block.data for block in blocks).splitlines()
    assert lines == [b"a", b"x" * MAX_LINE, b"b"]
    assert [block.cut for block in blocks if len(block.data) > 9] == [extra > 0]
    assert blocks[-1].end == len(long) + 5


def test_an_overlong_line_that_never_ends_is_delivered_at_the_end(path: Path) -> None:
    append(path, b"x" * (2 * MAX_LINE))
    tail = Tail(path)
    assert drain(tail) == []
    assert tail.finish() == Block(b"x" * MAX_LINE, 0, 2 * MAX_LINE, cut=True)


def test_a_cut_file_is_read_anew_with_offsets_that_go_on(path: Path) -> None:
    append(path, b"one\ntwo\nrest")
    tail = Tail(path)
    drain(tail)
    path.write_bytes(b"new\n")
    assert drain(tail) == [Block(b"rest", 8, 12), Block(b"new\n", 12, 16)]


def test_a_replaced_file_is_read_to_its_end_and_then_the_new_one(path: Path) -> None:
    append(path, b"one\n")
    tail = Tail(path)
    drain(tail)
    append(path, b"two\n")
    path.rename(path.with_suffix(".1"))
    append(path, b"a longer line\n")
    assert b"".join(block.data for block in drain(tail)) == b"two\na longer line\n"
    assert tail.position == 22


@pytest.mark.parametrize(
    "anew", [b"loss=4\n", b"loss=444\nacc=1\n", b"loss=4"], ids=["same size", "longer", "shorter"]
)
def test_a_file_written_anew_in_place_is_read_from_its_beginning(path: Path, anew: bytes) -> None:
    append(path, b"loss=5\n")
    tail = Tail(path)
    drain(tail)
    path.write_bytes(anew)
    found = drain(tail) + [block for block in [tail.finish()] if block]
    assert b"".join(block.data for block in found) == anew
    assert found[0].offset == 7


def test_content_that_is_written_again_with_more_after_it_is_no_new_content(path: Path) -> None:
    history = b"".join(b"loss=%d\n" % i for i in range(2000))
    append(path, history)
    tail = Tail(path)
    drain(tail)
    path.write_bytes(history + b"loss=x\n")
    assert drain(tail) == [Block(b"loss=x\n", len(history), len(history) + 7)]
    other = path.with_suffix(".new")
    other.write_bytes(history + b"loss=x\nloss=y\n")
    other.replace(path)
    assert b"".join(block.data for block in drain(tail)) == b"loss=y\n"


def test_at_the_end_a_change_that_left_size_and_time_alone_is_seen(path: Path) -> None:
    append(path, b"loss=5\n")
    tail = Tail(path)
    drain(tail)
    before = path.stat()
    path.write_bytes(b"loss=4\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert tail.read() is None
    assert tail.read(at_end=True) == []
    assert tail.read(at_end=True) == [Block(b"loss=4\n", 7, 14)]


def test_a_file_that_takes_a_folders_place_is_read(path: Path) -> None:
    path.mkdir()
    tail = Tail(path)
    with pytest.raises(IsADirectoryError):
        tail.read()
    path.rmdir()
    append(path, b"one\n")
    assert drain(tail) == [Block(b"one\n", 0, 4)]


def test_a_deleted_file_is_read_to_its_end(path: Path) -> None:
    append(path, b"one\n")
    tail = Tail(path)
    drain(tail)
    append(path, b"two\n")
    path.unlink()
    assert drain(tail) == [Block(b"two\n", 4, 8)]


def test_a_file_shorter_than_the_offset_was_cut_meanwhile(path: Path) -> None:
    append(path, b"new\n")
    assert drain(Tail(path, 100)) == [Block(b"new\n", 100, 104)]


def test_a_folder_is_an_error_not_a_hang(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="directory"):
        Tail(tmp_path).read()


def test_a_splitter_takes_any_portion() -> None:
    lines = LineSplitter(max_line=4)
    blocks = lines.feed(b"ab\rcdefghij\n\n12345")
    assert [(block.data, block.cut) for block in blocks] == [
        (b"ab\r", False),
        (b"cdef\n", True),
        (b"\n", False),
    ]
    assert lines.finish() == Block(b"1234", 13, 18, cut=True)
