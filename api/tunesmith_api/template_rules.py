# SPDX-License-Identifier: Apache-2.0
"""The rules of spec.trialTemplate: its source, its conditions, its parameters, its Job.

Called by validation. What Kubernetes itself would refuse of a Job (numbers where it wants text, a
primary container that is not there) is found here, before the first trial.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from tunesmith_api import kinds, template
from tunesmith_api.field_errors import (
    FieldError,
    Path,
    did_you_mean,
    field_text,
    listed,
    repeated,
    shown,
)
from tunesmith_api.resources import ConfigMapSource, Experiment, TrialParameterSpec, TrialTemplate

ConditionCheck = Callable[[str], str | None]
"""Says why a success or failure condition cannot be read; None when it can."""

_HERE: Final[Path] = ("spec", "trialTemplate")
_JOB: Final[Path] = (*_HERE, "trialSpec")
_PARAMETERS: Final[Path] = (*_HERE, "trialParameters")
_POD: Final[Path] = ("spec", "template", "spec")


def structure(experiment: Experiment, check: ConditionCheck | None) -> Iterator[FieldError]:
    """The template is complete, and its own fields are right."""
    given = experiment.spec.trial_template
    if given is None:
        yield FieldError(_HERE, "must be given: the job that every trial runs")
        return
    if not given.primary_container_name:
        yield FieldError(
            (*_HERE, "primaryContainerName"),
            "must be given: the container whose output holds the metrics",
        )
    yield from _conditions(given, check)
    yield from _source(given)
    if given.trial_parameters is None:
        yield FieldError(_PARAMETERS, "must be given", "write [] when the template has none")
    yield from _trial_parameters(given.trial_parameters or ())
    if given.trial_spec is not None:
        yield from _job(given.trial_spec, given.primary_container_name)


def references(experiment: Experiment) -> Iterator[FieldError]:
    """Every trial parameter refers to a search parameter or to the trial's own data."""
    given = experiment.spec.trial_template
    if given is None:
        return
    searched = dict.fromkeys(p.name for p in experiment.spec.parameters)
    for index, parameter in enumerate(given.trial_parameters or ()):
        path, reference = (*_PARAMETERS, index, "reference"), parameter.reference
        if not reference or reference in searched:
            continue
        if reference.startswith("${"):
            if fault := template.reference_fault(reference, given.trial_spec or {}):
                yield FieldError(path, fault)
        elif searched:
            message = f"{shown(reference)} is no search parameter; there are: {listed(searched)}"
            yield FieldError(path, message, did_you_mean(reference, searched))


def placeholders(experiment: Experiment) -> Iterator[FieldError]:
    """Declared trial parameters are used, and used ones are declared."""
    given = experiment.spec.trial_template
    if given is None or given.trial_spec is None:
        return
    used = list(template.placeholder_places(given.trial_spec))
    names = {name for _, name in used}
    declared = {p.name: index for index, p in enumerate(given.trial_parameters or ())}
    for name, index in declared.items():
        if name and name not in names:
            yield FieldError(
                (*_PARAMETERS, index, "name"),
                f"${{trialParameters.{name}}} does not occur in trialSpec",
                "use it there, or remove it here",
            )
    for path, name in used:
        if name not in declared:
            message = f"${{trialParameters.{name}}} is not declared in trialParameters"
            hint = did_you_mean(name, declared) or f"declared are: {listed(declared)}"
            yield FieldError((*_JOB, *path), message, hint)
    for path in template.placeholder_keys(given.trial_spec):
        yield FieldError((*_JOB, *path), "is a key: placeholders are replaced in values only")


# ---- the template's own fields ------------------------------------------------------------------


def _conditions(given: TrialTemplate, check: ConditionCheck | None) -> Iterator[FieldError]:
    for key, text in (
        ("successCondition", given.success_condition),
        ("failureCondition", given.failure_condition),
    ):
        if not text:
            yield FieldError(
                (*_HERE, key),
                "must be given: nothing is known about this kind of job",
                f"known kinds are: {', '.join(kinds.BY_KIND)}",
            )
        elif check is not None and (fault := check(text)):
            yield FieldError((*_HERE, key), f"cannot be read as a condition: {fault}")


def _source(given: TrialTemplate) -> Iterator[FieldError]:
    if given.trial_spec is None and given.config_map is None:
        yield FieldError(_JOB, "must be given: the job that every trial runs, as an object")
    elif given.trial_spec is not None and given.config_map is not None:
        yield FieldError((*_HERE, "configMap"), "cannot be given beside trialSpec", "remove one")
    if given.config_map is not None:
        yield from _config_map(given.config_map)


