# SPDX-License-Identifier: Apache-2.0
"""What must hold when a simulated experiment is over, and its final state without times.

Everything is computed anew from the trials, from what their jobs printed and, for the assignments,
by the algorithm itself from the recorded inputs of each batch (G3). `world` asks; rules are named
as in `invariants`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import sensitive
from invariants import (
    Books,
    Violation,
    assignment_of,
    conditions_of,
    ordinal_of,
    run_of,
    state_of,
)
from scenarios import ATTEMPT_METRIC, OBJECTIVE, Scenario, figures

from tunesmith_api import names
from tunesmith_api.problem import Exhausted, History, Outcome, OutcomeState, Pending, Problem
from tunesmith_api.problems import problem_of
from tunesmith_api.resources import Experiment
from tunesmith_controller.ports import Json

_OUTCOMES: Mapping[str, OutcomeState] = {
    "Succeeded": OutcomeState.SUCCEEDED,
    "Failed": OutcomeState.FAILED,
    "MetricsUnavailable": OutcomeState.METRICS_UNAVAILABLE,
    "Killed": OutcomeState.KILLED,
    "EarlyStopped": OutcomeState.EARLY_STOPPED,
}
_COUNTERS: Mapping[str, str] = {
    "Succeeded": "trialsSucceeded",
    "Failed": "trialsFailed",
    "MetricsUnavailable": "trialMetricsUnavailable",
    "Killed": "trialsKilled",
    "EarlyStopped": "trialsEarlyStopped",
    "Created": "trialsPending",
    "Running": "trialsRunning",
}
_LISTS: Mapping[str, str] = {
    "Succeeded": "succeededTrialList",
    "Failed": "failedTrialList",
    "MetricsUnavailable": "metricsUnavailableTrialList",
    "Killed": "killedTrialList",
    "EarlyStopped": "earlyStoppedTrialList",
}
_LISTED = 100
"""How many names each list of finished trials keeps."""


@dataclass(frozen=True, slots=True)
class Ending:
    """All that is left of a run: the objects, the jobs that still run, how often each trial lost
    its job, how many such losses are forgiven, and whether attempts were interrupted as well."""

    scenario: Scenario
    books: Books
    running: Sequence[tuple[str, int]]
    losses: Mapping[str, int]
    lost_retries: int
    was_paused: bool = False


def judge(ending: Ending) -> list[Violation]:
    """Every broken rule of a run that is over."""
    experiment, suggestion = ending.books.only("Experiment"), ending.books.only("Suggestion")
    early = ending.books.was_stopped or ending.scenario.deadline is not None
    if suggestion is None and experiment is not None and early:
        # It ended before anything was begun.
        return [Violation("G5", "trials without a suggestion")] if ending.books.trials() else []
    if experiment is None or suggestion is None:
        return [Violation("G5", "the experiment or its suggestion is gone")]
    found = [
        *_leftovers(ending),
        *(what for trial in ending.books.trials() for what in _trial(ending, trial, experiment)),
        *counters(ending.books, experiment),
        *(() if ending.books.deleted_by_hand else _by_record(ending, experiment)),
    ]
    return [Violation(rule, what) for rule, what in found]


def canonical(books: Books) -> Json:
    """The final state without times, uids and attempts, for comparison. Of a trial's conditions
    only the last counts: one that ended while nobody looked was never seen running."""
    experiment, suggestion = books.only("Experiment") or {}, books.only("Suggestion") or {}
    status = {**experiment.get("status", {})}
    best = status.pop("currentOptimalTrial", None)
    kept = {k: v for k, v in status.items() if k.startswith("trial") or k.endswith("List")}
    return {
        "state": [_shown(condition) for condition in conditions_of(experiment)[-1:]],
        "counts": kept,
        "progress": status.get("progress"),
        "best": best and (best["bestTrialName"], best["parameterAssignments"]),
        "suggestion": [state_of(suggestion), suggestion.get("status", {}).get("suggestionCount")],
        "asked": suggestion.get("spec", {}).get("requests"),
        "trials": [_canonical_trial(trial) for trial in books.trials()],
    }


def _shown(condition: Json) -> tuple[str, str, str, str]:
    return condition["type"], condition["status"], condition["reason"], condition["message"]


def _canonical_trial(trial: Json) -> Json:
    return {
        "name": trial["metadata"]["name"],
        "ordinal": ordinal_of(trial),
        "batch": trial["metadata"]["annotations"].get(names.ANNOTATION_BATCH),
        "parameters": assignment_of(trial["spec"]),
        "run": trial["spec"]["runSpec"],
        "state": [_shown(condition) for condition in conditions_of(trial)[-1:]],
        "observation": {k: v for k, v in _observed(trial).items() if k != ATTEMPT_METRIC},
    }


def differences(a: object, b: object, path: str = "") -> list[str]:
    """Where two canonical states differ."""
    if isinstance(a, dict) and isinstance(b, dict):
        keys = [*a, *(key for key in b if key not in a)]
        return [d for k in keys for d in differences(a.get(k), b.get(k), f"{path}.{k}")]
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        pairs = zip(a, b, strict=True)
        return [d for i, (x, y) in enumerate(pairs) for d in differences(x, y, f"{path}[{i}]")]
    return [] if a == b else [f"{path} is {a}, undisturbed {b}"]


# ---- one by one ---------------------------------------------------------------------------------

_Found = Iterator[tuple[str, str]]


def _leftovers(ending: Ending) -> _Found:
    for uid, attempt in ending.running:
        yield "G5", f"attempt {attempt} of trial {uid} still runs"
    for obj in ending.books.removed:
        if obj["kind"] == "Trial" and ordinal_of(obj) in ending.books.deleted_by_hand:
            continue
        yield "G2", f"{obj['kind']} {obj['metadata']['name']} was deleted"


def _observed(trial: Json) -> dict[str, tuple[str, str, str]]:
    metrics = ((trial.get("status") or {}).get("observation") or {}).get("metrics") or []
    return {m["name"]: (m["min"], m["max"], m["latest"]) for m in metrics}


def _trial(ending: Ending, trial: Json, experiment: Json) -> _Found:
    name, state = trial["metadata"]["name"], state_of(trial)
    losses = ending.losses.get(trial["metadata"]["uid"], 0)
    lost = losses > ending.lost_retries
    attempts = run_of(trial).get("attempt", 0)
    fate = "Failed" if lost else ending.scenario.fate(ordinal_of(trial))
    if state == "Killed":
        if _reason(experiment).endswith("MaxTrialsReached") and not ending.books.was_stopped:
            yield "G3", f"{name} was killed though nothing ended its experiment early"
        if run_of(trial).get("lost", 0) > losses:
            yield "G1", f"{name} has lost {run_of(trial)} after {losses} losses"
        return
    if state == "EarlyStopped":
        if not ending.scenario.may_be_stopped(assignment_of(trial["spec"])):
            yield "G3", f"{name} was stopped though nothing was wrong with it"
        return
    if _reason(trial) == "TrialDeadlineExceeded":
        if not ending.scenario.may_run_too_long(ordinal_of(trial)):
            yield "G7", f"{name} was stopped before its time was over"
        return
    if state != fate:
        yield "G3", f"{name} is {state}, its job says {fate}"
    forgiven, counted = min(losses, ending.lost_retries), run_of(trial).get("lost", 0)
    # An attempt that is lost while it is being interrupted counts as interrupted.
    if counted > forgiven or (counted < forgiven and not ending.was_paused):
        yield "G1", f"{name} has lost {run_of(trial)} after {losses} losses"
    if attempts != 1 + forgiven and not ending.was_paused:
        yield "G1", f"{name} is at attempt {attempts} after {losses} losses"
    if state == "Succeeded":
        yield from _figures(trial, name, attempts)


def _figures(trial: Json, name: str, attempts: int) -> _Found:
    printed = figures(assignment_of(trial["spec"]))
    observed = _observed(trial)
    said = {
        OBJECTIVE: float(observed[OBJECTIVE][0]) if OBJECTIVE in observed else None,
        "accuracy": float(observed["accuracy"][1]) if "accuracy" in observed else None,
    }
    if said != printed:
        yield "G3", f"{name} printed {printed} and shows {said}"
    wanted = (repr(float(attempts)),) * 3
    if observed.get(ATTEMPT_METRIC) != wanted:
        yield "G1", f"{name} shows rows of attempts {observed.get(ATTEMPT_METRIC)}"


def _reason(obj: Json) -> str:
    return str(conditions_of(obj)[-1]["reason"])


def counters(books: Books, experiment: Json) -> _Found:
    """Where the experiment's status counts or lists other trials than there are."""
    status, trials = experiment["status"], books.trials()
    by_state: dict[str, list[str]] = {}
    for trial in trials:
        by_state.setdefault(state_of(trial), []).append(trial["metadata"]["name"])
    for state, counter in _COUNTERS.items():
        if status.get(counter, 0) != len(by_state.get(state, [])):
            yield "G3", f"{counter} is {status.get(counter, 0)}: {by_state.get(state, [])}"
    for state, listed in _LISTS.items():
        if status.get(listed, []) != by_state.get(state, [])[-_LISTED:]:
            yield "G3", f"{listed} is {status.get(listed)}, not {by_state.get(state, [])}"
    if status.get("trials", 0) != len(trials):
        yield "G3", f"trials is {status.get('trials')}, there are {len(trials)}"


