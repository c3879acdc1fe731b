# SPDX-License-Identifier: Apache-2.0
"""What must hold in every state of the store: a ledger that reads each change and checks it.

Rules are named after the guarantees: G1 identity, G2 assignments, G3 convergence, G5 liveness,
G7 limits, G9 suggestions, G10 writes. It reads JSON and shares no code with the reconcilers but
names and transition tables. `world` feeds it; `verdict` adds what must hold at the end.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from scenarios import Scenario

from tunesmith_api import names
from tunesmith_api.conditions import (
    EXPERIMENT_TRANSITIONS,
    SUGGESTION_TRANSITIONS,
    TRIAL_TRANSITIONS,
    ExperimentState,
    SuggestionState,
    TrialState,
)
from tunesmith_controller.ports import Change, Json, TrialRun
from tunesmith_controller.stores.semantics import FIRST_VERSION
from tunesmith_controller.stores.watching import Entry, History

_TABLES: Final[Mapping[str, Mapping[str, frozenset[str]]]] = {
    "Trial": {str(k): frozenset(map(str, v)) for k, v in TRIAL_TRANSITIONS.items()},
    "Experiment": {str(k): frozenset(map(str, v)) for k, v in EXPERIMENT_TRANSITIONS.items()},
    "Suggestion": {str(k): frozenset(map(str, v)) for k, v in SUGGESTION_TRANSITIONS.items()},
}
_ENDS: Final[Mapping[str, frozenset[str]]] = {
    "Trial": frozenset(str(s) for s in TrialState if s.is_terminal),
    "Experiment": frozenset(str(s) for s in ExperimentState if s.is_terminal),
    "Suggestion": frozenset(str(s) for s in SuggestionState if s.is_terminal),
}
_TIMES: Final = frozenset(
    {
        "lastReconcileTime",
        "lastUpdateTime",
        "lastTransitionTime",
        "startTime",
        "completionTime",
        "resourceVersion",
    }
)


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken rule, and the number of the last step before it was seen."""

    rule: str
    what: str
    step: int = 0

    def __str__(self) -> str:
        return f"{self.rule} after step {self.step}: {self.what}"


# ---- reading objects ----------------------------------------------------------------------------


def conditions_of(obj: Json) -> list[Json]:
    return (obj.get("status") or {}).get("conditions") or []


def state_of(obj: Json) -> str:
    """The type of the last condition."""
    conditions = conditions_of(obj)
    return conditions[-1]["type"] if conditions else "Pending"


def has_ended(obj: Json) -> bool:
    return state_of(obj) in _ENDS[obj["kind"]]


def run_of(trial: Json) -> Json:
    """What is on record; a new Trial is its first attempt."""
    return (trial.get("status") or {}).get("run") or {"attempt": 1}


def ordinal_of(trial: Json) -> int:
    """Raises KeyError or ValueError for a Trial without one."""
    return int(trial["metadata"]["annotations"][names.ANNOTATION_ORDINAL])


def assignment_of(holder: Json) -> dict[str, str]:
    """Parameters of a Trial's spec or of an entry of a Suggestion's status."""
    return {p["name"]: p["value"] for p in holder["parameterAssignments"]}


def is_same_but_for_times(a: Any, b: Any) -> bool:
    """Whether two JSON values differ in nothing but in when."""
    if a == b:
        return True
    if isinstance(a, dict) and isinstance(b, dict):
        names_ = (a.keys() | b.keys()) - _TIMES
        return all(is_same_but_for_times(a.get(name), b.get(name)) for name in names_)
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return all(map(is_same_but_for_times, a, b))
    return False


# ---- the ledger ---------------------------------------------------------------------------------


