# SPDX-License-Identifier: Apache-2.0
"""The rules of spec.trialTemplate: its source, its conditions, its parameters.

Called by validation. The job itself is judged by `job_rules`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from tunesmith_api import job_rules, kinds, template
from tunesmith_api.field_errors import (
    FieldError,
    Path,
    did_you_mean,
    field_text,
    listed,
    repeated,
    shown,
)
from tunesmith_api.resources import (
    ConfigMapSource,
    Experiment,
    Json,
    TrialParameterSpec,
    TrialTemplate,
)
from tunesmith_api.template_source import (
    CONFIG_MAP,
    ConfigMapLookup,
    TemplateSourceError,
    stored_template,
)

ConditionCheck = Callable[[str], str | None]
"""Says why a success or failure condition cannot be read; None when it can."""

_HERE: Final[Path] = ("spec", "trialTemplate")
_JOB: Final[Path] = job_rules.HERE
_PARAMETERS: Final[Path] = (*_HERE, "trialParameters")


@dataclass(frozen=True, slots=True)
class JobTemplate:
    """The job that trials run, where it can be looked at. `tree` is None where it cannot, `fault`
    says why where that is a fault. `stored`: it is in a ConfigMap."""

    tree: Json | None = None
    fault: FieldError | None = None
    stored: bool = False

    def located(self, errors: Iterable[FieldError]) -> Iterator[FieldError]:
        """Errors of the job; those of a stored one are told at the field that names it."""
        for error in errors:
            if not self.stored or error.path[: len(_JOB)] != _JOB:
                yield error
                continue
            inner = field_text(error.path[len(_JOB) :])
            message = f"in the template, {inner}: {error.message}"
            yield FieldError((*CONFIG_MAP, "templatePath"), message, error.hint)


def job_of(experiment: Experiment, lookup: ConfigMapLookup | None) -> JobTemplate:
    """The job of an inline template, or of a stored one where there is a `lookup`."""
    given = experiment.spec.trial_template
    if given is None or given.trial_spec is not None or given.config_map is None:
        return JobTemplate(given.trial_spec if given else None)
    if lookup is None:
        return JobTemplate(stored=True)
    try:
        return JobTemplate(stored_template(experiment, lookup), stored=True)
    except TemplateSourceError as error:
        fault = FieldError((*CONFIG_MAP, error.field), error.reason, error.hint)
        return JobTemplate(fault=fault, stored=True)


def structure(
    experiment: Experiment, job: JobTemplate, check: ConditionCheck | None
) -> Iterator[FieldError]:
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
    if job.fault is None and (job.stored or job.tree is not None):
        yield from _conditions(given, check)
    yield from _source(given)
    if job.fault:
        yield job.fault
    if given.trial_parameters is None:
        yield FieldError(_PARAMETERS, "must be given", "write [] when the template has none")
    yield from _trial_parameters(given.trial_parameters or ())
    if job.tree is not None:
        yield from job.located(job_rules.job(job.tree, given.primary_container_name))


def references(experiment: Experiment, job: JobTemplate) -> Iterator[FieldError]:
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
            fault = template.reference_fault(reference, job.tree or {})
            if fault and (job.tree is not None or not template.is_meta_reference(reference)):
                yield FieldError(path, fault)
        elif searched:
            message = f"{shown(reference)} is no search parameter; there are: {listed(searched)}"
            yield FieldError(path, message, did_you_mean(reference, searched))


def placeholders(experiment: Experiment, job: JobTemplate) -> Iterator[FieldError]:
    """Declared trial parameters are used, and used ones are declared."""
    given = experiment.spec.trial_template
    if given is not None and job.tree is not None:
        yield from job.located(_placeholders(given, job.tree, job.stored))


def _placeholders(given: TrialTemplate, tree: Json, stored: bool) -> Iterator[FieldError]:
    used = list(template.placeholder_places(tree))
    names = {name for _, name in used}
    declared = {p.name: index for index, p in enumerate(given.trial_parameters or ())}
    for name, index in declared.items():
        if name and "}" not in name and name not in names:
            yield FieldError(
                (*_PARAMETERS, index, "name"),
                f"${{trialParameters.{name}}} does not occur in "
                + ("the ConfigMap's template" if stored else "trialSpec"),
                "use it there, or remove it here",
            )
    for path, name in used:
        if name not in declared:
            message = f"${{trialParameters.{name}}} is not declared in trialParameters"
            known = [other for other in declared if other]
            hint = did_you_mean(name, known) or f"declared are: {listed(known)}"
            yield FieldError((*_JOB, *path), message, hint)
    for path in template.placeholder_keys(tree):
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
