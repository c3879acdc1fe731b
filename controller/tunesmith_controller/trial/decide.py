# SPDX-License-Identifier: Apache-2.0
"""The whole policy of Trials: attempts, verdicts on jobs, metrics, cleaning up.

Pure. An attempt is recorded before its job is created, the first by the Trial's own
existence; a job that vanished makes the attempt lost and the next one is a new, numbered attempt. A
trial's end is decided from rows that are known to be complete, or after a grace period.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from tunesmith_api import metrics as metric_rows
from tunesmith_api.conditions import TrialState, advance_trial, trial_state
from tunesmith_api.metrics import Row, Strategy
from tunesmith_api.resources import (
    MetricFigures,
    Observation,
    RunRecord,
    StopRecord,
    Trial,
    TrialStatus,
)
from tunesmith_controller.ports import (
    JobAbsent,
    JobLost,
    JobPresent,
    JobState,
    JobWaiting,
    Json,
    SourceState,
)
from tunesmith_controller.trial import gjson
from tunesmith_metrics_collector.advice import file_hint, push_hint


@dataclass(frozen=True, slots=True)
class JobRefused:
    """The job can never be started; `reason` is a sentence for the user."""

    reason: str


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds. sweeps: jobs of trials that are on record as released are let go by
    whoever finds them, so an end and its release are one write."""

    poll_s: float = 5.0
    grace_s: float = 60.0
    lost_retries: int = 3
    sweeps: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that was read. `job` is None once the attempt was released; `rows` and `sources` are read
    once the job has ended; `waited` is how long, in seconds, the end has been known.
    `earlier_over` is False while something of the attempt before still runs. `paused` says why
    nothing of it may run, `may_finish` that a running attempt outlives its experiment; `stop` is
    the verdict of a stopping rule on a running attempt."""

    trial: Trial
    experiment_over: str = ""
    may_finish: bool = False
    paused: str = ""
    earlier_over: bool = True
    job: JobState | JobRefused | None = None
    sources: Mapping[str, SourceState] = field(default_factory=dict)
    rows: Sequence[Row] = ()
    waited: float = 0.0
    stop: StopRecord | None = None


class Step(StrEnum):
    """What to do outside, before the status is written."""

    START = "start"
    STOP = "stop"
    STOP_EARLIER = "stop earlier"
    RELEASE = "release"
    FORGET = "forget"


@dataclass(frozen=True, slots=True)
class Notice:
    """An event for people."""

    type: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Plan:
    """`step`, then `status`, then `then`; look again after `again` seconds (None: when something
    changes).

    Step.FORGET deletes everything kept of a trial under deletion and lets the object go.
    """

    step: Step | None = None
    status: TrialStatus | None = None
    then: Step | None = None
    again: float | None = None
    notice: Notice | None = None


class Verdict(StrEnum):
    UNDECIDED = "undecided"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNMATCHED = "unmatched"


@dataclass(frozen=True, slots=True)
class Judged:
    """What a job's conditions say; reason and message are the job's own."""

    verdict: Verdict
    reason: str = ""
    message: str = ""


def judge(manifest: Json, success: str, failure: str) -> Judged:
    """Failure first, then success, as in Katib; UNMATCHED when the job is over and neither fits.

    An expression that cannot be evaluated at all is a failure that says so: nothing would ever end
    the trial otherwise.
    """
    for verdict, expression in ((Verdict.FAILED, failure), (Verdict.SUCCEEDED, success)):
        try:
            met = gjson.condition_met(manifest, expression) if expression else None
        except gjson.GjsonError as error:
            message = f"the {verdict} condition {expression!r} cannot be evaluated: {error}"
            return Judged(Verdict.FAILED, "ConditionUnusable", message)
        if met is not None:
            return Judged(verdict, met.reason, met.message)
    over = _over(manifest)
    return Judged(Verdict.UNMATCHED, "", over) if over else Judged(Verdict.UNDECIDED)


def foreseen_success(trial: Trial, job: JobPresent) -> Judged | None:
    """That the job will succeed, where that is known before it says so."""
    if job.foreseen is None:
        return None
    judged = judge(job.foreseen, trial.spec.success_condition, trial.spec.failure_condition)
    return judged if judged.verdict is Verdict.SUCCEEDED else None


def _over(manifest: Json) -> str:
    """The job's conditions as text when its own kind says that it is over, else empty."""
    conditions = (manifest.get("status") or {}).get("conditions") or []
    ended = [c for c in conditions if c.get("type") in ("Complete", "Failed", "Succeeded")]
    if any(c.get("status") == "True" for c in ended):
        return json.dumps(conditions, sort_keys=True)[:1000]
    return ""


