# SPDX-License-Identifier: Apache-2.0
"""`tunesmith suggestion` and `tunesmith db-manager`: Katib's clients are answered."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from command_line import CommandLine, eventually
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tunesmith_proto import wire
from tunesmith_proto.katib import api_pb2 as katib

pytestmark = pytest.mark.integration


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path, tmp_path / "home")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def served(cli: CommandLine) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes to be ended with the test."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.terminate()
        assert process.wait(timeout=10) == 0


def is_serving(channel: grpc.Channel, service: str) -> bool:
    try:
        reply = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(service=service), timeout=1
        )
    except grpc.RpcError:
        return False
    return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)


def a_katib_request(count: int) -> katib.GetSuggestionsRequest:
    space = katib.FeasibleSpace(min="0.01", max="0.1", distribution=katib.LOG_UNIFORM)
    lr = katib.ParameterSpec(name="lr", parameter_type=katib.DOUBLE, feasible_space=space)
    spec = katib.ExperimentSpec(
        parameter_specs=katib.ExperimentSpec.ParameterSpecs(parameters=[lr]),
        objective=katib.ObjectiveSpec(type=katib.MINIMIZE, objective_metric_name="loss"),
        algorithm=katib.AlgorithmSpec(algorithm_name="tpe"),
    )
    experiment = katib.Experiment(name="by-hand", spec=spec)
    return katib.GetSuggestionsRequest(
        experiment=experiment, current_request_number=count, total_request_number=count
    )


def test_the_suggestion_service_answers_katibs_protocol(
    cli: CommandLine, served: list[subprocess.Popen[str]]
) -> None:
    address = f"127.0.0.1:{free_port()}"
    served.append(cli.start("suggestion", "--listen", address, "--insecure"))
    with grpc.insecure_channel(address) as channel:
        eventually(lambda: is_serving(channel, wire.KATIB_HEALTH_SERVICE), "it serves")
        ask = wire.call(channel, wire.KATIB_SUGGESTION, "GetSuggestions")
        first, again = ask(a_katib_request(3), timeout=30), ask(a_katib_request(3), timeout=30)
    values = [float(p.assignments[0].value) for p in first.parameter_assignments]
    assert len(values) == 3
    assert all(0.01 <= value <= 0.1 for value in values)
    assert first == again


def test_the_db_manager_stores_and_returns_what_katibs_clients_report(
    cli: CommandLine, served: list[subprocess.Popen[str]]
) -> None:
    address = f"127.0.0.1:{free_port()}"
    url = f"sqlite:///{cli.folder}/rows.db"
    served.append(cli.start("db-manager", "--listen", address, "--db", url, "--insecure"))
    row = katib.MetricLog(
        time_stamp="2026-01-02T03:04:05Z", metric=katib.Metric(name="loss", value="0.5")
    )
    report = katib.ReportObservationLogRequest(
        trial_name="t-1", observation_log=katib.ObservationLog(metric_logs=[row])
    )
    with grpc.insecure_channel(address) as channel:
        eventually(lambda: is_serving(channel, ""), "it serves")
        wire.call(channel, wire.KATIB_DB_MANAGER, "ReportObservationLog")(report, timeout=10)
        read = wire.call(channel, wire.KATIB_DB_MANAGER, "GetObservationLog")
        reply = read(katib.GetObservationLogRequest(trial_name="t-1"), timeout=10)
    (found,) = reply.observation_log.metric_logs
    assert (found.metric.name, found.metric.value) == ("loss", "0.5")


@pytest.mark.parametrize(
    "arguments",
    [
        ("suggestion", "--listen", "127.0.0.1:0"),
        ("suggestion", "--listen", "0.0.0.0:0", "--insecure"),
        ("suggestion", "--listen", "nonsense", "--insecure"),
        ("db-manager", "--listen", "127.0.0.1:0", "--db", "sqlite:///x.db"),
        ("db-manager", "--listen", "127.0.0.1:0", "--db", "nonsense", "--insecure"),
    ],
)
def test_unsafe_or_unusable_addresses_are_refused_in_one_sentence(
    cli: CommandLine, arguments: tuple[str, ...]
) -> None:
    done = cli.run(*arguments, timeout=30)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.strip() and "Traceback" not in done.stderr
