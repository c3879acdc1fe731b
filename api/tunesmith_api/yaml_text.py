# SPDX-License-Identifier: Apache-2.0
"""YAML text from anyone to JSON values, with the line of every part.

Called by `experiment_file` and, for templates that are kept in ConfigMaps, by `template_source`.
Size, depth and aliases are bounded, and no tag builds an object.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from tunesmith_api.field_errors import Path, field_text, shown
from tunesmith_api.reading import MAX_DEPTH
from tunesmith_api.resources import Json
from tunesmith_api.search_space import parse_finite

MAX_BYTES: Final = 1024 * 1024
MAX_VALUES: Final = 100_000
MAX_DOCUMENTS: Final = 32

_TAG: Final = "tag:yaml.org,2002:"
_SCALARS: Final = frozenset(_TAG + name for name in ("str", "int", "float", "bool", "null"))
# Read as text: JSON has no dates, and a lone "=" means itself.
_TEXTS: Final = frozenset(_TAG + name for name in ("timestamp", "value"))
_MERGE: Final = f"{_TAG}merge"
# The same classes; the C one is ten times as fast and not always built.
_Loader: Final[type[yaml.SafeLoader]] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class FileError(ValueError):
    """The text does not hold what was wanted. `line` counts from 1; None: about all of it."""

    def __init__(self, source: str, reason: str, line: int | None = None) -> None:
        super().__init__(reason)
        self.source = source
        self.reason = reason
        self.line = line


@dataclass(frozen=True, slots=True)
class Document:
    """One document as written: its value, the line of every path in it, and its first line."""

    value: Any
    lines: Mapping[Path, int]
    line: int


def documents(text: str, source: str, *, numbers: Collection[Path] = ()) -> list[Document]:
    """The documents that are not empty; `source` names the text in errors. Raises FileError.

    At `numbers` plain texts such as `1e-3`, which YAML 1.1 takes for text, are read as numbers.
    """
    if len(text.encode(errors="surrogatepass")) > MAX_BYTES:
        raise FileError(source, f"is larger than {MAX_BYTES // 1024} KiB")
    try:
        _check_depth(text, source)
        nodes = [node for node in yaml.compose_all(text, _Loader) if not _is_empty(node)]
        if len(nodes) > MAX_DOCUMENTS:
            reason = f"holds {len(nodes)} documents; at most {MAX_DOCUMENTS} are possible"
            raise FileError(source, reason, _line(nodes[MAX_DOCUMENTS]))
        return [_document(node, source, numbers) for node in nodes]
    except yaml.YAMLError as error:
        raise _syntax(error, text, source) from None


def _document(node: yaml.Node, source: str, numbers: Collection[Path]) -> Document:
    value, lines = _Reader(source, numbers).read(node)
    return Document(value, lines, _line(node))


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

    def __init__(self, source: str, numbers: Collection[Path]) -> None:
        self._source = source
        self._numbers = frozenset(numbers)
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
        raise self._error(f"has the tag {node.tag}, which JSON does not have", node)

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
            raise self._error(f"has the tag {node.tag}, which JSON does not have", node)
        try:
            value = self._constructor.construct_object(node)
        except (ValueError, KeyError, OverflowError):
            raise self._error(f"cannot be read: {shown(node.value)}", node) from None
        if path in self._numbers and isinstance(value, str) and not node.style:
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
