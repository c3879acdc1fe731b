# SPDX-License-Identifier: Apache-2.0
"""The whole policy of Experiments: which trials to want, when to end, what to show.

Pure. Two numbers carry it, both right on stale reads because they only ever grow with what is
known to have ended: `requests = min(maxTrialCount, ended + parallelTrialCount)` assignments are
wanted in all, and every assignment becomes one Trial.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from tunesmith_api import names
from tunesmith_api.conditions import (
    ExperimentState,
    SuggestionState,
    TrialState,
    advance_experiment,
    experiment_state,
    find,
    suggestion_state,
)
from tunesmith_api.metrics import best
from tunesmith_api.problem import Objective
from tunesmith_api.resources import (
    API_VERSION,
    Batch,
    Condition,
    Experiment,
    ExperimentStatus,
    Metadata,
    NamedValue,
    Observation,
    OptimalTrial,
    OwnerReference,
    Suggestion,
    SuggestionSpec,
    Trial,
    TrialAssignment,
    TrialSpec,
)
from tunesmith_controller.ports import Json
from tunesmith_controller.trial.facts import TrialFacts

FINISHED_NAMES = 100
"""How many names of finished trials each status list keeps; counters are exact."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that was read. `trials` are this experiment's, in ordinal order; `gone` counts ordinals
    whose Trial was deleted by hand after it had been created (confirmed by a live read)."""

    experiment: Experiment
    objective: Objective
    suggestion: Suggestion | None
    trials: Sequence[TrialFacts]
    gone: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, in this order; None and empty mean nothing."""

    create_suggestion: Suggestion | None = None
    set_requests: int | None = None
    create_trials: tuple[TrialAssignment, ...] = ()
    status: ExperimentStatus | None = None


@dataclass(frozen=True, slots=True)
class End:
    """Why an experiment is over."""

    state: ExperimentState
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Tally:
    """Trials by state."""

    by_state: Mapping[TrialState, tuple[TrialFacts, ...]]
    gone: int

    def count(self, *states: TrialState) -> int:
        return sum(len(self.by_state.get(state, ())) for state in states)

    def names(self, *states: TrialState) -> tuple[str, ...]:
        return tuple(facts.name for state in states for facts in self.by_state.get(state, ()))

    @property
    def ended(self) -> int:
        """Ordinals that are over, whatever became of them."""
        return self.gone + self.count(*(s for s in TrialState if s.is_terminal))

    @property
    def failed(self) -> int:
        """What counts against maxFailedTrialCount, as in Katib."""
        return self.count(TrialState.FAILED, TrialState.METRICS_UNAVAILABLE)


def tally(trials: Iterable[TrialFacts], gone: int) -> Tally:
    by_state: dict[TrialState, list[TrialFacts]] = {}
    for facts in trials:
        by_state.setdefault(facts.state, []).append(facts)
    return Tally({state: tuple(found) for state, found in by_state.items()}, gone)


def decide(snapshot: Snapshot, now: datetime) -> Plan:
    """The next step of an experiment."""
    experiment, counted = snapshot.experiment, tally(snapshot.trials, snapshot.gone)
    if experiment.metadata.deletion_timestamp is not None:
        return Plan()
    state = experiment_state(experiment.status.conditions)
    end = None if state.is_terminal else ending(snapshot, counted)
    status = next_status(snapshot, counted, end, now)
    plan = Plan(status=status if status != experiment.status else None)
    if state.is_terminal or end is not None or is_paused(experiment):
        return plan
    if snapshot.suggestion is None:
        return Plan(
            create_suggestion=suggestion_for(experiment, wanted(snapshot, counted)),
            status=plan.status,
        )
    requests = wanted(snapshot, counted)
    return Plan(
        set_requests=requests if requests > snapshot.suggestion.spec.requests else None,
        create_trials=uncreated(snapshot),
        status=plan.status,
    )


def is_paused(experiment: Experiment) -> bool:
    """Whether a person wants nothing of it to run for now."""
    return (experiment.metadata.annotations or {}).get(names.ANNOTATION_PAUSED) == "true"


def wanted(snapshot: Snapshot, counted: Tally) -> int:
    """How many assignments there should be in all, from the first to the last."""
    spec = snapshot.experiment.spec
    wanted_now = counted.ended + (spec.parallel_trial_count or 3)
    return wanted_now if spec.max_trial_count is None else min(spec.max_trial_count, wanted_now)


def uncreated(snapshot: Snapshot) -> tuple[TrialAssignment, ...]:
    """Assignments without a Trial, in ordinal order, as far as parallelism and budget allow."""
    if snapshot.suggestion is None:
        return ()
    exist = {facts.ordinal for facts in snapshot.trials}
    active = sum(not facts.state.is_terminal for facts in snapshot.trials)
    spec = snapshot.experiment.spec
    room = (spec.parallel_trial_count or 3) - active
    if spec.max_trial_count is not None:
        room = min(room, spec.max_trial_count - len(snapshot.trials) - snapshot.gone)
    missing = [a for a in snapshot.suggestion.status.suggestions if a.ordinal not in exist]
    return tuple(sorted(missing, key=lambda a: a.ordinal)[: max(room, 0)])


