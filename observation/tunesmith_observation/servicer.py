# SPDX-License-Identifier: Apache-2.0
"""The observation log as gRPC services: ours for collectors, Katib's DBManager for its clients.

Both are thin: a request becomes a call on a log, its errors become codes. Authors of
other servers bind them with `bind`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from tunesmith_api.errors import Invalid, Unavailable
from tunesmith_api.metrics import Row
from tunesmith_observation import messages
from tunesmith_observation.by_name import (
    AmbiguousTrialName,
    NamedRow,
    NamedTrial,
    NoDirectory,
    TrialDirectory,
    Window,
    the_one,
)
from tunesmith_observation.limits import RowLimitReached
from tunesmith_observation.opening import ServedLog
from tunesmith_observation.times import microseconds, rfc3339
from tunesmith_proto import wire
from tunesmith_proto.katib import api_pb2
from tunesmith_proto.v1 import observations_pb2 as pb

BATCH_ROWS: Final = 1000
BATCH_BYTES: Final = 1 << 20
REPLY_BYTES: Final = 4 << 20
"""What a gRPC client takes unless told otherwise; Katib's clients are not told."""

_SMALLEST_ENTRY: Final = 30
"""Bytes of a MetricLog at least: a reply within REPLY_BYTES cannot have more entries than this
allows, so no more rows are read."""

HEALTH_NAMES: Final = ("", health.SERVICE_NAME, wire.OBSERVATIONS, wire.KATIB_DB_MANAGER)


class TooLarge(Invalid):
    """A request or a reply above its limit."""


@asynccontextmanager
async def _answered(context: Any) -> AsyncIterator[None]:
    """Errors of the log as gRPC codes (observations.proto says which of them to repeat)."""
    try:
        yield
    except (RowLimitReached, TooLarge) as error:
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
    except AmbiguousTrialName as error:
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
    except Invalid as error:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
    except Unavailable as error:
        await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))


class ObservationsServicer:
    """tunesmith.v1.Observations."""

    def __init__(self, log: ServedLog) -> None:
        self._log = log

    async def Report(self, request: pb.ReportRows, context: Any) -> pb.Acknowledgement:
        """Answers when the rows are committed."""
        async with _answered(context):
            _check_batch(request)
            return messages.acknowledgement(await self._log.append(messages.report(request)))
        raise AssertionError("abort raises")

    async def Read(self, request: pb.ReadRows, context: Any) -> AsyncIterator[pb.RowBatch]:
        """Batches of at most 1,000 rows."""
        async with _answered(context):
            attempt = request.attempt or await self._log.latest_attempt(request.trial_uid) or 0
            pages = self._log.pages(
                request.trial_uid,
                attempt,
                metric=request.metric or None,
                after_seq=request.after_seq if request.HasField("after_seq") else None,
                size=BATCH_ROWS,
            )
            async for page in pages:
                yield messages.batch(page)

    async def Sources(self, request: pb.ListSources, context: Any) -> pb.SourceList:
        """Where the collectors of an attempt go on."""
        async with _answered(context):
            return messages.source_list(await self._log.sources(request.trial_uid, request.attempt))
        raise AssertionError("abort raises")

    async def Fence(self, request: pb.FenceAttempts, context: Any) -> pb.FenceReply:
        """Answers when the fence is committed."""
        async with _answered(context):
            await self._log.fence(request.trial_uid, request.attempt)
        return pb.FenceReply()

    async def Stop(self, request: pb.StopAttempt, context: Any) -> pb.StopReply:
        """Answers when the reason is committed."""
        async with _answered(context):
            await self._log.stop(request.trial_uid, request.attempt, request.reason)
        return pb.StopReply()

    async def Delete(self, request: pb.DeleteRows, context: Any) -> pb.DeleteReply:
        """Everything of a trial."""
        async with _answered(context):
            return pb.DeleteReply(rows=await self._log.remove(request.trial_uid))
        raise AssertionError("abort raises")


def _check_batch(request: pb.ReportRows) -> None:
    rows, size = len(request.rows), request.ByteSize()
    if rows > BATCH_ROWS or size > BATCH_BYTES:
        raise Invalid(
            f"a report has {rows} rows and {size} bytes; the limits are {BATCH_ROWS} rows and"
            f" {BATCH_BYTES} bytes: send several"
        )


