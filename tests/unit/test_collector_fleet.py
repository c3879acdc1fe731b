# SPDX-License-Identifier: Apache-2.0
"""Collectors of attempts on one machine: streaming, ends, fences, refusals and failures."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path

import pytest
from memory_observations import MemoryObservationLog

from tunesmith_api.errors import Unavailable
from tunesmith_api.metrics import Row
from tunesmith_api.observations import Acknowledged, Report, SourceState
from tunesmith_metrics_collector.collector import Timing
from tunesmith_metrics_collector.fleet import CollectedAttempt, CollectorFleet
from tunesmith_observation.limits import Limits

FAST = Timing(poll=0.002, idle_report=0.005, first_retry=0.001, last_retry=0.002)
UID = "uid-1"


def attempt(
    folder: Path, number: int = 1, uid: str = UID, filters: tuple[str, ...] = ()
) -> CollectedAttempt:
    output, metrics_file = folder / f"{uid}-{number}.log", folder / f"{uid}-{number}.json"
    return CollectedAttempt(
        uid, number, "trial-a", "team", output, metrics_file, ("loss",), filters
    )


def write(described: CollectedAttempt, text: str) -> None:
    assert described.output is not None
    with described.output.open("a") as file:
        file.write(text)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(2):
        while not await condition():
            await asyncio.sleep(0.001)


async def losses(log: MemoryObservationLog, number: int = 1, uid: str = UID) -> list[str]:
    return [row.value for row in await log.rows(uid, number)]


async def collect_whole(log: MemoryObservationLog, described: CollectedAttempt) -> None:
    """Starts, finishes and waits, as an owner does with an attempt that is over."""
    fleet = CollectorFleet(log, FAST)
    fleet.start(described)
    fleet.finish(described.trial_uid, described.attempt)
    async with asyncio.timeout(2):
        await fleet.wait(described.trial_uid, described.attempt)
    await fleet.aclose()


def run(scenario: Coroutine[object, object, None]) -> None:
    asyncio.run(scenario)


def test_rows_stream_while_the_attempt_runs_and_its_end_is_reported(tmp_path: Path) -> None:
    async def scenario() -> None:
        log, described = MemoryObservationLog(), attempt(tmp_path)
        fleet = CollectorFleet(log, FAST)
        fleet.start(described)
        write(described, "loss=3\nlo")
        await until(lambda: _equal(losses(log), ["3"]))
        write(described, "ss=2")
        fleet.finish(UID, 1)
        await fleet.wait(UID, 1)
        assert await losses(log) == ["3", "2"]
        assert {name: s.ended for name, s in (await log.sources(UID, 1)).items()} == {
            "stdout": True,
            "push": True,
        }
        await fleet.aclose()

    run(scenario())


async def _equal(actual: Awaitable[object], expected: object) -> bool:
    return await actual == expected


def test_text_and_json_are_two_sources(tmp_path: Path) -> None:
    async def scenario() -> None:
        log, described = MemoryObservationLog(), attempt(tmp_path)
        write(described, "loss=3\n")
        assert described.metrics_file is not None
        described.metrics_file.write_text('{"step": 5, "loss": 0.25}\n')
        await collect_whole(log, described)
        assert await log.rows(UID, 1) == [Row(0, "loss", "0.25", 0, 5), Row(0, "loss", "3")]

    run(scenario())


def test_an_attempt_without_output_or_files_ends_too(tmp_path: Path) -> None:
    async def scenario() -> None:
        log = MemoryObservationLog()
        await collect_whole(log, attempt(tmp_path))
        states = await log.sources(UID, 1)
        assert [(s.offset, s.ended) for s in states.values()] == [(0, True), (0, True)]

    run(scenario())


def test_notes_explain_a_missing_metric(tmp_path: Path) -> None:
    async def scenario() -> None:
        log, described = MemoryObservationLog(), attempt(tmp_path)
        write(described, "".join(f"step {i}\r\n" for i in range(20)) + "\nacc=0.9\nloss=\ndone")
        await collect_whole(log, described)
        notes = (await log.sources(UID, 1))["stdout"].notes
        assert notes.metric_names == ("acc", "loss")
        assert notes.last_lines[-3:] == ("acc=0.9", "loss=", "done")
        assert (len(notes.last_lines), notes.lines, notes.skipped) == (10, 24, 1)
        assert r"[\w|-]+" in notes.filter

    run(scenario())


def test_notes_are_bounded(tmp_path: Path) -> None:
    async def scenario() -> None:
        log, described = MemoryObservationLog(), attempt(tmp_path)
        write(described, "".join(f"n{i}=1 loss=1 {'é' * 2000}\n" for i in range(300)))
        await collect_whole(log, described)
        notes = (await log.sources(UID, 1))["stdout"].notes
        assert (len(notes.metric_names), {len(line) for line in notes.last_lines}) == (100, {500})

    run(scenario())


class OrderedLog(MemoryObservationLog):
    """Remembers what was known when a source ended."""

    def __init__(self) -> None:
        super().__init__()
        self.known_at_ends: list[set[str]] = []

    async def append(self, report: Report) -> Acknowledged:
        if report.ended:
            self.known_at_ends.append(set(await self.sources(UID, 1)))
        return await super().append(report)


def test_all_sources_are_known_before_one_ends(tmp_path: Path) -> None:
    async def scenario() -> None:
        log = OrderedLog()
        await collect_whole(log, attempt(tmp_path))
        assert log.known_at_ends == [{"stdout", "push"}] * 2

    run(scenario())


def test_a_fenced_attempt_is_given_up_and_the_new_one_is_collected(tmp_path: Path) -> None:
    async def scenario() -> None:
        log, first, second = MemoryObservationLog(), attempt(tmp_path), attempt(tmp_path, 2)
        fleet = CollectorFleet(log, FAST)
        fleet.start(first)
        write(first, "loss=1\n")
        await until(lambda: _equal(losses(log), ["1"]))
        await log.fence(UID, 2)
        write(first, "loss=9\n")
        write(second, "loss=2\n")
        fleet.start(second)
        fleet.finish(UID, 2)
        async with asyncio.timeout(2):
            await asyncio.gather(fleet.wait(UID, 1), fleet.wait(UID, 2))
        assert (await losses(log, 1), await losses(log, 2)) == (["1"], ["2"])
        await fleet.aclose()

    run(scenario())


def test_a_new_fleet_goes_on_where_the_old_one_was_cut_off(tmp_path: Path) -> None:
    async def scenario() -> None:
        log, described = MemoryObservationLog(), attempt(tmp_path)
        fleet = CollectorFleet(log, FAST)
        fleet.start(described)
        write(described, "loss=1\nloss=2\n")
        await until(lambda: _equal(losses(log), ["1", "2"]))
        await fleet.aclose()
        assert not (await log.sources(UID, 1))["stdout"].ended
        write(described, "loss=3\n")
        await collect_whole(log, described)
        await collect_whole(log, described)  # once more, after its end
        assert await losses(log) == ["1", "2", "3"]
        assert (await log.sources(UID, 1))["stdout"].notes.lines == 3

    run(scenario())


class StubbornLog(MemoryObservationLog):
    """Unavailable until told otherwise; counts what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.is_down = True
        self.calls = 0

    async def append(self, report: Report) -> Acknowledged:
        self.calls += 1
        if self.is_down:
            raise Unavailable("down")
        return await super().append(report)

    async def sources(self, trial_uid: str, attempt: int) -> Mapping[str, SourceState]:
        if self.is_down and not self.calls:
            self.calls += 1
            raise Unavailable("down")
        return await super().sources(trial_uid, attempt)