def ending(snapshot: Snapshot, counted: Tally) -> End | None:
    """The first rule that ends the experiment (katib-reference 3.2), None while none does."""
    spec, suggestion = snapshot.experiment.spec, snapshot.suggestion
    top = best_trial(snapshot)
    value = top.objective(snapshot.objective) if top else None
    if top is not None and value is not None and snapshot.objective.reached(value):
        message = (
            f"Trial {top.name} reached the goal {snapshot.objective.goal!r}: "
            f"{snapshot.objective.metric}={value!r}"
        )
        return End(ExperimentState.SUCCEEDED, "ExperimentGoalReached", message)
    limit = spec.max_failed_trial_count
    if limit is not None and counted.failed and counted.failed >= limit:
        return End(ExperimentState.FAILED, "ExperimentFailed", _too_many_failures(counted, limit))
    if spec.max_trial_count is not None and counted.ended >= spec.max_trial_count:
        message = f"All {spec.max_trial_count} trials have ended"
        return End(ExperimentState.SUCCEEDED, "ExperimentMaxTrialsReached", message)
    if suggestion is None:
        return None
    return _suggestion_ending(suggestion, counted)


def _suggestion_ending(suggestion: Suggestion, counted: Tally) -> End | None:
    status = suggestion.status
    if suggestion_state(status.conditions) is SuggestionState.FAILED:
        failed = find(status.conditions, "Failed")
        message = failed.message if failed else "the suggestion service failed"
        return End(ExperimentState.FAILED, "ExperimentFailed", message)
    if status.search_ended and counted.ended >= status.suggestion_count:
        message = f"The search has ended: {status.search_ended}"
        return End(ExperimentState.SUCCEEDED, "ExperimentSuggestionEndReached", message)
    return None


def _too_many_failures(counted: Tally, limit: int) -> str:
    failed = counted.names(TrialState.FAILED)
    silent = counted.names(TrialState.METRICS_UNAVAILABLE)
    parts = []
    if failed:
        parts.append(f"{len(failed)} failed (last: {failed[-1]})")
    if silent:
        parts.append(f"{len(silent)} without metrics (last: {silent[-1]})")
    return f"{' and '.join(parts)}; maxFailedTrialCount is {limit}"


def best_trial(snapshot: Snapshot) -> TrialFacts | None:
    """The incumbent: best finite objective, ties to the lowest ordinal."""
    by_ordinal = {facts.ordinal: facts for facts in snapshot.trials}
    values = ((f.ordinal, f.objective(snapshot.objective)) for f in snapshot.trials)
    winner = best(snapshot.objective, ((o, v) for o, v in values if v is not None))
    return None if winner is None else by_ordinal[winner]


def next_status(
    snapshot: Snapshot, counted: Tally, end: End | None, now: datetime
) -> ExperimentStatus:
    """The status as it should read now."""
    old = snapshot.experiment.status
    conditions = next_conditions(old.conditions, counted, end, now)
    status = old.with_(
        conditions=conditions,
        start_time=old.start_time or now,
        completion_time=now if end is not None else old.completion_time,
        **_counters(counted, snapshot.experiment.spec.max_trial_count),
    )
    top = best_trial(snapshot)
    return status if top is None else status.with_(current_optimal_trial=_optimal(top))


def next_conditions(
    conditions: Sequence[Condition], counted: Tally, end: End | None, now: datetime
) -> tuple[Condition, ...]:
    state = experiment_state(conditions)
    if state is ExperimentState.PENDING:
        conditions = advance_experiment(
            conditions, ExperimentState.CREATED, "ExperimentCreated", "Experiment is created", now
        )
    if end is not None:
        return advance_experiment(conditions, end.state, end.reason, end.message, now)
    if not state.is_terminal and counted.by_state:
        return advance_experiment(
            conditions, ExperimentState.RUNNING, "ExperimentRunning", "Experiment is running", now
        )
    return tuple(conditions)


