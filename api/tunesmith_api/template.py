# SPDX-License-Identifier: Apache-2.0
"""From a trial template and an assignment to the object that a trial runs.

Substitution is structural: the template is a tree that is walked once; `${trialParameters.x}` is
replaced in scalar texts, never in keys, and what was put in is never looked at again. A value can
therefore change no other field, whatever it holds. Used by the Experiment reconciler (`render`) and
by validation (`placeholders`, `reference_fault`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from tunesmith_api.resources import Experiment, Json, TrialParameterSpec
from tunesmith_api.search_space import ListParameter, ParameterType, SearchSpace, parse_finite
from tunesmith_api.template_source import TemplateError, job_template

__all__ = [
    "TemplateError",
    "UnknownPlaceholder",
    "UnresolvedReference",
    "is_meta_reference",
    "numeric_names",
    "placeholder_keys",
    "placeholder_places",
    "placeholders",
    "reference_fault",
    "render",
    "substitute",
    "trial_values",
    "wants_text",
]

Path = tuple[str | int, ...]

_PLACEHOLDER: Final = re.compile(r"\$\{trialParameters\.([^}]*)\}")
_META: Final = re.compile(r"\$\{trialSpec\.([A-Za-z]+)(?:\[(.+)\])?\}")
_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,18}")

# Places where Kubernetes and the operators that it is used with want text, whatever it looks like.
_TEXT_LISTS: Final = frozenset({"args", "command", "arguments", "values"})
_TEXT_MAPS: Final = frozenset(
    {"labels", "annotations", "matchLabels", "nodeSelector", "data", "stringData"}
    | {"sparkConf", "hadoopConf", "rayStartParams"}
)
_TEXT_FIELDS: Final = frozenset(
    {"value", "name", "namespace", "image", "workingDir", "entrypoint", "nprocPerNode"}
)


class UnknownPlaceholder(TemplateError):
    """The template names a trial parameter that is not declared."""

    def __init__(self, path: Path, name: str, known: Collection[str]) -> None:
        names = ", ".join(sorted(known)) or "none"
        super().__init__(f"${{trialParameters.{name}}} is not declared; declared are: {names}")
        self.path = path
        self.name = name


class UnresolvedReference(TemplateError):
    """A trial parameter whose reference has no value."""

    def __init__(self, parameter: str, reference: str, reason: str) -> None:
        super().__init__(f"trial parameter {parameter!r}: {reason}")
        self.parameter = parameter
        self.reference = reference
        self.reason = reason


def substitute(template: Json, values: Mapping[str, str], *, numeric: Collection[str]) -> Json:
    """The template with every placeholder replaced; a new tree, the template is not changed.

    `values` and `numeric` go by trial parameter. A text that is exactly one placeholder of a
    numeric one becomes a number, except where Kubernetes wants text (args, env values, labels,
    ...). Raises UnknownPlaceholder.
    """
    rendered = _replaced(template, (), values, frozenset(numeric))
    assert isinstance(rendered, dict)  # noqa: S101 - a mapping is rendered as a mapping
    return rendered


def placeholders(template: Any) -> set[str]:
    """The names of all trial parameters that the template uses."""
    return {name for _, name in placeholder_places(template)}


def placeholder_places(template: Any) -> Iterator[tuple[Path, str]]:
    """Where trial parameters are used: the path of each text, and the name, in document order."""
    for path, leaf in _leaves(template, ()):
        if isinstance(leaf, str):
            yield from ((path, match[1]) for match in _PLACEHOLDER.finditer(leaf))


def placeholder_keys(template: Any) -> Iterator[Path]:
    """Paths of keys that hold a placeholder: those are never replaced."""
    for path, child in _children(template, ()):
        if isinstance(path[-1], str) and _PLACEHOLDER.search(path[-1]):
            yield path
        yield from ((*path, *below) for below in placeholder_keys(child))


def trial_values(
    parameters: Sequence[TrialParameterSpec],
    assignment: Mapping[str, str],
    template: Json,
    *,
    name: str,
    namespace: str,
) -> dict[str, str]:
    """The text of each trial parameter: of the assignment, of the trial, or of the template.

    Name and Namespace are the trial's; Kind, APIVersion, Labels[k], Annotations[k] the template's.
    Raises UnresolvedReference.
    """
    trial = {"Name": name, "Namespace": namespace}
    return {p.name: _value(p, assignment, trial, template) for p in parameters}


def is_meta_reference(reference: str) -> bool:
    """Whether a reference is of the form `${trialSpec.…}`."""
    return _META.fullmatch(reference) is not None


def reference_fault(reference: str, template: Json) -> str | None:
    """Why a `${trialSpec.…}` reference has no value in this template; None when it has one."""
    found = _META.fullmatch(reference)
    if not found:
        return f"{reference!r} is not of the form ${{trialSpec.Name}}"
    key, index = found[1], found[2]
    if key not in ("Labels", "Annotations"):
        known = key in ("Name", "Namespace", "Kind", "APIVersion") and index is None
        return None if known else _unknown_meta(reference)
    if index is None:
        return f"{reference} needs a key, such as ${{trialSpec.{key}[app]}}"
    if not isinstance(_metadata_of(template, key).get(index), str):
        return f"the template has no {key.lower()[:-1]} {index!r}"
    return None


def render(
    experiment: Experiment,
    assignment: Mapping[str, str],
    space: SearchSpace,
    *,
    name: str,
    config_map: Json | None = None,
) -> Json:
    """The object that the trial `name` runs: the template with its values and its name.

    `config_map` is the ConfigMap that `trialTemplate.configMap` names; an inline template needs
    none. Raises TemplateError when there is no template, or one that does not fit.
    """
    job, template = job_template(experiment, config_map), experiment.spec.trial_template
    parameters = (template.trial_parameters if template else None) or ()
    namespace = experiment.metadata.namespace
    values = trial_values(parameters, assignment, job, name=name, namespace=namespace)
    searched = numeric_names(space)
    numeric = {p.name for p in parameters if p.reference in searched}
    rendered = substitute(job, values, numeric=numeric)
    metadata = rendered.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise TemplateError("the trial template's metadata is not a mapping")
    return {**rendered, "metadata": {**metadata, "name": name, "namespace": namespace}}


def numeric_names(space: SearchSpace) -> frozenset[str]:
    """The search parameters whose texts are numbers: int, double and discrete."""
    return frozenset(
        p.name
        for p in space
        if not (isinstance(p, ListParameter) and p.type is ParameterType.CATEGORICAL)
    )


# ---- walking the tree ---------------------------------------------------------------------------


def _children(tree: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(tree, Mapping):
        yield from (((*path, key), child) for key, child in tree.items())
    elif isinstance(tree, list | tuple):
        yield from (((*path, index), child) for index, child in enumerate(tree))


def _leaves(tree: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if not isinstance(tree, Mapping | list | tuple):
        yield path, tree
    for below, child in _children(tree, path):
        yield from _leaves(child, below)


def _replaced(tree: Any, path: Path, values: Mapping[str, str], numeric: frozenset[str]) -> Any:
    if isinstance(tree, Mapping):
        return {k: _replaced(v, (*path, k), values, numeric) for k, v in tree.items()}
    if isinstance(tree, list | tuple):
        return [_replaced(v, (*path, i), values, numeric) for i, v in enumerate(tree)]
    return _leaf(tree, path, values, numeric) if isinstance(tree, str) else tree


def _leaf(text: str, path: Path, values: Mapping[str, str], numeric: frozenset[str]) -> Any:
    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise UnknownPlaceholder(path, match[1], values)
        return values[match[1]]

    whole = _PLACEHOLDER.fullmatch(text)
    if whole and whole[1] in numeric and not wants_text(path):
        return _number(value(whole))
    return _PLACEHOLDER.sub(value, text)


def wants_text(path: Path) -> bool:
    """Whether Kubernetes wants text at this place of an object."""
    last, parent = path[-1], path[-2] if len(path) > 1 else None
    if isinstance(last, int):
        return parent in _TEXT_LISTS
    return last in _TEXT_FIELDS or parent in _TEXT_MAPS


def _number(text: str) -> int | float | str:
    """The text as a JSON number; itself where it is none."""
    if _WHOLE.fullmatch(text):
        return int(text)
    try:
        return parse_finite(text)
    except ValueError:
        return text


# ---- references ---------------------------------------------------------------------------------


def _value(
    parameter: TrialParameterSpec,
    assignment: Mapping[str, str],
    trial: Mapping[str, str],
    template: Json,
) -> str:
    reference = parameter.reference
    if reference in assignment:
        return assignment[reference]
    found = _META.fullmatch(reference)
    if not found:
        known = ", ".join(assignment) or "none"
        reason = f"the assignment has no {reference!r}; it has: {known}"
        raise UnresolvedReference(parameter.name, reference, reason)
    if fault := reference_fault(reference, template):
        raise UnresolvedReference(parameter.name, reference, fault)
    key, index = found[1], found[2]
    if index is not None:
        return str(_metadata_of(template, key)[index])
    if key in trial:
        return trial[key]
    return str(template.get("kind" if key == "Kind" else "apiVersion", ""))


def _metadata_of(template: Json, key: str) -> Mapping[str, Any]:
    metadata = template.get("metadata")
    entries = metadata.get(key.lower()) if isinstance(metadata, Mapping) else None
    return entries if isinstance(entries, Mapping) else {}


def _unknown_meta(reference: str) -> str:
    return (
        f"{reference} is not known; known are Name, Namespace, Kind, APIVersion, Labels[key] "
        "and Annotations[key]"
    )
