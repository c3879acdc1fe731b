# SPDX-License-Identifier: Apache-2.0
"""Katib's defaults for an Experiment: the same fields, in the same order, and for templates in
ConfigMaps too.

Called by admission before validation, so it takes any JSON, well-formed or not: what it does not
understand it leaves for validation to name. Pure and idempotent; unknown fields stay.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection
from typing import Any, Final

from tunesmith_api.kinds import profile
from tunesmith_api.resources import Json

PARALLEL: Final = 3
RESUME_POLICY: Final = "Never"
DISTRIBUTION: Final = "uniform"
FILE_PATH: Final = "/var/log/katib/metrics.log"
EVENTS_PATH: Final = "/var/log/katib/tfevent/"
PROMETHEUS_PATH: Final = "/metrics"
PROMETHEUS_PORT: Final = 8080

_RULES: Final = {"minimize": "min", "maximize": "max"}
_LONGEST_LITERAL: Final = 256 * 1024


def default(experiment: Json, *, template: Json | None = None) -> Json:
    """The Experiment with every default filled in; a new mapping.

    `template` is the job in the ConfigMap of `trialTemplate.configMap`, where that could be read:
    its kind then gives conditions and labels, as an inline one does (Katib does not look inside).
    Parts that did not change are shared with the argument. Never raises.
    """
    if not isinstance(experiment, dict):
        return experiment
    return {**experiment, "spec": _spec(_mapping(experiment.get("spec")), template)}


def listed_distribution(feasible_space: Any) -> list[Any] | None:
    """The list that Katib's SDK puts into `distribution` of a categorical parameter, else None.

    `search.categorical` sends a list; after one round trip through the SDK's models it has become
    the text of that list in Python's notation.
    """
    found = feasible_space.get("distribution") if isinstance(feasible_space, dict) else None
    if isinstance(found, str) and found.lstrip().startswith("["):
        found = _literal(found)
    return found if isinstance(found, list) and all(map(_is_scalar, found)) else None


def _spec(spec: Any, stored: Json | None) -> Any:
    if not isinstance(spec, dict):
        return spec
    spec = _filled(spec, {"parallelTrialCount": PARALLEL, "resumePolicy": RESUME_POLICY})
    spec = _changed(spec, "objective", _objective)
    spec = _changed(spec, "trialTemplate", lambda given: _trial_template(given, stored))
    spec = {**spec, "metricsCollectorSpec": _collector_spec(spec.get("metricsCollectorSpec"))}
    return _changed(spec, "parameters", _parameters)


# ---- parts --------------------------------------------------------------------------------------


def _objective(objective: Any) -> Any:
    """A strategy for every metric: by the type of the objective, for additional metrics too."""
    if not isinstance(objective, dict):
        return objective
    given, additional = objective.get("metricStrategies"), objective.get("additionalMetricNames")
    given, additional = _listed(given), _listed(additional)
    if given is None or additional is None:
        return objective
    rule = _rule(objective.get("type"))
    known = {s.get("name") for s in given if isinstance(s, dict) and _is_text(s.get("name"))}
    metrics = (objective.get("objectiveMetricName"), *additional)
    missing = dict.fromkeys(m for m in metrics if _is_text(m) and m not in known)
    added = ({"name": metric, "value": rule} for metric in missing)
    return {**objective, "metricStrategies": [*given, *added]}


def _trial_template(template: Any, stored: Json | None) -> Any:
    """Conditions and primary pod labels by kind, where the job is known."""
    if not isinstance(template, dict):
        return template
    job = template.get("trialSpec")
    job = stored if job is None and template.get("configMap") else job
    if not isinstance(job, dict):
        return template
    known = profile(_text(job.get("apiVersion")), _text(job.get("kind")))
    if known is None:
        return template
    wanted: Json = {"successCondition": known.success, "failureCondition": known.failure}
    if known.primary_pod_labels:
        wanted["primaryPodLabels"] = dict(known.primary_pod_labels)
    return _filled(template, wanted)


def _collector_spec(spec: Any) -> Any:
    spec = _mapping(spec)
    if not isinstance(spec, dict):
        return spec
    collector = _mapping(spec.get("collector"))
    if not isinstance(collector, dict):
        return spec
    spec = {**spec, "collector": _filled(collector, {"kind": "StdOut"})}
    source = _SOURCES.get(_text(spec["collector"]["kind"]))
    if source is None:
        return spec
    return _changed({**spec, "source": _mapping(spec.get("source"))}, "source", source)


def _file_source(source: Any) -> Any:
    return _filled_below(
        source, "fileSystemPath", {"kind": "File", "path": FILE_PATH, "format": "TEXT"}
    )


def _events_source(source: Any) -> Any:
    return _filled_below(source, "fileSystemPath", {"kind": "Directory", "path": EVENTS_PATH})


def _prometheus_source(source: Any) -> Any:
    return _filled_below(
        source, "httpGet", {"path": PROMETHEUS_PATH, "port": PROMETHEUS_PORT}, empty=(0, "0")
    )


_SOURCES: Final[dict[str, Callable[[Any], Any]]] = {
    "File": _file_source,
    "TensorFlowEvent": _events_source,
    "PrometheusMetric": _prometheus_source,
}


def _parameters(parameters: Any) -> Any:
    return [_parameter(p) for p in parameters] if isinstance(parameters, list) else parameters


def _parameter(parameter: Any) -> Any:
    if not isinstance(parameter, dict):
        return parameter
    space = _mapping(parameter.get("feasibleSpace"))
    if not isinstance(space, dict):
        return parameter
    choices = listed_distribution(space)
    if choices is not None and parameter.get("parameterType") in ("categorical", "discrete"):
        space = {**space, "distribution": "", "list": space.get("list") or choices}
    return {**parameter, "feasibleSpace": _filled(space, {"distribution": DISTRIBUTION})}


# ---- filling in ---------------------------------------------------------------------------------


def _mapping(value: Any) -> Any:
    """Nothing counts as an empty mapping."""
    return {} if value is None else value


def _listed(value: Any) -> list[Any] | None:
    """Nothing counts as an empty list; None for what is no list."""
    found = [] if value is None else value
    return found if isinstance(found, list) else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | int | float)


def _rule(type_: Any) -> str:
    return _RULES.get(type_, "latest") if isinstance(type_, str) else "latest"


def _is_empty(value: Any, empty: Collection[Any]) -> bool:
    """What Go's models read as not set."""
    return value is None or value in ("", {}) or (isinstance(value, str | int) and value in empty)


def _filled(mapping: Json, wanted: Json, empty: Collection[Any] = ()) -> Json:
    missing = {key: value for key, value in wanted.items() if _is_empty(mapping.get(key), empty)}
    return {**mapping, **missing}


def _filled_below(source: Any, key: str, wanted: Json, empty: Collection[Any] = ()) -> Any:
    below = _mapping(source.get(key)) if isinstance(source, dict) else None
    return {**source, key: _filled(below, wanted, empty)} if isinstance(below, dict) else source


def _changed(mapping: Json, key: str, change: Callable[[Any], Any]) -> Json:
    return {**mapping, key: change(mapping[key])} if key in mapping else mapping


def _literal(text: str) -> Any:
    if len(text) > _LONGEST_LITERAL:
        return None
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
