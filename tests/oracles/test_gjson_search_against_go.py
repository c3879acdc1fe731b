# SPDX-License-Identifier: Apache-2.0
"""A search for documents and paths on which our GJSON evaluator and tidwall/gjson differ.

It leaves out what `gjson`'s docstring lists as different on purpose: whatever `check` refuses,
brackets in texts, keys that a multipath makes twice, literals behind a query, long wildcards,
hexadecimal numbers and unpaired surrogates.
"""

import json
from typing import Any, Protocol

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tunesmith_controller.trial import gjson

pytestmark = [pytest.mark.oracle, pytest.mark.timeout(300)]  # the first run builds the oracle


class Go(Protocol):
    """tidwall/gjson (conftest.py)."""

    def get(self, document: object, path: str, *, katib: bool = False) -> gjson.Result: ...
    def assert_same(self, document: object, path: str) -> None: ...


KEYS = st.sampled_from(
    ["a", "b", "c", "type", "x.y", "p|q", "*", "#", "0", "", "é", '"', "\\", "@t"]
)
TEXTS = st.sampled_from(
    ["a", "b", "ab", "abc", "True", "true", "f", "0", "1", "", "é𝄞", "x|y", "\\a"]
)
NUMBERS = st.sampled_from([0, 1, 2, -1, 1.5, 1e3, 10**20, 2**53 + 1])
SCALARS = st.one_of(TEXTS, NUMBERS, st.sampled_from([None, True, False]))
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.lists(st.dictionaries(KEYS, inner, max_size=3), max_size=3)
    ),
    max_leaves=12,
).filter(lambda document: isinstance(document, (dict, list)))

OPERATORS = st.sampled_from(["==", "=", "!=", "<", "<=", ">", ">=", "%", "!%"])
PATTERNS = [
    "a*",
    "*b",
    "?",
    "*",
    "a?c",
    "*\\*",
    "~true",
    "~false",
    "~null",
    "~*",
    "1_0",
    "nan",
    "1e2",
]
RIGHT_SIDES = st.one_of(TEXTS, st.sampled_from(PATTERNS), NUMBERS.map(str))
WILD = st.sampled_from(["*", "?", "a*", "*e", "t?pe", "**", "*a*", "x*y", "*\\**"])
ODD = st.sampled_from(["@this", "#", "3#", "#x", "01", "-1", "@t", "!", "a#", " a"])
LITERALS = st.sampled_from(
    ["!true", "!null", "!-1.5", '!"a"', "!{}", '!{"a":[1,{"b":2}]}', "![1,2]"]
)
SEPARATORS = st.sampled_from(["."] * 3 + ["|"])


def escaped(key: str) -> str:
    return "".join(f"\\{char}" if char in '.|*?#@\\"' else char for char in key)


@st.composite
def queries(draw: st.DrawFn, depth: int) -> str:
    left = draw(st.one_of(st.just(""), KEYS.map(escaped), paths(depth - 1, literals=False)))
    right = draw(RIGHT_SIDES)
    right = json.dumps(right, ensure_ascii=draw(st.booleans())) if draw(st.booleans()) else right
    right = draw(OPERATORS) + right if draw(st.booleans()) else ""
    return f"#({left}{right})" + draw(st.sampled_from(["", "#", "#"]))


@st.composite
def multipaths(draw: st.DrawFn, depth: int, literals: bool) -> str:
    members = draw(st.lists(paths(depth - 1, literals), max_size=3))
    if draw(st.booleans()):
        return f"[{','.join(members)}]"
    names = ["", '"k 1":', "k2:"]  # no name comes twice
    return "{" + ",".join(name + path for name, path in zip(names, members, strict=False)) + "}"


def paths(depth: int, literals: bool) -> st.SearchStrategy[str]:
    """Either literals or queries: behind a query that meets an object, we have no literals."""
    parts = [KEYS.map(escaped), st.integers(0, 3).map(str), WILD, st.just("#"), ODD]
    if depth > 0:
        parts.append(multipaths(depth, literals))
        parts += [LITERALS] if literals else [queries(depth), queries(depth)]
    return st.lists(st.tuples(SEPARATORS, st.one_of(parts)), min_size=1, max_size=5).map(
        lambda chosen: "".join(mark + part for mark, part in chosen)[1:]
    )


@st.composite
def paths_into(draw: st.DrawFn, document: object) -> str:
    """A path that follows the document for a while, so that it finds something."""
    path = ""
    while isinstance(document, (dict, list)) and document and draw(st.integers(0, 4)):
        if isinstance(document, dict):
            key = draw(st.sampled_from(sorted(document)))
            part, document = escaped(key), document[key]
        else:
            index = draw(st.integers(0, len(document) - 1))
            part = draw(st.one_of(st.just(str(index)), queries(2), queries(1)))
            document = document[index]
        path += part + draw(SEPARATORS)
    ends: list[st.SearchStrategy[str]] = [
        st.sampled_from(["@this", "#", "*", "0"]),
        queries(1),
        multipaths(1, literals=False),
    ]
    end: str = draw(st.one_of(*ends, paths(2, literals=False)))
    return path + end


NOISE = st.lists(
    st.sampled_from([*'ab.|#()[]{}"\\*?:,~ 01', "#(", ")#", "#.", "@this", "==", "!=", "!%", ">"]),
    min_size=1,
    max_size=14,
).map("".join)


def containers(document: Any) -> list[Any]:
    """The document and the objects and arrays directly in it."""
    inner = document.values() if isinstance(document, dict) else document
    return [document, *(value for value in inner if isinstance(value, (dict, list)))]


SEARCH = settings(deadline=None, suppress_health_check=list(HealthCheck))


@settings(SEARCH, max_examples=300)
@given(data=st.data(), document=DOCUMENTS)
def test_generated_paths_give_what_go_gives(
    gjson_of_go: Go, data: st.DataObject, document: Any
) -> None:
    asked = st.one_of(paths_into(document), paths_into(document), paths(2, literals=True))
    for path in data.draw(st.lists(asked, min_size=4, max_size=8)):
        for value in containers(document) if gjson.check(path) is None else ():
            gjson_of_go.assert_same(value, path)


@settings(SEARCH, max_examples=500)
@given(document=DOCUMENTS, path=NOISE)
def test_noise_is_refused_or_gives_what_go_gives(gjson_of_go: Go, document: Any, path: str) -> None:
    assume(gjson.check(path) is None)
    gjson_of_go.assert_same(document, path)


@settings(SEARCH, max_examples=200)
@given(document=DOCUMENTS, path=paths(1, literals=False))
def test_conditions_read_an_object_as_gos_encoder_writes_it(
    gjson_of_go: Go, document: Any, path: str
) -> None:
    assume(gjson.check(path) is None and "{" not in path)  # `{b:x,a:y}` is not sorted in Go
    written = json.loads(json.dumps(document, sort_keys=True))
    met = gjson.condition_met(document, path)
    assert (met is not None) == katib_met(gjson_of_go.get(written, path).value)


def katib_met(value: object) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and bool(value))
