# SPDX-License-Identifier: Apache-2.0
"""The whole policy of Suggestions: when to ask, with which inputs, what to keep of the answer.

Pure. A request's inputs are written down before it is sent (`status.asking`), so a crash repeats
the same question; its answer is stored before Trials are created from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from tunesmith_api import names
from tunesmith_api.conditions import (
    SuggestionState,
    advance_suggestion,
    find,
    set_condition,
    suggestion_state,
)
from tunesmith_api.problem import History, Pending, Problem
from tunesmith_api.resources import (
    Batch,
    NamedValue,
    Suggestion,
    SuggestionStatus,
    TrialAssignment,
)
from tunesmith_controller.ports import (
    Ask,
    Endpoint,
    HostFailed,
    NotReady,
    PortError,
    SearchEnded,
    Suggested,
)
from tunesmith_controller.trial.facts import Census

MAX_COUNT = 500
"""Assignments asked for at once; larger wishes are split."""
KEPT_ASSIGNMENTS = 64
"""How many assignments that are Trials already stay in status: for people, and for re-creation."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that was read. `experiment_over` says why, empty while it runs. `missing` are ordinals
    told before whose Trial was deleted by hand (confirmed): no one can tell them any more.
    `enqueued` are the points that people asked for, as texts by parameter name, oldest first."""

    suggestion: Suggestion
    problem: Problem
    trials: Census
    endpoint: Endpoint | NotReady | HostFailed | None = None
    experiment_over: str = ""
    missing: frozenset[int] = field(default_factory=frozenset)
    enqueued: Sequence[Mapping[str, str]] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """Status to write; a question to be asked (validation or a batch); the service to let go."""

    status: SuggestionStatus | None = None
    validate: bool = False
    ask: Ask | None = None
    release: bool = False
    again: float | None = None


def begin(suggestion: Suggestion, seed: int, now: datetime) -> SuggestionStatus:
    """Created, with the seed that the whole search will use."""
    conditions = advance_suggestion(
        suggestion.status.conditions,
        SuggestionState.CREATED,
        "SuggestionCreated",
        "Suggestion is created",
        now,
    )
    return suggestion.status.with_(conditions=conditions, start_time=now, seed=str(seed))


def decide(snapshot: Snapshot, now: datetime) -> Plan:
    """The next step of a Suggestion that has been begun."""
    suggestion = snapshot.suggestion
    state = suggestion_state(suggestion.status.conditions)
    if state is SuggestionState.SUCCEEDED and not snapshot.experiment_over:
        return Plan(status=_again(suggestion, now))
    if state.is_terminal:
        return Plan(release=True)
    if snapshot.experiment_over and suggestion.spec.resume_policy == "LongRunning":
        # As in Katib it stays Running; what it knows is on record, so no process is kept.
        return Plan(release=True)
    if snapshot.experiment_over:
        return Plan(
            status=_end(
                suggestion,
                SuggestionState.SUCCEEDED,
                "SuggestionSucceeded",
                "Experiment is succeeded",
                now,
            ),
            release=True,
        )
    match snapshot.endpoint:
        case None:
            return Plan()
        case HostFailed(reason):
            return Plan(status=failed(suggestion, reason, now), release=True)
        case NotReady(reason):
            return Plan(status=_unready(suggestion, reason, now), again=0.2)
        case Endpoint():
            return _with_service(snapshot, state, now)


def _with_service(snapshot: Snapshot, state: SuggestionState, now: datetime) -> Plan:
    suggestion = snapshot.suggestion
    ready = find(suggestion.status.conditions, "DeploymentReady")
    if ready is None or ready.status != "True":
        return Plan(status=_ready(suggestion, state, now))
    if state is not SuggestionState.RUNNING:
        return Plan(validate=True)
    asking = suggestion.status.asking
    if asking is not None:
        ask = ask_for(snapshot, asking)
        return Plan(ask=ask, again=None if ask is not None else 1.0)
    batch = next_batch(snapshot)
    if batch is not None and len(snapshot.enqueued) > suggestion.status.enqueued_taken:
        return Plan(status=taken(snapshot, batch))
    if batch is not None:
        return Plan(status=suggestion.status.with_(asking=batch))
    return Plan()


# ---- conditions ---------------------------------------------------------------------------------


def _end(
    suggestion: Suggestion, to: SuggestionState, reason: str, message: str, now: datetime
) -> SuggestionStatus:
    conditions = advance_suggestion(suggestion.status.conditions, to, reason, message, now)
    # A question on record stays there: asked again after a restart, it must be the same one.
    return suggestion.status.with_(conditions=conditions, completion_time=now)


def failed(suggestion: Suggestion, message: str, now: datetime) -> SuggestionStatus:
    return _end(suggestion, SuggestionState.FAILED, "SuggestionFailed", message, now)


def running(suggestion: Suggestion, now: datetime) -> SuggestionStatus:
    conditions = advance_suggestion(
        suggestion.status.conditions,
        SuggestionState.RUNNING,
        "SuggestionRunning",
        "Suggestion is running",
        now,
    )
    return suggestion.status.with_(conditions=conditions)


def _again(suggestion: Suggestion, now: datetime) -> SuggestionStatus:
    """The experiment goes on: so does the search, from what is on record."""
    before = tuple(c for c in suggestion.status.conditions if c.type != "Succeeded")
    if find(before, "Running") is None:
        # It ended before its settings were accepted: that is still to be done.
        return suggestion.status.with_(conditions=before, completion_time=None)
    conditions = advance_suggestion(
        suggestion.status.conditions,
        SuggestionState.RUNNING,
        "ExperimentRestarting",
        "Experiment is restarting",
        now,
    )
    return suggestion.status.with_(conditions=conditions, completion_time=None)


def _ready(suggestion: Suggestion, state: SuggestionState, now: datetime) -> SuggestionStatus:
    conditions = suggestion.status.conditions
    if state is SuggestionState.RUNNING:
        # It was ready before: the condition changes in place, Running stays the state.
        old = find(conditions, "DeploymentReady")
        fresh = set_condition((), "DeploymentReady", "DeploymentReady", "Service is ready", now)[0]
        conditions = tuple(fresh if c is old else c for c in conditions)
    else:
        conditions = advance_suggestion(
            conditions,
            SuggestionState.DEPLOYMENT_READY,
            "DeploymentReady",
            "Service is ready",
            now,
        )
    return suggestion.status.with_(conditions=conditions)


def _unready(suggestion: Suggestion, reason: str, now: datetime) -> SuggestionStatus | None:
    """Says why the service is not there; a condition that is False never becomes the state."""
    conditions = suggestion.status.conditions
    if find(conditions, "DeploymentReady") is None:
        return None
    changed = set_condition(
        conditions, "DeploymentReady", "DeploymentNotReady", reason, now, status="False"
    )
    return None if changed == conditions else suggestion.status.with_(conditions=changed)


def unhealthy(
    suggestion: Suggestion, error: PortError, failures: int, now: datetime
) -> SuggestionStatus | None:
    """After several failed calls: why nothing moves."""
    if failures < 3:
        return None
    return _unready(suggestion, f"{failures} calls in a row failed: {error}", now)


# ---- questions ----------------------------------------------------------------------------------


def next_batch(snapshot: Snapshot) -> Batch | None:
    """The inputs of the next request, None when nothing is wanted.

    An ordinal that was told once stays told, even when a stale read shows it running again.
    """
    suggestion = snapshot.suggestion
    status = suggestion.status
    count = min(suggestion.spec.requests - status.suggestion_count, MAX_COUNT)
    if count <= 0 or status.search_ended:
        return None
    first = status.suggestion_count
    last = status.batches[-1] if status.batches else Batch()
    candidates = {*last.pending, *range(last.first, first)}
    known = snapshot.trials.by_ordinal
    ended = {o for o in candidates if (facts := known.get(o)) and facts.state.is_terminal}
    pending = sorted(candidates - ended - snapshot.missing)
    return Batch(
        first=first,
        count=count,
        pending=tuple(pending),
        parallel=snapshot.problem.parallel,
        max_trials=snapshot.problem.max_trials,
    )


def ask_for(snapshot: Snapshot, batch: Batch) -> Ask | None:
    """The request of recorded inputs; None while a stale cache does not show all its outcomes."""
    space, suggestion = snapshot.problem.space, snapshot.suggestion
    known = snapshot.trials.by_ordinal
    waiting = {a.ordinal: a for a in suggestion.status.suggestions}
    outcomes = snapshot.trials.told.below(batch.first, space)
    for ordinal in batch.pending:
        # Recorded as untold: whatever became of it meanwhile, this question does not know.
        outcomes[ordinal] = None
    told = tuple(outcome for outcome in outcomes if outcome is not None)
    if batch.first - len(told) > len(batch.pending):
        silent = {ordinal for ordinal, outcome in enumerate(outcomes) if outcome is None}
        if not silent <= {*batch.pending, *snapshot.missing}:
            return None
    pending = []
    for ordinal in batch.pending:
        facts = known.get(ordinal)
        texts = facts.parameters if facts else _texts(waiting.get(ordinal))
        if texts is not None:
            pending.append(Pending(ordinal, space.values(texts)))
    return Ask(
        request_id=names.request_id(snapshot.problem.experiment_uid, batch.first, batch.count),
        problem=replace(
            snapshot.problem,
            parallel=batch.parallel or snapshot.problem.parallel,
            max_trials=batch.max_trials,
        ),
        history=History(told, tuple(pending)),
        first_ordinal=batch.first,
        count=batch.count,
        recorded=_last_record(suggestion.status.batches),
    )


def _texts(assignment: TrialAssignment | None) -> Mapping[str, str] | None:
    if assignment is None:
        return None
    return {p.name: p.value for p in assignment.parameter_assignments}


def _last_record(batches: Sequence[Batch]) -> str:
    last = _last_fitted(batches)
    return batches[last].recorded if last >= 0 else ""


# ---- answers ------------------------------------------------------------------------------------


def answered(
    snapshot: Snapshot, ask: Ask, answer: Suggested | SearchEnded, now: datetime
) -> SuggestionStatus:
    """The status after an answer: assignments stored, or the end of the search, or a failure when
    the answer is not a point of the space, whoever gave it."""
    suggestion = snapshot.suggestion
    status = suggestion.status
    if isinstance(answer, SearchEnded) or not answer.assignments:
        reason = answer.reason if isinstance(answer, SearchEnded) else "nothing was proposed"
        return status.with_(search_ended=reason, asking=None)
    if problem := unfit(snapshot.problem, ask, answer):
        return failed(suggestion, problem, now)
    fresh = tuple(
        _assignment(snapshot.problem, ask.first_ordinal + index, texts)
        for index, texts in enumerate(answer.assignments)
    )
    batch = Batch(
        first=ask.first_ordinal,
        count=len(fresh),
        pending=tuple(p.ordinal for p in ask.history.pending),
        parallel=ask.problem.parallel,
        max_trials=ask.problem.max_trials,
        algorithm_version=answer.algorithm_version,
        recorded=answer.recorded,
    )
    grown = status.with_(
        suggestions=(*status.suggestions, *fresh),
        suggestion_count=ask.first_ordinal + len(fresh),
        batches=(*status.batches, batch),
        asking=None,
    )
    return trim(grown, snapshot.trials)


ENQUEUED: str = "enqueued"
"""What stands for an algorithm's version on a batch that a person proposed."""


