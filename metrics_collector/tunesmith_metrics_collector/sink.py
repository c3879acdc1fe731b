# SPDX-License-Identifier: Apache-2.0
"""The observation service as an `ObservationLog`: where a collector's rows go in a cluster.

Also for the controller there. In embedded mode the collector is handed the database's own log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import grpc
from google.protobuf.message import Message

from tunesmith_api.errors import Invalid, Unavailable
from tunesmith_api.metrics import Row
from tunesmith_api.observations import Acknowledged, Report, SourceNotes, SourceState
from tunesmith_proto import wire
from tunesmith_proto.v1 import observations_pb2 as pb

BATCH_ROWS: Final = 1000
BATCH_BYTES: Final = 1 << 20
"""What the service takes in one request."""

RPC_SECONDS: Final = 30.0
_ROW_OVERHEAD: Final = 64
"""Bytes of a row's numbers and framing, at most."""

_ENVELOPE_BYTES: Final = 256 << 10
"""Kept free in a request for its key and notes."""

_NEVER_REPEAT: Final = frozenset(
    {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED}
)


def open_channel(target: str, credentials: Any = None) -> Any:
    """A grpc.aio channel that finds a restarted service again within seconds (gRPC's own pause
    between attempts grows to two minutes). Without credentials in plain text."""
    options = [
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 5000),
        ("grpc.enable_http_proxy", 0),
    ]
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=options)
    return grpc.aio.secure_channel(target, credentials, options=options)


class GrpcObservationLog:
    """The `ObservationLog` port over `tunesmith.v1.Observations`.

    Raises Invalid for what the service will never take and Unavailable for everything else, the
    30 s deadline of each call included. The channel stays its maker's.
    """

    def __init__(
        self,
        channel: Any,
        *,
        seconds: float = RPC_SECONDS,
        on_stop: Callable[[str], None] = lambda reason: None,
    ) -> None:
        """`on_stop` is told the reason by each reply that says that the trial should stop."""
        self._channel = channel
        self._seconds = seconds
        self._on_stop = on_stop

    async def append(self, report: Report) -> Acknowledged:
        """A big report goes out in several requests, the last of which carries the offset: one
        that fails on the way has moved nothing but rows, and is repeated as a whole."""
        answer = Acknowledged(0)
        for part in split(report):
            reply = await self._call("Report", _message(part))
            answer = Acknowledged(reply.offset, reply.fenced, reply.stop_reason)
            if reply.stop_reason:
                self._on_stop(reply.stop_reason)
            if answer.fenced:
                break
        return answer

    async def sources(self, trial_uid: str, attempt: int) -> Mapping[str, SourceState]:
        """The sources of an attempt by name."""
        reply = await self._call("Sources", pb.ListSources(trial_uid=trial_uid, attempt=attempt))
        return {
            state.source: SourceState(state.offset, state.ended, _notes(state.notes))
            for state in reply.sources
        }

    async def rows(
        self, trial_uid: str, attempt: int, *, metric: str | None = None
    ) -> Sequence[Row]:
        """Rows in (source, seq) order."""
        request = pb.ReadRows(trial_uid=trial_uid, attempt=attempt, metric=metric or "")
        read = wire.call(self._channel, wire.OBSERVATIONS, "Read")
        found: list[Row] = []
        try:
            async for batch in read(request, timeout=self._seconds):
                found += [_row(row, batch.source) for row in batch.rows]
        except grpc.aio.AioRpcError as error:
            raise _port_error(error) from error
        return found

    async def fence(self, trial_uid: str, attempt: int) -> None:
        """Refuses attempts below `attempt` from now on."""
        await self._call("Fence", pb.FenceAttempts(trial_uid=trial_uid, attempt=attempt))

    async def stop(self, trial_uid: str, attempt: int, reason: str) -> None:
        """Answers reports of the attempt with the reason from now on."""
        try:
            request = pb.StopAttempt(trial_uid=trial_uid, attempt=attempt, reason=reason)
        except ValueError as error:
            raise Invalid(f"the stop does not fit into a message: {error}") from error
        await self._call("Stop", request)

    async def delete(self, trial_uid: str) -> None:
        """Removes all rows and sources of a trial."""
        await self._call("Delete", pb.DeleteRows(trial_uid=trial_uid))

    async def _call(self, name: str, request: Message) -> Any:
        call = wire.call(self._channel, wire.OBSERVATIONS, name)
        try:
            return await call(request, timeout=self._seconds)
        except grpc.aio.AioRpcError as error:
            raise _port_error(error) from error


def _port_error(error: grpc.aio.AioRpcError) -> Invalid | Unavailable:
    text = error.details() or error.code().name
    if error.code() in _NEVER_REPEAT:
        return Invalid(text)
    return Unavailable(f"the observation service does not answer: {text}")


def split(report: Report) -> Iterator[Report]:
    """Parts within a request's limits. Only the last says how far the source is stored."""
    parts = list(_row_parts(report.rows)) or [()]
    for rows in parts[:-1]:
        yield replace(report, rows=rows, offset=0, ended=False, notes=None)
    yield replace(report, rows=parts[-1])


def _row_parts(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    start = size = 0
    for index, row in enumerate(rows):
        # A character has at most four bytes; counting them exactly would cost an encoding.
        row_bytes = 4 * (len(row.metric) + len(row.value)) + _ROW_OVERHEAD
        if index - start == BATCH_ROWS or size + row_bytes > BATCH_BYTES - _ENVELOPE_BYTES:
            yield rows[start:index]
            start, size = index, 0
        size += row_bytes
    if start < len(rows):
        yield rows[start:]


def _message(report: Report) -> pb.ReportRows:
    key = report.key
    try:
        message = pb.ReportRows(
            key=pb.SourceKey(trial_uid=key.trial_uid, attempt=key.attempt, source=key.source),
            trial_name=report.trial_name,
            namespace=report.namespace,
            rows=[_row_message(row) for row in report.rows],
            offset=report.offset,
            end_of_stream=report.ended,
        )
        if report.notes is not None:
            message.notes.CopyFrom(_notes_message(report.notes))
    except ValueError as error:  # beyond 64 bits, or text that is no UTF-8
        raise Invalid(f"the report does not fit into a message: {error}") from error
    return message


def _row_message(row: Row) -> pb.Row:
    return pb.Row(
        seq=row.seq, time_us=row.time_us, metric=row.metric, value=row.value, step=row.step
    )


def _row(message: pb.Row, source: str) -> Row:
    step = message.step if message.HasField("step") else None
    return Row(message.seq, message.metric, message.value, message.time_us, step, source)


def _notes_message(notes: SourceNotes) -> pb.SourceNotes:
    return pb.SourceNotes(
        metric_names=notes.metric_names,
        last_lines=notes.last_lines,
        lines=notes.lines,
        bytes=notes.bytes,
        skipped=notes.skipped,
        filter=notes.filter,
    )


def _notes(message: pb.SourceNotes) -> SourceNotes:
    return SourceNotes(
        tuple(message.metric_names),
        tuple(message.last_lines),
        message.lines,
        message.bytes,
        message.skipped,
        message.filter,
    )
