# SPDX-License-Identifier: Apache-2.0
"""What is worth saying about an Experiment that is not wrong: likely slips, and what one machine
cannot run in this release.

Offered through validation; the CLI shows warnings, local admission refuses what is unsupported.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from tunesmith_api import kinds
from tunesmith_api.defaulting import default, listed_distribution
from tunesmith_api.field_errors import FieldError, Path, clipped, did_you_mean, shown
from tunesmith_api.metrics import has_findable_name
from tunesmith_api.problems import space_of
from tunesmith_api.reading import Spelling, foreign_keys, known_keys, read
from tunesmith_api.resources import Experiment, Json, Metadata
from tunesmith_api.search_space import SpaceError

_TEMPLATE: Final[Path] = ("spec", "trialTemplate")
_KUBERNETES_KEYS: Final = frozenset({"managedFields", "selfLink", "deletionGracePeriodSeconds"})
LOCAL_COLLECTORS: Final = ("StdOut", "File", "Push")
"""The collectors that run on one machine."""
_SYSTEM_NAMESPACES: Final = ("kube-system", "kube-public", "kube-node-lease")


def warnings(experiment: Json) -> list[FieldError]:
    """What is probably not meant, of an Experiment as written, faulty or not. Never raises."""
    found = [*_unknown_fields(experiment), *_listed_distributions(experiment)]
    reading = read(default(experiment))
    parsed = reading.experiment
    if parsed is not None and not reading.errors:
        found += [*_hidden_metrics(parsed), *_unused_parameters(parsed)]
        found += [*_budget(parsed), *_elsewhere(parsed)]
    return [clipped(warning) for warning in found]


def unsupported(experiment: Json, *, template: Json | None = None) -> list[FieldError]:
    """What a valid Experiment asks for and this release cannot do on one machine; `template` is the
    job in its ConfigMap where it has one. Never raises."""
    parsed = read(experiment).experiment
    return [] if parsed is None else [*_unsupported(parsed, template)]


# ---- likely slips -------------------------------------------------------------------------------


def _unknown_fields(experiment: Json) -> Iterator[FieldError]:
    for key in foreign_keys(experiment):
        if key.field or (key.model is Metadata and key.path[-1] in _KUBERNETES_KEYS):
            continue
        yield FieldError(
            key.path, "is not a known field; it is kept and has no effect", _meant(key)
        )


def _meant(key: Spelling) -> str:
    return did_you_mean(str(key.path[-1]), known_keys(key.model))


def _listed_distributions(experiment: Any) -> Iterator[FieldError]:
    """Katib's SDK puts the list of a categorical parameter into `distribution`."""
    spec = experiment.get("spec") if isinstance(experiment, dict) else None
    parameters = spec.get("parameters") if isinstance(spec, dict) else None
    for index, parameter in enumerate(parameters if isinstance(parameters, list) else ()):
        space = parameter.get("feasibleSpace") if isinstance(parameter, dict) else None
        if listed_distribution(space) is not None:
            yield FieldError(
                ("spec", "parameters", index, "feasibleSpace", "distribution"),
                "holds the list of values; it is read as `list`",
            )


def _hidden_metrics(experiment: Experiment) -> Iterator[FieldError]:
    """`val/loss=0.3`, of which the default filter sees `loss`."""
    objective, collecting = experiment.spec.objective, experiment.spec.metrics_collector_spec
    source = collecting.source if collecting else None
    if objective is None or (source and source.filter and source.filter.metrics_format):
        return
    path: Path = ("spec", "objective")
    places = [((*path, "objectiveMetricName"), objective.objective_metric_name)]
    for index, name in enumerate(objective.additional_metric_names):
        places.append(((*path, "additionalMetricNames", index), name))
    for place, name in places:
        if name and not has_findable_name(name):
            yield FieldError(
                place,
                f"{shown(name)} is not found in printed lines by the default filter, whose names "
                "are of ASCII letters, digits, '_', '-' and '|'",
                "call tunesmith.report(), or give source.filter.metricsFormat",
            )


