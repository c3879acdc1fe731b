# SPDX-License-Identifier: Apache-2.0
"""Experiments and trials as a person sees them: typed, frozen, ready to print or to export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from tunesmith_api import names
from tunesmith_api.conditions import experiment_state, trial_state
from tunesmith_api.metrics import MetricSummary, Strategy, finite
from tunesmith_api.problem import Direction
from tunesmith_api.resources import Condition, Experiment, StopRecord, Trial, rfc3339
from tunesmith_controller.experiment.decide import will_restart
from tunesmith_controller.ports import Json
from tunesmith_controller.trial.decide import HELD, PAUSED

Number = float | str

SERVICE_NOT_STARTED = "the suggestion service has not been started yet"


@dataclass(frozen=True, slots=True)
class MetricView:
    """Figures as numbers where they are finite, else the text that was reported."""

    min: Number
    max: Number
    latest: Number


@dataclass(frozen=True, slots=True)
class StopView:
    """Why a rule stopped a trial: `value` of `metric` was compared with `threshold` at `step`."""

    rule: str
    metric: str
    value: Number
    threshold: Number
    step: int
    peers: int

    def json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class TrialView:
    """One trial. `value` is its objective, None while it has none; `stop` is there once a stopping
    rule has decided."""

    name: str
    namespace: str
    uid: str
    ordinal: int
    attempt: int
    state: str
    parameters: Mapping[str, str]
    metrics: Mapping[str, MetricView]
    value: float | None
    reason: str
    message: str
    waiting: str
    start_time: datetime | None
    completion_time: datetime | None
    released: bool
    stop: StopView | None = None

    @property
    def is_over(self) -> bool:
        return self.state not in ("Pending", "Created", "Running")

    @property
    def is_paused(self) -> bool:
        """Interrupted, and nothing of it runs; its condition is what it was before."""
        return not self.is_over and self.waiting == PAUSED

    @property
    def is_held(self) -> bool:
        """Interrupted because parallelTrialCount became smaller."""
        return not self.is_over and self.waiting == HELD

    def json(self) -> dict[str, Any]:
        """The stable machine form of `trials -o json`."""
        return {
            "name": self.name,
            "ordinal": self.ordinal,
            "attempt": self.attempt,
            "state": self.state,
            "parameters": dict(self.parameters),
            "metrics": {
                name: {"min": view.min, "max": view.max, "latest": view.latest}
                for name, view in self.metrics.items()
            },
            "reason": self.reason,
            "message": self.message,
            "earlyStop": None if self.stop is None else self.stop.json(),
            "startTime": _time(self.start_time),
            "completionTime": _time(self.completion_time),
        }


@dataclass(frozen=True, slots=True)
class BestView:
    """The incumbent."""

    trial: str
    parameters: Mapping[str, str]
    metrics: Mapping[str, MetricView]
    metric: str
    value: Number
    """The objective's figure by its strategy; `metrics` have the other figures."""

    def json(self) -> dict[str, Any]:
        return {
            "trial": self.trial,
            "objective": {"metric": self.metric, "value": self.value},
            "parameters": dict(self.parameters),
            "metrics": {
                name: {"min": view.min, "max": view.max, "latest": view.latest}
                for name, view in self.metrics.items()
            },
        }


@dataclass(frozen=True, slots=True)
class ExperimentView:
    """One experiment. `waiting` tells why its search does not go on, where that is known;
    `stopping` that a person has asked for its end. `enqueued` points are there in all."""

    name: str
    namespace: str
    uid: str
    state: str
    reason: str
    message: str
    waiting: str
    paused: bool
    algorithm: str
    metric: str
    direction: Direction
    goal: float | None
    parallel: int
    budget: int | None
    counts: Mapping[str, int] = field(default_factory=dict)
    best: BestView | None = None
    start_time: datetime | None = None
    completion_time: datetime | None = None
    stopping: bool = False
    enqueued: int = 0
    goes_on: bool = False
    """It has ended, but its budget allows more by now: whoever controls takes it up again."""

    @property
    def is_over(self) -> bool:
        return self.state in ("Succeeded", "Failed")

    @property
    def ended(self) -> int:
        active = self.counts.get("Running", 0) + self.counts.get("Pending", 0)
        return sum(self.counts.values()) - active

    def json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "namespace": self.namespace,
            "state": self.state,
            "reason": self.reason,
            "message": self.message,
            "waiting": self.waiting,
            "paused": self.paused,
            "stopping": self.stopping,
            "algorithm": self.algorithm,
            "objective": {"metric": self.metric, "type": str(self.direction), "goal": self.goal},
            "parallel": self.parallel,
            "maxTrials": self.budget,
            "trials": dict(self.counts),
            "enqueued": self.enqueued,
            "best": None if self.best is None else self.best.json(),
            "startTime": _time(self.start_time),
            "completionTime": _time(self.completion_time),
        }


@dataclass(frozen=True, slots=True)
class SettingView:
    """One algorithm setting; `default` is "" where unset has a meaning of its own (see `help`)."""

    name: str
    default: str
    allowed: str
    help: str
    aliases: tuple[str, ...]


class AlgorithmKind(StrEnum):
    SEARCH = "search"
    EARLY_STOPPING = "early stopping"


@dataclass(frozen=True, slots=True)
class AlgorithmView:
    """One algorithm, or early stopping rule; `problem` says why it cannot be used, "" when it
    can."""

    name: str
    version: str = ""
    settings: tuple[SettingView, ...] = ()
    problem: str = ""
    kind: AlgorithmKind = AlgorithmKind.SEARCH

    def json(self) -> dict[str, Any]:
        return {**asdict(self), "kind": str(self.kind)}


