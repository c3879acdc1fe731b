# SPDX-License-Identifier: Apache-2.0
"""Messages of tunesmith.v1.Observations from and to the nouns, as the server needs them."""

from __future__ import annotations

from collections.abc import Mapping

from tunesmith_api.metrics import Row
from tunesmith_api.observations import Acknowledged, Report, SourceKey, SourceNotes, SourceState
from tunesmith_observation.sql import Page
from tunesmith_proto.v1 import observations_pb2 as pb


def report(message: pb.ReportRows) -> Report:
    """A request as a report; its values are checked by the log."""
    key = SourceKey(message.key.trial_uid, message.key.attempt, message.key.source)
    return Report(
        key,
        [_row(row) for row in message.rows],
        message.offset,
        message.trial_name,
        message.namespace,
        message.end_of_stream,
        _notes(message.notes) if message.HasField("notes") else None,
    )


def _row(row: pb.Row) -> Row:
    step = row.step if row.HasField("step") else None
    return Row(row.seq, row.metric, row.value, row.time_us, step)


def _notes(notes: pb.SourceNotes) -> SourceNotes:
    return SourceNotes(
        tuple(notes.metric_names),
        tuple(notes.last_lines),
        notes.lines,
        notes.bytes,
        notes.skipped,
        notes.filter,
    )


def acknowledgement(acknowledged: Acknowledged) -> pb.Acknowledgement:
    """The answer to a report."""
    return pb.Acknowledgement(
        offset=acknowledged.offset,
        fenced=acknowledged.fenced,
        stop_reason=acknowledged.stop_reason,
    )


def batch(page: Page) -> pb.RowBatch:
    """A page of rows."""
    rows = [
        pb.Row(seq=row.seq, time_us=row.time_us, metric=row.metric, value=row.value, step=row.step)
        for row in page.rows
    ]
    return pb.RowBatch(rows=rows, source=page.source)


def source_list(sources: Mapping[str, SourceState]) -> pb.SourceList:
    """The sources of an attempt."""
    return pb.SourceList(
        sources=[
            pb.SourceState(
                source=name, offset=state.offset, ended=state.ended, notes=_notes_of(state.notes)
            )
            for name, state in sources.items()
        ]
    )


def _notes_of(notes: SourceNotes) -> pb.SourceNotes:
    return pb.SourceNotes(
        metric_names=notes.metric_names,
        last_lines=notes.last_lines,
        lines=notes.lines,
        bytes=notes.bytes,
        skipped=notes.skipped,
        filter=notes.filter,
    )
