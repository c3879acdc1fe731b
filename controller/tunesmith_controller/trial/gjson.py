# SPDX-License-Identifier: Apache-2.0
"""Evaluates GJSON paths on parsed JSON: the success and failure conditions of a trial's job.

Called by `decide` on every observation of a job, and by admission (`check`) before an Experiment is
stored. The language is that of github.com/tidwall/gjson (SYNTAX.md), which Katib evaluates; a
differential test holds this module to the Go code, oddities included. What differs, on purpose:

* Refused with GjsonError, and by `check`: modifiers other than @this, `..` (JSON lines), brackets
  and queries that are never closed, literals that are not JSON, bad escapes in a quoted query
  value, paths over the limits of `gjson_check`. Go guesses at most of these.
* A text has no members. Go, given a path behind a text (`name|x`), searches it for a bracket.
* A literal behind a query (`o.#(q).[a].!1`) is nothing where the query meets an object. Go, which
  reads a query as a key there, cuts it at its dots and bars and may come upon the literal.
* Objects have one value per key: in `{a.x,b.x}` the first stays. Go writes the key twice.
* `%` and wildcards are exact and take linear time; Go gives up on long ones. An evaluation that
  takes more than MAX_STEPS steps raises GjsonError; Go runs on.
* Numbers in queries are decimal; Go reads `0x1p4`. An index over 64 bits finds nothing; some
  releases of gjson wrap it. Unpaired surrogates are kept; Go replaces them.
"""

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from tunesmith_controller.trial.gjson_check import first_problem
from tunesmith_controller.trial.gjson_syntax import (
    Broken,
    Head,
    Literal,
    Multipath,
    Part,
    Query,
    first_wins,
    head,
    item_part,
    key_part,
    literal_value,
    split_pipe,
)

__all__ = ["MAX_STEPS", "GjsonError", "Met", "Result", "check", "condition_met", "get"]

MAX_STEPS: Final = 400_000  # at most about a second
_SHOWN: Final = 200


@dataclass(frozen=True, slots=True)
class Result:
    """What a path found. `value` is part of the document: read it, do not change it."""

    exists: bool
    value: object


@dataclass(frozen=True, slots=True)
class Met:
    """A condition that holds, with the job's own words for why."""

    reason: str
    message: str


class GjsonError(ValueError):
    """A path that is not evaluated: `reason` says why, `position` at which character (from 0)."""

    def __init__(self, path: str, position: int, reason: str) -> None:
        shown = path if len(path) <= _SHOWN else path[:_SHOWN] + "..."
        super().__init__(f"GJSON path {shown!r}, character {position + 1}: {reason}")
        self.path = path
        self.position = position
        self.reason = reason


def get(document: object, path: str) -> Result:
    """What `path` finds in `document`, as gjson.Get does. Raises GjsonError (module docstring)."""
    return _result(_evaluate(document, path, by_name=False))


def condition_met(document: object, expression: str) -> Met | None:
    """Katib's rule: met when the result is an object or an array that is not empty.

    The object, or the first item, gives reason and message; what is absent or no text is "" (Katib
    fails on what is no text). Wildcards try keys in order of name, because Go's encoder writes a
    Kubernetes object so (but for what a multipath makes): who stored the job makes no difference.
    Raises GjsonError.
    """
    value = _evaluate(document, expression, by_name=True)
    if isinstance(value, list) and value:
        value = value[0]
    elif not isinstance(value, dict):
        return None
    said: Mapping[str, object] = value if isinstance(value, dict) else {}
    return Met(_text(said.get("reason")), _text(said.get("message")))


def check(path: str) -> str | None:
    """What keeps `path` from being evaluated, as a sentence; None when nothing does."""
    problem = first_problem(path)
    return None if problem is None else str(GjsonError(path, problem.position, problem.reason))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


# -- evaluation ------------------------------------------------------------------------------------


class _Missing:
    """What a path gives that finds nothing; None is JSON's null."""


_MISSING: Final = _Missing()


def _result(value: object) -> Result:
    return Result(False, None) if value is _MISSING else Result(True, value)


