# SPDX-License-Identifier: Apache-2.0
"""The whole policy of Experiments: which trials to want, when to end, what to show.

Pure. Two numbers carry it, both right on stale reads because they only ever grow with what is
known to have ended: `requests = min(maxTrialCount, ended + parallelTrialCount)` assignments are
wanted in all, and every assignment becomes one Trial.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

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
from tunesmith_controller.trial.facts import Census, TrialFacts


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that was read. `gone` counts ordinals whose Trial was deleted by hand after it had been
    created (confirmed by a live read)."""

    experiment: Experiment
    objective: Objective
    suggestion: Suggestion | None
    trials: Census
    gone: int = 0

    @property
    def ended(self) -> int:
        """Ordinals that are over, whatever became of them."""
        return self.gone + self.trials.count(*_ENDS)

    @property
    def failed(self) -> int:
        """What counts against maxFailedTrialCount, as in Katib."""
        return self.trials.count(TrialState.FAILED, TrialState.METRICS_UNAVAILABLE)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, in this order; None and empty mean nothing. `hold` and `unhold` name trials that
    lose or get a place; `again` is in seconds."""

    create_suggestion: Suggestion | None = None
    set_requests: int | None = None
    hold: tuple[str, ...] = ()
    unhold: tuple[str, ...] = ()
    create_trials: tuple[TrialAssignment, ...] = ()
    status: ExperimentStatus | None = None
    again: float | None = None


@dataclass(frozen=True, slots=True)
class End:
    """Why an experiment is over."""

    state: ExperimentState
    reason: str
    message: str


GOAL_REACHED: Final = "ExperimentGoalReached"
MAX_TRIALS_REACHED: Final = "ExperimentMaxTrialsReached"
SEARCH_ENDED: Final = "ExperimentSuggestionEndReached"
STOPPED: Final = "ExperimentStopped"
DEADLINE_REACHED: Final = "ExperimentDeadlineReached"
FAILED: Final = "ExperimentFailed"

RESTARTABLE: Final = (MAX_TRIALS_REACHED, STOPPED, DEADLINE_REACHED)
"""Ends that a changed budget can undo, where the resumePolicy keeps the search."""
RESUMABLE_POLICIES: Final = ("LongRunning", "FromVolume")
FINISHABLE: Final = (GOAL_REACHED, SEARCH_ENDED, FAILED)
"""Ends after which running trials may run out, where the runPolicy says so."""

_ENDS: Final = tuple(state for state in TrialState if state.is_terminal)


def decide(snapshot: Snapshot, now: datetime) -> Plan:
    """The next step of an experiment."""
    experiment = snapshot.experiment
    if experiment.metadata.deletion_timestamp is not None:
        return Plan()
    state = experiment_state(experiment.status.conditions)
    end = ending(snapshot, now)
    if state.is_terminal and end is None and is_restartable(experiment):
        return Plan(status=restarted(experiment.status, now))
    status = next_status(snapshot, None if state.is_terminal else end, now)
    plan = Plan(
        status=status if status != experiment.status else None,
        again=None if state.is_terminal or end else until_deadline(experiment, now),
    )
    if state.is_terminal or end is not None or is_paused(experiment):
        return plan
    requests = wanted(snapshot)
    if snapshot.suggestion is None:
        return replace(plan, create_suggestion=suggestion_for(experiment, requests))
    hold, unhold = places(snapshot)
    return replace(
        plan,
        set_requests=requests if requests > snapshot.suggestion.spec.requests else None,
        hold=hold,
        unhold=unhold,
        create_trials=uncreated(snapshot),
    )


def is_paused(experiment: Experiment) -> bool:
    """Whether a person wants nothing of it to run for now."""
    return (experiment.metadata.annotations or {}).get(names.ANNOTATION_PAUSED) == "true"


def is_stopped(experiment: Experiment) -> bool:
    """Whether a person wants it to end with what it has found."""
    return (experiment.metadata.annotations or {}).get(names.ANNOTATION_STOPPED) == "true"


def parallel(experiment: Experiment) -> int:
    return experiment.spec.parallel_trial_count or 3


def wanted(snapshot: Snapshot) -> int:
    """How many assignments there should be in all, from the first to the last."""
    wanted_now = snapshot.ended + parallel(snapshot.experiment)
    budget = snapshot.experiment.spec.max_trial_count
    return wanted_now if budget is None else min(budget, wanted_now)


def places(snapshot: Snapshot) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of trials to hold back and of trials to let go on: the lowest ordinals have a place.

    Less parallelism interrupts the newest trials; nothing that has ended is touched.
    """
    count, active = parallel(snapshot.experiment), snapshot.trials.active
    hold = tuple(facts.name for facts in active[count:] if not facts.held)
    return hold, tuple(facts.name for facts in active[:count] if facts.held)