def trial_view(trial: Trial) -> TrialView:
    """Reads a Trial."""
    status, spec = trial.status, trial.spec
    last = _last(status.conditions)
    ordinal = (trial.metadata.annotations or {}).get(names.ANNOTATION_ORDINAL, "")
    figures = {m.name: m for m in status.observation.metrics} if status.observation else {}
    objective = spec.objective
    value = None
    if objective is not None and objective.objective_metric_name in figures:
        found = figures[objective.objective_metric_name]
        strategies = {s.name: s.value for s in objective.metric_strategies}
        strategy = Strategy(strategies.get(found.name, "latest"))
        value = MetricSummary(found.name, found.min, found.max, found.latest).figure(strategy)
    return TrialView(
        name=trial.metadata.name,
        namespace=trial.metadata.namespace,
        uid=trial.metadata.uid,
        ordinal=int(ordinal) if ordinal.isdecimal() else -1,
        attempt=status.run.attempt if status.run else 0,
        state=str(trial_state(status.conditions)),
        parameters={p.name: p.value for p in spec.parameter_assignments},
        metrics={n: MetricView(_n(m.min), _n(m.max), _n(m.latest)) for n, m in figures.items()},
        value=value,
        reason=last.reason,
        message=last.message,
        waiting=status.run.waiting if status.run else "",
        start_time=status.start_time,
        completion_time=status.completion_time,
        released=bool(status.run and status.run.released),
        stop=_stop(status.run.stopping) if status.run and status.run.stopping else None,
    )


def _stop(record: StopRecord) -> StopView:
    return StopView(
        rule=record.rule,
        metric=record.metric,
        value=_n(record.value),
        threshold=_n(record.threshold),
        step=record.step,
        peers=record.peers,
    )


def experiment_view(experiment: Experiment, suggestion: Json | None = None) -> ExperimentView:
    """Reads an Experiment, and from its Suggestion whether the service is in trouble."""
    spec, status = experiment.spec, experiment.status
    last = _last(status.conditions)
    state = experiment_state(status.conditions)
    objective = spec.objective
    direction = objective.type if objective and objective.type in tuple(Direction) else "minimize"
    annotations = experiment.metadata.annotations or {}
    return ExperimentView(
        name=experiment.metadata.name,
        namespace=experiment.metadata.namespace,
        uid=experiment.metadata.uid,
        state=str(state),
        reason=last.reason,
        message=last.message,
        waiting="" if state.is_terminal or suggestion is None else service_trouble(suggestion),
        paused=annotations.get(names.ANNOTATION_PAUSED) == "true",
        stopping=annotations.get(names.ANNOTATION_STOPPED) == "true" and not state.is_terminal,
        enqueued=len(spec.enqueued),
        goes_on=state.is_terminal and will_restart(experiment),
        algorithm=spec.algorithm.algorithm_name if spec.algorithm else "",
        metric=objective.objective_metric_name if objective else "",
        direction=Direction(direction),
        goal=objective.goal if objective else None,
        parallel=spec.parallel_trial_count or 3,
        budget=spec.max_trial_count,
        counts=_counts(experiment),
        best=best_view(experiment),
        start_time=status.start_time,
        completion_time=status.completion_time,
    )


def trial_word(view: TrialView) -> str:
    """The state in a word; an interruption shows."""
    return "Paused" if view.is_paused else "Held" if view.is_held else view.state


def state_word(view: ExperimentView) -> str:
    """The state in a word; a pause and a wish for the end show."""
    if view.is_over:
        return view.state
    return "Stopping" if view.stopping else "Paused" if view.paused else view.state


def service_trouble(suggestion: Json) -> str:
    """Why the suggestion service cannot be asked, "" when it can."""
    conditions = (suggestion.get("status") or {}).get("conditions") or []
    by_type = {condition["type"]: condition for condition in conditions}
    if "Failed" in by_type:
        return f"the suggestion service failed: {by_type['Failed'].get('message', '')}"
    ready = by_type.get("DeploymentReady")
    if ready is None:
        return SERVICE_NOT_STARTED
    return "" if ready.get("status") == "True" else str(ready.get("message", ""))


def _counts(experiment: Experiment) -> dict[str, int]:
    status = experiment.status
    counts = {
        "Succeeded": status.trials_succeeded,
        "EarlyStopped": status.trials_early_stopped,
        "Failed": status.trials_failed,
        "MetricsUnavailable": status.trial_metrics_unavailable,
        "Killed": status.trials_killed,
        "Running": status.trials_running,
        "Pending": status.trials_pending,
    }
    return {state: count for state, count in counts.items() if count}


def best_view(experiment: Experiment) -> BestView | None:
    """The incumbent of an experiment, None before any trial has one."""
    top, objective = experiment.status.current_optimal_trial, experiment.spec.objective
    if top is None or objective is None:
        return None
    figures = {m.name: m for m in top.observation.metrics}
    strategies = {s.name: s.value for s in objective.metric_strategies}
    metric = objective.objective_metric_name
    value: Number = ""
    if metric in figures:
        value = _n(getattr(figures[metric], strategies.get(metric, "latest")))
    return BestView(
        trial=top.best_trial_name,
        parameters={p.name: p.value for p in top.parameter_assignments},
        metrics={n: MetricView(_n(m.min), _n(m.max), _n(m.latest)) for n, m in figures.items()},
        metric=metric,
        value=value,
    )


def _last(conditions: Sequence[Condition]) -> Condition:
    return conditions[-1] if conditions else Condition(type="Pending")


def _n(text: str) -> Number:
    number = finite(text)
    return text if number is None else number


def _time(value: datetime | None) -> str | None:
    return None if value is None else rfc3339(value)
