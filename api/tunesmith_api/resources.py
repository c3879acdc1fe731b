# SPDX-License-Identifier: Apache-2.0
"""Experiment, Trial and Suggestion as `kubeflow.org/v1beta1` objects: Katib's fields, and ours.

Thin frozen views on JSON: `Experiment.parse(json)` and `experiment.json()` round-trip, fields that
are unknown here included. Reconcilers, admission, the CLI and the CRD generator read these models;
stores keep the JSON. What tunesmith adds to Katib's schema is marked "ours".
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    Strict,
)
from pydantic.alias_generators import to_camel

GROUP = "kubeflow.org"
VERSION = "v1beta1"
API_VERSION = f"{GROUP}/{VERSION}"

Json = dict[str, Any]


def _aware(value: datetime) -> datetime:
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def rfc3339(value: datetime) -> str:
    """Kubernetes' text of a time: UTC, whole seconds, Z."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _text(value: object) -> object:
    """Numbers and booleans where Katib wants texts: users write `min: 0.1`."""
    if isinstance(value, bool):
        return str(value).lower()
    return (
        repr(value) if isinstance(value, float) else str(value) if isinstance(value, int) else value
    )


def _list(value: object) -> object:
    """`null` is an empty list, as in Go."""
    return () if value is None else value


Time = Annotated[datetime, AfterValidator(_aware), PlainSerializer(rfc3339)]
Text = Annotated[str, BeforeValidator(_text)]
# What people write in a spec is not converted: Katib's own models refuse `"3"` for a count.
Count = Annotated[int, Strict()]
Number = Annotated[float, Strict()]
Flag = Annotated[bool, Strict()]


class Node(BaseModel):
    """Base of every model: frozen, camelCase in JSON, unknown fields kept."""

    model_config = ConfigDict(
        frozen=True,
        extra="allow",
        alias_generator=to_camel,
        populate_by_name=True,
        serialize_by_alias=True,
        ser_json_inf_nan="strings",
    )

    @classmethod
    def parse(cls, data: object) -> Self:
        """Raises pydantic.ValidationError; `validation.read` turns it into field errors."""
        return cls.model_validate(data)

    def json(self) -> Json:  # type: ignore[override]
        """What was set, as JSON values; fields that were never set are left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)

    def with_(self, **changes: Any) -> Self:
        """A copy with some fields replaced (not validated again)."""
        return self.model_copy(update=changes)


# ---- metadata and conditions --------------------------------------------------------------------


class OwnerReference(Node):
    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool | None = None
    block_owner_deletion: bool | None = None


class Metadata(Node):
    name: str = ""
    generate_name: str | None = None
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: Time | None = None
    deletion_timestamp: Time | None = None
    labels: dict[str, Text] | None = None
    annotations: dict[str, Text] | None = None
    finalizers: Annotated[tuple[str, ...], BeforeValidator(_list)] = ()
    owner_references: Annotated[tuple[OwnerReference, ...], BeforeValidator(_list)] = ()


class Condition(Node):
    """One entry of status.conditions; the last one is the state."""

    type: str
    status: str = "True"
    reason: str = ""
    message: str = ""
    last_update_time: Time | None = None
    last_transition_time: Time | None = None


# ---- parts of the spec --------------------------------------------------------------------------


class NamedValue(Node):
    """A name and a text: algorithm settings, parameter assignments, metric strategies."""

    name: str = ""
    value: Text = ""


class FeasibleSpace(Node):
    min: Text = ""
    max: Text = ""
    step: Text = ""
    list: Annotated[tuple[Text, ...], BeforeValidator(_list)] = ()
    distribution: str = ""


class ParameterSpec(Node):
    name: str = ""
    parameter_type: str = ""
    feasible_space: FeasibleSpace = Field(default_factory=FeasibleSpace)


class ObjectiveSpec(Node):
    type: str = ""
    goal: Number | None = None
    objective_metric_name: str = ""
    additional_metric_names: Annotated[tuple[str, ...], BeforeValidator(_list)] = ()
    metric_strategies: Annotated[tuple[NamedValue, ...], BeforeValidator(_list)] = ()


class AlgorithmSpec(Node):
    """Also the shape of earlyStopping."""

    algorithm_name: str = ""
    algorithm_settings: Annotated[tuple[NamedValue, ...], BeforeValidator(_list)] = ()


class ConfigMapSource(Node):
    config_map_name: str = ""
    config_map_namespace: str = ""
    template_path: str = ""


class TrialParameterSpec(Node):
    name: str = ""
    description: str = ""
    reference: str = ""


class TrialTemplate(Node):
    retain: Flag = False
    trial_spec: Json | None = None
    config_map: ConfigMapSource | None = None
    trial_parameters: tuple[TrialParameterSpec, ...] | None = None
    primary_pod_labels: dict[str, Text] | None = None
    primary_container_name: str = ""
    success_condition: str = ""
    failure_condition: str = ""


class CollectorSpec(Node):
    kind: str = ""
    custom_collector: Json | None = None


class FileSystemPath(Node):
    path: str = ""
    kind: str = ""
    format: str = ""


class FilterSpec(Node):
    metrics_format: Annotated[tuple[str, ...], BeforeValidator(_list)] = ()


class SourceSpec(Node):
    file_system_path: FileSystemPath | None = None
    filter: FilterSpec | None = None
    http_get: Json | None = None


class MetricsCollectorSpec(Node):
    collector: CollectorSpec | None = None
    source: SourceSpec | None = None


class GraphConfig(Node):
    num_layers: Count | None = None
    input_sizes: Annotated[tuple[Count, ...], BeforeValidator(_list)] = ()
    output_sizes: Annotated[tuple[Count, ...], BeforeValidator(_list)] = ()


class Operation(Node):
    operation_type: str = ""
    parameters: Annotated[tuple[ParameterSpec, ...], BeforeValidator(_list)] = ()


class NasConfig(Node):
    graph_config: GraphConfig = Field(default_factory=GraphConfig)
    operations: Annotated[tuple[Operation, ...], BeforeValidator(_list)] = ()


class MetricFigures(Node):
    """Katib's observation of a metric; all texts, "unavailable" where there is no figure."""

    name: str
    min: Text = ""
    max: Text = ""
    latest: Text = ""


