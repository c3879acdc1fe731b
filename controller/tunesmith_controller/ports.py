# SPDX-License-Identifier: Apache-2.0
"""Everything a decision may touch. Reconcilers import this module and never an adapter.

Objects are plain JSON dicts with Kubernetes' shape; adapters pass the contract suites of
`testing.py`. Every call may fail with a `PortError` before or after it took effect, so callers
are written to be repeated.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from tunesmith_api.errors import (
    AlreadyExists,
    Conflict,
    Expired,
    Invalid,
    NotFound,
    PortError,
    Unavailable,
)
from tunesmith_api.observations import (
    Acknowledged,
    ObservationLog,
    Report,
    SourceKey,
    SourceNotes,
    SourceState,
)
from tunesmith_api.problem import History, Problem
from tunesmith_api.stopping import StopDecision, StopProblem

__all__ = [
    "Acknowledged",
    "AlgorithmHost",
    "AlreadyExists",
    "Ask",
    "CachedObjects",
    "Change",
    "Clock",
    "Conflict",
    "Endpoint",
    "Events",
    "Expired",
    "HostFailed",
    "Invalid",
    "JobAbsent",
    "JobLost",
    "JobPresent",
    "JobState",
    "JobWaiting",
    "Json",
    "Key",
    "NotFound",
    "NotReady",
    "ObjectList",
    "ObjectStore",
    "ObservationLog",
    "PortError",
    "Ports",
    "Report",
    "Rng",
    "SearchEnded",
    "SourceKey",
    "SourceNotes",
    "SourceState",
    "StopDecision",
    "StopProblem",
    "StoppingRules",
    "Suggested",
    "SuggestionClient",
    "TrialRun",
    "Unavailable",
    "WatchEvent",
    "Workloads",
]

Json = dict[str, Any]

# ---- objects ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Key:
    """The address of an object. `kind` is "Experiment", "Suggestion", "Trial", ..."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"


class Change(StrEnum):
    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One change. For BOOKMARK only metadata.resourceVersion is meaningful."""

    change: Change
    object: Json


@dataclass(frozen=True, slots=True)
class ObjectList:
    """A consistent list, and the resourceVersion from which a watch continues it."""

    items: list[Json]
    resource_version: str


class ObjectStore(Protocol):
    """Kubernetes semantics: uid, resourceVersion, generation, status subresource, finalizers,
    owner cascade, watch. Returned dicts belong to the caller (pass by value)."""

    async def create(self, obj: Json) -> Json:
        """Stores a new object with uid, creationTimestamp, resourceVersion, generation 1; a status
        in the body is kept (embedded kinds are created by us). Raises AlreadyExists, Invalid."""
        ...

    async def get(self, key: Key) -> Json:
        """The newest state. Raises NotFound."""
        ...

    async def list(
        self, kind: str, *, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> ObjectList:
        """All objects of a kind (in a namespace), whose labels include `labels`."""
        ...

    async def update(self, obj: Json) -> Json:
        """Replaces metadata (labels, annotations, finalizers, ownerReferences) and everything but
        status. With metadata.resourceVersion set, raises Conflict when it is not current; a
        different uid is a Conflict too. No change: nothing is written, no event, same
        resourceVersion. generation grows when anything but metadata and status changed. Removing
        the last finalizer of an object under deletion removes it. Raises NotFound, Conflict,
        Invalid."""
        ...

    async def update_status(self, obj: Json) -> Json:
        """Replaces status only; otherwise as update."""
        ...

    async def patch(self, key: Key, patch: Json, *, status: bool = False) -> Json:
        """JSON merge patch (RFC 7386) of the main part or, with status, of status only.
        metadata.resourceVersion in the patch is a precondition. Raises as update."""
        ...

    async def delete(
        self, key: Key, *, uid: str | None = None, resource_version: str | None = None
    ) -> None:
        """With finalizers: sets deletionTimestamp (once). Without: removes it, then, in the
        background order of Kubernetes, deletes objects whose only owners are gone. Raises
        NotFound, Conflict."""
        ...

    def watch(
        self, kind: str, *, namespace: str | None = None, resource_version: str = ""
    ) -> AsyncIterator[WatchEvent]:
        """Every later change in order, then waits for more; "" starts with ADDED for all that
        exists. Bookmarks may come at any time. Raises Expired, Unavailable."""
        ...


class CachedObjects(Protocol):
    """Reads from a local copy that may be stale but is never half-written."""

    def get(self, key: Key) -> Json | None:
        """The object, or None; the caller treats it as frozen."""
        ...

    def of_experiment(self, kind: str, namespace: str, experiment: str) -> list[Json]:
        """Objects of a kind that carry an experiment's label, whoever owns them; frozen."""
        ...


# ---- workloads ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TrialRun:
    """One attempt of a trial, as told to Workloads. `spec` is the substituted job object;
    `context` is what the submitter recorded (annotations: folder, interpreter path); `filters`
    are the expressions that find metrics in its output, none for Katib's default."""

    trial: Key
    trial_uid: str
    attempt: int
    spec: Json
    primary_container: str
    metrics: Sequence[str] = ()
    filters: Sequence[str] = ()
    context: Mapping[str, str] = field(default_factory=dict)
    collector: str = "StdOut"
    """Katib's collector kind; File reads `metrics_path`, which the program writes."""
    metrics_path: str = ""
    metrics_format: str = "TEXT"
    parent_uid: str = ""
    """The trial whose checkpoint directory this one starts from; none when empty."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """The trial's own, which its job and its pods carry too."""
    primary_pod_labels: Mapping[str, str] = field(default_factory=dict)
    """What marks, of a job with several pods, those whose output counts; all when empty."""
    retain: bool = False
    """The job stays when the attempt is released; it goes with its Trial."""