def _config_map(source: ConfigMapSource) -> Iterator[FieldError]:
    for key, text in (
        ("configMapName", source.config_map_name),
        ("configMapNamespace", source.config_map_namespace),
        ("templatePath", source.template_path),
    ):
        if not text:
            yield FieldError((*_HERE, "configMap", key), "must be given")


def _trial_parameters(parameters: tuple[TrialParameterSpec, ...]) -> Iterator[FieldError]:
    for index, parameter in enumerate(parameters):
        path = (*_PARAMETERS, index)
        if not parameter.name:
            yield FieldError((*path, "name"), "must be given")
        if "{" in parameter.name or "}" in parameter.name:
            yield FieldError((*path, "name"), f"{shown(parameter.name)} holds a brace")
        if not parameter.reference:
            yield FieldError((*path, "reference"), "must be given: the name of a search parameter")
    for key, texts in (
        ("name", [p.name for p in parameters]),
        ("reference", [p.reference for p in parameters]),
    ):
        for index, first in repeated(text or place for place, text in enumerate(texts)):
            message = f"{shown(texts[index])} is already the {key} of trial parameter {first}"
            yield FieldError((*_PARAMETERS, index, key), message)


# ---- the job ------------------------------------------------------------------------------------


def _job(job: Mapping[str, Any], primary: str) -> Iterator[FieldError]:
    for key in ("apiVersion", "kind"):
        value = job.get(key)
        if not isinstance(value, str) or not value:
            given = f", this is {shown(value)}" if key in job else ""
            yield FieldError((*_JOB, key), f"must be given as text{given}")
    metadata = job.get("metadata")
    if metadata is not None and not isinstance(metadata, Mapping):
        yield FieldError((*_JOB, "metadata"), f"must be a mapping, this is {shown(metadata)}")
    elif metadata:
        for key in ("name", "namespace"):
            if metadata.get(key):
                yield FieldError(
                    (*_JOB, "metadata", key), "is set for each trial; remove it from the template"
                )
    if (job.get("apiVersion"), job.get("kind")) == kinds.JOB:
        yield from _batch_job(job, primary)


def _batch_job(job: Mapping[str, Any], primary: str) -> Iterator[FieldError]:
    """A Job has pods, and one of their containers is the primary one."""
    pod: Any = job
    for depth, key in enumerate(_POD):
        pod = pod.get(key)
        if not isinstance(pod, Mapping):
            place, given = (*_JOB, *_POD[: depth + 1]), "" if pod is None else f", not {shown(pod)}"
            yield FieldError(place, f"must be given as a mapping{given}")
            return
    names = []
    for path, container in _containers(pod, "containers"):
        names.append(str(container.get("name")))
        yield from _container(container, path)
    for path, container in _containers(pod, "initContainers"):
        yield from _container(container, path)
    if primary and primary not in names:
        yield FieldError(
            (*_HERE, "primaryContainerName"),
            f"{shown(primary)} is none of the containers in {field_text((*_JOB, *_POD))}; "
            f"there are: {listed(names)}",
            did_you_mean(primary, names),
        )


def _containers(pod: Mapping[str, Any], key: str) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    found = pod.get(key)
    for index, container in enumerate(found if isinstance(found, list | tuple) else ()):
        if isinstance(container, Mapping):
            yield (*_JOB, *_POD, key, index), container


def _container(container: Mapping[str, Any], path: Path) -> Iterator[FieldError]:
    """Kubernetes takes texts only in command, args and env values."""
    for key in ("command", "args"):
        words = container.get(key)
        if words is not None and not isinstance(words, list | tuple):
            yield FieldError((*path, key), f"must be a list of texts, this is {shown(words)}")
            continue
        for index, word in enumerate(words or ()):
            yield from _text((*path, key, index), word)
    env = container.get("env")
    for index, variable in enumerate(env if isinstance(env, list | tuple) else ()):
        if isinstance(variable, Mapping) and variable.get("value") is not None:
            yield from _text((*path, "env", index, "value"), variable["value"])


def _text(path: Path, value: Any) -> Iterator[FieldError]:
    if not isinstance(value, str):
        yield FieldError(path, f"must be text, this is {shown(value)}", "put it in quotes")
