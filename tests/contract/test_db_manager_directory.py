# SPDX-License-Identifier: Apache-2.0
"""Katib's DBManager beside a control plane: what is reported by name counts for the trial that has
the name, and for its current attempt, over real gRPC and on the plane's own stores."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tunesmith_api.errors import Unavailable
from tunesmith_api.metrics import Row, summarise
from tunesmith_api.observations import Report, SourceKey
from tunesmith_controller.clock import SystemClock, SystemRng
from tunesmith_controller.ports import Json, Key
from tunesmith_controller.stores.sqlite import SqliteStore
from tunesmith_controller.trial_directory import StoredTrials
from tunesmith_metrics_collector.sink import open_channel
from tunesmith_observation.by_name import NamedTrial
from tunesmith_observation.server import serve_db_manager
from tunesmith_observation.sql import SqlObservationLog
from tunesmith_proto import wire
from tunesmith_proto.katib import api_pb2
from tunesmith_proto.listening import ListenError

NOON = "2025-01-31T12:00:00Z"


def trial(name: str, namespace: str = "default", attempt: int = 0) -> Json:
    status: Json = {"run": {"attempt": attempt}} if attempt else {}
    return {
        "apiVersion": "kubeflow.org/v1beta1",
        "kind": "Trial",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {},
        "status": status,
    }


@dataclass(slots=True)
class Plane:
    """A store, a log and a DBManager on them, as a controller has them."""

    store: SqliteStore
    log: SqlObservationLog
    channel: Any = None
    heard: list[str] = field(default_factory=list)

    async def add(self, name: str, namespace: str = "default", attempt: int = 0) -> str:
        created = await self.store.create(trial(name, namespace, attempt))
        return str(created["metadata"]["uid"])

    async def report(self, name: str, *values: str, metric: str = "loss") -> None:
        """As Katib's SDK does."""
        logs = [
            api_pb2.MetricLog(time_stamp=NOON, metric=api_pb2.Metric(name=metric, value=value))
            for value in values
        ]
        request = api_pb2.ReportObservationLogRequest(
            trial_name=name, observation_log=api_pb2.ObservationLog(metric_logs=logs)
        )
        await wire.call(self.channel, wire.KATIB_DB_MANAGER, "ReportObservationLog")(request)

    async def get(self, name: str) -> list[str]:
        request = api_pb2.GetObservationLogRequest(trial_name=name)
        reply = await wire.call(self.channel, wire.KATIB_DB_MANAGER, "GetObservationLog")(request)
        return [log.metric.value for log in reply.observation_log.metric_logs]

    async def values(self, uid: str, attempt: int = 1) -> list[str]:
        return [row.value for row in await self.log.rows(uid, attempt)]


def on_plane(folder: Path, scenario: Callable[[Plane], Awaitable[None]]) -> None:
    async def run() -> None:
        store = SqliteStore(folder / "objects.db", SystemClock(), SystemRng())
        log = SqlObservationLog.open(f"sqlite:///{folder}/o.db")
        plane = Plane(store, log)
        target: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        serving = asyncio.create_task(
            serve_db_manager(
                log,
                StoredTrials(store),
                "127.0.0.1:0",
                on_rows=plane.heard.append,
                ready=target.set_result,
            )
        )
        try:
            async with open_channel(await asyncio.wait_for(target, 10)) as plane.channel:
                await scenario(plane)
        finally:
            serving.cancel()
            await asyncio.wait([serving])
            await log.aclose()
            store.close()

    asyncio.run(run())


def test_rows_count_for_the_trial_and_attempt_of_the_store_without_any_collector(
    tmp_path: Path,
) -> None:
    async def scenario(plane: Plane) -> None:
        uid = await plane.add("trial-a", attempt=3)
        await plane.report("trial-a", "0.5", "0.4")
        assert await plane.values(uid, 3) == ["0.5", "0.4"]
        assert plane.heard == [uid]
        (loss,) = summarise(await plane.log.rows(uid, 3), ["loss"])
        assert (loss.min, loss.latest) == ("0.4", "0.4")
        assert await plane.get("trial-a") == ["0.5", "0.4"]

    on_plane(tmp_path, scenario)


