# SPDX-License-Identifier: Apache-2.0
"""Katib's EarlyStopping on the wire, beside our real DBManager; and the service as a process."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tunesmith_api.errors import NotFound, Unavailable
from tunesmith_earlystopping import server as stopping
from tunesmith_observation import server as observation
from tunesmith_observation.sql import SqlObservationLog
from tunesmith_proto import wire
from tunesmith_proto.katib import api_pb2 as pb

pytestmark = pytest.mark.integration

SUCCEEDED = pb.TrialStatus.SUCCEEDED
AS_IN_KATIB = {"statistic": "mean", "horizon": "start"}


@dataclass
class Rig:
    """Both services in this process, and how Katib's controller and collectors call them."""

    log: SqlObservationLog
    db_server: Any
    db_manager: str
    stopping: Any
    sink: Sink
    logs_read: list[str] = field(default_factory=list)

    async def report(self, trial: str, *values: str) -> None:
        logs = [
            pb.MetricLog(
                time_stamp=f"2026-01-02T03:04:{second:02}Z",
                metric=pb.Metric(name=name, value=value),
            )
            for second, value in enumerate(values)
            for name, value in (("loss", value), ("other", "0"))
        ]
        request = pb.ReportObservationLogRequest(
            trial_name=trial, observation_log=pb.ObservationLog(metric_logs=logs)
        )
        async with grpc.aio.insecure_channel(self.db_manager) as channel:
            await wire.call(channel, wire.KATIB_DB_MANAGER, "ReportObservationLog")(request)

    async def rules(
        self,
        trials: Sequence[pb.Trial],
        settings: dict[str, str] | None = None,
        kind: pb.ObjectiveType = pb.MINIMIZE,
        db_manager: str | None = None,
    ) -> list[pb.EarlyStoppingRule]:
        request = pb.GetEarlyStoppingRulesRequest(
            experiment=pb.Experiment(
                name="e",
                spec=pb.ExperimentSpec(
                    objective=pb.ObjectiveSpec(type=kind, objective_metric_name="loss"),
                    early_stopping=a_rule(settings or {}),
                ),
            ),
            trials=trials,
            db_manager_address=self.db_manager if db_manager is None else db_manager,
        )
        reply = await self._call("GetEarlyStoppingRules")(request, timeout=20)
        return list(reply.early_stopping_rules)

    async def validate(self, spec: pb.EarlyStoppingSpec) -> None:
        request = pb.ValidateEarlyStoppingSettingsRequest(early_stopping=spec)
        await self._call("ValidateEarlyStoppingSettings")(request, timeout=20)

    async def set_status(self, trial: str) -> None:
        await self._call("SetTrialStatus")(pb.SetTrialStatusRequest(trial_name=trial), timeout=20)

    async def health(self, name: str) -> int:
        stub = health_pb2_grpc.HealthStub(self.stopping)
        reply = await stub.Check(health_pb2.HealthCheckRequest(service=name))
        return int(reply.status)

    def _call(self, method: str) -> Any:
        return wire.call(self.stopping, wire.KATIB_EARLY_STOPPING, method)