def _by_record(ending: Ending, experiment: Json) -> _Found:
    """What can be told from the trials only as long as nobody took one away."""
    ordinals = [ordinal_of(trial) for trial in ending.books.trials()]
    if ordinals != list(range(len(ordinals))):
        yield "G2", f"trials have the ordinals {ordinals}"
    yield from _best(ending, experiment)
    yield from _end(ending, experiment)
    yield from _replay(ending, experiment)


def _best(ending: Ending, experiment: Json) -> _Found:
    shown = experiment["status"].get("currentOptimalTrial") or {}
    values = [
        (value, ordinal_of(trial), trial)
        for trial in ending.books.trials()
        if (value := _objective(trial)) is not None
    ]
    if not values:
        if shown:
            yield "G3", f"{shown['bestTrialName']} is shown as the best though none succeeded"
        return
    value, _, best = min(values, key=lambda entry: entry[:2])
    if shown.get("bestTrialName") != best["metadata"]["name"]:
        yield "G3", f"the best is {best['metadata']['name']} at {value}, shown is {shown}"
    elif assignment_of(shown) != assignment_of(best["spec"]):
        yield "G3", f"the best is shown with other parameters: {shown}"


def _end(ending: Ending, experiment: Json) -> _Found:
    trials, scenario, budget = ending.books.trials(), ending.scenario, ending.books.budget
    reason = _reason(experiment)
    failed = sum(state_of(trial) in ("Failed", "MetricsUnavailable") for trial in trials)
    reached = scenario.goal is not None and any(
        value <= scenario.goal for trial in trials if (value := _objective(trial)) is not None
    )
    true = {
        "ExperimentGoalReached": reached,
        "ExperimentFailed": bool(scenario.max_failed) and failed >= (scenario.max_failed or 0),
        "ExperimentMaxTrialsReached": len(trials) == budget,
        "ExperimentStopped": ending.books.was_stopped,
        "ExperimentDeadlineReached": scenario.deadline is not None,
        "ExperimentSuggestionEndReached": scenario.points is not None
        and len(trials) == max(scenario.points, scenario.enqueued),
    }
    if not true.get(reason, False):
        yield "G3", f"the experiment ended with {reason}, which is not so"
    if reason == "ExperimentMaxTrialsReached" and len(ending.books.assigned) != len(trials):
        yield "G2", f"{len(ending.books.assigned)} assignments became {len(trials)} trials"


