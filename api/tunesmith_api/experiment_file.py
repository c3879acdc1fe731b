# SPDX-License-Identifier: Apache-2.0
"""Reads the YAML text of an Experiment: the object, and the line of every part of it.

Called by `tunesmith run`, `tunesmith validate` and the SDK, which show a fault with its line. A
file may hold, beside its Experiment, the ConfigMaps that it takes its trial template from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tunesmith_api.field_errors import Path, shown
from tunesmith_api.resources import API_VERSION, Json
from tunesmith_api.yaml_text import Document, FileError, documents

__all__ = ["FileError", "LoadedExperiment", "LoadedFile", "line_of", "load", "load_all"]

EXPERIMENT: Final = (API_VERSION, "Experiment")
CONFIG_MAP: Final = ("v1", "ConfigMap")

_GOAL: Final[Path] = ("spec", "objective", "goal")


@dataclass(frozen=True, slots=True)
class LoadedObject:
    """An object as written. `lines` has the line, from 1, of every path in it."""

    object: Json
    lines: Mapping[Path, int]

    def line_of(self, path: Path) -> int | None:
        """The line of a path, or of the nearest part above it that is in the text."""
        return line_of(self, path)


LoadedExperiment = LoadedObject


@dataclass(frozen=True, slots=True)
class LoadedFile:
    """The one Experiment of a file, and its ConfigMaps in their order; namespaces as written."""

    experiment: LoadedObject
    config_maps: tuple[LoadedObject, ...] = ()


def load(text: str, source: str) -> LoadedExperiment:
    """The one Experiment in a text; `source` names the text in errors. Raises FileError.

    The object is not validated: only its apiVersion and kind are looked at.
    """
    found = _documents(text, source)
    if len(found) > 1:
        reason = f"holds {len(found)} documents; an experiment file has one"
        raise FileError(source, reason, found[1].line)
    _check_experiment(found[0].value, source)
    return LoadedObject(found[0].value, found[0].lines)


def load_all(text: str, source: str) -> LoadedFile:
    """The one Experiment in a text and the ConfigMaps beside it; other objects, and more than one
    Experiment, are refused. Raises FileError.

    Of the Experiment only apiVersion and kind are looked at; ConfigMaps are complete.
    """
    found = _documents(text, source)
    if len(found) == 1:
        return LoadedFile(load(text, source))
    for document in found:
        _check_kind(document, source)
    experiments = [document for document in found if _identity(document.value) == EXPERIMENT]
    if len(experiments) != 1:
        _refuse_number(experiments, source)
    maps = [document for document in found if _identity(document.value) == CONFIG_MAP]
    _check_config_maps(maps, source)
    one = experiments[0]
    loaded = tuple(LoadedObject(document.value, document.lines) for document in maps)
    return LoadedFile(LoadedObject(one.value, one.lines), loaded)


def line_of(loaded: LoadedObject, path: Path) -> int | None:
    """The line of a path, or of the nearest part above it that is in the text."""
    for length in range(len(path), 0, -1):
        if path[:length] in loaded.lines:
            return loaded.lines[path[:length]]
    return None


def _documents(text: str, source: str) -> list[Document]:
    found = documents(text, source, numbers=(_GOAL,))
    if not found:
        raise FileError(source, "is empty: an Experiment begins with apiVersion and kind")
    return found


# ---- identities ---------------------------------------------------------------------------------


def _identity(found: Any) -> tuple[Any, Any]:
    return (found.get("apiVersion"), found.get("kind")) if isinstance(found, dict) else (None, None)


def _check_experiment(found: Any, source: str) -> None:
    if not isinstance(found, dict):
        what = "a list" if isinstance(found, list) else f"the text {shown(found)}"
        raise FileError(source, f"is {what}, not an Experiment; it begins with apiVersion and kind")
    version, kind = _identity(found)
    if (version, kind) == EXPERIMENT:
        return
    if kind is None or version is None:
        missing = "kind" if kind is None else "apiVersion"
        wanted = f"apiVersion: {API_VERSION} and kind: Experiment"
        raise FileError(source, f"has no {missing}; an Experiment begins with {wanted}")
    raise FileError(source, f"is {_named(found)}, not an Experiment of {API_VERSION}")


def _named(found: Any) -> str:
    version, kind = _identity(found)
    named = " of ".join(w if isinstance(w, str) else shown(w) for w in (kind, version))
    return f"{'an' if named[:1] in tuple('AEIOU') else 'a'} {named}"


def _check_kind(document: Document, source: str) -> None:
    """One of several documents is an Experiment or a ConfigMap."""
    identity = _identity(document.value)
    if identity in (EXPERIMENT, CONFIG_MAP):
        return
    if None in identity:
        reason = "holds a document without apiVersion and kind"
    else:
        reason = f"holds {_named(document.value)}"
    wanted = f"one Experiment of {API_VERSION} and ConfigMaps of v1 can be together in a file"
    raise FileError(source, f"{reason}; {wanted}", document.line)


def _refuse_number(experiments: Sequence[Document], source: str) -> None:
    if not experiments:
        raise FileError(source, f"holds ConfigMaps and no Experiment of {API_VERSION}")
    reason = f"holds {len(experiments)} Experiments; a file has one"
    raise FileError(source, reason, experiments[1].line)


# ---- ConfigMaps ---------------------------------------------------------------------------------


def _check_config_maps(maps: Iterable[Document], source: str) -> None:
    seen: dict[tuple[str, str], int] = {}
    for document in maps:
        address = _address(document, source)
        if address in seen:
            reason = f"holds ConfigMap {address[1]} twice, in line {seen[address]} and in line "
            raise FileError(source, f"{reason}{document.line}", document.line)
        seen[address] = document.line
        _check_data(document, source)


def _address(document: Document, source: str) -> tuple[str, str]:
    metadata = document.value.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    name, namespace = metadata.get("name"), metadata.get("namespace")
    if not isinstance(name, str) or not name:
        raise FileError(source, "holds a ConfigMap without metadata.name", document.line)
    if namespace is not None and not isinstance(namespace, str):
        reason = f"holds ConfigMap {name}, whose metadata.namespace is no text"
        raise FileError(source, reason, document.lines.get(("metadata", "namespace")))
    return namespace or "", name


def _check_data(document: Document, source: str) -> None:
    name, data = document.value["metadata"]["name"], document.value.get("data")
    if data is not None and not isinstance(data, dict):
        reason = f"holds ConfigMap {name}, whose data is no mapping"
        raise FileError(source, reason, document.lines.get(("data",)))
    for key, value in (data or {}).items():
        if not isinstance(value, str):
            reason = (
                f"holds ConfigMap {name}, whose key {key} is {shown(value)}, not text; "
                f"begin it with `{key}: |`"
            )
            raise FileError(source, reason, document.lines.get(("data", key)))
