# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: S101
"""The contract of `ObservationLog` as a test class, for authors of other logs.

Subclass `ObservationLogContract` in a pytest module and say how a log is opened; pytest must be
installed. Nothing else imports this module.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TypeVar

import pytest

from tunesmith_api.errors import Invalid
from tunesmith_api.metrics import Row
from tunesmith_api.observations import (
    Acknowledged,
    ObservationLog,
    Report,
    SourceKey,
    SourceNotes,
    SourceState,
)
from tunesmith_observation.limits import Limits

SUITE_LIMITS = Limits(rows_per_trial=100_000)
"""The suite opens logs with this limit on rows, and the default ones otherwise."""

_Suite = TypeVar("_Suite", bound="ObservationLogContract")

UID, ATTEMPT = "5f9c1f6e-0001-4000-8000-000000000001", 1
STDOUT = SourceKey(UID, ATTEMPT, "stdout")
PUSH = SourceKey(UID, ATTEMPT, "push")


def _scenario(
    body: Callable[[_Suite, ObservationLog], Awaitable[None]],
) -> Callable[[_Suite, Path], None]:
    """A test that runs `body` on a fresh log. (pytest would look through functools.wraps.)"""

    def test(self: _Suite, tmp_path: Path) -> None:
        async def run() -> None:
            async with self.open_log(tmp_path, SUITE_LIMITS) as log:
                await body(self, log)

        asyncio.run(run())

    test.__name__, test.__qualname__, test.__doc__ = (
        body.__name__,
        body.__qualname__,
        body.__doc__,
    )
    return test


def loss_rows(count: int, first: int = 0) -> list[Row]:
    """Rows of "loss" with seq 0, 1024, 2048, ... from the `first`-th on."""
    return [Row(i * 1024, "loss", f"0.{i}", i * 1000, i) for i in range(first, first + count)]


def _report(
    rows: Sequence[Row] = (), offset: int = 0, key: SourceKey = STDOUT, ended: bool = False
) -> Report:
    return Report(key, rows, offset, "trial-a", "team", ended)


class ObservationLogContract:
    """What every observation log does. Each test opens a new one."""

    def open_log(self, folder: Path, limits: Limits) -> AbstractAsyncContextManager[ObservationLog]:
        """An empty log; `folder` is the test's own."""
        raise NotImplementedError

    @_scenario
    async def test_rows_come_back_as_they_were_reported(self, log: ObservationLog) -> None:
        rows = [
            Row(0, "loss", "0.50", 1_700_000_000_123_456, 7),
            Row(1, "accuracy", "nan"),
            Row((1 << 63) - 1, "loss", "-inf", -5, -1),
        ]
        assert await log.append(_report(rows, 90)) == Acknowledged(90)
        assert list(await log.rows(UID, ATTEMPT)) == rows

    @_scenario
    async def test_repeating_a_report_changes_nothing(self, log: ObservationLog) -> None:
        for _ in range(3):
            assert await log.append(_report(loss_rows(5), 50)) == Acknowledged(50)
        assert list(await log.rows(UID, ATTEMPT)) == loss_rows(5)

    @_scenario
    async def test_a_key_keeps_the_row_that_came_first(self, log: ObservationLog) -> None:
        await log.append(_report([Row(0, "loss", "1")]))
        await log.append(_report([Row(0, "loss", "2"), Row(1, "loss", "3")]))
        assert list(await log.rows(UID, ATTEMPT)) == [Row(0, "loss", "1"), Row(1, "loss", "3")]

    @_scenario
    async def test_reports_may_come_late_and_twice_and_overlap(self, log: ObservationLog) -> None:
        rows = loss_rows(30)
        for start, end in ((10, 20), (20, 30), (10, 20), (0, 10), (5, 25)):
            await log.append(_report(rows[start:end], end))
        assert list(await log.rows(UID, ATTEMPT)) == rows
        assert (await log.sources(UID, ATTEMPT))["stdout"].offset == 30

    @_scenario
    async def test_rows_are_in_the_order_of_source_and_seq_whatever_their_time(
        self, log: ObservationLog
    ) -> None:
        out, push = loss_rows(3), [Row(5, "loss", "9", 1), Row(6, "loss", "8", 0)]
        await log.append(_report(list(reversed(out))))
        await log.append(_report(push, key=PUSH))
        found = await log.rows(UID, ATTEMPT)
        assert list(found) == push + out
        assert [row.source for row in found] == ["push"] * 2 + ["stdout"] * 3

    @_scenario
    async def test_sources_are_ordered_by_code_point(self, log: ObservationLog) -> None:
        names = ["B", "a", "z", "é", "file:/x"]
        for name in names:
            await log.append(_report([Row(0, "loss", name)], key=SourceKey(UID, 1, name)))
        assert [row.value for row in await log.rows(UID, 1)] == sorted(names)

    @_scenario
    async def test_one_metric_can_be_read_alone(self, log: ObservationLog) -> None:
        await log.append(_report([Row(0, "loss", "1"), Row(1, "Loss", "2"), Row(2, "loss", "3")]))
        assert [row.value for row in await log.rows(UID, ATTEMPT, metric="loss")] == ["1", "3"]

    @_scenario
    async def test_an_empty_report_makes_the_source_known(self, log: ObservationLog) -> None:
        assert await log.append(_report()) == Acknowledged(0)
        assert dict(await log.sources(UID, ATTEMPT)) == {"stdout": SourceState()}
        assert list(await log.rows(UID, ATTEMPT)) == []

    @_scenario
    async def test_an_offset_never_goes_back(self, log: ObservationLog) -> None:
        await log.append(_report(offset=70))
        assert await log.append(_report(offset=30)) == Acknowledged(70)

    @_scenario
    async def test_an_end_stays_an_end(self, log: ObservationLog) -> None:
        await log.append(_report(offset=70, ended=True))
        await log.append(_report(offset=70))
        assert (await log.sources(UID, ATTEMPT))["stdout"] == SourceState(70, ended=True)

    @_scenario
    async def test_newer_notes_replace_older_ones_only(self, log: ObservationLog) -> None:
        final = SourceNotes(("loss", "é"), ("last\tline \N{SNOWMAN}",), 10, 200, 3, r"(\w+)=(.*)")
        key = STDOUT
        await log.append(Report(key, (), 50, notes=SourceNotes(lines=5)))
        await log.append(Report(key, (), 10, notes=SourceNotes(lines=1)))
        assert (await log.sources(UID, 1))["stdout"].notes.lines == 5
        await log.append(Report(key, (), 90, ended=True, notes=final))
        await log.append(Report(key, (), 10, notes=SourceNotes(lines=1)))
        await log.append(Report(key, (), 90, notes=SourceNotes(lines=2)))
        await log.append(Report(key, (), 90, ended=True))
        assert (await log.sources(UID, 1))["stdout"] == SourceState(90, True, final)

    @_scenario
    async def test_attempts_and_trials_are_kept_apart(self, log: ObservationLog) -> None:
        await log.append(_report([Row(0, "loss", "1")], 5))
        await log.append(_report([Row(0, "loss", "2")], 6, SourceKey(UID, 2, "stdout")))
        await log.append(_report([Row(0, "loss", "3")], 7, SourceKey(UID.upper(), 1, "stdout")))
        assert [row.value for row in await log.rows(UID, 1)] == ["1"]
        assert [row.value for row in await log.rows(UID, 2)] == ["2"]
        assert [s.offset for s in (await log.sources(UID, 2)).values()] == [6]

    @_scenario
    async def test_a_fenced_attempt_is_answered_so_and_stores_nothing(
        self, log: ObservationLog
    ) -> None:
        await log.append(_report(loss_rows(2), 20))
        await log.fence(UID, 2)
        assert await log.append(_report(loss_rows(5), 50, ended=True)) == Acknowledged(20, True)
        assert list(await log.rows(UID, 1)) == loss_rows(2)
        assert (await log.sources(UID, 1))["stdout"] == SourceState(20)

    @_scenario
    async def test_the_attempt_of_the_fence_and_other_trials_go_on(
        self, log: ObservationLog
    ) -> None:
        await log.fence(UID, 2)
        await log.fence(UID, 1)  # late: a fence does not go down
        assert (await log.append(_report(offset=1))).fenced
        assert not (await log.append(_report(offset=1, key=SourceKey(UID, 2, "stdout")))).fenced
        assert not (await log.append(_report(offset=1, key=SourceKey("other", 1, "x")))).fenced

    @_scenario
    async def test_deleting_takes_all_attempts_of_one_trial(self, log: ObservationLog) -> None:
        other, second = SourceKey("other", 1, "stdout"), SourceKey(UID, 2, "push")
        for key in (STDOUT, second, other):
            await log.append(_report(loss_rows(3), 9, key))
        await log.delete(UID)
        for attempt in (1, 2):
            assert not await log.rows(UID, attempt)
            assert not await log.sources(UID, attempt)
        assert list(await log.rows("other", 1)) == loss_rows(3)

    @_scenario
    async def test_deleting_is_repeatable_and_begins_anew(self, log: ObservationLog) -> None:
        await log.delete(UID)
        await log.append(_report(loss_rows(3), 9, ended=True))
        await log.delete(UID)
        await log.delete(UID)
        assert await log.append(_report(loss_rows(1), 4)) == Acknowledged(4)
        assert (await log.sources(UID, 1))["stdout"] == SourceState(4)

    @_scenario
    async def test_a_fence_outlives_deletion(self, log: ObservationLog) -> None:
        await log.fence(UID, 3)
        await log.delete(UID)
        assert (await log.append(_report(loss_rows(1)))).fenced
        assert not await log.rows(UID, 1)

    @_scenario
    async def test_reports_of_a_stopped_attempt_are_stored_and_told_the_first_reason(
        self, log: ObservationLog
    ) -> None:
        await log.append(_report(loss_rows(1), 10))
        await log.stop(UID, ATTEMPT, "the median of 3 trials is better: é")
        await log.stop(UID, ATTEMPT, "another reason")
        told = Acknowledged(20, stop_reason="the median of 3 trials is better: é")
        for key in (STDOUT, PUSH, STDOUT):
            assert await log.append(_report(loss_rows(2), 20, key)) == told
        assert len(await log.rows(UID, ATTEMPT)) == 4
        other = SourceKey(UID, 2, "stdout")
        assert await log.append(_report(offset=1, key=other)) == Acknowledged(1)

    @_scenario
    async def test_an_attempt_can_be_stopped_before_its_first_report(
        self, log: ObservationLog
    ) -> None:
        await log.stop(UID, 2, "late")
        assert (await log.append(_report())).stop_reason == ""
        assert (await log.append(_report(key=SourceKey(UID, 2, "stdout")))).stop_reason == "late"
        await log.fence(UID, 3)
        fenced = await log.append(_report(key=SourceKey(UID, 2, "stdout")))
        assert fenced == Acknowledged(0, fenced=True, stop_reason="late")

    @_scenario
    async def test_deleting_takes_the_stops_too(self, log: ObservationLog) -> None:
        await log.stop(UID, ATTEMPT, "late")
        await log.delete(UID)
        assert await log.append(_report(offset=3)) == Acknowledged(3)

    @pytest.mark.parametrize("reason", ["", "a\0b", "x" * 1025, "\ud800"])
    def test_a_stop_needs_a_reason_that_can_be_kept(self, tmp_path: Path, reason: str) -> None:
        async def run() -> None:
            async with self.open_log(tmp_path, SUITE_LIMITS) as log:
                with pytest.raises(Invalid):
                    await log.stop(UID, ATTEMPT, reason)
                assert not (await log.append(_report())).stop_reason

        asyncio.run(run())

    @_scenario
    async def test_a_big_report_is_stored_whole_and_the_row_limit_is_exact(
        self, log: ObservationLog
    ) -> None:
        most = SUITE_LIMITS.rows_per_trial
        rows = loss_rows(most)
        assert await log.append(_report(rows, 7)) == Acknowledged(7)
        assert await log.append(_report(rows[-10:], 8)) == Acknowledged(8)  # a repeat adds none
        with pytest.raises(Invalid, match=f"{most:,} rows"):
            await log.append(_report(loss_rows(1, first=most), 9, ended=True))
        assert len(await log.rows(UID, 1)) == most
        assert (await log.sources(UID, 1))["stdout"] == SourceState(8)
        await log.append(_report(loss_rows(1), 1, SourceKey("other", 1, "stdout")))

    @_scenario
    async def test_rows_can_be_reported_again_after_the_limit_was_deleted(
        self, log: ObservationLog
    ) -> None:
        await log.append(_report(loss_rows(SUITE_LIMITS.rows_per_trial)))
        await log.delete(UID)
        await log.append(_report(loss_rows(3)))
        assert len(await log.rows(UID, 1)) == 3

    @_scenario
    async def test_texts_are_kept_exactly(self, log: ObservationLog) -> None:
        values = ["NaN", "-Infinity", "1e400", "-0.0", "1,5", "é\N{SNOWMAN}\N{PILE OF POO}"]
        values += ["", " ", "\t\n\r", "x' OR 1=1 --", "%s {} \\", "\x01\x7f", "a" * 1024]
        rows = [Row(i, f"name{value[:9]}é", value) for i, value in enumerate(values)]
        await log.append(_report(rows))
        assert list(await log.rows(UID, 1)) == rows

    @pytest.mark.parametrize(
        "row",
        [
            Row(0, "loss", "a\0b"),
            Row(0, "lo\0ss", "1"),
            Row(0, "loss", "\ud800"),
            Row(0, "loss", "x" * 1025),
            Row(0, "loss", "é" * 513),
            Row(0, "n" * 251, "1"),
            Row(0, "", "1"),
            Row(1 << 63, "loss", "1"),
            Row(-1, "loss", "1"),
            Row(0, "loss", "1", 1 << 63),
            Row(0, "loss", "1", 0, 1 << 63),
        ],
        ids=[
            "NUL in a value",
            "NUL in a name",
            "lone surrogate",
            "value of 1025 bytes",
            "value of 1026 bytes in 513 characters",
            "name of 251 bytes",
            "no name",
            "seq above 2^63-1",
            "negative seq",
            "time above 2^63-1",
            "step above 2^63-1",
        ],
    )
    def test_a_row_that_cannot_be_kept_is_refused_with_its_whole_report(
        self, tmp_path: Path, row: Row
    ) -> None:
        async def run() -> None:
            async with self.open_log(tmp_path, SUITE_LIMITS) as log:
                with pytest.raises(Invalid):
                    await log.append(_report([Row(5, "loss", "1"), row], 9))
                assert not await log.rows(UID, 1)
                assert not await log.sources(UID, 1)

        asyncio.run(run())

    @_scenario
    async def test_many_writers_at_once_lose_nothing(self, log: ObservationLog) -> None:
        keys = [SourceKey(f"trial-{i}", 1, "stdout") for i in range(10)]
        await asyncio.gather(
            *(
                log.append(_report(loss_rows(10, start), start + 10, key))
                for start in (0, 10, 20)
                for key in keys
            )
        )
        for key in keys:
            assert list(await log.rows(key.trial_uid, 1)) == loss_rows(30)
