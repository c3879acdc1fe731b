# SPDX-License-Identifier: Apache-2.0
"""From any JSON to an Experiment model: what is ill-typed becomes field errors, never an exception.

Called by validation. Ill-typed places are reported and cut out, so that the rules can look at the
rest and a person sees all faults at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tunesmith_api.field_errors import FieldError, Path, shown
from tunesmith_api.resources import Experiment, Node
from tunesmith_api.search_space import parse_finite

MAX_DEPTH: Final = 64

_ROUNDS: Final = 8
_MISSING: Final = object()


class Damage:
    """Places that were cut out."""

    def __init__(self, places: Iterable[Path] = ()) -> None:
        self.places: set[Path] = set()
        self._above: set[Path] = set()
        for place in places:
            self.add(place)

    def add(self, place: Path) -> None:
        self.places.add(place)
        self._above.update(place[:length] for length in range(len(place)))

    def touches(self, path: Path) -> bool:
        """Whether something was cut out at, above or below a path."""
        cut = any(path[:length] in self.places for length in range(len(path) + 1))
        return cut or path in self._above


@dataclass(frozen=True, slots=True)
class Reading:
    """What could be read, without what is damaged; `errors` say why it is."""

    experiment: Experiment | None
    errors: tuple[FieldError, ...]
    damage: Damage


@dataclass(frozen=True, slots=True)
class Spelling:
    """A key that a model does not have; `field` when it is a field's name in another style."""

    path: Path
    model: type[Node]
    field: str = ""


def read(data: object) -> Reading:
    """The Experiment with its ill-typed places cut out; None when nothing can be read."""
    faults = list(json_faults(data))
    damage = Damage(fault.path for fault in faults)
    for _ in range(_ROUNDS):
        if () in damage.places:
            break
        try:
            experiment = Experiment.parse(_without(data, damage.places))
        except ValidationError as error:
            faults += _cut_out(error, data, damage)
        else:
            return Reading(experiment, tuple(faults), damage)
    return Reading(None, tuple(faults), damage)


def _cut_out(error: ValidationError, data: object, damage: Damage) -> list[FieldError]:
    """Adds the places of all errors to the damage; the faults where none was known yet.

    An item of a list is replaced by an empty mapping first, which keeps the places of the others;
    where that is wrong too, the whole list goes.
    """
    faults = []
    before = frozenset(damage.places)
    for details in error.errors(include_url=False, include_context=False):
        fault = _field_error(details, data)
        cut = fault.path[:-1] if details["type"] == "missing" else fault.path
        if not damage.touches(fault.path):
            faults.append(fault)
        damage.add(cut[:-1] if cut in before else cut)
    return faults


def json_faults(data: object) -> Iterator[FieldError]:
    """What is no JSON that can be stored: keys that are no texts, NaN, dates, too much depth."""
    stack: list[tuple[Path, object]] = [((), data)]
    too_deep: set[Path] = set()
    while stack:
        path, value = stack.pop()
        if path[:1] in too_deep:
            continue
        if len(path) > MAX_DEPTH:
            too_deep.add(path[:1])
            yield FieldError(path[:1], f"is nested deeper than {MAX_DEPTH} levels")
            continue
        if isinstance(value, dict):
            yield from (_key_fault(path, key) for key in value if not _is_key(key))
            below = [((*path, key), child) for key, child in value.items() if _is_key(key)]
            stack.extend(reversed(below))
        elif isinstance(value, list | tuple):
            stack.extend(((*path, index), value[index]) for index in reversed(range(len(value))))
        elif fault := _scalar_fault(value):
            yield FieldError(path, fault)


def foreign_keys(data: object) -> Iterator[Spelling]:
    """Keys in metadata and spec that the models do not know, in document order."""
    if isinstance(data, Mapping):
        yield from _foreign(data, Experiment, (), skip=("status",))


def known_keys(model: type[Node]) -> tuple[str, ...]:
    """The JSON names of a model's fields."""
    return tuple(_fields(model))


def _is_key(key: object) -> bool:
    return isinstance(key, str) and _is_unicode(key)


def _key_fault(path: Path, key: object) -> FieldError:
    if isinstance(key, str):
        return FieldError((*path, key), "is a key that is no valid Unicode")
    return FieldError(
        (*path, shown(key)), f"is a key that is not text: {shown(key)}", "put it in quotes"
    )


