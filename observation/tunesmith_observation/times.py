# SPDX-License-Identifier: Apache-2.0
"""RFC 3339 texts, as Katib's DBManager speaks them, to and from UTC microseconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from tunesmith_api.errors import Invalid

ZERO_TIME = "0001-01-01T00:00:00Z"
"""What Katib writes where a line had no time."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FORM = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)


def microseconds(text: str) -> int:
    """Digits below a microsecond are cut. No time, and Go's zero time, are 0. Raises Invalid."""
    if text in ("", ZERO_TIME):
        return 0
    try:
        moment = datetime.fromisoformat(text) if _FORM.fullmatch(text) else None
    except ValueError:
        moment = None
    if moment is None:
        raise Invalid(f"{text[:40]!r} is no RFC 3339 time such as 2025-01-31T09:30:00.25Z")
    return (moment - _EPOCH) // timedelta(microseconds=1)


def rfc3339(time_us: int) -> str:
    """In UTC, with as many fractional digits as needed; the zero time for 0 and beyond years."""
    if time_us == 0:
        return ZERO_TIME
    try:
        moment = _EPOCH + timedelta(microseconds=time_us)
    except OverflowError:
        return ZERO_TIME
    seconds = moment.strftime("%Y-%m-%dT%H:%M:%S").zfill(19)
    fraction = f".{moment.microsecond:06d}".rstrip("0") if moment.microsecond else ""
    return f"{seconds}{fraction}Z"
