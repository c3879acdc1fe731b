# SPDX-License-Identifier: Apache-2.0
"""The observation service on the wire: Katib's DBManager with its defects mended, our limits,
health."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from database_servers import DatabaseServer
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tunesmith_api.metrics import Row
from tunesmith_api.observations import Report, SourceKey
from tunesmith_metrics_collector.sink import open_channel
from tunesmith_observation.database import Access
from tunesmith_observation.limits import Limits
from tunesmith_observation.server import ServerOptions, start_server
from tunesmith_observation.sql import SqlObservationLog
from tunesmith_proto import wire
from tunesmith_proto.katib import api_pb2
from tunesmith_proto.v1 import observations_pb2 as pb

pytest_plugins = ("database_fixtures",)

NOON = "2025-01-31T12:00:00Z"
ZERO = "0001-01-01T00:00:00Z"

Entry = tuple[str, str, str]
"""Time, metric, value."""


class Service:
    """A client of a service in this process, and the log behind it."""

    def __init__(self, log: SqlObservationLog, channel: Any) -> None:
        self.log = log
        self.channel = channel

    async def report(self, *entries: Entry, trial: str = "trial-a") -> None:
        logs = [
            api_pb2.MetricLog(time_stamp=time, metric=api_pb2.Metric(name=name, value=value))
            for time, name, value in entries
        ]
        observation_log = api_pb2.ObservationLog(metric_logs=logs)
        request = api_pb2.ReportObservationLogRequest(
            trial_name=trial, observation_log=observation_log
        )
        await wire.call(self.channel, wire.KATIB_DB_MANAGER, "ReportObservationLog")(request)

    async def get(self, trial: str = "trial-a", **bounds: str) -> Sequence[Entry]:
        request = api_pb2.GetObservationLogRequest(trial_name=trial, **bounds)
        reply = await wire.call(self.channel, wire.KATIB_DB_MANAGER, "GetObservationLog")(request)
        return [
            (log.time_stamp, log.metric.name, log.metric.value)
            for log in reply.observation_log.metric_logs
        ]

    async def delete(self, trial: str = "trial-a") -> None:
        request = api_pb2.DeleteObservationLogRequest(trial_name=trial)
        await wire.call(self.channel, wire.KATIB_DB_MANAGER, "DeleteObservationLog")(request)

    async def collected(self, uid: str, namespace: str = "team", attempt: int = 1) -> None:
        """A collector has reported one row of the trial."""
        key = SourceKey(uid, attempt, "stdout")
        await self.log.append(Report(key, [Row(0, "loss", uid)], 5, "trial-a", namespace))


Serve = Callable[..., None]
"""Runs a scenario, with limits if given, on a service of its own."""


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def serve(request: pytest.FixtureRequest, tmp_path: Path) -> Serve:
    """On each kind of database."""

    def database() -> str | Access:
        if request.param == "sqlite":
            return f"sqlite:///{tmp_path}/o.db"
        server: DatabaseServer = request.getfixturevalue(request.param)
        return server.access(server.new_database())

    def run(scenario: Callable[[Service], Awaitable[None]], limits: Limits | None = None) -> None:
        asyncio.run(_served(database(), tmp_path, scenario, limits))

    return run


async def _served(
    database: str | Access,
    folder: Path,
    scenario: Callable[[Service], Awaitable[None]],
    limits: Limits | None,
) -> None:
    log = SqlObservationLog.open(database, limits)
    server, address = await start_server(ServerOptions(f"unix:{folder}/s/o.sock", ""), log)
    async with open_channel(address) as channel:
        await scenario(Service(log, channel))
    await server.stop(None)
    await log.aclose()


async def code_of(call: Awaitable[object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details() or ""


def test_rows_come_back_in_the_order_of_their_reports(serve: Serve) -> None:
    entries = [
        (NOON, "loss", "0.5"),
        (ZERO, "loss", "nan"),
        ("2025-01-31T11:00:00.123456Z", "acc", "0.9"),
        (ZERO, "loss", "0.4"),
    ]

    async def scenario(service: Service) -> None:
        await service.report(*entries[:2])
        await service.report(*entries[2:])
        assert await service.get() == entries
        assert await service.get(metric_name="acc") == entries[2:3]

    serve(scenario)


def test_an_empty_report_and_an_unknown_trial_are_fine(serve: Serve) -> None:
    async def scenario(service: Service) -> None:
        await service.report()
        assert await service.get() == []
        await service.delete()

    serve(scenario)


@pytest.mark.parametrize(
    ("bounds", "found"),
    [
        ({}, ["0", "1", "2", "3"]),
        ({"start_time": "2025-01-31T12:00:01Z"}, ["2", "3"]),
        ({"end_time": "2025-01-31T12:00:01Z"}, ["0", "1", "2"]),
        (
            {"start_time": "2025-01-31T13:00:01+01:00", "end_time": "2025-01-31T12:00:01Z"},
            ["2"],
        ),
        ({"start_time": "2025-01-31T12:00:01.000001Z"}, ["3"]),
    ],
)
def test_bounds_of_time_are_inclusive(
    serve: Serve, bounds: dict[str, str], found: list[str]
) -> None:
    times = ["", NOON, "2025-01-31T12:00:01Z", "2025-01-31T12:00:02Z"]

    async def scenario(service: Service) -> None:
        await service.report(*((time, "loss", str(i)) for i, time in enumerate(times)))
        assert [value for _, _, value in await service.get(**bounds)] == found

    serve(scenario)


def test_a_repeated_report_is_stored_once_and_a_changed_value_is_not_a_repeat(
    serve: Serve,
) -> None:
    async def scenario(service: Service) -> None:
        for value in ("0.5", "0.5", "0.6", "0.5"):
            await service.report((NOON, "loss", value), (NOON, "acc", "1"))
        assert [value for _, name, value in await service.get() if name == "loss"] == [
            "0.5",
            "0.6",
            "0.5",
        ]

    serve(scenario)


def test_equal_entries_within_a_report_are_all_kept(serve: Serve) -> None:
    async def scenario(service: Service) -> None:
        entries = [(ZERO, "loss", value) for value in ("0.5", "0.4", "0.5")]
        await service.report(*entries)
        assert await service.get() == entries

    serve(scenario)


def test_pushed_rows_belong_to_the_trial_that_is_collected_under_the_name(serve: Serve) -> None:
    async def scenario(service: Service) -> None:
        await service.collected("uid-1")
        await service.report((ZERO, "loss", "pushed"))
        assert [row.value for row in await service.log.rows("uid-1", 1)] == ["pushed", "uid-1"]
        assert list(await service.log.sources("uid-1", 1)) == ["stdout"]

    serve(scenario)


def test_rows_pushed_before_the_collector_began_are_handed_over(serve: Serve) -> None:
    async def scenario(service: Service) -> None:
        await service.report((ZERO, "loss", "early"))
        await service.collected("uid-1", attempt=2)
        await service.report((ZERO, "loss", "late"))
        values = [row.value for row in await service.log.rows("uid-1", 2)]
        assert values == ["early", "late", "uid-1"]
        assert [value for _, _, value in await service.get()] == values

    serve(scenario)


def test_pushed_rows_count_for_the_newest_attempt(serve: Serve) -> None:
    async def scenario(service: Service) -> None:
        await service.collected("uid-1")
        await service.log.fence("uid-1", 2)
        await service.report((ZERO, "loss", "pushed"))
        assert [row.value for row in await service.log.rows("uid-1", 2)] == ["pushed"]
        assert [value for _, _, value in await service.get()] == ["pushed"]

    serve(scenario)


def test_a_name_in_two_namespaces_is_refused_instead_of_mixed(serve: Serve) -> None:
    async def scenario(service: Service) -> None:
        await service.collected("uid-1", "team-a")
        await service.collected("uid-2", "team-b")
        for call in (service.get(), service.report((ZERO, "loss", "1")), service.delete()):
            code, text = await code_of(call)
            assert code is grpc.StatusCode.FAILED_PRECONDITION
            assert "team-a, team-b" in text
        rows = await service.log.rows_by_trial_name("team-b", "trial-a")
        assert [row.value for row in rows] == ["uid-2"]

    serve(scenario)


def test_deleting_takes_collected_and_pushed_rows_of_the_name_only(serve: Serve) -> None:
    async def scenario(service: Service) -> None:
        await service.report((ZERO, "loss", "other"), trial="trial-b")
        await service.collected("uid-1")
        await service.report((ZERO, "loss", "pushed"))
        await service.delete()
        assert (await service.get(), await service.log.rows("uid-1", 1)) == ([], [])
        assert len(await service.get("trial-b")) == 1

    serve(scenario)


@pytest.mark.parametrize(
    "entry",
    [("yesterday", "loss", "1"), (NOON, "", "1"), (NOON, "loss", "x" * 1025)],
    ids=["time", "no name", "long value"],
)
def test_what_cannot_be_stored_is_an_invalid_argument(serve: Serve, entry: Entry) -> None:
    async def scenario(service: Service) -> None:
        code, _ = await code_of(service.report((NOON, "loss", "1"), entry))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert await service.get() == []

    serve(scenario)


def test_a_log_too_large_for_a_reply_is_refused_with_the_ways_out(serve: Serve) -> None:
    async def scenario(service: Service) -> None:
        entries = [(NOON, "loss", f"{i:0400}") for i in range(10_000)]
        await service.report(*entries[:9_000])
        assert len(await service.get()) == 9_000
        await service.report(*entries[9_000:], (NOON, "acc", "1"))
        code, text = await code_of(service.get())
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "metric_name" in text
        assert len(await service.get(metric_name="acc")) == 1

    serve(scenario)


def test_pushed_rows_count_towards_the_limit_of_the_trial(serve: Serve) -> None:
    async def scenario(service: Service) -> None:
        await service.report((ZERO, "loss", "early"))
        await service.collected("uid-1")
        await service.report((ZERO, "loss", "pushed"))
        code, text = await code_of(service.report((ZERO, "loss", "more")))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "3 rows" in text

    serve(scenario, Limits(rows_per_trial=3))


def batch(rows: int, value: str) -> pb.ReportRows:
    key = pb.SourceKey(trial_uid="uid-1", attempt=1, source="stdout")
    return pb.ReportRows(
        key=key, rows=[pb.Row(seq=i, metric="loss", value=value) for i in range(rows)]
    )


@pytest.mark.parametrize(
    ("request_", "is_taken"),
    [
        (batch(1000, "1"), True),
        (batch(1001, "1"), False),
        (batch(1000, "x" * 1000), True),
        (batch(1000, "é" * 510 + "xxx"), True),
        (batch(999, "x" * 1024), True),
        (batch(1000, "x" * 1040), False),
    ],
    ids=["1,000 rows", "1,001 rows", "1 MB", "just below 1 MiB", "long values", "above 1 MiB"],
)
def test_a_batch_has_at_most_1000_rows_and_1_mib(
    serve: Serve, request_: pb.ReportRows, is_taken: bool
) -> None:
    async def scenario(service: Service) -> None:
        call = wire.call(service.channel, wire.OBSERVATIONS, "Report")(request_)
        if is_taken:
            await call
        else:
            assert (await code_of(call))[0] is grpc.StatusCode.INVALID_ARGUMENT

    serve(scenario)


def test_reading_streams_batches_of_one_source_from_a_seq_on(serve: Serve) -> None:
    async def scenario(service: Service) -> None:
        for source in ("stdout", "push"):
            key = SourceKey("uid-1", 2, source)
            rows = [Row(i, "loss", source) for i in range(1500)]
            await service.log.append(Report(key, rows, 9))
        request = pb.ReadRows(trial_uid="uid-1", after_seq=499)  # attempt 0: the latest
        batches = [
            (b.source, b.rows[0].seq, len(b.rows))
            async for b in wire.call(service.channel, wire.OBSERVATIONS, "Read")(request)
        ]
        assert batches == [("push", 500, 1000), ("stdout", 500, 1000)]

    serve(scenario)


@pytest.mark.parametrize(
    "name",
    ["", "grpc.health.v1.Health", "api.v1.beta1.DBManager", "tunesmith.v1.Observations"],
)
def test_health_is_served_under_all_names(serve: Serve, name: str) -> None:
    async def scenario(service: Service) -> None:
        health = health_pb2_grpc.HealthStub(service.channel)
        reply = await health.Check(health_pb2.HealthCheckRequest(service=name))
        assert reply.status == health_pb2.HealthCheckResponse.SERVING

    serve(scenario)