class Observation(Node):
    metrics: Annotated[tuple[MetricFigures, ...], BeforeValidator(_list)] = ()


# ---- Experiment ---------------------------------------------------------------------------------


class RunPolicy(Node):
    """Ours. Wall-clock limits in seconds, and what becomes of running trials at the end.

    `running_trials_at_end`: "Stop" (also when empty) kills them, "Finish" lets them run out, as
    Katib does.
    """

    active_deadline_seconds: Count | None = None
    trial_active_deadline_seconds: Count | None = None
    running_trials_at_end: str = ""


class EnqueuedPoint(Node):
    """Ours. A point that a person wants tried before the algorithm is asked again."""

    parameter_assignments: Annotated[tuple[NamedValue, ...], BeforeValidator(_list)] = ()


class ExperimentSpec(Node):
    parameters: Annotated[tuple[ParameterSpec, ...], BeforeValidator(_list)] = ()
    objective: ObjectiveSpec | None = None
    algorithm: AlgorithmSpec | None = None
    early_stopping: AlgorithmSpec | None = None
    trial_template: TrialTemplate | None = None
    parallel_trial_count: Count | None = None
    max_trial_count: Count | None = None
    max_failed_trial_count: Count | None = None
    metrics_collector_spec: MetricsCollectorSpec | None = None
    nas_config: NasConfig | None = None
    resume_policy: str = ""
    # ours
    run_policy: RunPolicy | None = None
    enqueued: Annotated[tuple[EnqueuedPoint, ...], BeforeValidator(_list)] = ()


class OptimalTrial(Node):
    best_trial_name: str = ""
    parameter_assignments: Annotated[tuple[NamedValue, ...], BeforeValidator(_list)] = ()
    observation: Observation = Field(default_factory=Observation)


class ExperimentStatus(Node):
    start_time: Time | None = None
    completion_time: Time | None = None
    last_reconcile_time: Time | None = None
    conditions: Annotated[tuple[Condition, ...], BeforeValidator(_list)] = ()
    current_optimal_trial: OptimalTrial | None = None
    running_trial_list: Annotated[tuple[str, ...], BeforeValidator(_list)] = ()
    pending_trial_list: Annotated[tuple[str, ...], BeforeValidator(_list)] = ()
    failed_trial_list: Annotated[tuple[str, ...], BeforeValidator(_list)] = ()
    succeeded_trial_list: Annotated[tuple[str, ...], BeforeValidator(_list)] = ()
    killed_trial_list: Annotated[tuple[str, ...], BeforeValidator(_list)] = ()
    early_stopped_trial_list: Annotated[tuple[str, ...], BeforeValidator(_list)] = ()
    metrics_unavailable_trial_list: Annotated[tuple[str, ...], BeforeValidator(_list)] = ()
    trials: int = 0
    trials_succeeded: int = 0
    trials_failed: int = 0
    trials_killed: int = 0
    trials_pending: int = 0
    trials_running: int = 0
    trials_early_stopped: int = 0
    trial_metrics_unavailable: int = 0
    # ours
    progress: str = ""