def test_a_new_attempt_gets_what_is_reported_from_then_on(tmp_path: Path) -> None:
    async def scenario(plane: Plane) -> None:
        uid = await plane.add("trial-a", attempt=1)
        await plane.report("trial-a", "first")
        patch = {"status": {"run": {"attempt": 2}}}
        await plane.store.patch(Key("Trial", "default", "trial-a"), patch, status=True)
        await plane.log.fence(uid, 2)
        await plane.report("trial-a", "second")
        assert (await plane.values(uid, 1), await plane.values(uid, 2)) == (["first"], ["second"])

    on_plane(tmp_path, scenario)


def test_rows_of_other_namespaces_are_found_too_and_a_name_in_two_is_refused(
    tmp_path: Path,
) -> None:
    async def scenario(plane: Plane) -> None:
        uid = await plane.add("trial-a", "team-a")
        await plane.report("trial-a", "1")
        assert await plane.values(uid) == ["1"]
        await plane.add("trial-b", "team-a")
        await plane.add("trial-b", "team-b")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await plane.report("trial-b", "1")
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "team-a, team-b" in (caught.value.details() or "")

    on_plane(tmp_path, scenario)


def test_rows_that_came_before_the_trial_was_known_are_handed_over(tmp_path: Path) -> None:
    async def scenario(plane: Plane) -> None:
        await plane.report("trial-a", "early")
        assert await plane.get("trial-a") == ["early"]
        uid = await plane.add("trial-a")
        await plane.report("trial-a", "late")
        assert await plane.values(uid) == ["early", "late"]

    on_plane(tmp_path, scenario)


def test_the_collector_of_the_trial_and_its_reports_share_one_trial(tmp_path: Path) -> None:
    async def scenario(plane: Plane) -> None:
        uid = await plane.add("trial-a", attempt=1)
        await plane.report("trial-a", "reported")
        key = SourceKey(uid, 1, "stdout")
        await plane.log.append(Report(key, [Row(0, "loss", "printed")], 5, "trial-a", "default"))
        assert await plane.values(uid) == ["reported", "printed"]
        (loss,) = summarise(await plane.log.rows(uid, 1), ["loss"])
        assert loss.latest == "reported"

    on_plane(tmp_path, scenario)


def test_a_late_report_for_a_trial_under_deletion_leaves_nothing(tmp_path: Path) -> None:
    async def scenario(plane: Plane) -> None:
        uid = await plane.add("trial-a", attempt=1)
        await plane.log.fence(uid, 2)
        await plane.log.delete(uid)
        await plane.report("trial-a", "late")
        assert [await plane.values(uid, number) for number in (1, 2)] == [[], []]

    on_plane(tmp_path, scenario)


def test_only_katibs_service_and_health_are_served(tmp_path: Path) -> None:
    async def scenario(plane: Plane) -> None:
        health = health_pb2_grpc.HealthStub(plane.channel)
        request = health_pb2.HealthCheckRequest(service="api.v1.beta1.DBManager")
        assert (await health.Check(request)).status == health_pb2.HealthCheckResponse.SERVING
        method = plane.channel.unary_unary("/tunesmith.v1.Observations/Delete")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await method(b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED

    on_plane(tmp_path, scenario)


class Broken:
    async def named(self, trial_name: str) -> Sequence[NamedTrial]:
        raise Unavailable("the object store is away")


def test_an_unknown_owner_is_no_reason_to_guess(tmp_path: Path) -> None:
    async def run() -> None:
        log = SqlObservationLog.open(f"sqlite:///{tmp_path}/o.db")
        target: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        address = f"unix:{tmp_path}/s/o.sock"
        serving = asyncio.create_task(
            serve_db_manager(log, Broken(), address, ready=target.set_result)
        )
        async with open_channel(await asyncio.wait_for(target, 10)) as channel:
            report = wire.call(channel, wire.KATIB_DB_MANAGER, "ReportObservationLog")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await report(api_pb2.ReportObservationLogRequest(trial_name="trial-a"))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        serving.cancel()
        await asyncio.wait([serving])
        await log.aclose()

    asyncio.run(run())


def test_an_address_that_others_reach_is_refused(tmp_path: Path) -> None:
    async def run() -> None:
        log = SqlObservationLog.open(f"sqlite:///{tmp_path}/o.db")
        with pytest.raises(ListenError, match="loopback"):
            await serve_db_manager(log, Broken(), "0.0.0.0:6789")
        await log.aclose()

    asyncio.run(run())
