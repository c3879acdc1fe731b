# SPDX-License-Identifier: Apache-2.0
"""Collector kind Push with what Katib's SDK does: trials report by name to a DBManager."""

from __future__ import annotations

import socket
import sys
import textwrap
from pathlib import Path

import pytest
from command_line import CommandLine, eventually

pytestmark = pytest.mark.integration

PROGRAM = """
import os, sys
import grpc
from tunesmith_proto import wire
from tunesmith_proto.katib import api_pb2 as pb

log = pb.ObservationLog(metric_logs=[
    pb.MetricLog(time_stamp="2026-01-01T00:00:00Z", metric=pb.Metric(name="loss", value=value))
    for value in ("0.9", sys.argv[1])
])
name = os.environ["KATIB_TRIAL_NAME"]
with grpc.insecure_channel(os.environ["DB_MANAGER"]) as channel:
    call = channel.unary_unary(
        "/api.v1.beta1.DBManager/ReportObservationLog",
        request_serializer=pb.ReportObservationLogRequest.SerializeToString,
        response_deserializer=pb.ReportObservationLogReply.FromString,
    )
    call(pb.ReportObservationLogRequest(trial_name=name, observation_log=log), timeout=10)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def an_experiment(cli: CommandLine, name: str, *command: str) -> Path:
    return cli.experiment(
        name,
        command,
        maxTrialCount=2,
        parallelTrialCount=2,
        metricsCollectorSpec={"collector": {"kind": "Push"}},
    )


def test_rows_reported_by_trial_name_count(tmp_path: Path) -> None:
    cli = CommandLine(tmp_path, tmp_path / "home")
    address = f"127.0.0.1:{free_port()}"
    cli.write("push.py", textwrap.dedent(PROGRAM))
    script = f'DB_MANAGER={address} exec {sys.executable} push.py "${{0#--x=}}"'
    file = an_experiment(cli, "pushed", "sh", "-c", script)
    serving = cli.start("serve", "--db-manager", address)
    try:
        eventually((cli.home / "api.json").exists, "the API is up")
        created = cli.run("create", str(file))
        assert created.returncode == 0, created.stderr
        assert cli.run("watch", "pushed").returncode == 0
    finally:
        serving.terminate()
        serving.wait(30)
    trials = cli.json("trials", "pushed")
    assert [trial["state"] for trial in trials] == ["Succeeded", "Succeeded"]
    for trial in trials:
        assert float(trial["metrics"]["loss"]["latest"]) == float(trial["parameters"]["x"])


def test_without_a_report_the_trial_says_what_works(tmp_path: Path) -> None:
    cli = CommandLine(tmp_path, tmp_path / "home")
    cli.run("run", str(an_experiment(cli, "silent", "sh", "-c", "echo loss=0.5")))
    trial = cli.json("trials", "silent")[0]
    assert trial["state"] == "MetricsUnavailable"
    assert "tunesmith.report(loss=0.93) works everywhere" in trial["message"]
    assert "report_metrics of Katib's SDK" in trial["message"]