def decide(snapshot: Snapshot, now: datetime, limits: Limits) -> Plan:
    """The next step of a trial."""
    trial = snapshot.trial
    state = trial_state(trial.status.conditions)
    if trial.metadata.deletion_timestamp is not None:
        return _deleted(snapshot)
    if state.is_terminal:
        return _ended(snapshot, limits)
    if state is TrialState.PENDING:
        # A new Trial is its first attempt on record; what is written first says both.
        trial = trial.with_(status=_created(trial, now))
        snapshot = replace(snapshot, trial=trial)
    if run_of(trial).stopping is not None:
        return _stopping(snapshot, now, limits)
    outlives = snapshot.may_finish and isinstance(snapshot.job, JobPresent)
    if snapshot.experiment_over and not outlives:
        return _end(trial, TrialState.KILLED, "TrialKilled", snapshot.experiment_over, now)
    if snapshot.paused and not _has_ended(snapshot):
        return _paused(snapshot)
    plan = _by_job(snapshot, now, limits)
    return _released(plan, snapshot.job, trial) if limits.sweeps else plan


def _released(plan: Plan, job: JobState | JobRefused | None, trial: Trial) -> Plan:
    """An end whose job has nothing left to do lets it go in the same write."""
    status = plan.status
    if status is None or not trial_state(status.conditions).is_terminal:
        return plan
    if not isinstance(job, JobPresent) or not (is_over(job, trial) or foreseen_success(trial, job)):
        return plan
    run = (status.run or RunRecord()).with_(released=True)
    return replace(plan, status=status.with_(run=run), then=Step.RELEASE)


def _by_job(snapshot: Snapshot, now: datetime, limits: Limits) -> Plan:
    trial = snapshot.trial
    match snapshot.job:
        case JobRefused(reason):
            return _end(trial, TrialState.FAILED, "TrialFailed", reason, now)
        case JobWaiting(reason):
            return _waiting(trial, reason)
        case JobAbsent() | None:
            return _absent(trial, now, limits)
        case JobLost(reason):
            return _lost(trial, reason, now, limits)
        case JobPresent() as job:
            return _present(snapshot, job, now, limits)


# ---- beginnings ---------------------------------------------------------------------------------


def _created(trial: Trial, now: datetime) -> TrialStatus:
    conditions = advance_trial(
        trial.status.conditions, TrialState.CREATED, "TrialCreated", "Trial is created", now
    )
    return trial.status.with_(conditions=conditions, start_time=now, run=RunRecord(attempt=1))


def run_of(trial: Trial) -> RunRecord:
    """What is on record; a Trial without any, a new one or Katib's, is at its first attempt."""
    run = trial.status.run or RunRecord()
    return run if run.attempt else run.with_(attempt=1)


def _with_run(trial: Trial, run: RunRecord) -> TrialStatus:
    return trial.status.with_(run=run)


def _waiting(trial: Trial, reason: str) -> Plan:
    run = run_of(trial)
    if run.waiting == reason:
        return Plan(again=1.0)
    return Plan(status=_with_run(trial, run.with_(waiting=reason)), again=1.0)


def _absent(trial: Trial, now: datetime, limits: Limits) -> Plan:
    run = run_of(trial)
    if run.job_uid:
        return _lost(trial, "the job is gone", now, limits)
    return Plan(step=Step.START)


def _lost(trial: Trial, reason: str, now: datetime, limits: Limits) -> Plan:
    """Attempt + 1 while the retry budget lasts; never a second run of the same attempt."""
    attempt, lost = run_of(trial).attempt, run_of(trial).lost + 1
    if lost > limits.lost_retries:
        message = f"attempt {attempt} was lost ({reason}); no retries are left"
        return _end(trial, TrialState.FAILED, "TrialFailed", message, now)
    notice = Notice("Warning", "AttemptLost", f"attempt {attempt} was lost: {reason}")
    status = _with_run(trial, RunRecord(attempt=attempt + 1, lost=lost))
    return Plan(status=status, notice=notice)


