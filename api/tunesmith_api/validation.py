# SPDX-License-Identifier: Apache-2.0
"""The rules of an Experiment: Katib's, and what Katib leaves to fail later.

Called by admission, after `default`, on a laptop and in a cluster alike. All faults are reported at
once; any JSON is judged, never raised on. `warnings` and `unsupported` (advice.py) are offered here
too, so that callers have one place to ask.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from tunesmith_api import collector_rules, names, point_rules, space_rules, template_rules
from tunesmith_api.advice import unsupported, warnings
from tunesmith_api.collector_rules import COLLECTORS
from tunesmith_api.field_errors import (
    FieldError,
    Path,
    clipped,
    closest,
    did_you_mean,
    field_text,
    listed,
    repeated,
    shown,
)
from tunesmith_api.metrics import Strategy
from tunesmith_api.problem import Direction
from tunesmith_api.reading import Reading, foreign_keys, read
from tunesmith_api.resources import (
    API_VERSION,
    AlgorithmSpec,
    Experiment,
    ExperimentSpec,
    Json,
    Node,
    ObjectiveSpec,
    RunPolicy,
)
from tunesmith_api.template_rules import ConditionCheck
from tunesmith_api.template_source import ConfigMapLookup
from tunesmith_api.update_rules import validate_update

__all__ = [
    "COLLECTORS",
    "FieldError",
    "field_text",
    "read",
    "unsupported",
    "validate",
    "validate_update",
    "warnings",
]

MAX_BYTES: Final = 256 * 1024
MAX_PARALLEL: Final = 1_000
MAX_TRIALS: Final = 100_000
MAX_METRICS: Final = 1_000
MAX_METRIC_BYTES: Final = 250
MAX_ERRORS: Final = 100
_TRIAL_SUFFIX: Final = len(names.trial_name("", "", 0))
MAX_NAME: Final = 63 - _TRIAL_SUFFIX
"""So that the name of every trial is a name of Kubernetes."""

RESUME_POLICIES: Final = ("Never", "LongRunning", "FromVolume")
RUNNING_TRIALS_AT_END: Final = ("Stop", "Finish")
MAX_SECONDS: Final = 2**31 - 1

_NAME: Final = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_NAMESPACE: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_GENERATED: Final = "x" * 5
_SPEC: Final[Path] = ("spec",)
_OBJECTIVE: Final[Path] = ("spec", "objective")


@dataclass(frozen=True, slots=True)
class _Known:
    """What this installation has; None where that is not asked."""

    algorithms: Collection[str] | None
    early_stopping: Collection[str] | None
    collectors: Collection[str]
    check_condition: ConditionCheck | None
    config_map: ConfigMapLookup | None


def validate(
    experiment: Json,
    *,
    algorithms: Collection[str] | None = None,
    early_stopping: Collection[str] | None = None,
    collectors: Collection[str] = COLLECTORS,
    check_condition: ConditionCheck | None = None,
    config_map: ConfigMapLookup | None = None,
) -> list[FieldError]:
    """Every fault of a defaulted Experiment, at most 100; empty when it may be stored.

    `algorithms` and `early_stopping` are the names that this installation knows, None to accept
    any. `check_condition` says why a success or failure condition cannot be read. `config_map`
    finds stored ConfigMaps; without it a template in one is not looked at. Never raises.
    """
    known = _Known(algorithms, early_stopping, collectors, check_condition, config_map)
    found = list(islice(_faults(experiment, known), MAX_ERRORS + 1))
    if len(found) > MAX_ERRORS:
        found[MAX_ERRORS:] = [
            FieldError((), f"has more than {MAX_ERRORS} faults; these come first")
        ]
    return [clipped(error) for error in found]


# ---- all rules ----------------------------------------------------------------------------------


def _faults(data: Json, known: _Known) -> Iterator[FieldError]:
    reading = read(data)
    yield from reading.errors
    yield from _misstyled(data)
    if reading.experiment is None:
        return
    if not reading.errors:
        yield from _size(data)
    for error in _rules(reading.experiment, reading, known):
        if not reading.damage.touches(error.path):
            yield error


def _rules(experiment: Experiment, reading: Reading, known: _Known) -> Iterator[FieldError]:
    """In the order of an Experiment; what compares two parts only where both could be read."""
    yield from _identity(experiment)
    yield from _objective(experiment)
    yield from _algorithm(experiment.spec, known)
    yield from _source(experiment)
    yield from space_rules.parameters(experiment)
    yield from _budgets(experiment.spec)
    job = template_rules.job_of(experiment, known.config_map)
    yield from template_rules.structure(experiment, job, known.check_condition)
    if not reading.damage.touches(("spec", "parameters")):
        yield from template_rules.references(experiment, job)
    if not reading.damage.touches(("spec", "trialTemplate")):
        yield from template_rules.placeholders(experiment, job)
    yield from collector_rules.collector(experiment, known.collectors)
    if experiment.spec.resume_policy not in ("", *RESUME_POLICIES):
        yield _not_one_of((*_SPEC, "resumePolicy"), experiment.spec.resume_policy, RESUME_POLICIES)
    yield from _run_policy(experiment.spec.run_policy or RunPolicy())
    if not reading.damage.touches(("spec", "parameters")):
        yield from point_rules.enqueued(experiment)


def _size(data: Json) -> Iterator[FieldError]:
    size = len(json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode())
    if size > MAX_BYTES:
        yield FieldError((), f"has {size} bytes as JSON; at most {MAX_BYTES} can be stored")


def _misstyled(data: Json) -> Iterator[FieldError]:
    """`max_trial_count`: our models would read it, no client of Katib's would."""
    for key in foreign_keys(data):
        if key.field:
            yield FieldError(key.path, f"is not a field of Katib's API; it is spelt {key.field}")


