# SPDX-License-Identifier: Apache-2.0
"""JSON lines, as `tunesmith.report` writes them and Katib's JSON format has them.

One object a line: metrics by name, `timestamp` (RFC 3339, or Unix seconds with a fraction) and
`step`. Values are numbers, kept as they are written, or texts such as "0.5", "NaN" and "Infinity".
A line that is no object is skipped and counted, as is a wanted metric that is neither.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Final

from tunesmith_metrics_collector.parsers.protocol import (
    Parsed,
    Value,
    add_rows,
    wanted_names,
)
from tunesmith_metrics_collector.parsers.times import from_rfc3339, from_unix
from tunesmith_metrics_collector.sources.tail import Block

_RESERVED: Final = frozenset({"timestamp", "step"})
_LINE: Final = re.compile(rb"[^\r\n]+")
_INTEGER: Final = re.compile(r"-?\d{1,19}", re.ASCII)


class _Number(str):
    """A JSON number as it was written."""

    __slots__ = ()


# Names repeat on every line and values are kept as texts: nothing is ever converted to a float.
_DECODER: Final = json.JSONDecoder(parse_float=_Number, parse_int=_Number, parse_constant=_Number)


class JsonLinesParser:
    """The `Parser` for JSON lines."""

    def __init__(self, metrics: Sequence[str]) -> None:
        self._wanted = wanted_names(metrics)

    @property
    def description(self) -> str:
        return "JSON lines"

    def parse(self, block: Block) -> Parsed:
        parsed = Parsed()
        for match in _LINE.finditer(block.data):
            line = match.group()
            if line.isspace():
                continue
            entry = _entry(line)
            if entry is None:
                parsed.skipped += 1
            else:
                self._add(parsed, block.offset + match.start(), entry)
        return parsed

    def names(self, line: bytes) -> Sequence[str]:
        return [name for name in _entry(line) or () if name not in _RESERVED]

    def _add(self, parsed: Parsed, offset: int, entry: Mapping[str, object]) -> None:
        values = []
        for name, value in entry.items():
            if name in _RESERVED:
                continue
            parsed.names[name] = None
            if name in self._wanted:
                # What is no text is skipped with the empty ones.
                values.append(Value(name, value.strip() if isinstance(value, str) else ""))
        if values:
            add_rows(parsed, offset, values, _time(entry), _step(entry))


def _entry(line: bytes) -> Mapping[str, object] | None:
    try:
        entry = _DECODER.decode(line.decode(errors="replace"))
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


def _time(entry: Mapping[str, object]) -> int:
    value = entry.get("timestamp")
    if isinstance(value, _Number):
        return from_unix(value)
    return from_rfc3339(value) if isinstance(value, str) else 0


def _step(entry: Mapping[str, object]) -> int | None:
    value = entry.get("step")
    if not isinstance(value, _Number) or not _INTEGER.fullmatch(value):
        return None
    step = int(value)
    return step if abs(step) < 1 << 63 else None