def uncreated(snapshot: Snapshot) -> tuple[TrialAssignment, ...]:
    """Assignments without a Trial, in ordinal order, as far as parallelism and budget allow."""
    if snapshot.suggestion is None:
        return ()
    trials, spec = snapshot.trials, snapshot.experiment.spec
    room = parallel(snapshot.experiment) - len(trials.active)
    if spec.max_trial_count is not None:
        room = min(room, spec.max_trial_count - len(trials) - snapshot.gone)
    assignments = snapshot.suggestion.status.suggestions
    missing = [a for a in assignments if a.ordinal not in trials.by_ordinal]
    return tuple(sorted(missing, key=lambda a: a.ordinal)[: max(room, 0)])


# ---- ends ---------------------------------------------------------------------------------------


def ending(snapshot: Snapshot, now: datetime) -> End | None:
    """The first rule that ends the experiment (katib-reference 3.2), None while none does."""
    spec, top = snapshot.experiment.spec, snapshot.trials.best
    value = top.objective(snapshot.objective) if top else None
    if top is not None and value is not None and snapshot.objective.reached(value):
        message = (
            f"Trial {top.name} reached the goal {snapshot.objective.goal!r}: "
            f"{snapshot.objective.metric}={value!r}"
        )
        return End(ExperimentState.SUCCEEDED, GOAL_REACHED, message)
    limit = spec.max_failed_trial_count
    if limit is not None and snapshot.failed and snapshot.failed >= limit:
        return End(ExperimentState.FAILED, FAILED, _too_many_failures(snapshot, limit))
    if spec.max_trial_count is not None and snapshot.ended >= spec.max_trial_count:
        message = f"All {spec.max_trial_count} trials have ended"
        return End(ExperimentState.SUCCEEDED, MAX_TRIALS_REACHED, message)
    if is_stopped(snapshot.experiment):
        message = f"Stopped by a person after {snapshot.ended} trials"
        return End(ExperimentState.SUCCEEDED, STOPPED, message)
    left = until_deadline(snapshot.experiment, now)
    if left is not None and left <= 0:
        seconds = spec.run_policy.active_deadline_seconds if spec.run_policy else 0
        message = f"activeDeadlineSeconds ({seconds}) have passed; {snapshot.ended} trials ended"
        return End(ExperimentState.SUCCEEDED, DEADLINE_REACHED, message)
    return _suggestion_ending(snapshot)


def until_deadline(experiment: Experiment, now: datetime) -> float | None:
    """Seconds of wall time left since the start or the last restart; None without a limit, and once
    it has ended otherwise: the time until somebody takes it up again does not count."""
    policy, status = experiment.spec.run_policy, experiment.status
    if policy is None or policy.active_deadline_seconds is None or status.start_time is None:
        return None
    is_over = experiment_state(status.conditions).is_terminal
    if is_over and status.conditions[-1].reason != DEADLINE_REACHED:
        return None
    restart = find(status.conditions, "Restarting")
    since = restart.last_transition_time if restart else None
    passed = (now - (since or status.start_time)).total_seconds()
    return policy.active_deadline_seconds - passed


def _suggestion_ending(snapshot: Snapshot) -> End | None:
    if snapshot.suggestion is None:
        return None
    status = snapshot.suggestion.status
    if suggestion_state(status.conditions) is SuggestionState.FAILED:
        failed = find(status.conditions, "Failed")
        message = failed.message if failed else "the suggestion service failed"
        return End(ExperimentState.FAILED, FAILED, message)
    if status.search_ended and snapshot.ended >= status.suggestion_count:
        message = f"The search has ended: {status.search_ended}"
        return End(ExperimentState.SUCCEEDED, SEARCH_ENDED, message)
    return None


def _too_many_failures(snapshot: Snapshot, limit: int) -> str:
    parts = []
    for state, what in (
        (TrialState.FAILED, "failed"),
        (TrialState.METRICS_UNAVAILABLE, "without metrics"),
    ):
        if count := snapshot.trials.count(state):
            parts.append(f"{count} {what} (last: {snapshot.trials.names(state)[-1]})")
    return f"{' and '.join(parts)}; maxFailedTrialCount is {limit}"