@dataclass(slots=True)
class Books:
    """What the ledger remembers: the newest state of every object, and what must never change."""

    objects: dict[str, Json] = field(default_factory=dict)
    removed: list[Json] = field(default_factory=list)
    trial_uids: dict[tuple[str, int], str] = field(default_factory=dict)
    assigned: dict[int, tuple[str, dict[str, str]]] = field(default_factory=dict)
    starts: set[tuple[str, int]] = field(default_factory=set)
    deleted_by_hand: set[int] = field(default_factory=set)
    writes: int = 0
    parallel: int = 0
    budget: int = 0
    was_stopped: bool = False

    def of_kind(self, kind: str) -> list[Json]:
        return [obj for obj in self.objects.values() if obj["kind"] == kind]

    def trials(self) -> list[Json]:
        return sorted(self.of_kind("Trial"), key=ordinal_of)

    def only(self, kind: str) -> Json | None:
        found = self.of_kind(kind)
        return found[0] if found else None


class Ledger:
    """Checks every change of a store's history, in order, against what was before."""

    def __init__(
        self,
        history: History,
        scenario: Scenario,
        step: Callable[[], int],
        *,
        late_words: bool = False,
    ) -> None:
        """late_words: something decided earlier may still be done later, by a second controller or
        by a call that was long under way."""
        self.books = Books()
        self.late_words = late_words
        self.violations: list[Violation] = []
        self._history = history
        self._position = FIRST_VERSION
        self._scenario = scenario
        self._step = step

    def violated(self, rule: str, what: str) -> None:
        self.violations.append(Violation(rule, what, self._step()))

    def catch_up(self) -> None:
        """Reads the changes since the last time."""
        while entries := self._history.after(self._position):
            for entry in entries:
                self._position = entry.version
                self._read(entry)

    def settled(self) -> bool:
        """Whether nothing is left to be done: all has ended and every job is let go."""
        books = self.books
        tops = [*books.of_kind("Experiment"), *books.of_kind("Suggestion")]
        return (
            bool(tops)
            and all(has_ended(top) or _goes_on(top) for top in tops)
            and all(_is_done(trial) for trial in books.trials())
        )

    # ---- jobs and questions ---------------------------------------------------------------------

    def job_started(self, run: TrialRun) -> None:
        """A job has been started; called in that instant."""
        self.catch_up()
        attempt = (run.trial_uid, run.attempt)
        if attempt in self.books.starts:
            self.violated("G1", f"attempt {run.attempt} of {run.trial.name} was started twice")
        self.books.starts.add(attempt)
        trial = self.books.objects.get(run.trial_uid)
        if trial is None:
            self.violated("G1", f"a job of {run.trial.name} was started, which does not exist")
        elif run_of(trial).get("attempt") != run.attempt:
            recorded = run_of(trial).get("attempt")
            what = f"{run.trial.name}: attempt {run.attempt} runs but {recorded} is recorded"
            self.violated("G1", what)
        elif has_ended(trial) and not self._may_come_late(trial):
            self.violated("G1", f"{run.trial.name} is {state_of(trial)} and its job was started")

    # ---- changes --------------------------------------------------------------------------------

    def _read(self, entry: Entry) -> None:
        obj: Json = json.loads(entry.text)
        uid = obj["metadata"]["uid"]
        before = self.books.objects.get(uid)
        self.books.writes += 1
        if entry.change is Change.DELETED:
            self.books.removed.append(self.books.objects.pop(uid))
            return
        self.books.objects[uid] = obj
        if before is None:
            self._check_new(obj)
        elif is_same_but_for_times(before, obj):
            self.violated("G10", f"{_name(obj)} was written without a change")
        self._check_conditions(before, obj)
        self._check_kept(before, obj)
        match obj["kind"]:
            case "Trial":
                self._check_trials(before, obj)
            case "Suggestion":
                self._check_suggestion(before, obj)
            case "Experiment":
                self._check_experiment(before, obj)

    def _check_new(self, obj: Json) -> None:
        if obj["kind"] == "Trial":
            self._check_new_trial(obj)
        elif len(self.books.of_kind(obj["kind"])) > 1:
            self.violated("G1", f"a second {obj['kind']} appeared: {_name(obj)}")

    def _may_come_late(self, trial: Json) -> bool:
        """A start that another controller had under way when the trial was killed; it is stopped
        then, which is checked at the end."""
        return self.late_words and state_of(trial) == "Killed"

    def _check_new_trial(self, trial: Json) -> None:
        metadata, ordinal = trial["metadata"], ordinal_of(trial)
        owner = metadata["ownerReferences"][0]["uid"]
        earlier = self.books.trial_uids.get((owner, ordinal))
        is_again = ordinal in self.books.deleted_by_hand and earlier not in self.books.objects
        if earlier is not None and not is_again:
            self.violated("G1", f"ordinal {ordinal} became a second Trial, {metadata['name']}")
        self.books.trial_uids[owner, ordinal] = metadata["uid"]
        assigned = self.books.assigned.get(ordinal)
        if assigned is None:
            self.violated("G2", f"{metadata['name']} was created from an assignment never stored")
        elif assigned != (metadata["name"], assignment_of(trial["spec"])):
            self.violated("G2", f"{metadata['name']} differs from the assignment {ordinal}")
        experiment = self.books.objects.get(owner)
        is_over = experiment is None or has_ended(experiment)
        if is_over and not self.late_words:
            self.violated("G7", f"{metadata['name']} was created after its experiment's end")
        if len(self.books.trial_uids) > self.books.budget:
            self.violated("G7", f"{metadata['name']} is more than maxTrialCount")

    def _check_conditions(self, before: Json | None, obj: Json) -> None:
        conditions = conditions_of(obj)
        types = [condition["type"] for condition in conditions]
        if len(set(types)) < len(types):
            self.violated("G3", f"{_name(obj)} has a condition twice: {types}")
        if conditions and conditions[-1]["status"] != "True":
            self.violated("G3", f"{_name(obj)}: the last condition is not the state: {types}")
        running = [c["status"] for c in conditions if c["type"] == "Running"]
        if has_ended(obj) and running == ["True"]:
            self.violated("G3", f"{_name(obj)} has ended and is Running")
        old = "Pending" if before is None else state_of(before)
        if not _is_legal(_TABLES[obj["kind"]], old, types):
            self.violated("G3", f"{_name(obj)} went from {old} to {types}")

    def _check_kept(self, before: Json | None, obj: Json) -> None:
        """What nobody may change once it is there."""
        if before is None:
            return
        if obj["kind"] != "Suggestion" and _fixed_spec(before) != _fixed_spec(obj):
            self.violated("G3", f"the spec of {_name(obj)} was changed")
        kept = ("name", "namespace", "uid", "labels", "annotations", "ownerReferences")
        for name in kept:
            if _kept(before, name) != _kept(obj, name):
                self.violated("G3", f"metadata.{name} of {_name(obj)} was changed")

    def _check_trials(self, before: Json | None, trial: Json) -> None:
        active = [t["metadata"]["name"] for t in self.books.of_kind("Trial") if not has_ended(t)]
        # One that a person deletes is created again, maybe before the others are seen.
        if len(active) > self.books.parallel + len(self.books.deleted_by_hand):
            self.violated("G7", f"{len(active)} trials are active: {', '.join(active)}")
        old = {} if before is None else run_of(before)
        attempt, was = run_of(trial).get("attempt", 0), old.get("attempt", 0)
        if not was <= attempt <= was + 1:
            self.violated("G1", f"{_name(trial)} went from attempt {was} to {attempt}")
        if before is not None and has_ended(before) and _verdict(before) != _verdict(trial):
            self.violated("G3", f"{_name(trial)} changed after its end")

    def _check_suggestion(self, before: Json | None, suggestion: Json) -> None:
        status = suggestion.get("status") or {}
        old = {} if before is None else (before.get("status") or {})
        for entry in status.get("suggestions") or []:
            self._check_assignment(entry)
        count = status.get("suggestionCount", 0)
        if count != len(self.books.assigned):
            what = f"suggestionCount is {count}, {len(self.books.assigned)} were stored so far"
            self.violated("G2", what)
        if old.get("seed") not in (None, "", status.get("seed")):
            self.violated("G9", f"the recorded seed was changed to {status.get('seed')}")
        requests = suggestion["spec"].get("requests", 0)
        if requests > self.books.budget:
            self.violated("G7", f"{requests} assignments are wanted, {self.books.budget} may")
        if before is not None and requests < before["spec"].get("requests", 0):
            self.violated("G3", f"requests went down to {requests}")

    def _check_assignment(self, entry: Json) -> None:
        ordinal, found = entry["ordinal"], (entry["name"], assignment_of(entry))
        known = self.books.assigned.get(ordinal)
        if known is None:
            if ordinal != len(self.books.assigned):
                self.violated("G2", f"ordinal {ordinal} follows {len(self.books.assigned) - 1}")
            self.books.assigned[ordinal] = found
        elif known != found:
            self.violated("G2", f"the assignment of ordinal {ordinal} was changed")

    def _check_experiment(self, before: Json | None, experiment: Json) -> None:
        """Counters go up; but a second controller may be behind, and people may take away."""
        spec, annotations = experiment["spec"], experiment["metadata"].get("annotations") or {}
        self.books.parallel = max(self.books.parallel, spec["parallelTrialCount"])
        self.books.budget = max(self.books.budget, spec["maxTrialCount"])
        self.books.was_stopped |= names.ANNOTATION_STOPPED in annotations
        status = experiment.get("status") or {}
        old = {} if before is None else (before.get("status") or {})
        for counter in ("trialsSucceeded", "trialsFailed", "trialMetricsUnavailable"):
            fewer = status.get(counter, 0) < old.get(counter, 0)
            excused = self.books.deleted_by_hand or self.late_words
            if fewer and not excused:
                self.violated("G3", f"{counter} went down to {status.get(counter, 0)}")
        if before is None or not has_ended(before) or state_of(experiment) == state_of(before):
            return
        if state_of(experiment) != "Restarting" or self._scenario.resume_policy == "Never":
            self.violated("G3", f"the experiment left {state_of(before)}")