def test_an_outage_is_waited_out_and_nothing_is_lost(tmp_path: Path) -> None:
    async def scenario() -> None:
        log, described = StubbornLog(), attempt(tmp_path)
        fleet = CollectorFleet(log, FAST)
        fleet.start(described)
        write(described, "".join(f"loss={i}\n" for i in range(5000)))
        fleet.finish(UID, 1)

        async def asked_often() -> bool:
            return log.calls > 5

        await until(asked_often)
        log.is_down = False
        await fleet.wait(UID, 1)
        assert await losses(log) == [str(i) for i in range(5000)]
        await fleet.aclose()

    run(scenario())


def test_no_report_is_above_the_limits_of_a_request(tmp_path: Path) -> None:
    sizes: list[int] = []

    class Counting(MemoryObservationLog):
        async def append(self, report: Report) -> Acknowledged:
            sizes.append(len(report.rows))
            return await super().append(report)

    async def scenario() -> None:
        log, described = Counting(), attempt(tmp_path)
        write(described, "loss=1 loss=2 loss=3\n" * 2500)
        await collect_whole(log, described)
        assert len(await log.rows(UID, 1)) == 7500
        assert max(sizes) == 1000

    run(scenario())


def test_at_the_row_limit_the_attempt_still_ends_and_says_what_is_missing(tmp_path: Path) -> None:
    async def scenario() -> None:
        log, described = MemoryObservationLog(Limits(rows_per_trial=1000)), attempt(tmp_path)
        write(described, "loss=1\n" * 2500)
        await collect_whole(log, described)
        state = (await log.sources(UID, 1))["stdout"]
        assert len(await log.rows(UID, 1)) == 1000
        assert (state.ended, state.notes.skipped) == (True, 1500)
        assert "limit of 1,000 rows" in state.notes.last_lines[-1]

    run(scenario())


