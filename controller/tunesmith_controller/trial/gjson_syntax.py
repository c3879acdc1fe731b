# SPDX-License-Identifier: Apache-2.0
"""The grammar of GJSON paths: cuts a path into its parts.

Called by `gjson`, which evaluates, and `gjson_check`. Nothing here looks at a document. GJSON has
no grammar apart from its evaluator: the same text reads differently on an object and on an array
(an escaped dot joins a key, but ends an index), at the start of a path and after a dot. Hence
`key_part` and `item_part`, of which the evaluator takes the one that fits the value, and `head` for
what only a start may hold. Paths are short and come back often: the cuts are cached.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NoReturn

_CACHED: Final = 1024
_SPACE: Final = "".join(map(chr, range(33)))
_OPENING: Final = frozenset("[({")
_CLOSING: Final = frozenset("])}")
_COMPARES: Final = frozenset("!=<>%")
_MODIFIER: Final = re.compile(
    r"@(pretty|ugly|reverse|this|flatten|join|valid|keys|values|tostr|fromstr|group|dig)(?![^.|:])"
)
_OPERATOR: Final = re.compile(r"!=|!%|<=|>=|==?|[<>%]|!\Z|")
_ESCAPE: Final = re.compile(r"\\(.?)", re.DOTALL)
_KEY: Final = re.compile(r"(?:\\.?|[^.|\\])*+", re.DOTALL)
_ITEM: Final = re.compile(r"[^.|]*")
_STRING: Final = r'"(?:\\.|[^"\\])*+"?'
_TOKEN: Final = re.compile(rf"\\.|{_STRING}|.", re.DOTALL)
_RAW_TOKEN: Final = re.compile(rf"{_STRING}|.", re.DOTALL)
_LITERAL_WORD: Final = re.compile(r"(?:true|false|null|nan|inf)(?![^.|])", re.IGNORECASE)
_SEPARATOR: Final = re.compile(r"(?<!\\)[.|]")
_NOT_SIMPLE: Final = re.compile(r"[\x00-\x1f\[\]{}()#|!]")


@dataclass(frozen=True, slots=True)
class Query:
    """`#(path op value)`: `every` with a second `#`; `start` is where path stands in its part."""

    path: str
    op: str
    value: str
    every: bool
    start: int
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """One component and what follows: `rest` after a dot, or `pipe` after a bar.

    `rest` is looked up inside the value found; `pipe` is a path of its own for whatever came out.
    """

    text: str
    wild: bool
    rest: str | None
    pipe: str | None
    query: Query | None = None


@dataclass(frozen=True, slots=True)
class Same:
    """`@this`."""

    remainder: str


@dataclass(frozen=True, slots=True)
class Literal:
    """`!` and the text of a JSON value."""

    json: str
    remainder: str


@dataclass(frozen=True, slots=True)
class Member:
    """One path of a multipath; `start` is where it stands in it."""

    name: str
    path: str
    start: int


@dataclass(frozen=True, slots=True)
class Multipath:
    """`[path,path]` or `{name:path,path}`."""

    is_object: bool
    members: tuple[Member, ...]
    remainder: str


@dataclass(frozen=True, slots=True)
class Broken:
    """A start that GJSON has no sensible reading for, or that we leave out."""

    reason: str


Head = Same | Literal | Multipath | Broken


# -- what follows a component ----------------------------------------------------------------------


def _modifier(path: str) -> str | None:
    """The modifier that path starts with; an unknown name after `@` is an ordinary key."""
    match = _MODIFIER.match(path)
    return match[1] if match else None


def _after(path: str, end: int, *, dot_pipes: bool) -> tuple[str | None, str | None]:
    """(rest, pipe) after the component that ends at `end`; a dot before a start acts as a bar."""
    following = path[end + 1 :]
    if end == len(path):
        return None, None
    if path[end] == "|":
        return None, following
    if dot_pipes and (following.startswith(("[", "{")) or _modifier(following)):
        return None, following
    return following, None


@lru_cache(maxsize=_CACHED)
def key_part(path: str) -> Part:
    """The first component as an object reads it: escapes are undone, `*` and `?` are wild."""
    match = _KEY.match(path)
    raw = match[0] if match else ""
    rest, pipe = _after(path, len(raw), dot_pipes=True)
    plain = _ESCAPE.sub("", raw)
    return Part(_ESCAPE.sub(r"\1", raw), "*" in plain or "?" in plain, rest, pipe)


@lru_cache(maxsize=_CACHED)
def item_part(path: str) -> Part:
    """The first component as an array reads it: an index, `#` or a query; no escapes."""
    query = None
    start = 0
    if path.startswith(("#(", "#[")):
        operator, close = _scan_query(path)
        if close < 0:
            return Part(path, False, None, None)
        query = _query(path, operator, close)
        start = close + 1
    match = _ITEM.match(path, start)
    end = match.end() if match else start
    rest, pipe = _after(path, end, dot_pipes="#" not in path[:end])
    return Part(path[:end], False, rest, pipe, query)


def split_pipe(path: str) -> tuple[str, str | None]:
    """What follows `#.` or `#(...)#.`: the path for every item, and the path for their array.

    The bar is found as gjson finds it: only queries after a dot hide theirs, and `{` its own.
    """
    if path.startswith("{"):
        end = 1 + _squashed(path[1:])
        return (path[:end], path[end + 1 :]) if path[end : end + 1] == "|" else (path, None)
    i = 0
    while i < len(path):
        if path[i] == "|":
            return path[:i], path[i + 1 :]
        if path.startswith((".#(", ".#["), i):
            i = _selector_end(path, i + 2)
        elif path.startswith(".#", i):
            i += 3  # gjson looks past the character after ".#", even when it is the bar
        else:
            i += 2 if path[i] == "\\" else 1
    return path, None


def _squashed(text: str) -> int:
    """Where the bracket that stands open before `text` closes; or the end of a leading string."""
    depth = 0 if text.startswith('"') else 1
    for match in _RAW_TOKEN.finditer(text, depth):
        if match[0] in _OPENING:
            depth += 1
        elif match[0] in _CLOSING:
            depth -= 1
        if depth == 0:
            return match.end()
    return len(text)


def _selector_end(path: str, start: int) -> int:
    """The index after the bracket that closes the one at `start`."""
    opening = path[start]
    closing = ")" if opening == "(" else "]"
    depth = 0
    for match in _TOKEN.finditer(path, start):
        depth += (match[0] == opening) - (match[0] == closing)
        if depth == 0:
            return match.end()
    return len(path)


# -- queries ---------------------------------------------------------------------------------------


def _scan_query(path: str) -> tuple[int, int]:
    """Where the operator (0: none) and the closing bracket (-1: none) of `#(...)` stand."""
    operator, depth = 0, 1
    for match in _TOKEN.finditer(path, 2):
        piece = match[0]
        if depth == 1 and not operator and piece in _COMPARES:
            operator = match.start()
        elif piece in ("[", "("):
            depth += 1
        elif piece in ("]", ")"):
            depth -= 1
            if depth == 0:
                return operator, match.start()
    return operator, -1


def _query(path: str, operator: int, close: int) -> Query:
    left = path[2 : operator or close]
    right = path[operator:close].strip(_SPACE) if operator else ""
    match = _OPERATOR.match(right)
    op = match[0] if match else ""
    value, fault = _query_value(right[len(op) :].strip(_SPACE))
    return Query(
        path=left.strip(_SPACE),
        op="=" if op == "==" else op,
        value=value,
        every=path.startswith("#", close + 1),
        start=2 + len(left) - len(left.lstrip(_SPACE)),
        fault=fault,
    )


def _query_value(text: str) -> tuple[str, str]:
    """The right side without its quotes and escapes, and what is wrong with it."""
    if len(text) < 2 or not (text.startswith('"') and text.endswith('"')):
        return text, ""
    if "\\" not in text:
        return text[1:-1], ""
    try:
        return str(json.loads(text)), ""
    except ValueError:
        return text[1:-1], f"{text} is not a JSON string; write a backslash in it as \\\\"


# -- what only the start of a path may hold --------------------------------------------------------


@lru_cache(maxsize=_CACHED)
def head(path: str) -> Head | None:
    """The modifier, literal or multipath that path starts with; None for a plain component."""
    if len(path) < 2:
        return None
    if path.startswith(".."):
        return Broken("'..' (JSON lines) is not supported: the object is one document")
    if path.startswith("!"):
        return _literal(path[1:])
    if path.startswith(("[", "{")):
        return _multipath(path)
    name = _modifier(path)
    if name is None:
        return None
    remainder = path[1 + len(name) :]
    if name != "this":
        return Broken(f"the modifier @{name} is not supported; only @this is")
    if remainder.startswith(":"):
        return Broken("@this takes no argument")
    return Same(remainder)


def _literal(text: str) -> Literal | Broken | None:
    word = _LITERAL_WORD.match(text)
    if word:
        if word[0] in ("true", "false", "null"):
            return Literal(word[0], text[word.end() :])
        return Broken(f"!{word[0]} is no JSON value; write !true, !false or !null")
    if not text.startswith(tuple('{["+-0123456789')):
        return None
    try:
        _, end = _LITERALS.raw_decode(text)
    except ValueError:
        return Broken("the literal after ! is not JSON")
    value, remainder = text[:end], text[end:]
    if not text.startswith(("{", "[")) and (remainder or any(c in value for c in "])}")):
        return Broken("a text or number after ! ends the path and holds no closing bracket")
    if remainder and remainder[0] not in ".|":
        return Broken("a literal is followed by . or | or nothing")
    return Literal(value, remainder)


def first_wins(pairs: Iterable[tuple[str, object]]) -> dict[str, object]:
    """An object; a key that comes twice has its first value, as gjson finds it."""
    made: dict[str, object] = {}
    for key, value in pairs:
        made.setdefault(key, value)
    return made


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


_LITERALS: Final = json.JSONDecoder(object_pairs_hook=first_wins, parse_constant=_no_constant)


def literal_value(literal: Literal) -> object:
    """A fresh value each time: a caller that changed it would change the cached path."""
    value: object = _LITERALS.decode(literal.json)
    return value


def _multipath(path: str) -> Multipath | Broken:
    members, end = _members(path)
    if end < 0:
        return Broken(f"{path[0]} is never closed; in a key, write \\{path[0]}")
    if end < len(path) and path[end] not in ".|":
        return Broken(f"{path[end - 1]} is followed by . or | or nothing")
    return Multipath(path[0] == "{", members, path[end:])


def _members(path: str) -> tuple[tuple[Member, ...], int]:
    """The members and the index after the closing bracket (-1: none)."""
    members: list[Member] = []
    start, colon, modifier, depth = 1, 0, False, 1
    for match in _TOKEN.finditer(path, 1):
        piece, i = match[0], match.start()
        if piece in _OPENING:
            depth += 1
        elif piece in _CLOSING:
            depth -= 1
        elif piece == "@" and path[i - 1] in ".|":
            modifier = True  # its argument starts with a colon that names nothing
        elif piece == ":" and depth == 1 and not modifier and not colon:
            colon = i
        if depth == 0 or (piece == "," and depth == 1):
            members.append(_member(path, start, colon, i))
            start, colon, modifier = i + 1, 0, False
        if depth == 0:
            return tuple(members), i + 1
    return (), -1


def _member(path: str, start: int, colon: int, end: int) -> Member:
    name, at = (path[start:colon], colon + 1) if colon else ("", start)
    return Member(_member_name(name, path[at:end]), path[at:end], at)


def _member_name(name: str, path: str) -> str:
    """The given name, else the last component where it is a plain one, else `_`."""
    if not name:
        last = _SEPARATOR.split(path)[-1]
        return "_" if _NOT_SIMPLE.search(last) else last
    if name.startswith('"'):
        try:
            return str(json.loads(name))
        except ValueError:
            return name
    return name