# ---- replaying the records ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Batch:
    """The recorded inputs of a request, from the annotation of its trials."""

    first: int
    count: int
    pending: tuple[int, ...]
    recorded: str
    version: str


def _batch(trial: Json) -> _Batch:
    record = json.loads(trial["metadata"]["annotations"][names.ANNOTATION_BATCH])
    pending = tuple(record["pending"])
    return _Batch(
        record["first"], record["count"], pending, record.get("recorded", ""), record["version"]
    )


def _replay(ending: Ending, experiment: Json) -> _Found:
    """G3: from the records alone, the algorithm proposes the very same assignments."""
    suggestion = ending.books.only("Suggestion")
    if suggestion is None:
        return
    trials = {ordinal_of(trial): trial for trial in ending.books.trials()}
    batches = {batch.first: batch for batch in map(_batch, trials.values())}
    seed = int(suggestion["status"]["seed"])
    parsed = Experiment.parse(experiment)
    problem = problem_of(parsed, experiment["metadata"]["uid"], seed)
    recorded, wished = "", ending.scenario.wished()
    for first in sorted(batches):
        batch = batches[first]
        if batch.version == "enqueued":
            expected = wished[: batch.count]
            del wished[: batch.count]
        else:
            expected = propose(problem, trials, batch.first, batch.count, batch.pending, recorded)
        recorded = batch.recorded or recorded
        for ordinal, point in enumerate(expected, first):
            trial = trials.get(ordinal)
            if trial is not None and assignment_of(trial["spec"]) != point:
                name, shown = trial["metadata"]["name"], assignment_of(trial["spec"])
                yield "G3", f"{name} has {shown}, a replay of its batch {batch} gives {point}"