def test_an_unusable_filter_ends_the_attempt_with_the_reason(tmp_path: Path) -> None:
    async def scenario() -> None:
        log, described = MemoryObservationLog(), attempt(tmp_path, filters=("(loss",))
        write(described, "loss=1\n")
        await collect_whole(log, described)
        state = (await log.sources(UID, 1))["stdout"]
        assert state.ended
        assert "RE2" in state.notes.filter

    run(scenario())


def test_an_unreadable_file_ends_the_attempt_with_the_reason(tmp_path: Path) -> None:
    async def scenario() -> None:
        log, described = MemoryObservationLog(), attempt(tmp_path)
        assert described.output is not None
        described.output.mkdir()
        await collect_whole(log, described)
        last = (await log.sources(UID, 1))["stdout"].notes.last_lines
        assert last == ("[tunesmith] cannot read uid-1-1.log: Is a directory",)

    run(scenario())


class BrokenOnce(MemoryObservationLog):
    """Fails one report with rows, in a way that no port allows."""

    def __init__(self, error: BaseException, at: int) -> None:
        super().__init__()
        self._error, self._until = error, at

    async def append(self, report: Report) -> Acknowledged:
        self._until -= bool(report.rows)
        if self._until == 0 and report.rows:
            raise self._error
        return await super().append(report)


@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize("error", [KeyError("bug"), asyncio.CancelledError()], ids=repr)
def test_a_collector_that_fails_is_started_again(
    tmp_path: Path, error: BaseException, at: int
) -> None:
    async def scenario() -> None:
        log, described = BrokenOnce(error, at), attempt(tmp_path)
        write(described, "".join(f"loss={i}\n" for i in range(2500)))  # one block, three reports
        await collect_whole(log, described)
        assert await losses(log) == [str(i) for i in range(2500)]
        assert all(state.ended for state in (await log.sources(UID, 1)).values())

    run(scenario())


def test_starting_again_does_nothing_and_forgetting_ends_without_an_end(tmp_path: Path) -> None:
    async def scenario() -> None:
        log, described = MemoryObservationLog(), attempt(tmp_path)
        fleet = CollectorFleet(log, FAST)
        for _ in range(3):
            fleet.start(described)
        fleet.finish("unknown", 1)
        write(described, "loss=1\n")
        await until(lambda: _equal(losses(log), ["1"]))
        await fleet.forget(UID)
        assert not any(state.ended for state in (await log.sources(UID, 1)).values())
        assert len(asyncio.all_tasks()) == 1
        await fleet.aclose()

    run(scenario())


def test_many_attempts_are_collected_side_by_side(tmp_path: Path) -> None:
    async def scenario() -> None:
        log, fleet = MemoryObservationLog(), None
        fleet = CollectorFleet(log, FAST)
        described = [attempt(tmp_path, uid=f"uid-{i}") for i in range(30)]
        for one in described:
            write(one, f"loss={one.trial_uid[4:]}\n")
            fleet.start(one)
            fleet.finish(one.trial_uid, 1)
        await asyncio.gather(*(fleet.wait(one.trial_uid, 1) for one in described))
        found = [await losses(log, uid=one.trial_uid) for one in described]
        assert found == [[str(i)] for i in range(30)]
        await fleet.aclose()

    run(scenario())


class Asked(MemoryObservationLog):
    """Counts reports."""

    def __init__(self) -> None:
        super().__init__()
        self.reports = 0

    async def append(self, report: Report) -> Acknowledged:
        self.reports += 1
        return await super().append(report)


def test_an_ended_attempt_is_forgotten_and_never_read_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        log, described = Asked(), attempt(tmp_path)
        fleet = CollectorFleet(log, FAST)
        for _ in range(2):
            write(described, "loss=1\n")  # the second time nobody may look
            fleet.start(described)
            fleet.finish(UID, 1)
            await fleet.wait(UID, 1)
            reported, log.reports = log.reports, 0
            assert len(fleet) == 0
        assert (await losses(log), reported) == (["1"], 0)
        assert len(asyncio.all_tasks()) == 1
        await fleet.aclose()

    run(scenario())


def test_whoever_listens_hears_of_stored_rows_and_of_nothing_else(tmp_path: Path) -> None:
    async def scenario() -> None:
        log, described, heard = MemoryObservationLog(), attempt(tmp_path), list[str]()
        fleet = CollectorFleet(log, FAST)
        fleet.on_rows(heard.append)
        fleet.start(described)
        write(described, "no metric here\n")

        async def noted() -> bool:
            states = await log.sources(UID, 1)
            return "stdout" in states and states["stdout"].offset > 0

        await until(noted)
        assert heard == []
        write(described, "loss=1\n")
        await until(lambda: _equal(losses(log), ["1"]))
        fleet.finish(UID, 1)
        await fleet.wait(UID, 1)
        assert heard == [UID]
        await fleet.aclose()

    run(scenario())
