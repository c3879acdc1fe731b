# SPDX-License-Identifier: Apache-2.0
"""What a parser is, and how rows are numbered; the formats beside it implement this.

`seq` is the byte offset of the line times 1,024 plus the index of the value within the line. So it
grows along the stream, fits 63 bits for streams up to 8 PiB, and is the same whenever the same
bytes are read again: a repeated report has the same keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from tunesmith_api.metrics import Row
from tunesmith_metrics_collector.sources.tail import Block

VALUES_PER_LINE: Final = 1024
"""More values of one line are counted as skipped."""

MAX_VALUE_BYTES: Final = 1024
MAX_NAME_BYTES: Final = 250

_MAX_OFFSET: Final = ((1 << 63) - 1) // VALUES_PER_LINE


@dataclass(slots=True)
class Parsed:
    """What a block contains. `skipped` counts what looked like a metric and could not be read;
    `names` are those met on lines that were looked at, wanted or not, at most once each."""

    rows: list[Row] = field(default_factory=list)
    skipped: int = 0
    names: dict[str, None] = field(default_factory=dict)


class Parser(Protocol):
    """Finds the wanted metrics in lines. Never raises for what the lines contain."""

    @property
    def description(self) -> str:
        """The filter, for people."""
        ...

    @property
    def form(self) -> str:
        """What a value that counts looks like: "numbers", "one JSON object a line"."""
        ...

    def parse(self, block: Block) -> Parsed:
        """The rows of a block, in order."""
        ...

    def names(self, line: bytes) -> Sequence[str]:
        """Every metric name that the format sees on a line, wanted or not."""
        ...


@dataclass(frozen=True, slots=True)
class Value:
    """A wanted metric on a line, as printed."""

    metric: str
    text: str


def add_rows(
    parsed: Parsed, offset: int, values: Sequence[Value], time_us: int, step: int | None
) -> None:
    """Numbers the values of the line at `offset`; what the log would refuse is skipped."""
    kept = 0
    for value in values:
        text = storable(value.text)
        is_kept = text and _fits(text, MAX_VALUE_BYTES)
        if not is_kept or kept == VALUES_PER_LINE or offset > _MAX_OFFSET:
            parsed.skipped += 1
            continue
        parsed.rows.append(Row(offset * VALUES_PER_LINE + kept, value.metric, text, time_us, step))
        kept += 1


def storable(text: str) -> str:
    """The text without what no database keeps: NUL, and surrogates (JSON can escape them)."""
    if not text.isascii():
        text = text.encode(errors="replace").decode()
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def wanted_names(metrics: Sequence[str]) -> frozenset[str]:
    """The metrics that a line can contain and a log can keep."""
    return frozenset(
        name
        for name in metrics
        if name and name == storable(name) and len(name.splitlines()) == 1
        if _fits(name, MAX_NAME_BYTES)
    )


def _fits(text: str, limit: int) -> bool:
    return len(text) <= limit and (text.isascii() or len(text.encode()) <= limit)
