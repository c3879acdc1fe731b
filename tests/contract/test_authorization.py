# SPDX-License-Identifier: Apache-2.0
"""Who may do what to observations: every RPC of both listeners, for every kind of caller."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from known_callers import DENIED, OK, UNKNOWN, KnownCallers, about, answer, from_address

from tunesmith_metrics_collector.sink import open_channel
from tunesmith_observation.authorization import Accounts
from tunesmith_observation.server import Access, ServerOptions, check, serving
from tunesmith_observation.sql import SqlObservationLog
from tunesmith_proto import wire
from tunesmith_proto.callers import Caller, ServiceCaller, TrialCaller
from tunesmith_proto.katib import api_pb2
from tunesmith_proto.listening import ListenError

OWN = TrialCaller("uid-1", 2, "team", "trial-a", "pod-a")
CALLERS: dict[str, Caller] = {
    "own": OWN,
    "controller": ServiceCaller("kubeflow", "tunesmith-controller"),
    "reader": ServiceCaller("kubeflow", "tunesmith-ui"),
    "namesake": ServiceCaller("team", "tunesmith-controller"),
    "127.0.1.1": OWN,
}
ACCOUNTS = Accounts(
    frozenset({("kubeflow", "tunesmith-controller")}), frozenset({("kubeflow", "tunesmith-ui")})
)
ABOUT = {
    "itself": ("uid-1", 2, "trial-a", "team"),
    "its other attempt": ("uid-1", 3, "trial-a", "team"),
    "its former attempt": ("uid-1", 1, "trial-a", "team"),
    "another trial": ("uid-2", 2, "trial-b", "team"),
    "another by the own name": ("uid-2", 2, "trial-a", "team"),
    "itself by another name": ("uid-1", 2, "trial-b", "team"),
    "itself elsewhere": ("uid-1", 2, "trial-a", "other"),
}
TOKEN_METHODS = [
    method
    for service in (wire.OBSERVATIONS, wire.KATIB_DB_MANAGER)
    for method in wire.SERVICES[service].values()
]
KATIB_METHODS = list(wire.SERVICES[wire.KATIB_DB_MANAGER].values())


class Served:
    def __init__(self, target: str, katib: str, callers: KnownCallers) -> None:
        self.target, self.katib, self.callers = target, katib, callers


def on(
    folder: Path, scenario: Callable[[Served], Awaitable[None]], katib_read: str = "any"
) -> None:
    async def run() -> None:
        callers = KnownCallers(CALLERS)

        @asynccontextmanager
        async def access() -> AsyncIterator[Access]:
            yield Access(callers, callers, ACCOUNTS)

        log = SqlObservationLog.open(f"sqlite:///{folder}/o.db")
        options = ServerOptions(
            f"unix:{folder}/s/o.sock", "", katib_listen="0.0.0.0:0", katib_read=katib_read
        )
        async with serving(options, log, access) as (target, katib):
            port = katib.rsplit(":", 1)[1]
            await scenario(Served(target, f"127.0.0.1:{port}", callers))
        await log.aclose()

    asyncio.run(run())


def allowed(caller: str, method: wire.Method, what: str) -> bool:
    if caller == "controller":
        return True
    if caller == "reader":
        return method.name in ("Read", "Sources", "GetObservationLog")
    if caller == "own" and method.name == "Report":
        return what == "itself"
    if caller == "own" and method.name == "Sources":
        return what in ("itself", "itself by another name", "itself elsewhere")
    return False


def test_a_token_opens_what_the_table_says_and_nothing_else(tmp_path: Path) -> None:
    async def scenario(served: Served) -> None:
        async with open_channel(served.target) as channel:
            for caller in ("own", "controller", "reader", "namesake", "nobody", None):
                for method in TOKEN_METHODS:
                    for what, whom in ABOUT.items():
                        found = await answer(channel, method, about(method, *whom), caller)
                        wanted = OK if allowed(caller or "", method, what) else DENIED
                        if caller in ("nobody", None):
                            wanted = UNKNOWN
                        assert found is wanted, (caller, method.path, what)

    on(tmp_path, scenario)


@pytest.mark.parametrize("katib_read", ["any", "trials"])
def test_katibs_listener_lets_a_pod_speak_of_its_trial_and_others_read_at_most(
    tmp_path: Path, katib_read: str
) -> None:
    async def scenario(served: Served) -> None:
        for address in ("127.0.1.1", "127.0.1.2"):
            async with from_address(served.katib, address) as channel:
                for method in KATIB_METHODS:
                    for trial in ("trial-a", "trial-b"):
                        found = await answer(channel, method, about(method, "", 0, trial, ""))
                        own = address == "127.0.1.1" and trial == "trial-a"
                        reads = method.name == "GetObservationLog"
                        lets = own and method.name != "DeleteObservationLog"
                        if address == "127.0.1.2":
                            lets = reads and katib_read == "any"
                        assert found is (OK if lets else DENIED), (address, method.path, trial)

    on(tmp_path, scenario, katib_read)


def test_what_katibs_client_reports_is_the_trials_own(tmp_path: Path) -> None:
    """Also where a trial of another namespace has the same name."""

    async def scenario(served: Served) -> None:
        served.callers.callers["127.0.1.3"] = TrialCaller("uid-3", 1, "other", "trial-a", "p")
        report = wire.SERVICES[wire.KATIB_DB_MANAGER]["ReportObservationLog"]
        async with from_address(served.katib, "127.0.1.1") as channel:
            assert await answer(channel, report, about(report, "", 0, "trial-a", "")) is OK
        async with from_address(served.katib, "127.0.1.3") as channel:
            read = wire.call(channel, wire.KATIB_DB_MANAGER, "GetObservationLog")
            request = api_pb2.GetObservationLogRequest(trial_name="trial-a")
            assert not (await read(request)).observation_log.metric_logs
        async with open_channel(served.target) as channel:
            rows = wire.call(channel, wire.OBSERVATIONS, "Read")
            read_rows = about(wire.SERVICES[wire.OBSERVATIONS]["Read"], "uid-1", 2, "", "")
            found = [
                row.value
                async for batch in rows(
                    read_rows, metadata=[("authorization", "Bearer controller")]
                )
                for row in batch.rows
            ]
            assert found == ["1"]

    on(tmp_path, scenario)


def test_health_is_answered_to_everybody_and_watched_by_nobody(tmp_path: Path) -> None:
    async def scenario(served: Served) -> None:
        for target in (served.target, served.katib):
            async with open_channel(target) as channel:
                stub = health_pb2_grpc.HealthStub(channel)
                reply = await stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
                assert reply.status == health_pb2.HealthCheckResponse.SERVING
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    async for _ in stub.Watch(health_pb2.HealthCheckRequest(), timeout=10):
                        pass
                assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED

    on(tmp_path, scenario)


def test_nothing_is_decoded_for_who_may_not_call(tmp_path: Path) -> None:
    async def scenario(served: Served) -> None:
        async with open_channel(served.target) as channel:
            for token, code in (
                ("nobody", UNKNOWN),
                ("namesake", DENIED),
                ("controller", grpc.StatusCode.INVALID_ARGUMENT),
            ):
                call = channel.unary_unary(f"/{wire.OBSERVATIONS}/Report")
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call(b"\xff\xff", metadata=[("authorization", f"Bearer {token}")])
                assert caught.value.code() is code

    on(tmp_path, scenario)


def test_nobody_passes_while_nobody_can_tell_who_calls(tmp_path: Path) -> None:
    """Unavailable, which clients repeat."""

    async def scenario(served: Served) -> None:
        served.callers.is_away = True
        report = wire.SERVICES[wire.OBSERVATIONS]["Report"]
        read = wire.SERVICES[wire.KATIB_DB_MANAGER]["GetObservationLog"]
        async with open_channel(served.target) as channel:
            found = await answer(channel, report, about(report, *ABOUT["itself"]), "own")
            assert found is grpc.StatusCode.UNAVAILABLE
        async with from_address(served.katib, "127.0.1.1") as channel:
            found = await answer(channel, read, about(read, *ABOUT["itself"]))
            assert found is grpc.StatusCode.UNAVAILABLE

    on(tmp_path, scenario)


@pytest.mark.parametrize(
    "header", ["Basic b3du", "Bearer", "Bearer ", "own", "Bearer " + "x" * 8193, "Bearer own, own"]
)
def test_a_header_that_is_no_bearer_token_is_refused(tmp_path: Path, header: str) -> None:
    # gRPC itself refuses some of the headers above 8 KiB, by chance, and all above 16.
    codes = (UNKNOWN, grpc.StatusCode.RESOURCE_EXHAUSTED) if len(header) > 8192 else (UNKNOWN,)
    assert _code_of(tmp_path, [("authorization", header)]) in codes


def test_two_tokens_are_refused(tmp_path: Path) -> None:
    assert _code_of(tmp_path, [("authorization", "Bearer own")] * 2) is UNKNOWN


def _code_of(folder: Path, metadata: list[tuple[str, str]]) -> Any:
    codes = []

    async def scenario(served: Served) -> None:
        method = wire.SERVICES[wire.OBSERVATIONS]["Sources"]
        async with open_channel(served.target) as channel:
            call = wire.call(channel, wire.OBSERVATIONS, "Sources")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(about(method, *ABOUT["itself"]), metadata=metadata)
            codes.append(caught.value.code())

    on(folder, scenario)
    return codes[0]


def test_katibs_listener_needs_to_know_callers(tmp_path: Path) -> None:
    options = ServerOptions(f"unix:{tmp_path}/s/o.sock", "", katib_listen="0.0.0.0:6789")
    with pytest.raises(ListenError, match="--katib-listen goes with --cluster"):
        check(options, is_guarded=False)
    check(options, is_guarded=True)
