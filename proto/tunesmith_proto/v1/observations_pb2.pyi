from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SourceKey(_message.Message):
    __slots__ = ("trial_uid", "attempt", "source")
    TRIAL_UID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    trial_uid: str
    attempt: int
    source: str
    def __init__(self, trial_uid: _Optional[str] = ..., attempt: _Optional[int] = ..., source: _Optional[str] = ...) -> None: ...

class Row(_message.Message):
    __slots__ = ("seq", "time_us", "metric", "value", "step")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    TIME_US_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    seq: int
    time_us: int
    metric: str
    value: str
    step: int
    def __init__(self, seq: _Optional[int] = ..., time_us: _Optional[int] = ..., metric: _Optional[str] = ..., value: _Optional[str] = ..., step: _Optional[int] = ...) -> None: ...

class SourceNotes(_message.Message):
    __slots__ = ("metric_names", "last_lines", "lines", "bytes", "skipped", "filter")
    METRIC_NAMES_FIELD_NUMBER: _ClassVar[int]
    LAST_LINES_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    metric_names: _containers.RepeatedScalarFieldContainer[str]
    last_lines: _containers.RepeatedScalarFieldContainer[str]
    lines: int
    bytes: int
    skipped: int
    filter: str
    def __init__(self, metric_names: _Optional[_Iterable[str]] = ..., last_lines: _Optional[_Iterable[str]] = ..., lines: _Optional[int] = ..., bytes: _Optional[int] = ..., skipped: _Optional[int] = ..., filter: _Optional[str] = ...) -> None: ...

class ReportRows(_message.Message):
    __slots__ = ("key", "trial_name", "namespace", "rows", "offset", "end_of_stream", "notes")
    KEY_FIELD_NUMBER: _ClassVar[int]
    TRIAL_NAME_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    END_OF_STREAM_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    key: SourceKey
    trial_name: str
    namespace: str
    rows: _containers.RepeatedCompositeFieldContainer[Row]
    offset: int
    end_of_stream: bool
    notes: SourceNotes
    def __init__(self, key: _Optional[_Union[SourceKey, _Mapping]] = ..., trial_name: _Optional[str] = ..., namespace: _Optional[str] = ..., rows: _Optional[_Iterable[_Union[Row, _Mapping]]] = ..., offset: _Optional[int] = ..., end_of_stream: bool = ..., notes: _Optional[_Union[SourceNotes, _Mapping]] = ...) -> None: ...

class Acknowledgement(_message.Message):
    __slots__ = ("offset", "fenced", "stop_reason")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    FENCED_FIELD_NUMBER: _ClassVar[int]
    STOP_REASON_FIELD_NUMBER: _ClassVar[int]
    offset: int
    fenced: bool
    stop_reason: str
    def __init__(self, offset: _Optional[int] = ..., fenced: bool = ..., stop_reason: _Optional[str] = ...) -> None: ...

class ReadRows(_message.Message):
    __slots__ = ("trial_uid", "attempt", "metric", "after_seq")
    TRIAL_UID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    METRIC_FIELD_NUMBER: _ClassVar[int]
    AFTER_SEQ_FIELD_NUMBER: _ClassVar[int]
    trial_uid: str
    attempt: int
    metric: str
    after_seq: int
    def __init__(self, trial_uid: _Optional[str] = ..., attempt: _Optional[int] = ..., metric: _Optional[str] = ..., after_seq: _Optional[int] = ...) -> None: ...

class RowBatch(_message.Message):
    __slots__ = ("rows", "source")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedCompositeFieldContainer[Row]
    source: str
    def __init__(self, rows: _Optional[_Iterable[_Union[Row, _Mapping]]] = ..., source: _Optional[str] = ...) -> None: ...

class ListSources(_message.Message):
    __slots__ = ("trial_uid", "attempt")
    TRIAL_UID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    trial_uid: str
    attempt: int
    def __init__(self, trial_uid: _Optional[str] = ..., attempt: _Optional[int] = ...) -> None: ...

class SourceState(_message.Message):
    __slots__ = ("source", "offset", "ended", "notes")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    source: str
    offset: int
    ended: bool
    notes: SourceNotes
    def __init__(self, source: _Optional[str] = ..., offset: _Optional[int] = ..., ended: bool = ..., notes: _Optional[_Union[SourceNotes, _Mapping]] = ...) -> None: ...

class SourceList(_message.Message):
    __slots__ = ("sources",)
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    sources: _containers.RepeatedCompositeFieldContainer[SourceState]
    def __init__(self, sources: _Optional[_Iterable[_Union[SourceState, _Mapping]]] = ...) -> None: ...

class FenceAttempts(_message.Message):
    __slots__ = ("trial_uid", "attempt")
    TRIAL_UID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    trial_uid: str
    attempt: int
    def __init__(self, trial_uid: _Optional[str] = ..., attempt: _Optional[int] = ...) -> None: ...

class FenceReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StopAttempt(_message.Message):
    __slots__ = ("trial_uid", "attempt", "reason")
    TRIAL_UID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    trial_uid: str
    attempt: int
    reason: str
    def __init__(self, trial_uid: _Optional[str] = ..., attempt: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class StopReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DeleteRows(_message.Message):
    __slots__ = ("trial_uid",)
    TRIAL_UID_FIELD_NUMBER: _ClassVar[int]
    trial_uid: str
    def __init__(self, trial_uid: _Optional[str] = ...) -> None: ...

class DeleteReply(_message.Message):
    __slots__ = ("rows",)
    ROWS_FIELD_NUMBER: _ClassVar[int]
    rows: int
    def __init__(self, rows: _Optional[int] = ...) -> None: ...
