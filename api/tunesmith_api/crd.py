# SPDX-License-Identifier: Apache-2.0
"""CustomResourceDefinitions of Experiment, Suggestion and Trial, made from the models.

Structural schemas, so that the API server refuses what is ill-typed and `kubectl explain` knows
every field, and as kind as Katib's webhook is to people: numbers where texts are wanted, `null` for
an empty list, unknown fields kept. What a field means beyond its type is for admission.
`deploy/crds` holds what this makes.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo

from tunesmith_api.crd_texts import TEXTS
from tunesmith_api.resources import GROUP, VERSION, Experiment, Json, Node, Suggestion, Text, Trial

_KEPT: Final = "x-kubernetes-preserve-unknown-fields"
_ANYTHING: Final[Json] = {_KEPT: True}
_LISTS_OF_SDK: Final = frozenset({("FeasibleSpace", "distribution")})
"""Katib's SDK puts the list of a categorical parameter there."""

_STATE: Final = ".status.conditions[-1:].type"
_TYPE: Final = {"name": "Type", "type": "string", "jsonPath": _STATE}
_STATUS: Final = {"name": "Status", "type": "string", "jsonPath": ".status.conditions[-1:].status"}
_AGE: Final = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}


def _column(name: str, path: str, priority: int = 0) -> Json:
    found: Json = {"name": name, "type": "string", "jsonPath": path}
    return {**found, "priority": priority} if priority else found


_BEST: Final = ".status.currentOptimalTrial"
COLUMNS: Final[Mapping[str, tuple[Json, ...]]] = {
    "Experiment": (
        _TYPE,
        _STATUS,
        _AGE,
        _column("Algorithm", ".spec.algorithm.algorithmName"),
        _column("Done", ".status.progress"),
        _column("Best", f"{_BEST}.observation.metrics[0].latest"),
        _column("Best-Trial", f"{_BEST}.bestTrialName", priority=1),
    ),
    "Suggestion": (
        _TYPE,
        _STATUS,
        _column("Requested", ".spec.requests"),
        _column("Assigned", ".status.suggestionCount"),
        _AGE,
    ),
    "Trial": (
        _TYPE,
        _STATUS,
        _AGE,
        _column("Objective", ".status.observation.metrics[0].latest"),
    ),
}
"""Of `kubectl get`: Katib's as they are, then ours."""

SHORT_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "Experiment": ("exp",),
    "Suggestion": ("sug",),
    "Trial": ("tr",),
}


def definitions() -> list[Json]:
    """All of them, by kind."""
    return [definition(model) for model in (Experiment, Suggestion, Trial)]


def definition(model: type[Node]) -> Json:
    """The CustomResourceDefinition of a root model."""
    kind = model.__name__
    plural = f"{kind.lower()}s"
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{GROUP}",
            "labels": {"app.kubernetes.io/name": "tunesmith"},
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": list(SHORT_NAMES[kind]),
                "categories": ["all", "kubeflow", "katib"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": list(COLUMNS[kind]),
                    "schema": {"openAPIV3Schema": schema(model)},
                }
            ],
        },
    }


def schema(model: type[Node]) -> Json:
    """The structural schema of a root model."""
    found = _object(model)
    found["properties"] |= {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
    }
    return found


def _object(model: type[Node]) -> Json:
    properties = {
        field.alias or to_camel(name): _property(model, name, field)
        for name, field in model.model_fields.items()
    }
    return {"type": "object", "properties": properties, **_ANYTHING}


def _property(model: type[Node], name: str, field: FieldInfo) -> Json:
    is_text = any(getattr(each, "func", None) is _TEXT_READER for each in field.metadata)
    if is_text or (model.__name__, name) in _LISTS_OF_SDK:
        found = dict(_ANYTHING)
    else:
        found = _typed(field.annotation)
    text = TEXTS.get(f"{model.__name__}.{field.alias or to_camel(name)}")
    return {"description": text, **found} if text else found


_TEXT_READER: Final = typing.get_args(Text)[1].func


def _typed(annotation: Any) -> Json:
    """Raises TypeError for a type that no field of ours has."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return dict(_ANYTHING) if annotation == Text else _typed(arguments[0])
    if origin in (types.UnionType, typing.Union):
        (inner,) = (each for each in arguments if each is not type(None))
        return {**_typed(inner), "nullable": True}
    if origin is tuple:
        return {"type": "array", "items": _typed(arguments[0]), "nullable": True}
    if origin is dict:
        key_to_any = arguments[1] is Any
        return {"type": "object", **_ANYTHING} if key_to_any else _map(arguments[1])
    return _plain(annotation)


def _map(value: Any) -> Json:
    return {"type": "object", "additionalProperties": _typed(value)}


def _plain(annotation: Any) -> Json:
    if isinstance(annotation, type) and issubclass(annotation, Node):
        return _object(annotation)
    if annotation is datetime:
        return {"type": "string", "format": "date-time"}
    for python, found in ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string")):
        if annotation is python:
            return {"type": found}
    raise TypeError(f"no schema for {annotation!r}")