def _unused_parameters(experiment: Experiment) -> Iterator[FieldError]:
    template = experiment.spec.trial_template
    if template is None:
        return
    used = {p.reference for p in template.trial_parameters or ()}
    for index, parameter in enumerate(experiment.spec.parameters):
        if parameter.name and parameter.name not in used:
            yield FieldError(
                ("spec", "parameters", index),
                f"{shown(parameter.name)} is searched but no trial is given its value",
                "add it to trialParameters and use it in trialSpec",
            )


def _budget(experiment: Experiment) -> Iterator[FieldError]:
    spec = experiment.spec
    most, objective = spec.max_trial_count, spec.objective
    if most is None and (objective is None or objective.goal is None):
        yield FieldError(
            ("spec", "maxTrialCount"),
            "is not given, and there is no goal: the experiment runs until it is stopped",
        )
    algorithm = spec.algorithm.algorithm_name if spec.algorithm else ""
    points = _points(experiment)
    if algorithm == "random" and most is not None and points is not None and most > points:
        yield FieldError(
            ("spec", "maxTrialCount"),
            f"is {most}, and the search space has only {points} points: some are tried again",
        )


def _points(experiment: Experiment) -> int | None:
    try:
        return space_of(experiment).cardinality if experiment.spec.parameters else None
    except SpaceError:
        return None


def _elsewhere(experiment: Experiment) -> Iterator[FieldError]:
    """What runs here and would surprise in a cluster."""
    namespace, template = experiment.metadata.namespace, experiment.spec.trial_template
    if namespace in _SYSTEM_NAMESPACES:
        yield FieldError(
            ("metadata", "namespace"), f"{namespace} belongs to Kubernetes; choose one of your own"
        )
    job = template.trial_spec if template else None
    if job is None or (job.get("apiVersion"), job.get("kind")) != kinds.JOB:
        return
    path: Path = ("spec", "template", "spec")
    policy = _at(job, (*path, "restartPolicy"))
    if policy not in ("Never", "OnFailure") and isinstance(_at(job, path), dict):
        given = "is not given" if policy is None else f"is {shown(policy)}"
        yield FieldError(
            (*_TEMPLATE, "trialSpec", *path, "restartPolicy"),
            f"{given}; in a cluster a Job needs Never or OnFailure",
        )


def _at(tree: Any, path: Path) -> Any:
    for key in path:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


# ---- what one machine cannot run ----------------------------------------------------------------


def _unsupported(experiment: Experiment, stored: Json | None) -> Iterator[FieldError]:
    spec, template = experiment.spec, experiment.spec.trial_template
    if spec.nas_config is not None:
        yield FieldError(
            ("spec", "nasConfig"),
            "neural architecture search does not run on one machine in this release",
            "remove it",
        )
    collector = spec.metrics_collector_spec.collector if spec.metrics_collector_spec else None
    if collector is not None and collector.kind not in LOCAL_COLLECTORS:
        yield FieldError(
            ("spec", "metricsCollectorSpec", "collector", "kind"),
            f"{shown(collector.kind)} does not run on one machine in this release; "
            f"{', '.join(LOCAL_COLLECTORS)} do",
            "print metrics as name=value, write them to a file, or call tunesmith.report()",
        )
    inline = template.trial_spec if template else None
    if inline is not None:
        yield from _unsupported_kind(inline, (*_TEMPLATE, "trialSpec", "kind"))
    elif stored is not None:
        yield from _unsupported_kind(stored, (*_TEMPLATE, "configMap", "templatePath"))


def _unsupported_kind(job: Json, path: Path) -> Iterator[FieldError]:
    given = (job.get("apiVersion"), job.get("kind"))
    if given == kinds.JOB:
        return
    yield FieldError(
        path,
        f"{given[1]} of {given[0]} does not run on one machine in this release; Job of batch/v1 "
        "does",
        "write the template as a Job",
    )