@dataclass(frozen=True, slots=True)
class JobAbsent:
    """No job of this attempt exists or ever reported."""


@dataclass(frozen=True, slots=True)
class JobWaiting:
    """The job is accepted and waits; `reason` is for people: "waiting for 2 CPUs (1 of 4 free)"."""

    reason: str


@dataclass(frozen=True, slots=True)
class JobPresent:
    """The job as an object: success and failure conditions are evaluated on `manifest`.

    `foreseen` is the job as it will be in a moment, told ahead where all that runs in it has ended
    well and nothing can keep it from succeeding; None otherwise. It runs as long as `manifest`
    says so."""

    uid: str
    manifest: Json
    foreseen: Json | None = None


@dataclass(frozen=True, slots=True)
class JobLost:
    """The job was started and its end can no longer be known."""

    reason: str


JobState = JobAbsent | JobWaiting | JobPresent | JobLost


class Workloads(Protocol):
    """Runs attempts. All calls are idempotent and keyed by (trial uid, attempt)."""

    async def ensure(self, run: TrialRun) -> JobState:
        """Starts the attempt unless it was started before. Raises Invalid with a sentence for the
        user when it can never start, Unavailable otherwise."""
        ...

    async def observe(self, run: TrialRun) -> JobState: ...

    async def stop(self, run: TrialRun) -> None:
        """Begins to end the whole process tree (grace period, then by force) and returns at once.
        Stopping what never started forbids its start. Nothing happens when it has ended."""
        ...

    async def release(self, run: TrialRun) -> None:
        """Forgets an ended attempt and frees what it holds; its output may be deleted."""
        ...

    async def sweep(self, trial: Key, trial_uid: str) -> None:
        """Lets go what is left of a trial that is on record as released, but for what is to stay.
        Costs nothing where nothing is."""
        ...

    async def remove(self, trial_uid: str) -> None:
        """Deletes what is kept of a trial (output, records) once everything of it has ended."""
        ...

    def changed(self) -> AsyncIterator[Key]:
        """Trials whose state may have changed; hints only, the caller also polls."""
        ...


# ---- suggestions --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the service of an experiment answers: a gRPC target such as unix:/path or host:port."""

    target: str


@dataclass(frozen=True, slots=True)
class NotReady:
    reason: str


@dataclass(frozen=True, slots=True)
class HostFailed:
    """The service cannot be had at all; `reason` becomes the Suggestion's Failed message."""

    reason: str


class AlgorithmHost(Protocol):
    """Keeps a suggestion service running for each Suggestion that needs one."""

    async def ensure(self, suggestion: Key, algorithm: str) -> Endpoint | NotReady | HostFailed: ...

    async def release(self, suggestion: Key) -> None: ...


@dataclass(frozen=True, slots=True)
class Ask:
    """A suggestion request; `request_id` names it: the same id has the same inputs for ever."""

    request_id: str
    problem: Problem
    history: History
    first_ordinal: int
    count: int
    recorded: str = ""


@dataclass(frozen=True, slots=True)
class Suggested:
    """Texts by parameter name, one mapping an ordinal from first_ordinal on."""

    assignments: Sequence[Mapping[str, str]]
    algorithm_version: str = ""
    recorded: str = ""


@dataclass(frozen=True, slots=True)
class SearchEnded:
    reason: str


class SuggestionClient(Protocol):
    """The wire as Python calls. Both raise Unavailable; Invalid when the service refuses."""

    async def validate(self, endpoint: Endpoint, problem: Problem) -> Sequence[str]:
        """What is wrong with the problem; empty when nothing is."""
        ...

    async def suggest(self, endpoint: Endpoint, ask: Ask) -> Suggested | SearchEnded: ...


# ---- early stopping -----------------------------------------------------------------------------


class StoppingRules(Protocol):
    """Rules that judge running trials. Pure and quick (well under a millisecond): no reconciler
    waits for them. Raise LookupError for a rule that does not exist."""

    def validate(self, problem: StopProblem) -> Sequence[str]:
        """What is wrong with name or settings; empty when nothing is."""
        ...

    def digest(self, problem: StopProblem, curve: Sequence[float]) -> Sequence[float]:
        """What the rule will ever look at of an ended trial's curve; empty when nothing."""
        ...

    def judge(
        self, problem: StopProblem, curve: Sequence[float], peers: Sequence[Sequence[float]]
    ) -> StopDecision:
        """Whether a running trial should stop: its values so far, and its peers' digests."""
        ...


# ---- time, chance, people -----------------------------------------------------------------------


class Clock(Protocol):
    """`now` is UTC wall time, for people; waiting uses the event loop's monotonic time."""

    def now(self) -> datetime: ...


class Rng(Protocol):
    """Chance: a seed for an experiment that has none, jitter for backoff."""

    def seed(self) -> int:
        """A 63-bit number."""
        ...

    def uid(self) -> str: ...

    def jitter(self) -> float:
        """In [0, 1)."""
        ...


class Events(Protocol):
    """What people are told; never decides anything and never raises."""

    def record(self, about: Json, type_: str, reason: str, message: str) -> None:
        """`type_` is Normal or Warning."""
        ...


@dataclass(frozen=True, slots=True)
class Ports:
    """One world: everything that the manager and its reconcilers are given."""

    store: ObjectStore
    workloads: Workloads
    host: AlgorithmHost
    suggestions: SuggestionClient
    observations: ObservationLog
    clock: Clock
    rng: Rng
    events: Events
    stopping: StoppingRules