def taken(snapshot: Snapshot, batch: Batch) -> SuggestionStatus:
    """The status after people's points were given the next ordinals; no service is asked.

    A point that is not of the space is passed over: admission refuses it, so it came another way.
    """
    status, space = snapshot.suggestion.status, snapshot.problem.space
    offered = snapshot.enqueued[status.enqueued_taken :][: batch.count]
    points = [texts for texts in offered if not space.violations(texts)]
    moved_on = status.with_(enqueued_taken=status.enqueued_taken + len(offered))
    if not points:
        return moved_on
    fresh = tuple(
        _assignment(snapshot.problem, batch.first + index, texts)
        for index, texts in enumerate(points)
    )
    given = batch.with_(count=len(fresh), algorithm_version=ENQUEUED)
    return moved_on.with_(
        suggestions=(*status.suggestions, *fresh),
        suggestion_count=batch.first + len(fresh),
        batches=(*status.batches, given),
    )


def unfit(problem: Problem, ask: Ask, answer: Suggested) -> str:
    """Why an answer cannot be used; empty when it can."""
    if len(answer.assignments) > ask.count:
        return (
            f"algorithm {problem.algorithm!r} proposed {len(answer.assignments)} assignments "
            f"where {ask.count} were asked for"
        )
    for index, texts in enumerate(answer.assignments):
        violations = problem.space.violations(texts)
        if violations:
            return (
                f"algorithm {problem.algorithm!r} proposed a point outside the search space for "
                f"trial {ask.first_ordinal + index}: {'; '.join(violations)}"
            )
    return ""


