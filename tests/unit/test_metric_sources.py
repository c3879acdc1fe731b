# SPDX-License-Identifier: Apache-2.0
"""A program that prints a metric and reports it too: which of the two is believed."""

from __future__ import annotations

import asyncio

import given
import pytest
from memory_observations import MemoryObservationLog

from tunesmith_api.advice import warnings
from tunesmith_api.metrics import Row, summarise
from tunesmith_api.observations import Report, SourceKey, SourceNotes, SourceState
from tunesmith_controller.trial.decide import Snapshot, explain_missing

PRINTED = [Row(0, "loss", "5", source="stdout"), Row(9_000, "loss", "7", source="stdout")]
PUSHED = [Row(10, "loss", "1", source="push"), Row(20, "loss", "2", source="push")]


def figures(rows: list[Row]) -> tuple[str, str, str]:
    found = summarise(rows, ["loss"])[0]
    return found.min, found.max, found.latest


@pytest.mark.parametrize("rows", [PRINTED + PUSHED, PUSHED + PRINTED, PUSHED])
def test_a_reported_metric_comes_before_the_printed_one(rows: list[Row]) -> None:
    assert figures(rows) == ("1", "2", "2")


def test_a_metric_that_is_only_printed_is_read_from_there_beside_reported_ones() -> None:
    rows = [*PRINTED, Row(10, "accuracy", "0.5", source="push")]
    assert [s.latest for s in summarise(rows, ["loss", "accuracy"])] == ["7", "0.5"]


def test_a_report_that_diverged_is_not_saved_by_an_old_printed_value() -> None:
    assert figures([*PRINTED, Row(0, "loss", "nan", source="push")])[2] == "nan"


def test_katibs_report_comes_after_ours_and_before_what_was_printed() -> None:
    katib = [Row(0, "loss", "3", source="katib")]
    assert figures(PRINTED + katib) == ("3", "3", "3")
    assert figures(PUSHED + katib) == ("1", "2", "2")


def test_a_log_says_of_each_row_where_it_came_from() -> None:
    async def read() -> list[str]:
        log = MemoryObservationLog()
        for source in ("stdout", "push"):
            await log.append(Report(SourceKey("uid", 1, source), [Row(0, "loss", "1")], 9))
        return [row.source for row in await log.rows("uid", 1)]

    assert asyncio.run(read()) == ["push", "stdout"]


# ---- when there is none ----------------------------------------------------------------------


def explained(metric: str, *names: str) -> str:
    trial = given.trial()
    objective = trial.spec.objective
    assert objective is not None
    wanted = objective.with_(objective_metric_name=metric)
    trial = trial.with_(spec=trial.spec.with_(objective=wanted))
    notes = SourceNotes(metric_names=names, last_lines=("end",))
    sources = {"stdout": SourceState(9, True, notes)}
    return explain_missing(trial, Snapshot(trial, sources=sources), complete=True)


def test_a_name_without_a_number_is_not_called_unreported() -> None:
    message = explained("loss", "accuracy", "loss")
    assert "'loss' was named but without a number" in message
    assert "did you mean" not in message


def test_a_name_that_the_default_filter_cannot_find_is_to_be_reported_by_a_call() -> None:
    assert "Call tunesmith.report(**{'val/loss': 0.93})" in explained("val/loss", "loss")
    assert "Print it as `val-loss=0.93`" in explained("val-loss")


def test_such_a_name_is_warned_of_before_anything_runs() -> None:
    def warned(metric: str) -> list[str]:
        return [w.field for w in warnings(given.experiment(metric=metric).json())]

    assert warned("val/loss") == ["spec.objective.objectiveMetricName"]
    assert warned("val-loss|1") == []