PAUSED = "paused: nothing of this trial runs; `tunesmith resume` continues the experiment"
HELD = "held back: parallelTrialCount has no place for it; it goes on when another trial ends"
_PAUSING = "pausing: the running attempt is being stopped"


def _has_ended(snapshot: Snapshot) -> bool:
    """Whether the attempt is over by itself, so that a pause has nothing to interrupt."""
    job, trial = snapshot.job, snapshot.trial
    if isinstance(job, JobPresent) and foreseen_success(trial, job):
        return True
    return isinstance(job, JobLost | JobPresent) and is_over(job, trial)


def _paused(snapshot: Snapshot) -> Plan:
    """Interrupts: the next attempt is recorded first, then whatever runs of the one before is
    stopped. Interrupted attempts do not count as lost."""
    trial, run = snapshot.trial, run_of(snapshot.trial)
    if isinstance(snapshot.job, JobPresent | JobWaiting):
        following = RunRecord(attempt=run.attempt + 1, lost=run.lost, waiting=_PAUSING)
        return Plan(status=_with_run(trial, following))
    if not snapshot.earlier_over:
        return Plan(step=Step.STOP_EARLIER, again=0.5)
    if run.waiting == snapshot.paused:
        return Plan()
    return Plan(status=_with_run(trial, run.with_(waiting=snapshot.paused)))


# ---- the job is there ---------------------------------------------------------------------------


def _present(snapshot: Snapshot, job: JobPresent, now: datetime, limits: Limits) -> Plan:
    trial = snapshot.trial.with_(status=_with_run(snapshot.trial, _seen(snapshot.trial, job)))
    judged = judge(job.manifest, trial.spec.success_condition, trial.spec.failure_condition)
    if judged.verdict is Verdict.UNDECIDED and rows_complete(snapshot):
        judged = foreseen_success(trial, job) or judged
    match judged.verdict:
        case Verdict.UNDECIDED:
            return _running(snapshot, job.uid, now, limits)
        case Verdict.FAILED:
            message = judged.message or "the job's failure condition is met"
            return _end(trial, TrialState.FAILED, _reason("TrialFailed", judged), message, now)
        case Verdict.UNMATCHED:
            message = (
                "the job is over but neither successCondition nor failureCondition matches it: "
                f"{trial.spec.success_condition!r}, {trial.spec.failure_condition!r}; "
                f"its conditions are {judged.message}"
            )
            return _end(trial, TrialState.FAILED, "ConditionNeverMatched", message, now)
        case Verdict.SUCCEEDED:
            return _succeeded(replace(snapshot, trial=trial), judged, now, limits)


def _seen(trial: Trial, job: JobPresent) -> RunRecord:
    """The run with its job's uid, which a quick job's end may be the first to tell."""
    return run_of(trial).with_(job_uid=job.uid, waiting="")


def _reason(base: str, judged: Judged) -> str:
    return f"{base}. Job reason: {judged.reason}" if judged.reason else base


def _running(snapshot: Snapshot, job_uid: str, now: datetime, limits: Limits) -> Plan:
    trial, run = snapshot.trial, run_of(snapshot.trial)
    is_known = run.job_uid == job_uid and not run.waiting
    if not is_known or trial_state(trial.status.conditions) is not TrialState.RUNNING:
        conditions = advance_trial(
            trial.status.conditions, TrialState.RUNNING, "TrialRunning", "Trial is running", now
        )
        run = run.with_(job_uid=job_uid, waiting="", started_at=run.started_at or now)
        return Plan(
            status=trial.status.with_(conditions=conditions, run=run),
            again=_next_look(trial, now, limits),
        )
    if (left := _time_left(trial, now)) is not None and left <= 0:
        message = f"activeDeadlineSeconds ({trial.spec.active_deadline_seconds}) have passed"
        return _end(trial, TrialState.FAILED, "TrialDeadlineExceeded", message, now)
    if snapshot.stop is not None:
        notice = Notice("Normal", "TrialEarlyStopping", snapshot.stop.message)
        return Plan(status=_with_run(trial, run.with_(stopping=snapshot.stop)), notice=notice)
    return Plan(again=_next_look(trial, now, limits))


