# SPDX-License-Identifier: Apache-2.0
"""What a report may be: checked by every log before it stores, so that no row is poison later.

A text that one of the engines cannot keep exactly (NUL, a lone surrogate) is refused everywhere;
the collector replaces such characters before they get here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith_api.errors import Invalid
from tunesmith_api.metrics import Row
from tunesmith_api.observations import Report, SourceKey

MAX_INT = (1 << 63) - 1
"""Numbers are kept in signed 64-bit columns."""

UID_BYTES = 260
SOURCE_BYTES = 250
NAME_BYTES = 253
"""As long as a Kubernetes object name may be."""

REASON_BYTES = 1024
"""Of a stop."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes of UTF-8, and a count of rows over all attempts and sources of a trial."""

    rows_per_trial: int = 1_000_000
    metric_bytes: int = 250
    value_bytes: int = 1024
    notes_bytes: int = 256 << 10


class RowLimitReached(Invalid):
    """A trial has its full number of rows; nothing of the report was stored."""

    def __init__(self, trial_uid: str, limit: int) -> None:
        super().__init__(
            f"trial {trial_uid} has reached the limit of {limit:,} rows; what it reports from now"
            " on is not stored: report less often"
        )
        self.trial_uid = trial_uid
        self.limit = limit


def check_report(report: Report, limits: Limits) -> None:
    """Raises Invalid, naming the part, for a report that can never be stored."""
    check_key(report.key)
    check_text("trial_name", report.trial_name, NAME_BYTES)
    check_text("namespace", report.namespace, NAME_BYTES)
    if not 0 <= report.offset <= MAX_INT:
        raise Invalid(f"offset {report.offset} is not in 0..2^63-1")
    check_rows(report.rows, limits)


def check_key(key: SourceKey) -> None:
    """The names of a source; raises Invalid."""
    check_text("trial uid", key.trial_uid, UID_BYTES)
    check_text("source", key.source, SOURCE_BYTES)
    if not key.trial_uid or not key.source:
        raise Invalid("a report needs a trial uid and a source")
    if not 0 <= key.attempt < 1 << 32:
        raise Invalid(f"attempt {key.attempt} is not in 0..2^32-1")


def check_stop(trial_uid: str, attempt: int, reason: str) -> None:
    """Raises Invalid."""
    check_key(SourceKey(trial_uid, attempt, "-"))
    check_text("reason", reason, REASON_BYTES)
    if not reason:
        raise Invalid("a stop needs a reason")


def check_fence(trial_uid: str, attempt: int) -> None:
    """Raises Invalid."""
    check_text("trial uid", trial_uid, UID_BYTES)
    if not 0 <= attempt <= MAX_INT:
        raise Invalid(f"attempt {attempt} is not in 0..2^63-1")


def check_rows(rows: Sequence[Row], limits: Limits) -> None:
    """Each row for itself; raises Invalid."""
    for row in rows:
        if not row.metric:
            raise Invalid(f"the row with seq {row.seq} has no metric name")
        check_text("metric name", row.metric, limits.metric_bytes)
        check_text("value", row.value, limits.value_bytes)
        if not 0 <= row.seq <= MAX_INT:
            raise Invalid(f"seq {row.seq} is not in 0..2^63-1")
        if abs(row.time_us) > MAX_INT or abs(row.step or 0) > MAX_INT:
            raise Invalid(f"the row with seq {row.seq}: time or step is beyond 64 bits")


def check_text(what: str, text: str, limit: int) -> None:
    """Raises Invalid for a text above `limit` bytes or one that no engine keeps as it is."""
    if text.isascii():
        size = len(text)
    else:
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            raise Invalid(f"{what} {text[:40]!r} is not valid Unicode") from None
    if size > limit:
        raise Invalid(f"{what} {text[:40]!r}... has {size} bytes, the limit is {limit}")
    if "\0" in text:
        raise Invalid(f"{what} {text[:40]!r} contains a NUL character")
