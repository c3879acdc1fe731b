from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Parameter(_message.Message):
    __slots__ = ("name", "type", "min", "max", "step", "list", "distribution")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    MIN_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    LIST_FIELD_NUMBER: _ClassVar[int]
    DISTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: str
    min: str
    max: str
    step: str
    list: _containers.RepeatedScalarFieldContainer[str]
    distribution: str
    def __init__(self, name: _Optional[str] = ..., type: _Optional[str] = ..., min: _Optional[str] = ..., max: _Optional[str] = ..., step: _Optional[str] = ..., list: _Optional[_Iterable[str]] = ..., distribution: _Optional[str] = ...) -> None: ...

class Objective(_message.Message):
    __slots__ = ("metric", "direction", "goal")
    METRIC_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    GOAL_FIELD_NUMBER: _ClassVar[int]
    metric: str
    direction: str
    goal: float
    def __init__(self, metric: _Optional[str] = ..., direction: _Optional[str] = ..., goal: _Optional[float] = ...) -> None: ...

class Problem(_message.Message):
    __slots__ = ("experiment_uid", "experiment_name", "algorithm", "settings", "parameters", "objectives", "seed", "parallel", "max_trials")
    class SettingsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    EXPERIMENT_UID_FIELD_NUMBER: _ClassVar[int]
    EXPERIMENT_NAME_FIELD_NUMBER: _ClassVar[int]
    ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVES_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    PARALLEL_FIELD_NUMBER: _ClassVar[int]
    MAX_TRIALS_FIELD_NUMBER: _ClassVar[int]
    experiment_uid: str
    experiment_name: str
    algorithm: str
    settings: _containers.ScalarMap[str, str]
    parameters: _containers.RepeatedCompositeFieldContainer[Parameter]
    objectives: _containers.RepeatedCompositeFieldContainer[Objective]
    seed: int
    parallel: int
    max_trials: int
    def __init__(self, experiment_uid: _Optional[str] = ..., experiment_name: _Optional[str] = ..., algorithm: _Optional[str] = ..., settings: _Optional[_Mapping[str, str]] = ..., parameters: _Optional[_Iterable[_Union[Parameter, _Mapping]]] = ..., objectives: _Optional[_Iterable[_Union[Objective, _Mapping]]] = ..., seed: _Optional[int] = ..., parallel: _Optional[int] = ..., max_trials: _Optional[int] = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("ordinal", "parameters", "state", "values")
    class ParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class ValuesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    ORDINAL_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    ordinal: int
    parameters: _containers.ScalarMap[str, str]
    state: str
    values: _containers.ScalarMap[str, float]
    def __init__(self, ordinal: _Optional[int] = ..., parameters: _Optional[_Mapping[str, str]] = ..., state: _Optional[str] = ..., values: _Optional[_Mapping[str, float]] = ...) -> None: ...

class Pending(_message.Message):
    __slots__ = ("ordinal", "parameters")
    class ParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ORDINAL_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    ordinal: int
    parameters: _containers.ScalarMap[str, str]
    def __init__(self, ordinal: _Optional[int] = ..., parameters: _Optional[_Mapping[str, str]] = ...) -> None: ...

class History(_message.Message):
    __slots__ = ("base_digest", "outcomes", "digest")
    BASE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    base_digest: str
    outcomes: _containers.RepeatedCompositeFieldContainer[Outcome]
    digest: str
    def __init__(self, base_digest: _Optional[str] = ..., outcomes: _Optional[_Iterable[_Union[Outcome, _Mapping]]] = ..., digest: _Optional[str] = ...) -> None: ...

class ValidateRequest(_message.Message):
    __slots__ = ("problem",)
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    problem: Problem
    def __init__(self, problem: _Optional[_Union[Problem, _Mapping]] = ...) -> None: ...

class ValidateReply(_message.Message):
    __slots__ = ("problems",)
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    problems: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, problems: _Optional[_Iterable[str]] = ...) -> None: ...

class SuggestRequest(_message.Message):
    __slots__ = ("problem", "request_id", "first_ordinal", "count", "pending", "history", "recorded")
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    FIRST_ORDINAL_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    PENDING_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    RECORDED_FIELD_NUMBER: _ClassVar[int]
    problem: Problem
    request_id: str
    first_ordinal: int
    count: int
    pending: _containers.RepeatedCompositeFieldContainer[Pending]
    history: History
    recorded: str
    def __init__(self, problem: _Optional[_Union[Problem, _Mapping]] = ..., request_id: _Optional[str] = ..., first_ordinal: _Optional[int] = ..., count: _Optional[int] = ..., pending: _Optional[_Iterable[_Union[Pending, _Mapping]]] = ..., history: _Optional[_Union[History, _Mapping]] = ..., recorded: _Optional[str] = ...) -> None: ...

class Assignment(_message.Message):
    __slots__ = ("ordinal", "parameters", "labels")
    class ParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ORDINAL_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    ordinal: int
    parameters: _containers.ScalarMap[str, str]
    labels: _containers.ScalarMap[str, str]
    def __init__(self, ordinal: _Optional[int] = ..., parameters: _Optional[_Mapping[str, str]] = ..., labels: _Optional[_Mapping[str, str]] = ...) -> None: ...

class SuggestReply(_message.Message):
    __slots__ = ("assignments", "exhausted", "exhausted_reason", "history_lost", "algorithm_version", "recorded")
    ASSIGNMENTS_FIELD_NUMBER: _ClassVar[int]
    EXHAUSTED_FIELD_NUMBER: _ClassVar[int]
    EXHAUSTED_REASON_FIELD_NUMBER: _ClassVar[int]
    HISTORY_LOST_FIELD_NUMBER: _ClassVar[int]
    ALGORITHM_VERSION_FIELD_NUMBER: _ClassVar[int]
    RECORDED_FIELD_NUMBER: _ClassVar[int]
    assignments: _containers.RepeatedCompositeFieldContainer[Assignment]
    exhausted: bool
    exhausted_reason: str
    history_lost: bool
    algorithm_version: str
    recorded: str
    def __init__(self, assignments: _Optional[_Iterable[_Union[Assignment, _Mapping]]] = ..., exhausted: bool = ..., exhausted_reason: _Optional[str] = ..., history_lost: bool = ..., algorithm_version: _Optional[str] = ..., recorded: _Optional[str] = ...) -> None: ...
