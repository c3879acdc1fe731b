# SPDX-License-Identifier: Apache-2.0
"""Time stamps of log lines as UTC microseconds; what is no time is 0."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FORM = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([Ee][+-]?\d+)?", re.ASCII)
_MAX_SECONDS = 253_402_300_800  # the year 10000
_MAX_TEXT = 64


def from_rfc3339(text: str) -> int:
    """Digits below a microsecond are cut; Go's zero time, 0001-01-01T00:00:00Z, is 0."""
    if len(text) > _MAX_TEXT or not _FORM.fullmatch(text):
        return 0
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return 0
    if moment.year == 1:
        return 0
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_unix(text: str) -> int:
    """Seconds with a fraction, of which digits below a microsecond are cut. Katib reads the
    fraction's digits as a count of nanoseconds, so that .5 is 5 ns; here it is half a second."""
    if len(text) > _MAX_TEXT or not _DECIMAL.fullmatch(text):
        return 0
    try:
        seconds = Decimal(text)
    except InvalidOperation:  # an exponent of many digits
        return 0
    if not -_MAX_SECONDS < seconds < _MAX_SECONDS:
        return 0
    return int(seconds * 1_000_000)
