# SPDX-License-Identifier: Apache-2.0
"""JSON lines, as `tunesmith.report` writes them and Katib's JSON format has them.

One object a line: metrics by name, `timestamp` (RFC 3339, or Unix seconds with a fraction, as a
number or a text) and `step`. Values are numbers, kept as they are written, or texts such as "0.5",
"NaN" and "Infinity"; Katib takes texts only. JSON has no NaN and infinities, and programs write
them in many ways: any case, with or without a sign or quotes, `inf` or `Infinity`.
A line that is no object is skipped and counted (it ends Katib's collector), as is a wanted metric
that is neither number nor text.
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
_BARE: Final = re.compile(
    r"""("(?:[^"\\]++|\\.)*+"?)|(?<![\w.])([+-]?(?:nan|inf|infinity))\b""", re.ASCII | re.IGNORECASE
)
"""A text, or a number that is none; a text is passed over as a whole. Takes time linear
in the line: an unfinished text is passed over too."""

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

    @property
    def form(self) -> str:
        return "one JSON object a line with numbers"

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
    text = line.decode(errors="replace")
    entry = _decoded(text)
    if entry is None and (mended := _BARE.sub(_quoted, text)) != text:
        entry = _decoded(mended)
    return entry if isinstance(entry, dict) else None


def _quoted(found: re.Match[str]) -> str:
    return found[1] or f'"{found[2]}"'


def _decoded(text: str) -> object:
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        return None


def _time(entry: Mapping[str, object]) -> int:
    value = entry.get("timestamp")
    if isinstance(value, _Number):
        return from_unix(value)
    return from_rfc3339(value) or from_unix(value) if isinstance(value, str) else 0


def _step(entry: Mapping[str, object]) -> int | None:
    value = entry.get("step")
    if not isinstance(value, _Number) or not _INTEGER.fullmatch(value):
        return None
    step = int(value)
    return step if abs(step) < 1 << 63 else None