# ---- identity -----------------------------------------------------------------------------------


def _identity(experiment: Experiment) -> Iterator[FieldError]:
    given = experiment.model_fields_set
    for key, value, wanted, is_given in (
        ("apiVersion", experiment.api_version, API_VERSION, "api_version" in given),
        ("kind", experiment.kind, "Experiment", "kind" in given),
    ):
        if value != wanted or not is_given:
            instead = f", not {shown(value)}" if is_given else ""
            yield FieldError((key,), f"must be {wanted}{instead}")
    metadata = experiment.metadata
    if metadata.name or not metadata.generate_name:
        yield from _name("name", metadata.name)
    else:
        yield from _name("generateName", metadata.generate_name, _GENERATED)
    if metadata.namespace and not _is_namespace(metadata.namespace):
        yield FieldError(
            ("metadata", "namespace"),
            f"must be lower-case letters, digits and '-', at most 63, this is "
            f"{shown(metadata.namespace)}",
        )


def _name(key: str, text: str, suffix: str = "") -> Iterator[FieldError]:
    path, name = ("metadata", key), text + suffix
    if not text:
        yield FieldError(path, "must be given")
    elif not _NAME.fullmatch(name):
        yield FieldError(
            path,
            "must be lower-case letters, digits and '-', begin with a letter and end with a letter "
            f"or digit, this is {shown(text)}",
        )
    if len(name) > MAX_NAME:
        yield FieldError(
            path,
            f"has {len(name)} characters; at most {MAX_NAME} are possible, since trials are named "
            f"after it with {_TRIAL_SUFFIX} more",
        )


def _is_namespace(text: str) -> bool:
    return len(text) <= 63 and _NAMESPACE.fullmatch(text) is not None


# ---- objective and algorithm --------------------------------------------------------------------


def _objective(experiment: Experiment) -> Iterator[FieldError]:
    objective = experiment.spec.objective
    if objective is None:
        yield FieldError(_OBJECTIVE, "must be given: the metric to improve")
        return
    if not objective.type:
        yield _missing((*_OBJECTIVE, "type"), objective, "minimize or maximize")
    elif objective.type not in tuple(Direction):
        yield _not_one_of((*_OBJECTIVE, "type"), objective.type, tuple(Direction))
    if not objective.objective_metric_name:
        yield _missing(
            (*_OBJECTIVE, "objectiveMetricName"), objective, "the metric that trials print"
        )
    yield from _additional(objective)
    yield from _strategies(objective)
    yield from _metric_limits(objective)


def _additional(objective: ObjectiveSpec) -> Iterator[FieldError]:
    path, found = (*_OBJECTIVE, "additionalMetricNames"), objective.additional_metric_names
    for index, name in enumerate(found):
        if name and name == objective.objective_metric_name:
            yield FieldError((*path, index), f"{shown(name)} is the objective", "remove it here")
        if not name:
            yield FieldError((*path, index), "must be the name of a metric")
    for index, first in repeated(found):
        yield FieldError((*path, index), f"{shown(found[index])} occurs twice (first at [{first}])")


def _strategies(objective: ObjectiveSpec) -> Iterator[FieldError]:
    path, strategies = (*_OBJECTIVE, "metricStrategies"), objective.metric_strategies
    for index, strategy in enumerate(strategies):
        if strategy.value not in tuple(Strategy):
            yield _not_one_of((*path, index, "value"), strategy.value, tuple(Strategy))
    yield from _repeated_names(path, [s.name for s in strategies], "strategy")