def _counters(counted: Tally, budget: int | None) -> dict[str, object]:
    state = TrialState
    pending = (state.PENDING, state.CREATED)
    total = counted.count(*state)
    return {
        "running_trial_list": counted.names(state.RUNNING),
        "pending_trial_list": counted.names(*pending),
        "succeeded_trial_list": counted.names(state.SUCCEEDED)[-FINISHED_NAMES:],
        "failed_trial_list": counted.names(state.FAILED)[-FINISHED_NAMES:],
        "killed_trial_list": counted.names(state.KILLED)[-FINISHED_NAMES:],
        "early_stopped_trial_list": counted.names(state.EARLY_STOPPED)[-FINISHED_NAMES:],
        "metrics_unavailable_trial_list": counted.names(state.METRICS_UNAVAILABLE)[
            -FINISHED_NAMES:
        ],
        "trials": total,
        "trials_succeeded": counted.count(state.SUCCEEDED),
        "trials_failed": counted.count(state.FAILED),
        "trials_killed": counted.count(state.KILLED),
        "trials_pending": counted.count(*pending),
        "trials_running": counted.count(state.RUNNING),
        "trials_early_stopped": counted.count(state.EARLY_STOPPED),
        "trial_metrics_unavailable": counted.count(state.METRICS_UNAVAILABLE),
        "progress": f"{counted.ended}/{total if budget is None else budget}",
    }


def _optimal(top: TrialFacts) -> OptimalTrial:
    assignments = tuple(NamedValue(name=n, value=v) for n, v in top.parameters.items())
    return OptimalTrial(
        best_trial_name=top.name,
        parameter_assignments=assignments,
        observation=top.observation or Observation(),
    )


# ---- objects that an experiment owns ------------------------------------------------------------


def owner(experiment: Experiment) -> OwnerReference:
    return OwnerReference(
        api_version=API_VERSION,
        kind="Experiment",
        name=experiment.metadata.name,
        uid=experiment.metadata.uid,
        controller=True,
        block_owner_deletion=True,
    )


def suggestion_for(experiment: Experiment, requests: int) -> Suggestion:
    """The Suggestion of an experiment: same name, algorithm copied."""
    metadata = experiment.metadata
    return Suggestion(
        api_version=API_VERSION,
        kind="Suggestion",
        metadata=Metadata(
            name=metadata.name,
            namespace=metadata.namespace,
            labels={**(metadata.labels or {}), names.LABEL_EXPERIMENT: metadata.name},
            owner_references=(owner(experiment),),
        ),
        spec=SuggestionSpec(
            algorithm=experiment.spec.algorithm,
            requests=requests,
            early_stopping=experiment.spec.early_stopping,
            resume_policy=experiment.spec.resume_policy,
        ),
    )


def batch_of(suggestion: Suggestion, ordinal: int) -> Batch | None:
    """The recorded request that proposed an ordinal."""
    batches = suggestion.status.batches
    return next((b for b in batches if b.first <= ordinal < b.end), None)


def trial_for(
    experiment: Experiment, suggestion: Suggestion, assignment: TrialAssignment, run_spec: Json
) -> Trial:
    """The Trial of an assignment, with the recorded inputs of its batch."""
    metadata, spec = experiment.metadata, experiment.spec
    template = spec.trial_template
    if template is None:
        raise ValueError("an experiment without a trialTemplate has no trials")
    return Trial(
        api_version=API_VERSION,
        kind="Trial",
        metadata=Metadata(
            name=assignment.name,
            namespace=metadata.namespace,
            labels={
                **(metadata.labels or {}),
                **(assignment.labels or {}),
                names.LABEL_EXPERIMENT: metadata.name,
            },
            annotations=_trial_annotations(experiment, suggestion, assignment.ordinal),
            finalizers=(names.FINALIZER_TRIAL,),
            owner_references=(owner(experiment),),
        ),
        spec=TrialSpec(
            objective=spec.objective,
            parameter_assignments=assignment.parameter_assignments,
            run_spec=run_spec,
            retain_run=template.retain,
            primary_container_name=template.primary_container_name,
            success_condition=template.success_condition,
            failure_condition=template.failure_condition,
            metrics_collector=spec.metrics_collector_spec,
            primary_pod_labels=template.primary_pod_labels,
            early_stopping_rules=assignment.early_stopping_rules,
        ),
    )


def _trial_annotations(
    experiment: Experiment, suggestion: Suggestion, ordinal: int
) -> dict[str, str]:
    given = experiment.metadata.annotations or {}
    kept = (names.ANNOTATION_FOLDER, names.ANNOTATION_PATH)
    annotations = {name: given[name] for name in kept if name in given}
    annotations[names.ANNOTATION_ORDINAL] = str(ordinal)
    batch = batch_of(suggestion, ordinal)
    if batch is not None:
        record = {
            "first": batch.first,
            "count": batch.count,
            "pending": list(batch.pending),
            "seed": suggestion.status.seed,
            "algorithm": suggestion.spec.algorithm.algorithm_name
            if suggestion.spec.algorithm
            else "",
            "version": batch.algorithm_version,
        }
        if batch.recorded:
            record["recorded"] = batch.recorded
        annotations[names.ANNOTATION_BATCH] = json.dumps(record, separators=(",", ":"))
    return annotations