class DBManagerServicer:
    """api.v1.beta1.DBManager: Katib's requests by trial name, in the order rows were reported."""

    def __init__(
        self,
        log: ServedLog,
        trials: TrialDirectory | None = None,
        on_rows: Callable[[str], None] = lambda trial_uid: None,
    ) -> None:
        """`trials` says whose a name is, where somebody knows; `on_rows` is told the uid of a
        trial after rows of it were reported, in the event loop."""
        self._log = log
        self._trials: TrialDirectory = trials or NoDirectory()
        self._on_rows = on_rows

    async def ReportObservationLog(
        self, request: api_pb2.ReportObservationLogRequest, context: Any
    ) -> api_pb2.ReportObservationLogReply:
        """Stores all entries or none; nothing to store is fine."""
        async with _answered(context):
            entries = [
                NamedRow(microseconds(log.time_stamp), log.metric.name, log.metric.value)
                for log in request.observation_log.metric_logs
            ]
            told = await self._told(request.trial_name)
            uid = await self._log.append_by_trial_name(request.trial_name, entries, told)
            self._on_rows(uid)
        return api_pb2.ReportObservationLogReply()

    async def GetObservationLog(
        self, request: api_pb2.GetObservationLogRequest, context: Any
    ) -> api_pb2.GetObservationLogReply:
        """Bounds are inclusive; an unknown trial has an empty log."""
        async with _answered(context):
            told = await self._told(request.trial_name)
            most = REPLY_BYTES // _SMALLEST_ENTRY
            rows = await self._log.rows_by_trial_name(
                "", request.trial_name, _window(request), most, told
            )
            reply = _observation_log(rows)
            _check_reply(reply, request)
            return reply
        raise AssertionError("abort raises")

    async def DeleteObservationLog(
        self, request: api_pb2.DeleteObservationLogRequest, context: Any
    ) -> api_pb2.DeleteObservationLogReply:
        """An unknown trial has nothing to delete."""
        async with _answered(context):
            told = await self._told(request.trial_name)
            await self._log.delete_by_trial_name(request.trial_name, told)
        return api_pb2.DeleteObservationLogReply()

    async def _told(self, trial_name: str) -> NamedTrial | None:
        return the_one(trial_name, await self._trials.named(trial_name))


def _window(request: api_pb2.GetObservationLogRequest) -> Window:
    return Window(
        request.metric_name or None,
        microseconds(request.start_time) if request.start_time else None,
        microseconds(request.end_time) if request.end_time else None,
    )


def _observation_log(rows: Sequence[Row]) -> api_pb2.GetObservationLogReply:
    logs = [
        api_pb2.MetricLog(
            time_stamp=rfc3339(row.time_us),
            metric=api_pb2.Metric(name=row.metric, value=row.value),
        )
        for row in rows
    ]
    return api_pb2.GetObservationLogReply(observation_log=api_pb2.ObservationLog(metric_logs=logs))


def _check_reply(
    reply: api_pb2.GetObservationLogReply, request: api_pb2.GetObservationLogRequest
) -> None:
    if reply.ByteSize() > REPLY_BYTES:
        raise TooLarge(
            f"the log of trial {request.trial_name} does not fit into a reply of"
            f" {REPLY_BYTES >> 20} MiB: ask for one metric_name, for less time between start_time"
            " and end_time, or read it with tunesmith.v1.Observations/Read"
        )


async def bind(
    server: Any,
    log: ServedLog,
    trials: TrialDirectory | None = None,
) -> None:
    """Adds both services and health to a grpc.aio server."""
    await _add_health(server, HEALTH_NAMES)
    server.add_generic_rpc_handlers(
        (
            wire.handler(wire.OBSERVATIONS, ObservationsServicer(log)),
            wire.handler(wire.KATIB_DB_MANAGER, DBManagerServicer(log, trials)),
        )
    )


async def bind_db_manager(server: Any, db_manager: DBManagerServicer) -> None:
    """Adds Katib's service and health, and nothing that names trials by uid."""
    await _add_health(server, ("", health.SERVICE_NAME, wire.KATIB_DB_MANAGER))
    server.add_generic_rpc_handlers((wire.handler(wire.KATIB_DB_MANAGER, db_manager),))


async def _add_health(server: Any, names: Sequence[str]) -> None:
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    for name in names:
        await checks.set(name, health_pb2.HealthCheckResponse.SERVING)
