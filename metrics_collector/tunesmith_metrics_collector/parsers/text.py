# SPDX-License-Identifier: Apache-2.0
r"""Katib's TEXT format: `loss=0.3 accuracy=0.9` on lines of a log, found by regular expressions.

Kept from Katib: a line counts when it contains the name of a wanted metric; all matches of all
filters count; the line's first word is its time when it is an RFC 3339 one. Different: `nan` and
`inf` in any case are values of the default filter (Katib records an empty text for them), an empty
value is skipped and counted, and only wanted metrics are kept.

Lines are found by the names first: a log without metrics is only searched, never split or decoded.
Filters are RE2, as in Katib: one match takes time linear in the line. All matches of a line may
still take quadratic time (`(loss)=(.*y|)` looks at the rest of the line each time), so own filters
see the first 64 KiB of a line; the default filter, which never looks back, sees all of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import re2

from tunesmith_api.errors import Invalid
from tunesmith_metrics_collector.parsers.protocol import (
    VALUES_PER_LINE,
    Parsed,
    Value,
    add_rows,
    wanted_names,
)
from tunesmith_metrics_collector.parsers.times import from_rfc3339
from tunesmith_metrics_collector.sources.tail import MAX_LINE, Block

_NUMBER: Final = r"[+-]?\d*(\.\d+)?([Ee][+-]?\d+)?"
_NOT_FINITE: Final = r"[+-]?(?i:nan|inf|infinity)\b"

DEFAULT_FILTER: Final = rf"([\w|-]+)\s*=\s*({_NOT_FINITE}|{_NUMBER})"
"""Katib's default, and NaN and infinities."""

MAX_FILTERS: Final = 32
MAX_FILTER_BYTES: Final = 1024
MAX_PROGRAM: Final = 3000
"""Instructions of a compiled filter; time per byte grows with them. The default has about 60, a
filter with several Unicode classes or repetitions such as .{1,50} some 1,000."""

MAX_FILTERED_BYTES: Final = 64 << 10
"""What own filters see of a line; a wanted line that goes on is counted as skipped."""

_MAX_MATCHES: Final = 4 * VALUES_PER_LINE
"""Matches of a filter on one line that are looked at, wanted or not."""

_BREAKS: Final = (b"\n", b"\r")


class FilterError(Invalid):
    """A filter that cannot be used; `filter` is its text."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(f"metrics filter {text[:200]!r}: {reason}")
        self.filter = text
        self.reason = reason


def compile_filter(text: str) -> Any:
    """A filter as an RE2 on UTF-8 bytes. Raises FilterError; admission may call it too."""
    if len(text.encode(errors="replace")) > MAX_FILTER_BYTES:
        raise FilterError(text, f"longer than {MAX_FILTER_BYTES} bytes")
    pattern = _compiled(text)
    if pattern.programsize > MAX_PROGRAM:
        raise FilterError(text, "is too complex: use fewer or shorter repetitions")
    if pattern.groups < 2:
        raise FilterError(
            text,
            "needs two groups in parentheses, the first for the name, the second for the"
            " value: ([\\w-]+)\\s*=\\s*([0-9.]+)",
        )
    return pattern


def _compiled(text: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.encoding = re2.Options.Encoding.UTF8
    try:
        return re2.compile(text.encode(), options)
    except (re2.error, UnicodeEncodeError) as error:
        reason = error.args[0] if error.args else "cannot be read"
        shown = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise FilterError(text, f"is no RE2 regular expression: {shown}") from error


class TextParser:
    """The `Parser` for lines of text. Raises FilterError for filters that cannot be used."""

    def __init__(self, metrics: Sequence[str], filters: Sequence[str] = ()) -> None:
        texts = tuple(filters) or (DEFAULT_FILTER,)
        if len(texts) > MAX_FILTERS:
            raise FilterError(texts[MAX_FILTERS], f"is more than the limit of {MAX_FILTERS}")
        self._filters = [compile_filter(text) for text in texts]
        self._wanted = wanted_names(metrics)
        self._hint = _any_of(self._wanted)
        self._description = "; ".join(texts)
        self._visible = MAX_FILTERED_BYTES if filters else MAX_LINE

    @property
    def description(self) -> str:
        return self._description

    @property
    def form(self) -> str:
        return "numbers"

    def parse(self, block: Block) -> Parsed:
        parsed = Parsed()
        for start, end in self._candidates(block.data):
            parsed.skipped += end - start > self._visible
            line = _as_utf8(block.data[start : min(end, start + self._visible)])
            values = self._values(line, parsed)
            if values:
                add_rows(parsed, block.offset + start, values, _time(line), None)
        return parsed

    def names(self, line: bytes) -> Sequence[str]:
        matches = self._matches(_as_utf8(line[: self._visible]), Parsed())
        return list(dict.fromkeys(name for name, _ in matches))

    def _candidates(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Bounds of the lines that contain the name of a wanted metric."""
        position = 0
        while self._hint is not None:
            hit = self._hint.search(data, position)
            if hit is None:
                return
            newline = data.rfind(b"\n", position, hit.start())
            start = max(newline, data.rfind(b"\r", max(newline, position), hit.start())) + 1
            end = _line_end(data, hit.end())
            yield max(start, position), end
            position = end

    def _values(self, line: bytes, parsed: Parsed) -> list[Value]:
        values = []
        for name, text in self._matches(line, parsed):
            parsed.names[name] = None
            if name in self._wanted:
                values.append(Value(name, text))
        return values

    def _matches(self, line: bytes, parsed: Parsed) -> Iterator[tuple[str, str]]:
        for pattern in self._filters:
            for count, match in enumerate(pattern.finditer(line)):
                if count == _MAX_MATCHES:
                    parsed.skipped += 1
                    break
                name, value = match.group(1) or b"", match.group(2) or b""
                yield name.decode().strip(), value.decode().strip()


def _any_of(names: frozenset[str]) -> Any:
    """A search for any of the names; None without names."""
    if not names:
        return None
    return re2.compile("|".join(re2.escape(name) for name in sorted(names)).encode())


def _line_end(data: bytes, position: int) -> int:
    newline = data.find(b"\n", position)
    limit = newline if newline >= 0 else len(data)
    carriage = data.find(b"\r", position, limit)
    return carriage if carriage >= 0 else limit


def _as_utf8(line: bytes) -> bytes:
    if line.isascii():
        return line
    return line.decode(errors="replace").encode()


def _time(line: bytes) -> int:
    words = line[:200].split(None, 1)
    return from_rfc3339(words[0].decode(errors="replace")) if words else 0
