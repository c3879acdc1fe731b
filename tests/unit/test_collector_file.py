# SPDX-License-Identifier: Apache-2.0
"""Collector kind File: a file that the program writes, in whatever manner programs do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest
from memory_observations import MemoryObservationLog

from tunesmith_api.observations import SourceState
from tunesmith_metrics_collector.collector import Timing
from tunesmith_metrics_collector.fleet import CollectedAttempt, CollectorFleet, MetricsFile

FAST = Timing(poll=0.002, idle_report=0.005, first_retry=0.001, last_retry=0.002)
SHOWN = "/var/log/katib/metrics.log"
Log = MemoryObservationLog


def attempt(path: Path, form: str = "TEXT", filters: tuple[str, ...] = ()) -> CollectedAttempt:
    return CollectedAttempt(
        "uid-1",
        1,
        "trial-a",
        "team",
        output=None,
        metrics_file=path.with_name("report.jsonl"),
        metrics=("loss", "accuracy"),
        filters=filters,
        file=MetricsFile(path, form, SHOWN),
    )


class Bench:
    """A running attempt of a fleet on a log in memory."""

    def __init__(self, described: CollectedAttempt) -> None:
        self.log = MemoryObservationLog()
        self.fleet = CollectorFleet(self.log, FAST)
        self.fleet.start(described)

    async def values(self, source: str = "file") -> list[str]:
        return [row.value for row in await self.log.rows("uid-1", 1) if row.source == source]

    async def until(self, *values: str) -> None:
        async with asyncio.timeout(5):
            while await self.values() != list(values):
                await asyncio.sleep(0.001)

    async def end(self) -> SourceState:
        self.fleet.finish("uid-1", 1)
        async with asyncio.timeout(5):
            await self.fleet.wait("uid-1", 1)
        states = await self.log.sources("uid-1", 1)
        assert sorted(states) == ["file", "push"]
        return states["file"]


def on(
    described: CollectedAttempt, scenario: Callable[[Bench], Coroutine[None, None, None]]
) -> None:
    async def run() -> None:
        bench = Bench(described)
        await scenario(bench)
        await bench.fleet.aclose()

    asyncio.run(run())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.log"


def test_text_of_a_file_that_appears_late_streams(path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.until()
        path.write_text("epoch 1\nloss=3 accuracy=0.5\n")
        await bench.until("3", "0.5")
        with path.open("a") as file:
            file.write("loss=2")
        assert (await bench.end()).ended
        assert await bench.values() == ["3", "0.5", "2"]

    on(attempt(path), scenario)


def test_own_filters_hold_for_a_file(path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        path.write_text("loss: 3 loss=4\n")
        await bench.end()
        assert await bench.values() == ["3"]

    on(attempt(path, filters=(r"(\w+): ([0-9.]+)",)), scenario)


def test_json_takes_texts_and_numbers_and_says_how_many_lines_it_could_not_read(
    path: Path,
) -> None:
    async def scenario(bench: Bench) -> None:
        path.write_text('{"loss": "3"}\n{"loss": 2, "timestamp": 1.5}\nloss=1\n{"loss": NaN}\n{\n')
        notes = (await bench.end()).notes
        assert await bench.values() == ["3", "2", "NaN"]
        assert notes.skipped == 2
        assert notes.last_lines[-1] == (
            f"[tunesmith] 2 of the lines and values in {SHOWN} cannot be read as"
            " one JSON object a line with numbers"
        )

    on(attempt(path, "JSON"), scenario)


def test_reports_count_beside_a_file(path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        path.write_text("loss=3\n")
        path.with_name("report.jsonl").write_text('{"loss": 7}\n')
        await bench.end()
        assert (await bench.values(), await bench.values("push")) == (["3"], ["7"])

    on(attempt(path), scenario)


def test_a_program_that_keeps_only_its_newest_figures_is_followed(path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        path.write_text("loss=0.5\n")
        await bench.until("0.5")
        path.write_text("loss=0.4\n")
        await bench.until("0.5", "0.4")
        path.unlink()
        path.write_text("loss=0.3\n")
        await bench.end()
        assert await bench.values() == ["0.5", "0.4", "0.3"]

    on(attempt(path), scenario)


def test_a_rotated_file_is_read_to_its_end_and_then_the_new_one(path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        path.write_text("loss=5\n")
        await bench.until("5")
        with path.open("a") as file:
            file.write("loss=4\n")
        path.rename(path.with_suffix(".1"))
        path.write_text("loss=3\n")
        await bench.end()
        assert await bench.values() == ["5", "4", "3"]

    on(attempt(path), scenario)


@pytest.mark.parametrize(
    ("prepare", "told"),
    [
        (lambda path: None, f"the file {SHOWN} was never written"),
        (lambda path: path.touch(), f"the file {SHOWN} is empty"),
        (lambda path: path.mkdir(), f"cannot read {SHOWN}: Is a directory"),
    ],
    ids=["absent", "empty", "folder"],
)
def test_a_file_without_anything_in_it_is_explained(
    path: Path, prepare: Callable[[Path], None], told: str
) -> None:
    async def scenario(bench: Bench) -> None:
        prepare(path)
        assert (await bench.end()).notes.last_lines == (f"[tunesmith] {told}",)

    on(attempt(path), scenario)


def test_an_unknown_format_ends_without_rows_and_says_so(path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        path.write_text("loss=1\n")
        assert "'XML' is neither TEXT nor JSON" in (await bench.end()).notes.filter
        assert await bench.values() == []

    on(attempt(path, "XML"), scenario)
