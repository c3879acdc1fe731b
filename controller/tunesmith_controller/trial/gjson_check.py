# SPDX-License-Identifier: Apache-2.0
"""Says what is wrong with a GJSON path before any document is seen, and where.

Called by `gjson` before every evaluation (cached) and, through `gjson.check`, by admission. A path
is read as it is meant: what starts with `#` as an array reads it, other components as an object.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from tunesmith_controller.trial.gjson_syntax import (
    Broken,
    Multipath,
    Part,
    head,
    item_part,
    key_part,
    split_pipe,
)

MAX_LENGTH: Final = 1024
MAX_PARTS: Final = 64  # dots, bars and opening brackets: bounds the recursion of the evaluator

_PARTS: Final = re.compile(r"[.|\[({]")


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a path, at which character (from 0)."""

    position: int
    reason: str


def first_problem(path: str) -> Problem | None:
    """The first thing that keeps `path` from being evaluated, or None."""
    if not path:
        return Problem(0, "the path is empty")
    if len(path) > MAX_LENGTH:  # before any cache, which would keep it
        return Problem(MAX_LENGTH, f"the path is longer than {MAX_LENGTH} characters")
    return _first_problem(path)


@lru_cache(maxsize=1024)
def _first_problem(path: str) -> Problem | None:
    parts = list(_PARTS.finditer(path))
    if len(parts) > MAX_PARTS:
        return Problem(parts[MAX_PARTS].start(), f"the path has more than {MAX_PARTS} parts")
    return next(_problems(path, 0), None)


def _problems(path: str, base: int) -> Iterator[Problem]:
    """Faults of a path that stands at `base` of the whole; components are read statically."""
    start = head(path)
    if start is None:
        yield from _component_problems(path, base)
    elif isinstance(start, Broken):
        yield Problem(base, start.reason)
    else:
        if isinstance(start, Multipath):
            for member in start.members:
                yield from _problems(member.path, base + member.start)
        if start.remainder:
            yield from _problems(start.remainder[1:], base + len(path) - len(start.remainder) + 1)


def _component_problems(path: str, base: int) -> Iterator[Problem]:
    part = _part(path)
    yield from _query_problems(path, part, base)
    if part.pipe is not None:
        yield from _problems(part.pipe, base + len(path) - len(part.pipe))
    elif part.rest is not None:
        at = base + len(path) - len(part.rest)
        if part.text != "#" and part.query is None:
            yield from _component_problems(part.rest, at)
            return
        inner, pipe = split_pipe(part.rest)
        yield from _problems(inner, at)
        if pipe is not None:
            yield from _problems(pipe, at + len(inner) + 1)


def _part(path: str) -> Part:
    item = item_part(path)
    return item if item.text == "#" or path.startswith(("#(", "#[")) else key_part(path)


def _query_problems(path: str, part: Part, base: int) -> Iterator[Problem]:
    if part.query is not None:
        yield from _problems(part.query.path, base + part.query.start)
        if part.query.fault:
            yield Problem(base, part.query.fault)
    elif path.startswith(("#(", "#[")):
        yield Problem(base, f"the query {path[:2]} is never closed")