def _evaluate(document: object, path: str, *, by_name: bool) -> object:
    problem = first_problem(path)
    if problem is not None:
        raise GjsonError(path, problem.position, problem.reason)
    return _Evaluation(path, by_name).get(document, path)


@dataclass(frozen=True, slots=True)
class _Step:
    """What a component came to.

    `final` ends the search of an enclosing wildcard: gjson goes on after `#(...)#`, keeping its
    array. `pipe` is the path after the first bar that the search came past, None if it met none: so
    `a|[b]` is `[]` where there is no a, but `a.b|[c]` is nothing.
    """

    value: object
    final: bool
    pipe: str | None


_NOTHING: Final = _Step(_MISSING, False, None)


class _Evaluation:
    """One evaluation of one path, with its allowance of steps.

    Every component is tried on a value at most once, so the work is at most the size of the
    document times the length of the path, but for multipaths, which may double what comes next.
    """

    __slots__ = ("_by_name", "_path", "_steps_left")

    def __init__(self, path: str, by_name: bool) -> None:
        self._path = path
        self._by_name = by_name
        self._steps_left = MAX_STEPS

    def get(self, value: object, path: str) -> object:
        """The value of `path`, from its start to its end, through all its bars."""
        following: str | None = path
        while following is not None:
            self._spend(1)
            start = head(following)
            if start is None:
                step = self._walk(value, following)
                value, following = step.value, step.pipe
            else:
                value = self._start(start, value)
                following = _behind(start)
        return value

    def _spend(self, steps: int) -> None:
        self._steps_left -= steps
        if self._steps_left < 0:
            reason = f"takes more than {MAX_STEPS} steps on this document; ask for less of it"
            raise GjsonError(self._path, 0, reason)

    def _start(self, start: Head, value: object) -> object:
        if isinstance(start, Broken):
            # Only behind a `#` part met by an object, whose text the check read as an array would.
            return _MISSING
        if isinstance(start, Literal):
            self._spend(len(start.json))
            return literal_value(start)
        if isinstance(start, Multipath):
            return self._collect(start, value)
        return value

    def _collect(self, multipath: Multipath, value: object) -> object:
        members = [(member.name, self.get(value, member.path)) for member in multipath.members]
        found = [(name, item) for name, item in members if item is not _MISSING]
        return first_wins(found) if multipath.is_object else [item for _, item in found]

    def _walk(self, value: object, path: str) -> _Step:
        self._spend(1)
        if isinstance(value, dict):
            return self._in_object(value, key_part(path))
        if isinstance(value, list):
            return self._in_array(value, item_part(path))
        return _NOTHING

    def _in_object(self, value: dict[str, object], part: Part) -> _Step:
        found: object = _MISSING
        pipe = part.pipe
        for child in self._children(value, part):
            if part.rest is None:
                return _Step(child, True, pipe)
            step = self._walk(child, part.rest)
            pipe = pipe if step.pipe is None else step.pipe
            if step.final:
                return _Step(step.value, True, pipe)
            found = step.value if found is _MISSING else found
        return _Step(found, False, pipe)

    def _children(self, value: dict[str, object], part: Part) -> Iterable[object]:
        if not part.wild:
            if part.text in value:
                yield value[part.text]
            return
        for key in sorted(value) if self._by_name else value:
            if self._like(key, part.text):
                yield value[key]

    def _in_array(self, items: list[object], part: Part) -> _Step:
        if part.query is not None:
            return self._query(items, part, part.query)
        if part.text == "#":
            return self._each(items, part)
        index = _index(part.text)
        if index is None or index >= len(items):
            return _Step(_MISSING, False, part.pipe)
        if part.rest is None:
            return _Step(items[index], True, part.pipe)
        return self._walk(items[index], part.rest)

    def _each(self, items: list[object], part: Part) -> _Step:
        """`#`: how many items; `#.path`: what the path finds in each."""
        if part.rest is None:
            return _Step(len(items), True, part.pipe)
        inner, pipe = split_pipe(part.rest)
        found = [self.get(item, inner) for item in items]
        return _Step([value for value in found if value is not _MISSING], True, pipe)

    def _query(self, items: list[object], part: Part, query: Query) -> _Step:
        inner, later = (None, part.pipe) if part.rest is None else split_pipe(part.rest)
        # Without a match, gjson never gets to see the bar behind `#(...).path`.
        pipe = part.pipe
        found: list[object] = []
        for item in items:
            self._spend(1)
            if not self._holds(query, item):
                continue
            pipe = later
            value = item if inner is None else self.get(item, inner)
            if not query.every:
                return _Step(value, True, pipe)
            if value is not _MISSING:
                found.append(value)
        return _Step(found if query.every else _MISSING, False, pipe)

    def _holds(self, query: Query, item: object) -> bool:
        if isinstance(item, (dict, list)):
            return self._compares(query, self.get(item, query.path))
        return not query.path and self._compares(query, item)

    def _compares(self, query: Query, value: object) -> bool:
        wanted = query.value
        if wanted.startswith("~"):
            value, wanted = _truth(wanted[1:], value), "true"
        if value is _MISSING or not query.op:
            return value is not _MISSING
        if isinstance(value, bool):
            return _compares_bool(value, query.op, wanted)
        if isinstance(value, (int, float)):
            return query.op in _ORDER and _ORDER[query.op](_float(value), _number(wanted))
        if not isinstance(value, str):
            return False
        if query.op in ("%", "!%"):
            return self._like(value, wanted) is (query.op == "%")
        return query.op in _ORDER and _ORDER[query.op](value, wanted)

    def _like(self, text: str, pattern: str) -> bool:
        self._spend(1 + len(text) * len(pattern) // 100)
        return _pattern(pattern).fullmatch(text) is not None


def _behind(start: Head) -> str | None:
    remainder = "" if isinstance(start, Broken) else start.remainder
    return remainder[1:] if remainder else None


def _index(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None


# -- comparisons -----------------------------------------------------------------------------------

_ORDER: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_TRUE: Final = frozenset(("1", "t", "true"))
_FALSE: Final = frozenset(("0", "f", "false"))


def _truth(kind: str, value: object) -> object:
    """The boolean that `~kind` makes of a value; missing for an unknown kind."""
    if kind == "*":
        return value is not _MISSING
    if kind == "null":
        return value is None or value is _MISSING
    if kind == "true":
        return (
            value.lower() in _TRUE if isinstance(value, str) else _is_scalar(value) and value != 0
        )
    if kind == "false":
        if isinstance(value, str):
            return value.lower() in _FALSE
        return value is None or value is _MISSING or (_is_scalar(value) and value == 0)
    return _MISSING


def _is_scalar(value: object) -> bool:
    return isinstance(value, (bool, int, float))


def _compares_bool(value: bool, op: str, wanted: str) -> bool:
    """Booleans are compared with the words true and false; false comes before true."""
    if op in ("=", "!="):
        return (wanted == ("true" if value else "false")) is (op == "=")
    if op == (">" if value else "<"):
        return wanted == ("false" if value else "true")
    return op == (">=" if value else "<=")


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _number(text: str) -> float:
    """The right side of a comparison with a number; what is no number counts as 0."""
    if not text.isascii() or any(char.isspace() for char in text):
        return 0.0
    try:
        return float(text)
    except ValueError:
        return 0.0


@lru_cache(maxsize=128)
def _pattern(pattern: str) -> re.Pattern[str]:
    """`*` is any text, `?` any character, a backslash takes the next one literally.

    The texts between stars are searched one after the other and never searched again (atomic
    groups), so matching takes at most length of text times length of pattern.
    """
    runs = [""]
    for mark in re.findall(r"\\.|.", pattern, re.DOTALL):
        if mark == "*":
            runs.append("")
        elif mark == "\\" and len(runs) == 1:
            runs[-1] += "(?!)"  # gjson: a last backslash matches nothing, or itself after a star
        else:
            runs[-1] += "." if mark == "?" else re.escape(mark[-1])
    first, *others = runs
    between = "".join(f"(?>.*?{run})" for run in others[:-1] if run)
    return re.compile(first + between + (f".*{others[-1]}" if others else ""), re.DOTALL)