def _assignment(problem: Problem, ordinal: int, texts: Mapping[str, str]) -> TrialAssignment:
    return TrialAssignment(
        name=names.trial_name(problem.experiment_name, problem.experiment_uid, ordinal),
        ordinal=ordinal,
        parameter_assignments=tuple(
            NamedValue(name=p.name, value=texts[p.name]) for p in problem.space
        ),
    )


def trim(status: SuggestionStatus, created: Census) -> SuggestionStatus:
    """Keeps every assignment that is not yet a Trial and a window of older ones, so that the
    object stays small at any number of trials. Batches are kept as long as a Trial still needs
    their record, and the last one in which something was fitted until the next is."""
    old = [a for a in status.suggestions if a.ordinal in created.by_ordinal]
    dropped = {a.ordinal for a in old[:-KEPT_ASSIGNMENTS]}
    if not dropped:
        return status
    kept = tuple(a for a in status.suggestions if a.ordinal not in dropped)
    oldest = min((a.ordinal for a in kept), default=status.suggestion_count)
    newest = {len(status.batches) - 1, _last_fitted(status.batches)}
    batches = tuple(b for i, b in enumerate(status.batches) if b.end > oldest or i in newest)
    return status.with_(suggestions=kept, batches=batches)


def _last_fitted(batches: Sequence[Batch]) -> int:
    """The place of the record that the next request carries; -1 where there is none."""
    return max((i for i, batch in enumerate(batches) if batch.recorded), default=-1)
