# SPDX-License-Identifier: Apache-2.0
"""Rows that a pod could not deliver before it had to end, as lines in its log.

The sidecar writes them (`lines`, `last_line`) when the observation service has not answered until
the pod's grace period is nearly over; pod and Job are kept, so the controller reads them back
(`read`) from pods/log and reports them with their own keys (`deliver`). Nothing in a log can be
trusted, for the program prints there too: whose rows they are is what the caller says, never what a
line says, and a forged line can do no more than the program could do by printing metrics.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from tunesmith_api.metrics import Row
from tunesmith_api.observations import Report, SourceKey, SourceNotes
from tunesmith_metrics_collector.collector import AttemptName, Sink
from tunesmith_metrics_collector.sink import split

PREFIX: Final = "[tunesmith] unsent "
UNSENT_ROWS: Final = "unsentRows"
"""The key, in a collector's termination message, of how many rows it left in its log."""

_END: Final = "end"
_ROWS_A_LINE: Final = 100


@dataclass(frozen=True, slots=True)
class Unsent:
    """What was found. `is_complete`: it is all that was written."""

    reports: tuple[Report, ...]
    is_complete: bool


def lines(report: Report) -> Iterator[str]:
    """A report, each line with its newline."""
    for part in _parts(report):
        yield f"{PREFIX}{json.dumps(_as_json(part), separators=(',', ':'))}\n"


def last_line(rows: int) -> str:
    """Behind all reports: how many rows they have."""
    return f"{PREFIX}{json.dumps({_END: rows})}\n"


def read(log: Iterable[str], name: AttemptName) -> Unsent:
    """The reports in a pod's log, in the name of the attempt that the caller knows it to be."""
    found: list[Report] = []
    announced = -1
    for line in log:
        _, mark, text = line.partition(PREFIX)
        # What the program printed last may have had no end; kubelet's timestamps are fine, too.
        if not mark:
            continue
        try:
            value = json.loads(text)
            if _END in value:
                announced = value[_END]
            else:
                found.append(_as_report(value, name))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            continue
    return Unsent(tuple(found), announced == sum(len(report.rows) for report in found))


async def deliver(unsent: Unsent, sink: Sink) -> bool:
    """Reports them; False when a newer attempt has begun. Repeating is free of effects. Raises
    Unavailable, and Invalid for what the log will not take."""
    for report in unsent.reports:
        for part in split(report):
            if (await sink.append(part)).fenced:
                return False
    return True


def _parts(report: Report) -> Sequence[Report]:
    """As `split` does it: only the last says how far the source is stored."""
    rows = report.rows
    starts = range(0, max(len(rows), 1), _ROWS_A_LINE)
    parts = [
        replace(report, rows=rows[i : i + _ROWS_A_LINE], offset=0, ended=False, notes=None)
        for i in starts
    ]
    return [*parts[:-1], replace(report, rows=parts[-1].rows)]


def _as_json(report: Report) -> dict[str, Any]:
    found: dict[str, Any] = {"source": report.key.source}
    if report.rows:
        found["rows"] = [[r.seq, r.metric, r.value, r.time_us, r.step] for r in report.rows]
    if report.offset:
        found["offset"] = report.offset
    if report.ended:
        found["ended"] = True
    if report.notes is not None:
        found["notes"] = asdict(report.notes)
    return found


def _as_report(value: Any, name: AttemptName) -> Report:
    key = SourceKey(name.trial_uid, name.attempt, _text(value["source"]))
    notes = value.get("notes")
    return Report(
        key,
        [_row(*row) for row in value.get("rows", ())],
        _number(value.get("offset", 0)),
        name.trial_name,
        name.namespace,
        value.get("ended") is True,
        None if notes is None else _notes(notes),
    )


def _row(seq: Any, metric: Any, value: Any, time_us: Any, step: Any) -> Row:
    known_step = None if step is None else _number(step)
    return Row(_number(seq), _text(metric), _text(value), _number(time_us), known_step)


def _notes(value: Any) -> SourceNotes:
    return SourceNotes(
        tuple(_text(name) for name in value["metric_names"]),
        tuple(_text(line) for line in value["last_lines"]),
        _number(value["lines"]),
        _number(value["bytes"]),
        _number(value["skipped"]),
        _text(value["filter"]),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} is no number")
    return value
