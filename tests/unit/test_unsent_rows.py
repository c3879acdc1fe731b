# SPDX-License-Identifier: Apache-2.0
"""Rows that a pod could not deliver survive in its log, between whatever the program printed."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_observations import MemoryObservationLog

from tunesmith_api.metrics import Row
from tunesmith_api.observations import Report, SourceKey, SourceNotes
from tunesmith_metrics_collector.collector import AttemptName
from tunesmith_metrics_collector.unsent import PREFIX, deliver, last_line, lines, read

NAME = AttemptName("uid-1", 2, "t1", "ns")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ROWS = st.lists(
    st.builds(
        Row,
        st.integers(0, 1 << 62),
        TEXT,
        TEXT,
        st.integers(-(1 << 62), 1 << 62),
        st.none() | st.integers(-9, 9),
    ),
    max_size=250,
)
NOTES = st.builds(SourceNotes, st.tuples(TEXT), st.tuples(TEXT, TEXT), st.just(3))
REPORTS = st.builds(
    Report,
    st.builds(SourceKey, st.just("uid-1"), st.just(2), TEXT),
    ROWS,
    st.integers(0, 1 << 52),
    st.just("t1"),
    st.just("ns"),
    st.booleans(),
    st.none() | NOTES,
)
NOISE = st.lists(st.sampled_from(["", "loss=1\n", f"{PREFIX}{{\n", f"{PREFIX}[]\n", "no end"]))


def written(reports: list[Report]) -> list[str]:
    rows = sum(len(report.rows) for report in reports)
    return [*(line for report in reports for line in lines(report)), last_line(rows)]


@given(st.lists(REPORTS, max_size=4), NOISE)
def test_what_is_written_is_read_back_in_spite_of_noise(
    reports: list[Report], noise: list[str]
) -> None:
    log = "".join([*noise, *written(reports)]).splitlines(keepends=True)
    found = read(log, NAME)
    assert found.is_complete
    for source in {report.key.source for report in reports}:
        before = [r for r in reports if r.key.source == source]
        after = [r for r in found.reports if r.key.source == source]
        assert [row for r in after for row in r.rows] == [row for r in before for row in r.rows]
        states = [(r.offset, r.ended, r.notes) for r in after if r.offset or r.ended or r.notes]
        assert states == [
            (r.offset, r.ended, r.notes) for r in before if r.offset or r.ended or r.notes
        ]


def test_a_log_that_was_cut_is_known_to_be() -> None:
    rows = [Row(i, "loss", "1") for i in range(300)]
    log = written([Report(SourceKey("uid-1", 2, "stdout"), rows, 10, "t1", "ns", True)])
    assert read(log, NAME).is_complete
    assert not read(log[1:], NAME).is_complete
    assert not read(log[:-1], NAME).is_complete


def test_a_forged_line_counts_for_the_trial_that_printed_it_and_no_other() -> None:
    forged = '{"source":"stdout","trial_uid":"uid-9","attempt":9,"rows":[[1,"loss","0",0,null]]}'
    (report,) = read([PREFIX + forged], NAME).reports
    assert report.key == SourceKey("uid-1", 2, "stdout")


@pytest.mark.parametrize(
    "text",
    [
        '{"source":1}',
        '{"source":"s","rows":[[true,"a","b",0,null]]}',
        '{"source":"s","rows":[["1","a","b",0,null]]}',
        '{"source":"s","rows":[[1,"a"]]}',
        '{"source":"s","notes":{}}',
        '{"source":"s","offset":"9"}',
        "null",
        "[" * 100_000,
    ],
)
def test_what_is_no_report_is_passed_over(text: str) -> None:
    assert read([PREFIX + text], NAME).reports == ()


def test_delivering_twice_is_delivering_once() -> None:
    async def scenario() -> None:
        log = MemoryObservationLog()
        rows = [Row(i, "loss", str(i)) for i in range(2500)]
        key = SourceKey("uid-1", 2, "stdout@1")
        unsent = read(written([Report(key, rows, 10, "t1", "ns", True)]), NAME)
        for _ in range(2):
            assert await deliver(unsent, log)
        assert list(await log.rows("uid-1", 2)) == rows
        assert (await log.sources("uid-1", 2))["stdout@1"].ended
        await log.fence("uid-1", 3)
        assert not await deliver(unsent, log)

    asyncio.run(scenario())