def _is_done(trial: Json) -> bool:
    """Whether nothing more will happen to a Trial."""
    is_going = "deletionTimestamp" in trial["metadata"]
    return has_ended(trial) and bool(run_of(trial).get("released")) and not is_going


def _kept(obj: Json, name: str) -> object:
    """A field of metadata, without what a person may change: annotations that pause and stop."""
    value = obj["metadata"].get(name)
    if name != "annotations":
        return value
    wishes = (names.ANNOTATION_PAUSED, names.ANNOTATION_STOPPED)
    return {k: v for k, v in (value or {}).items() if k not in wishes}


def _fixed_spec(obj: Json) -> Json:
    """A spec without what a person may change."""
    budgets = ("parallelTrialCount", "maxTrialCount")
    return {k: v for k, v in obj["spec"].items() if k not in budgets}


def _goes_on(obj: Json) -> bool:
    """A Suggestion that never ends: its experiment can be taken up again at any time."""
    return bool(obj["kind"] == "Suggestion" and obj["spec"].get("resumePolicy") == "LongRunning")


def _name(obj: Json) -> str:
    return f"{obj['kind']} {obj['metadata']['name']}"


def _verdict(trial: Json) -> object:
    status = trial["status"]
    return status["conditions"], status.get("observation"), run_of(trial).get("attempt")


def _is_legal(table: Mapping[str, frozenset[str]], old: str, types: list[str]) -> bool:
    """Whether the conditions that follow `old` are a path of the table."""
    if not types:
        return old == "Pending"
    if old not in types and types[-1] in table[old]:
        # Taken up again: the condition of the end is dropped, and the last one is new.
        return True
    following = types[types.index(old) + 1 :] if old in types else types
    path = [old, *(type_ for type_ in following if type_ in table)]
    return all(b in table[a] for a, b in pairwise(path))