def propose(
    problem: Problem,
    trials: Mapping[int, Json],
    first: int,
    count: int,
    pending: Collection[int],
    recorded: str,
) -> list[dict[str, str]]:
    """What the algorithm proposes when it is told every lower ordinal but the pending ones."""
    algorithm = sensitive.registry().find(problem.algorithm)
    history = History(
        tuple(_outcome(problem, k, trials[k]) for k in range(first) if k not in pending),
        tuple(Pending(k, _values(problem, trials[k])) for k in sorted(pending)),
    )
    found = algorithm.suggest(problem, history, range(first, first + count), recorded)
    return (
        [] if isinstance(found, Exhausted) else [problem.space.texts(a) for a in found.assignments]
    )


def _objective(trial: Json) -> float | None:
    """What a trial that has ended says of itself: all of it, or what it printed until its stop."""
    if state_of(trial) == "Succeeded":
        return figures(assignment_of(trial["spec"]))[OBJECTIVE]
    observed = _observed(trial)
    if state_of(trial) != "EarlyStopped" or OBJECTIVE not in observed:
        return None
    return float(observed[OBJECTIVE][0])


def _values(problem: Problem, trial: Json) -> Mapping[str, int | float | str]:
    return problem.space.values(assignment_of(trial["spec"]))


def _outcome(problem: Problem, ordinal: int, trial: Json) -> Outcome:
    state = _OUTCOMES[state_of(trial)]
    said: dict[str, float] = {}
    if state is OutcomeState.EARLY_STOPPED:
        said = {OBJECTIVE: value} if (value := _objective(trial)) is not None else {}
    if state is OutcomeState.SUCCEEDED:
        said = dict(figures(assignment_of(trial["spec"])))
        said[ATTEMPT_METRIC] = float(run_of(trial)["attempt"])
    return Outcome(ordinal, _values(problem, trial), state, said)