def _time_left(trial: Trial, now: datetime) -> float | None:
    """Seconds of wall time until an attempt has used its limit; None without one."""
    limit, started = trial.spec.active_deadline_seconds, run_of(trial).started_at
    if limit is None:
        return None
    return limit - (now - (started or now)).total_seconds()


def _next_look(trial: Trial, now: datetime, limits: Limits) -> float:
    left = _time_left(trial, now)
    # Times on record are whole seconds: never a busy loop before the limit.
    return limits.poll_s if left is None else min(limits.poll_s, max(left, 0.1))


# ---- early stopping -----------------------------------------------------------------------------


def _stopping(snapshot: Snapshot, now: datetime, limits: Limits) -> Plan:
    """Carries out a recorded stop: ends what runs, waits for its last rows. Whatever the job then
    says, the trial was stopped."""
    trial = snapshot.trial
    stopping = run_of(trial).stopping
    if not is_over(snapshot.job, trial):
        return Plan(step=Step.STOP, again=1.0)
    if not rows_complete(snapshot) and snapshot.waited < limits.grace_s:
        return Plan(again=_for_rows(snapshot, limits))
    message = stopping.message if stopping else ""
    plan = _end(trial, TrialState.EARLY_STOPPED, "TrialEarlyStopped", message, now)
    return _observed(plan, observe_metrics(trial, snapshot.rows))


def _for_rows(snapshot: Snapshot, limits: Limits) -> float:
    """The last rows come a moment after the end, or much later: looked for less and less often."""
    return min(max(0.25, snapshot.waited / 2), 2.0, limits.grace_s)


def rows_complete(snapshot: Snapshot) -> bool:
    """Whether all sources of the attempt are known to have ended."""
    return have_ended(snapshot.sources)


def have_ended(sources: Mapping[str, SourceState]) -> bool:
    return bool(sources) and all(source.ended for source in sources.values())


def _observed(plan: Plan, observation: Observation) -> Plan:
    if plan.status is None or not observation.metrics:
        return plan
    return replace(plan, status=plan.status.with_(observation=observation))


def _succeeded(snapshot: Snapshot, judged: Judged, now: datetime, limits: Limits) -> Plan:
    trial, complete = snapshot.trial, rows_complete(snapshot)
    if not complete and snapshot.waited < limits.grace_s:
        return Plan(again=_for_rows(snapshot, limits))
    observation = observe_metrics(trial, snapshot.rows)
    if _objective_figure(trial, observation) is not None:
        reason = _reason("TrialSucceeded", judged)
        plan = _end(trial, TrialState.SUCCEEDED, reason, "Trial has succeeded", now)
    else:
        message = explain_missing(trial, snapshot, complete=complete)
        reason = _reason("MetricsUnavailable", judged)
        plan = _end(trial, TrialState.METRICS_UNAVAILABLE, reason, message, now)
    return _observed(plan, observation)


def _end(trial: Trial, state: TrialState, reason: str, message: str, now: datetime) -> Plan:
    conditions = advance_trial(trial.status.conditions, state, reason, message, now)
    run = run_of(trial).with_(waiting="")
    status = trial.status.with_(conditions=conditions, completion_time=now, run=run)
    good = state in (TrialState.SUCCEEDED, TrialState.EARLY_STOPPED)
    return Plan(status=status, notice=Notice("Normal" if good else "Warning", reason, message))


# ---- metrics ------------------------------------------------------------------------------------


def wanted_metrics(trial: Trial) -> tuple[str, ...]:
    """The objective first, then the additional metrics."""
    objective = trial.spec.objective
    if objective is None:
        return ()
    return (objective.objective_metric_name, *objective.additional_metric_names)


def observe_metrics(trial: Trial, rows: Sequence[Row]) -> Observation:
    """Katib's observation: min, max, latest of each wanted metric, objective first."""
    summaries = metric_rows.summarise(rows, wanted_metrics(trial))
    return Observation(
        metrics=tuple(
            MetricFigures(name=s.name, min=s.min, max=s.max, latest=s.latest) for s in summaries
        )
    )