def _scalar_fault(value: object) -> str:
    if isinstance(value, str):
        return "" if _is_unicode(value) else "is no valid Unicode (half of a surrogate pair)"
    if isinstance(value, float):
        return "" if math.isfinite(value) else f"must be a finite number, this is {value}"
    if isinstance(value, int):  # bool too
        return "" if abs(value) < 2**63 else "is a whole number of more than 64 bits"
    return "" if value is None else f"is {shown(value)}, which JSON does not have; put it in quotes"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# ---- cutting out --------------------------------------------------------------------------------


def _without(tree: Any, damaged: set[Path], path: Path = ()) -> Any:
    """A copy without the damaged places; in lists an empty mapping holds their place."""
    if isinstance(tree, dict):
        return {
            key: _without(child, damaged, (*path, key))
            for key, child in tree.items()
            if _is_key(key) and (*path, key) not in damaged
        }
    if isinstance(tree, list | tuple):
        return [
            {} if (*path, index) in damaged else _without(child, damaged, (*path, index))
            for index, child in enumerate(tree)
        ]
    return tree


# ---- pydantic's errors --------------------------------------------------------------------------

_WANTED: Final = {
    "model": "must be a mapping",
    "dict": "must be a mapping",
    "tuple": "must be a list",
    "list": "must be a list",
    "string": "must be text",
    "int": "must be a whole number",
    "float": "must be a number",
    "bool": "must be true or false",
    "datetime": "must be a time such as 2026-01-02T03:04:05Z",
}


def _field_error(details: ErrorDetails, data: object) -> FieldError:
    path, value = _located(details["loc"], data)
    if details["type"] == "missing":
        return FieldError((*path, str(details["loc"][-1])), "must be given")
    wanted = _WANTED.get(details["type"].partition("_")[0])
    message = f"{wanted}, this is {shown(value)}" if wanted else details["msg"]
    return FieldError(path, message, _type_hint(wanted, value))


def _type_hint(wanted: str | None, value: object) -> str:
    if value is None:
        return "give a value or remove the line"
    if wanted == "must be text" and not isinstance(value, dict | list | tuple):
        return "put it in quotes"
    if wanted in ("must be a number", "must be a whole number") and isinstance(value, str):
        try:
            parse_finite(value)
        except ValueError:
            return ""
        return "write it without quotes"
    return ""


def _located(loc: tuple[str | int, ...], data: Any) -> tuple[Path, Any]:
    """The part of pydantic's location that exists in the data, and what stands there."""
    path: Path = ()
    for part in loc:
        below = _child(data, part)
        if below is _MISSING:
            break
        path, data = (*path, part), below
    return path, data


def _child(tree: Any, part: str | int) -> Any:
    if isinstance(tree, Mapping):
        return tree.get(part, _MISSING)
    if isinstance(tree, list | tuple) and isinstance(part, int) and part < len(tree):
        return tree[part]
    return _MISSING


# ---- spelling -----------------------------------------------------------------------------------


def _foreign(
    data: Mapping[Any, Any], model: type[Node], path: Path, skip: tuple[str, ...] = ()
) -> Iterator[Spelling]:
    fields = _fields(model)
    styled = {info: alias for alias, (info, _) in fields.items()}
    for key, child in data.items():
        if key in skip or not isinstance(key, str):
            continue
        here = (*path, key)
        if key not in fields:
            yield Spelling(here, model, styled.get(key, ""))
        elif (below := fields[key][1]) is not None:
            yield from _foreign_below(child, below, here)


def _foreign_below(data: Any, model: type[Node], path: Path) -> Iterator[Spelling]:
    if isinstance(data, Mapping):
        yield from _foreign(data, model, path)
    elif isinstance(data, list | tuple):
        for index, child in enumerate(data):
            if isinstance(child, Mapping):
                yield from _foreign(child, model, (*path, index))


@cache
def _fields(model: type[Node]) -> Mapping[str, tuple[str, type[Node] | None]]:
    """By JSON name: the name in Python, and the model below where there is one."""
    return {
        info.alias or name: (name, _node_in(info.annotation))
        for name, info in model.model_fields.items()
    }


def _node_in(annotation: Any) -> type[Node] | None:
    if isinstance(annotation, type) and issubclass(annotation, Node):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _node_in(arg))), None)