def is_restartable(experiment: Experiment) -> bool:
    """Whether an experiment that has ended may go on, once no rule ends it any more."""
    succeeded = find(experiment.status.conditions, "Succeeded")
    return (
        succeeded is not None
        and succeeded.reason in RESTARTABLE
        and experiment.spec.resume_policy in RESUMABLE_POLICIES
    )


def will_restart(experiment: Experiment) -> bool:
    """Whether an end is undone by a larger budget or by taking back a stop; as far as the object
    tells."""
    succeeded, budget = find(experiment.status.conditions, "Succeeded"), experiment.spec
    if not is_restartable(experiment) or succeeded is None or is_stopped(experiment):
        return False
    ended = experiment.status.progress.partition("/")[0]
    allows_more = budget.max_trial_count is None or int(ended or 0) < budget.max_trial_count
    return succeeded.reason != DEADLINE_REACHED and allows_more


def may_finish(experiment: Experiment) -> bool:
    """Whether trials that run when the experiment ends may run out."""
    policy, conditions = experiment.spec.run_policy, experiment.status.conditions
    wished = policy is not None and policy.running_trials_at_end == "Finish"
    return wished and bool(conditions) and conditions[-1].reason in FINISHABLE


def restarted(status: ExperimentStatus, now: datetime) -> ExperimentStatus:
    conditions = advance_experiment(
        status.conditions,
        ExperimentState.RESTARTING,
        "ExperimentRestarting",
        "Experiment is restarted: its budget allows more",
        now,
    )
    return status.with_(conditions=conditions, completion_time=None)


# ---- status -------------------------------------------------------------------------------------


def next_status(snapshot: Snapshot, end: End | None, now: datetime) -> ExperimentStatus:
    """The status as it should read now."""
    old = snapshot.experiment.status
    status = old.with_(
        conditions=next_conditions(old.conditions, snapshot.trials, end, now),
        start_time=old.start_time or now,
        completion_time=now if end is not None else old.completion_time,
        **_counters(snapshot),
    )
    top = snapshot.trials.best
    return status if top is None else status.with_(current_optimal_trial=_optimal(top))


def next_conditions(
    conditions: Sequence[Condition], trials: Census, end: End | None, now: datetime
) -> tuple[Condition, ...]:
    state = experiment_state(conditions)
    if state is ExperimentState.PENDING:
        conditions = advance_experiment(
            conditions, ExperimentState.CREATED, "ExperimentCreated", "Experiment is created", now
        )
    if end is not None:
        return advance_experiment(conditions, end.state, end.reason, end.message, now)
    if not state.is_terminal and len(trials):
        return advance_experiment(
            conditions, ExperimentState.RUNNING, "ExperimentRunning", "Experiment is running", now
        )
    return tuple(conditions)


def _counters(snapshot: Snapshot) -> dict[str, object]:
    trials, state = snapshot.trials, TrialState
    budget = snapshot.experiment.spec.max_trial_count
    pending = (state.PENDING, state.CREATED)
    return {
        "running_trial_list": trials.names(state.RUNNING),
        "pending_trial_list": trials.names(*pending),
        "succeeded_trial_list": trials.names(state.SUCCEEDED),
        "failed_trial_list": trials.names(state.FAILED),
        "killed_trial_list": trials.names(state.KILLED),
        "early_stopped_trial_list": trials.names(state.EARLY_STOPPED),
        "metrics_unavailable_trial_list": trials.names(state.METRICS_UNAVAILABLE),
        "trials": len(trials),
        "trials_succeeded": trials.count(state.SUCCEEDED),
        "trials_failed": trials.count(state.FAILED),
        "trials_killed": trials.count(state.KILLED),
        "trials_pending": trials.count(*pending),
        "trials_running": trials.count(state.RUNNING),
        "trials_early_stopped": trials.count(state.EARLY_STOPPED),
        "trial_metrics_unavailable": trials.count(state.METRICS_UNAVAILABLE),
        "progress": f"{snapshot.ended}/{len(trials) if budget is None else budget}",
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
            active_deadline_seconds=spec.run_policy.trial_active_deadline_seconds
            if spec.run_policy
            else None,
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
            "parallel": batch.parallel,
            "maxTrials": batch.max_trials,
        }
        if batch.recorded:
            record["recorded"] = batch.recorded
        annotations[names.ANNOTATION_BATCH] = json.dumps(record, separators=(",", ":"))
    return annotations