def _objective_figure(trial: Trial, observation: Observation) -> float | None:
    objective = trial.spec.objective
    if objective is None:
        return None
    name = objective.objective_metric_name
    strategies = {s.name: s.value for s in objective.metric_strategies}
    for figures in observation.metrics:
        if figures.name == name:
            summary = metric_rows.MetricSummary(name, figures.min, figures.max, figures.latest)
            return summary.figure(Strategy(strategies.get(name, "latest")))
    return None


def explain_missing(trial: Trial, snapshot: Snapshot, *, complete: bool) -> str:
    """Why there is no objective: the name wanted, the names found, the filter, the last lines."""
    wanted = wanted_metrics(trial)[0] if wanted_metrics(trial) else ""
    reported = metric_rows.counted(row for row in snapshot.rows if row.metric == wanted)
    if reported:
        return (
            f"metric {wanted!r} was reported {len(reported)} times but never as a finite number "
            f"(last: {reported[-1].value[:40]!r}); the training may have diverged"
        )
    found = sorted({name for s in snapshot.sources.values() for name in s.notes.metric_names})
    # A name without a row: `loss=tensor(0.5)`.
    cause = "was named but without a number" if wanted in found else "was never reported"
    parts = [f"the command succeeded but metric {wanted!r} {cause}"]
    if not complete:
        parts.append("the collector did not finish in time, so rows may be missing")
    if found and wanted not in found:
        close = difflib.get_close_matches(wanted, found, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        parts.append(f"names found: {', '.join(found[:20])}{hint}")
    filters = sorted({s.notes.filter for s in snapshot.sources.values() if s.notes.filter})
    if filters:
        parts.append(f"filter: {'; '.join(filters)}")
    lines = [line for s in snapshot.sources.values() for line in s.notes.last_lines][-3:]
    parts.append("last lines: " + " | ".join(lines) if lines else "nothing was printed")
    return f"{'; '.join(parts)}. {_way_to_report(trial, wanted)}"


def _way_to_report(trial: Trial, wanted: str) -> str:
    collector = trial.spec.metrics_collector
    kind = collector.collector.kind if collector and collector.collector else ""
    file = collector.source.file_system_path if collector and collector.source else None
    if kind == "Push":
        return push_hint(wanted)
    if kind == "File" and file is not None:
        return file_hint(wanted, file.path, file.format)
    if metric_filters(trial) or metric_rows.has_findable_name(wanted):
        return f"Print it as `{wanted}=0.93` or call tunesmith.report()."
    return (
        f"Call tunesmith.report(**{{{wanted!r}: 0.93}}): the default filter finds no name with "
        "other characters than ASCII letters, digits, '_', '-' and '|' in what is printed."
    )


def metric_filters(trial: Trial) -> tuple[str, ...]:
    """The expressions that find metrics in the output; none means Katib's default."""
    collector = trial.spec.metrics_collector
    source = collector.source if collector else None
    return source.filter.metrics_format if source and source.filter else ()


# ---- ends ---------------------------------------------------------------------------------------


def is_over(job: JobState | JobRefused | None, trial: Trial) -> bool:
    """Whether nothing of the attempt runs any more."""
    if not isinstance(job, JobPresent):
        return not isinstance(job, JobWaiting)
    judged = judge(job.manifest, trial.spec.success_condition, trial.spec.failure_condition)
    return judged.verdict is not Verdict.UNDECIDED


def _ended(snapshot: Snapshot, limits: Limits) -> Plan:
    """After the end: whatever still runs is stopped, then the job is released, once."""
    trial, run = snapshot.trial, run_of(snapshot.trial)
    if run.released:
        return Plan()
    if not is_over(snapshot.job, trial):
        if isinstance(snapshot.job, JobPresent) and foreseen_success(trial, snapshot.job):
            return Plan(again=limits.poll_s)  # it is ending by itself
        return Plan(step=Step.STOP, again=1.0)
    return Plan(step=Step.RELEASE, status=_with_run(trial, run.with_(released=True)))


def _deleted(snapshot: Snapshot) -> Plan:
    if not is_over(snapshot.job, snapshot.trial):
        return Plan(step=Step.STOP, again=1.0)
    return Plan(step=Step.FORGET)