class Experiment(Node):
    api_version: str = API_VERSION
    kind: str = "Experiment"
    metadata: Metadata = Field(default_factory=Metadata)
    spec: ExperimentSpec = Field(default_factory=ExperimentSpec)
    status: ExperimentStatus = Field(default_factory=ExperimentStatus)


# ---- Trial --------------------------------------------------------------------------------------


class EarlyStoppingRule(Node):
    name: str = ""
    value: Text = ""
    comparison: str = ""
    start_step: int = 0


class TrialSpec(Node):
    objective: ObjectiveSpec | None = None
    parameter_assignments: Annotated[tuple[NamedValue, ...], BeforeValidator(_list)] = ()
    early_stopping_rules: Annotated[tuple[EarlyStoppingRule, ...], BeforeValidator(_list)] = ()
    run_spec: Json | None = None
    retain_run: bool = False
    metrics_collector: MetricsCollectorSpec | None = None
    primary_pod_labels: dict[str, Text] | None = None
    primary_container_name: str = ""
    success_condition: str = ""
    failure_condition: str = ""
    labels: dict[str, Text] | None = None
    # ours
    active_deadline_seconds: Count | None = None


class StopRecord(Node):
    """Ours. An early stop that was decided: written before it is carried out, never re-derived.

    `value` was compared with `threshold` at `step` (from 1), against `peers` ended trials.
    """

    rule: str = ""
    metric: str = ""
    value: Text = ""
    threshold: Text = ""
    step: int = 0
    peers: int = 0
    message: str = ""


class RunRecord(Node):
    """Ours. The current attempt: written before its job is created, completed when it runs.

    `lost` counts earlier attempts that vanished; attempts that a person interrupted do not count.
    """

    attempt: int = 0
    lost: int = 0
    job_uid: str = Field(default="", alias="jobUID")
    waiting: str = ""
    started_at: Time | None = None
    stopping: StopRecord | None = None
    released: bool = False


class TrialStatus(Node):
    start_time: Time | None = None
    completion_time: Time | None = None
    last_reconcile_time: Time | None = None
    conditions: Annotated[tuple[Condition, ...], BeforeValidator(_list)] = ()
    observation: Observation | None = None
    # ours
    run: RunRecord | None = None


class Trial(Node):
    api_version: str = API_VERSION
    kind: str = "Trial"
    metadata: Metadata = Field(default_factory=Metadata)
    spec: TrialSpec = Field(default_factory=TrialSpec)
    status: TrialStatus = Field(default_factory=TrialStatus)


# ---- Suggestion ---------------------------------------------------------------------------------


class SuggestionSpec(Node):
    algorithm: AlgorithmSpec | None = None
    early_stopping: AlgorithmSpec | None = None
    requests: int = 0
    resume_policy: str = ""


class TrialAssignment(Node):
    name: str = ""
    parameter_assignments: Annotated[tuple[NamedValue, ...], BeforeValidator(_list)] = ()
    early_stopping_rules: Annotated[tuple[EarlyStoppingRule, ...], BeforeValidator(_list)] = ()
    labels: dict[str, Text] | None = None
    # ours
    ordinal: int = -1


class Batch(Node):
    """Ours. One request and its recorded inputs, written before it is sent.

    The history of a batch is every ordinal below `first` except `pending`.
    """

    first: int = 0
    count: int = 0
    pending: Annotated[tuple[int, ...], BeforeValidator(_list)] = ()
    # The budgets, which a person may change before it is answered.
    parallel: int = 0
    max_trials: int | None = None
    # Known once answered.
    algorithm_version: str = ""
    recorded: str = ""

    @property
    def end(self) -> int:
        return self.first + self.count


class SuggestionStatus(Node):
    algorithm_settings: Annotated[tuple[NamedValue, ...], BeforeValidator(_list)] = ()
    suggestion_count: int = 0
    suggestions: Annotated[tuple[TrialAssignment, ...], BeforeValidator(_list)] = ()
    start_time: Time | None = None
    completion_time: Time | None = None
    last_reconcile_time: Time | None = None
    conditions: Annotated[tuple[Condition, ...], BeforeValidator(_list)] = ()
    # ours
    seed: str = ""
    asking: Batch | None = None
    batches: Annotated[tuple[Batch, ...], BeforeValidator(_list)] = ()
    search_ended: str = ""
    enqueued_taken: int = 0


class Suggestion(Node):
    api_version: str = API_VERSION
    kind: str = "Suggestion"
    metadata: Metadata = Field(default_factory=Metadata)
    spec: SuggestionSpec = Field(default_factory=SuggestionSpec)
    status: SuggestionStatus = Field(default_factory=SuggestionStatus)
