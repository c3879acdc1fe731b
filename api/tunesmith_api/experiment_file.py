# SPDX-License-Identifier: Apache-2.0
"""Reads the YAML text of an Experiment: the object, and the line of every part of it.

Called by `tunesmith run`, `tunesmith validate` and the SDK, which show a fault with its line. The
text may come from anyone: its size, depth and aliases are bounded, and no tag builds an object.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from tunesmith_api.field_errors import Path, field_text, shown
from tunesmith_api.reading import MAX_DEPTH
from tunesmith_api.resources import API_VERSION, Json
from tunesmith_api.search_space import parse_finite

MAX_BYTES: Final = 1024 * 1024
MAX_VALUES: Final = 100_000

_TAG: Final = "tag:yaml.org,2002:"
_SCALARS: Final = frozenset(_TAG + name for name in ("str", "int", "float", "bool", "null"))
# Read as text: JSON has no dates, and a lone "=" means itself.
_TEXTS: Final = frozenset(_TAG + name for name in ("timestamp", "value"))
_MERGE: Final = f"{_TAG}merge"
_GOAL: Final[Path] = ("spec", "objective", "goal")
# The same classes; the C one is ten times as fast and not always built.
_Loader: Final[type[yaml.SafeLoader]] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class FileError(ValueError):
    """The text holds no Experiment. `line` counts from 1; None where it is about all of it."""

    def __init__(self, source: str, reason: str, line: int | None = None) -> None:
        super().__init__(reason)
        self.source = source
        self.reason = reason
        self.line = line


@dataclass(frozen=True, slots=True)
class LoadedExperiment:
    """An Experiment as written. `lines` has the line, from 1, of every path in the object."""

    object: Json
    lines: Mapping[Path, int]

    def line_of(self, path: Path) -> int | None:
        """The line of a path, or of the nearest part above it that is in the text."""
        return line_of(self, path)


def load(text: str, source: str) -> LoadedExperiment:
    """The one Experiment in a text; `source` names the text in errors. Raises FileError.

    The object is not validated: only its apiVersion and kind are looked at.
    """
    if len(text.encode(errors="surrogatepass")) > MAX_BYTES:
        raise FileError(source, f"is larger than {MAX_BYTES // 1024} KiB")
    try:
        node = _the_document(text, source)
        found, lines = _Reader(source).read(node)
    except yaml.YAMLError as error:
        raise _syntax(error, text, source) from None
    _check_identity(found, source)
    return LoadedExperiment(found, lines)


def line_of(loaded: LoadedExperiment, path: Path) -> int | None:
    """The line of a path, or of the nearest part above it that is in the text."""
    for length in range(len(path), 0, -1):
        if path[:length] in loaded.lines:
            return loaded.lines[path[:length]]
    return None


# ---- documents ----------------------------------------------------------------------------------


def _the_document(text: str, source: str) -> yaml.Node:
    _check_depth(text, source)
    documents = [node for node in yaml.compose_all(text, _Loader) if not _is_empty(node)]
    if not documents:
        raise FileError(source, "is empty: an Experiment begins with apiVersion and kind")
    if len(documents) > 1:
        raise FileError(
            source,
            f"holds {len(documents)} documents; an experiment file has one",
            _line(documents[1]),
        )
    return documents[0]


def _check_depth(text: str, source: str) -> None:
    """Before anything recursive reads the text."""
    depth = 0
    for event in yaml.parse(text, _Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise FileError(source, f"is nested deeper than {MAX_DEPTH} levels", _line(event))


def _is_empty(node: yaml.Node | None) -> bool:
    return node is None or (isinstance(node, yaml.ScalarNode) and node.tag == f"{_TAG}null")


def _check_identity(found: Any, source: str) -> None:
    if not isinstance(found, dict):
        what = "a list" if isinstance(found, list) else f"the text {shown(found)}"
        raise FileError(source, f"is {what}, not an Experiment; it begins with apiVersion and kind")
    version, kind = found.get("apiVersion"), found.get("kind")
    if (version, kind) == (API_VERSION, "Experiment"):
        return
    if kind is None or version is None:
        missing = "kind" if kind is None else "apiVersion"
        wanted = f"apiVersion: {API_VERSION} and kind: Experiment"
        raise FileError(source, f"has no {missing}; an Experiment begins with {wanted}")
    named = " of ".join(w if isinstance(w, str) else shown(w) for w in (kind, version))
    article = "an" if named[:1] in tuple("AEIOU") else "a"
    raise FileError(source, f"is {article} {named}, not an Experiment of {API_VERSION}")


def _syntax(error: yaml.YAMLError, text: str, source: str) -> FileError:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        problem = error.problem or error.context or "it cannot be read"
        place = f"column {mark.column + 1}"
        return FileError(source, f"is not valid YAML at {place}: {problem}", mark.line + 1)
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        reason = f"holds a character that YAML does not allow: U+{error.character:04X}"
        return FileError(source, reason, line)
    return FileError(source, f"is not valid YAML: {error}")


def _line(place: yaml.Node | yaml.Event) -> int:
    mark = place.start_mark
    return mark.line + 1 if mark is not None else 1


# ---- values -------------------------------------------------------------------------------------


class _Reader:
    """From YAML's nodes to JSON values, counting what aliases expand to."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._constructor = yaml.constructor.SafeConstructor()
        self._lines: dict[Path, int] = {}
        self._values = 0

    def read(self, node: yaml.Node) -> tuple[Any, Mapping[Path, int]]:
        return self._value(node, ()), self._lines

    def _value(self, node: yaml.Node, path: Path) -> Any:
        self._values += 1
        if self._values > MAX_VALUES:
            raise self._error(f"has more than {MAX_VALUES} values, aliases included", node)
        if len(path) > MAX_DEPTH:
            raise self._error(f"is nested deeper than {MAX_DEPTH} levels by its aliases", node)
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
            return [self._at(child, (*path, i), child) for i, child in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        raise self._error(f"has the tag {node.tag}, which no Experiment needs", node)

    def _at(self, node: yaml.Node, path: Path, place: yaml.Node) -> Any:
        self._lines[path] = _line(place)
        return self._value(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> Json:
        found: Json = {}
        own: dict[str, int] = {}
        for key_node, child in node.value:
            if key_node.tag == _MERGE:
                continue
            key = self._key(key_node)
            if key in own:
                place = field_text((*path, key))
                message = f"gives {place} twice, in line {own[key]} and in line {_line(key_node)}"
                raise self._error(message, key_node)
            own[key] = _line(key_node)
            found[key] = self._at(child, (*path, key), key_node)
        for merged, merge in self._merged(node):
            for key_node, child in merged.value:
                key = self._key(key_node)
                if key not in found:
                    found[key] = self._at(child, (*path, key), merge)
        return found

    def _merged(self, node: yaml.MappingNode) -> Iterator[tuple[yaml.MappingNode, yaml.Node]]:
        """The mappings behind `<<`, each with the place of the `<<`."""
        for key_node, child in node.value:
            if key_node.tag != _MERGE:
                continue
            several = child.value if isinstance(child, yaml.SequenceNode) else [child]
            for one in several:
                if not isinstance(one, yaml.MappingNode) or any(
                    k.tag == _MERGE for k, _ in one.value
                ):
                    raise self._error("merges with << something that is no plain mapping", key_node)
                yield one, key_node

    def _key(self, node: yaml.Node) -> str:
        """A key as it is written: `on` and `1` are texts here, as in JSON."""
        if not isinstance(node, yaml.ScalarNode):
            raise self._error("has a key that is a list or a mapping", node)
        return str(node.value)

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        if node.tag in _TEXTS:
            return str(node.value)
        if node.tag not in _SCALARS:
            raise self._error(f"has the tag {node.tag}, which no Experiment needs", node)
        try:
            value = self._constructor.construct_object(node)
        except (ValueError, KeyError, OverflowError):
            raise self._error(f"cannot be read: {shown(node.value)}", node) from None
        if path == _GOAL and isinstance(value, str) and not node.style:
            return _number(value)
        return value

    def _error(self, reason: str, node: yaml.Node) -> FileError:
        return FileError(self._source, reason, _line(node))


def _number(text: str) -> float | str:
    """`1e-3` without quotes, which YAML 1.1 takes for text."""
    try:
        return parse_finite(text)
    except ValueError:
        return text