class Sink:
    """A `StopSink` that remembers, or fails as it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.error: Exception | None = None

    async def __call__(self, trial_name: str) -> None:
        if self.error is not None:
            raise self.error
        self.told.append(trial_name)


def with_services(
    folder: Path, scenario: Callable[[Rig], Awaitable[None]], *, has_sink: bool = True
) -> None:
    async def run() -> None:
        log = SqlObservationLog.open(f"sqlite:///{folder}/o.db")
        db_options = observation.ServerOptions("127.0.0.1:0", "", insecure=True)
        db_server, db_manager = await observation.start_server(db_options, log)
        options, sink = stopping.ServerOptions("127.0.0.1:0", insecure=True), Sink()
        server, target = await stopping.start_server(options, sink=sink if has_sink else None)
        async with grpc.aio.insecure_channel(target) as channel:
            await scenario(Rig(log, db_server, db_manager, channel, sink))
        await server.stop(None)
        await db_server.stop(None)
        await log.aclose()

    asyncio.run(run())


def a_rule(settings: dict[str, str], name: str = "medianstop") -> pb.EarlyStoppingSpec:
    listed = [pb.EarlyStoppingSetting(name=k, value=v) for k, v in settings.items()]
    return pb.EarlyStoppingSpec(algorithm_name=name, algorithm_settings=listed)


def a_trial(name: str, condition: pb.TrialStatus.TrialConditionType = SUCCEEDED) -> pb.Trial:
    status = pb.TrialStatus(condition=condition, start_time=f"2026-01-02T03:04:00Z {name}")
    return pb.Trial(name=name, status=status)


async def refusal(call: Awaitable[object]) -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return refused.value.code().name, refused.value.details() or ""


# ---- rules --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "comparison"), [(pb.MINIMIZE, pb.GREATER), (pb.MAXIMIZE, pb.LESS)]
)
def test_the_rule_follows_from_the_logs_of_succeeded_trials(
    tmp_path: Path, kind: pb.ObjectiveType, comparison: pb.ComparisonType
) -> None:
    async def scenario(rig: Rig) -> None:
        for name, first in (("a", "1"), ("b", "2"), ("c", "9"), ("failed", "50")):
            await rig.report(name, first, "0", "unavailable" if name == "b" else "7")
        trials = [a_trial(name) for name in "abc"]
        trials += [a_trial("failed", pb.TrialStatus.FAILED), a_trial("never-reported")]
        (median,) = await rig.rules(trials, {"start_step": "2"}, kind)
        (mean,) = await rig.rules(trials, {"start_step": "2", **AS_IN_KATIB}, kind)
        assert (median.name, median.comparison, median.start_step) == ("loss", comparison, 2)
        assert [float(median.value), float(mean.value)] == pytest.approx([1.0, 2.0])

    with_services(tmp_path, scenario)


def test_there_is_no_rule_before_enough_trials_have_succeeded(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.report("a", "1", "2")
        assert await rig.rules([]) == []
        assert await rig.rules([a_trial("a")]) == []
        assert len(await rig.rules([a_trial("a")], {"min_trials_required": "1"})) == 1

    with_services(tmp_path, scenario)


def test_a_log_is_read_once_and_again_for_another_trial_of_its_name(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        few = {"min_trials_required": "1", "start_step": "1"}
        first = a_trial("a")
        await rig.report("a", "1")
        (rule,) = await rig.rules([first], few)
        await rig.db_server.stop(None)
        assert await rig.rules([first], few) == [rule]
        later = pb.Trial()
        later.CopyFrom(first)
        later.status.start_time = "2026-01-03T00:00:00Z"
        code, _ = await refusal(rig.rules([later], few))
        assert code == "UNAVAILABLE"

    with_services(tmp_path, scenario)


def test_hundreds_of_logs_are_read_in_one_request(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        names = [f"t-{number}" for number in range(200)]
        for number, name in enumerate(names):
            await rig.report(name, str(number))
        (rule,) = await rig.rules([a_trial(name) for name in names], {"start_step": "1"})
        assert float(rule.value) == 99.5

    with_services(tmp_path, scenario)


def test_a_db_manager_that_is_down_is_said_to_be(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            nobody = f"127.0.0.1:{unused.getsockname()[1]}"
            code, said = await refusal(rig.rules([a_trial("a")], db_manager=nobody))
        assert code == "UNAVAILABLE"
        assert f"cannot read the log of trial 'a' from the DB manager at {nobody}" in said
        assert "is it running" in said
        assert await refusal(rig.rules([a_trial("a")], db_manager="")) == (
            "INVALID_ARGUMENT",
            "db_manager_address must be given: the logs of ended trials are read there",
        )

    with_services(tmp_path, scenario)


def test_a_db_manager_that_hangs_is_given_up_before_the_caller_is(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            address = f"127.0.0.1:{silent.getsockname()[1]}"
            request = pb.GetEarlyStoppingRulesRequest(
                experiment=pb.Experiment(
                    spec=pb.ExperimentSpec(
                        objective=pb.ObjectiveSpec(type=pb.MINIMIZE, objective_metric_name="m"),
                        early_stopping=a_rule({}),
                    )
                ),
                trials=[a_trial("a")],
                db_manager_address=address,
            )
            call = wire.call(rig.stopping, wire.KATIB_EARLY_STOPPING, "GetEarlyStoppingRules")
            code, said = await refusal(call(request, timeout=2.0))
        assert code == "UNAVAILABLE"
        assert address in said

    with_services(tmp_path, scenario)


# ---- settings -----------------------------------------------------------------------------------


def test_katibs_settings_are_accepted(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.validate(a_rule({}))
        await rig.validate(a_rule({"min_trials_required": "1", "start_step": "5"}))

    with_services(tmp_path, scenario)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (a_rule({"start_step": "0"}), "must be an integer >= 1"),
        (a_rule({"start_stop": "4"}), "did you mean start_step?"),
        (a_rule({}, name="hyperband"), "unknown stopping rule 'hyperband' (known: medianstop)"),
        (a_rule({}, name=""), "unknown stopping rule ''"),
        (
            pb.EarlyStoppingSpec(
                algorithm_name="medianstop",
                algorithm_settings=[pb.EarlyStoppingSetting(name="start_step", value="4")] * 2,
            ),
            "setting 'start_step' is given twice",
        ),
    ],
)
def test_a_bad_rule_is_an_invalid_argument_with_a_sentence(
    tmp_path: Path, spec: pb.EarlyStoppingSpec, words: str
) -> None:
    async def scenario(rig: Rig) -> None:
        code, said = await refusal(rig.validate(spec))
        assert code == "INVALID_ARGUMENT"
        assert words in said

    with_services(tmp_path, scenario)


def test_bad_settings_and_objectives_are_refused_when_rules_are_asked_for(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        code, said = await refusal(rig.rules([], {"start_step": "0"}))
        assert (code, "start_step" in said) == ("INVALID_ARGUMENT", True)
        code, said = await refusal(rig.rules([], kind=pb.UNKNOWN))
        assert (code, said) == ("INVALID_ARGUMENT", "objective.type must be minimize or maximize")

    with_services(tmp_path, scenario)


# ---- stops of foreign collectors ----------------------------------------------------------------


def test_the_sink_hears_of_a_stop_and_its_errors_reach_the_collector(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.set_status("t-1")
        assert rig.sink.told == ["t-1"]
        rig.sink.error = NotFound("no trial t-2")
        assert await refusal(rig.set_status("t-2")) == ("NOT_FOUND", "no trial t-2")
        rig.sink.error = Unavailable("the API is away")
        assert await refusal(rig.set_status("t-2")) == ("UNAVAILABLE", "the API is away")
        rig.sink.error = RuntimeError("secret")
        code, said = await refusal(rig.set_status("t-2"))
        assert (code, "secret" in said) == ("INTERNAL", False)
        assert (await refusal(rig.set_status("")))[0] == "INVALID_ARGUMENT"

    with_services(tmp_path, scenario)


def test_a_service_without_a_sink_says_how_to_give_it_one(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        code, said = await refusal(rig.set_status("t-1"))
        assert (code, "--api URL" in said) == ("FAILED_PRECONDITION", True)

    with_services(tmp_path, scenario, has_sink=False)


# ---- the process --------------------------------------------------------------------------------


def test_health_is_known_under_our_names_and_katibs(tmp_path: Path) -> None:
    async def scenario(rig: Rig) -> None:
        for name in ("", wire.KATIB_EARLY_STOPPING, wire.KATIB_HEALTH_SERVICE):
            assert await rig.health(name) == health_pb2.HealthCheckResponse.SERVING
        assert (await refusal(rig.health("another.Service")))[0] == "NOT_FOUND"

    with_services(tmp_path, scenario)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_process_says_where_it_serves_and_ends_when_told(
    tmp_path: Path, number: signal.Signals
) -> None:
    path = tmp_path / "s" / "e.sock"
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "tunesmith_earlystopping", "--listen", f"unix:{path}"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said == f"tunesmith earlystopping: SERVING on unix:{path}\n"
        with grpc.insecure_channel(f"unix:{path}") as channel:
            call = wire.call(channel, wire.KATIB_EARLY_STOPPING, "ValidateEarlyStoppingSettings")
            call(pb.ValidateEarlyStoppingSettingsRequest(early_stopping=a_rule({})), timeout=10)
        assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
        process.send_signal(number)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.communicate()