def _metric_limits(objective: ObjectiveSpec) -> Iterator[FieldError]:
    additional = objective.additional_metric_names
    if len(additional) >= MAX_METRICS:
        path = (*_OBJECTIVE, "additionalMetricNames")
        yield FieldError(path, f"makes more than {MAX_METRICS} metrics with the objective")
    places: list[tuple[Path, str]] = [
        ((*_OBJECTIVE, "objectiveMetricName"), objective.objective_metric_name),
        *(((*_OBJECTIVE, "additionalMetricNames", i), name) for i, name in enumerate(additional)),
    ]
    for path, name in places:
        if len(name.encode()) > MAX_METRIC_BYTES:
            yield FieldError(path, f"is longer than {MAX_METRIC_BYTES} bytes")


def _algorithm(spec: ExperimentSpec, known: _Known) -> Iterator[FieldError]:
    if spec.algorithm is None:
        yield FieldError((*_SPEC, "algorithm"), "must be given: how parameters are proposed")
    else:
        yield from _service((*_SPEC, "algorithm"), spec.algorithm, known.algorithms, "algorithm")
    if spec.early_stopping is not None:
        path = (*_SPEC, "earlyStopping")
        yield from _service(path, spec.early_stopping, known.early_stopping, "stopping rule")


def _service(
    path: Path, spec: AlgorithmSpec, known: Collection[str] | None, noun: str
) -> Iterator[FieldError]:
    name = spec.algorithm_name
    if not name:
        yield _missing((*path, "algorithmName"), spec, f"the name of the {noun}")
    elif known is not None and name not in known:
        message = f"{shown(name)} is no {noun} of this installation; there are: {listed(known)}"
        yield FieldError((*path, "algorithmName"), message, did_you_mean(name, known))
    settings = (*path, "algorithmSettings")
    for index, setting in enumerate(spec.algorithm_settings):
        if not setting.name:
            yield FieldError((*settings, index, "name"), "must be given")
    yield from _repeated_names(settings, [s.name for s in spec.algorithm_settings], "setting")


# ---- search space, budgets ----------------------------------------------------------------------


def _source(experiment: Experiment) -> Iterator[FieldError]:
    spec = experiment.spec
    if not spec.parameters and spec.nas_config is None:
        yield FieldError((*_SPEC, "parameters"), "must be given: what is searched")
    if spec.parameters and spec.nas_config is not None:
        yield FieldError((*_SPEC, "nasConfig"), "cannot be given beside parameters", "remove one")


def _budgets(spec: ExperimentSpec) -> Iterator[FieldError]:
    most, limit = spec.max_trial_count, MAX_TRIALS
    for key, value, low, high in (
        ("parallelTrialCount", spec.parallel_trial_count, 1, MAX_PARALLEL),
        ("maxTrialCount", most, 1, limit),
        ("maxFailedTrialCount", spec.max_failed_trial_count, 0, limit),
    ):
        if value is not None and not low <= value <= high:
            yield FieldError((*_SPEC, key), f"must be from {low} to {high}, this is {shown(value)}")
    for key, value, hint in (
        ("parallelTrialCount", spec.parallel_trial_count, "it is 3 where it is not given"),
        ("maxFailedTrialCount", spec.max_failed_trial_count, ""),
    ):
        if value is not None and most is not None and value > most > 0:
            message = (
                f"must not be greater than maxTrialCount {shown(most)}, this is {shown(value)}"
            )
            yield FieldError((*_SPEC, key), message, hint)


def _run_policy(policy: RunPolicy) -> Iterator[FieldError]:
    path: Path = (*_SPEC, "runPolicy")
    for key, seconds in (
        ("activeDeadlineSeconds", policy.active_deadline_seconds),
        ("trialActiveDeadlineSeconds", policy.trial_active_deadline_seconds),
    ):
        if seconds is not None and not 0 < seconds <= MAX_SECONDS:
            message = f"must be from 1 to {MAX_SECONDS} seconds, this is {shown(seconds)}"
            yield FieldError((*path, key), message)
    wish = policy.running_trials_at_end
    if wish not in ("", *RUNNING_TRIALS_AT_END):
        yield _not_one_of((*path, "runningTrialsAtEnd"), wish, RUNNING_TRIALS_AT_END)


# ---- sentences ----------------------------------------------------------------------------------


def _missing(path: Path, node: Node, wanted: str) -> FieldError:
    """A field that must be given; an unknown field beside it may be it, misspelt."""
    extra: dict[str, Any] = node.model_extra or {}
    found = closest(str(path[-1]), extra)
    hint = f"{found} is not known; did you mean {path[-1]}?" if found else ""
    return FieldError(path, f"must be given: {wanted}", hint)


def _not_one_of(path: Path, word: str, known: Sequence[str]) -> FieldError:
    message = f"must be one of {', '.join(known)}, not {shown(word)}"
    return FieldError(path, message, did_you_mean(word, known))


def _repeated_names(path: Path, found: Sequence[str], noun: str) -> Iterator[FieldError]:
    for index, first in repeated(name or place for place, name in enumerate(found)):
        message = f"{shown(found[index])} is already the name of {noun} {first}"
        yield FieldError((*path, index, "name"), message)
