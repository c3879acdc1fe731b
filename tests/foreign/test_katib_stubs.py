# SPDX-License-Identifier: Apache-2.0
"""Katib's own gRPC stubs, unmodified, call our services and get right answers."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from command_line import CommandLine, eventually

pytestmark = [pytest.mark.integration, pytest.mark.oracle]

Call = Callable[..., Any]
Serve = Callable[..., str]


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Starts a service command on a free port and gives its address; ended with the module."""
    folder = tmp_path_factory.mktemp("services")
    cli = CommandLine(folder, folder / "home")
    started: list[subprocess.Popen[str]] = []

    def start(command: str, *arguments: str) -> str:
        port = free_port()
        listen = ("--listen", f"127.0.0.1:{port}", "--insecure")
        process = cli.start(command, *listen, *arguments)
        started.append(process)
        eventually(lambda: is_listening(cli, process, port), f"{command} listens")
        return f"127.0.0.1:{port}"

    yield start
    for process in started:
        process.terminate()
    for process in started:
        process.wait(timeout=20)


@pytest.fixture(scope="module")
def suggestion(serve: Serve) -> str:
    return serve("suggestion")


@pytest.fixture(scope="module")
def db_manager(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> str:
    return serve("db-manager", "--db", f"sqlite:///{tmp_path_factory.mktemp('rows')}/rows.db")


@pytest.fixture(scope="module")
def early_stopping(serve: Serve) -> str:
    return serve("earlystopping")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_listening(cli: CommandLine, process: subprocess.Popen[str], port: int) -> bool:
    assert process.poll() is None, (cli.folder / "command.log").read_text()
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def experiment(algorithm: str = "tpe", **settings: str) -> dict[str, Any]:
    parameters = [
        {
            "name": "lr",
            "parameterType": "DOUBLE",
            "feasibleSpace": {"min": "0.01", "max": "0.1", "distribution": "LOG_UNIFORM"},
        },
        {
            "name": "optimizer",
            "parameterType": "CATEGORICAL",
            "feasibleSpace": {"list": ["sgd", "adam"]},
        },
    ]
    spec = {
        "parameterSpecs": {"parameters": parameters},
        "objective": {"type": "MINIMIZE", "objectiveMetricName": "loss"},
        "algorithm": {
            "algorithmName": algorithm,
            "algorithmSettings": [{"name": k, "value": v} for k, v in settings.items()],
        },
        "maxTrialCount": 12,
        "parallelTrialCount": 3,
    }
    return {"name": "foreign", "spec": spec}


def succeeded(name: str, assignments: Sequence[Any] = (), loss: str = "1") -> dict[str, Any]:
    return {
        "name": name,
        "spec": {
            "objective": {"type": "MINIMIZE", "objectiveMetricName": "loss"},
            "parameterAssignments": {"assignments": list(assignments)},
        },
        "status": {
            "condition": "SUCCEEDED",
            "startTime": f"2026-01-02T03:04:0{name[-1]}Z",
            "completionTime": f"2026-01-02T03:05:0{name[-1]}Z",
            "observation": {"metrics": [{"name": "loss", "value": loss}]},
        },
    }


# ---- Suggestion ---------------------------------------------------------------------------------


def ask(agent: Call, target: str, trials: Sequence[Any], total: int) -> list[dict[str, str]]:
    """Three more assignments; katib's controller sends every trial every time."""
    request = {
        "experiment": experiment(random_state="7"),
        "trials": list(trials),
        "currentRequestNumber": 3,
        "totalRequestNumber": total,
    }
    reply = agent(
        "stub", target=target, service="Suggestion", method="GetSuggestions", request=request
    )
    return [
        {found["name"]: found["value"] for found in group["assignments"]}
        for group in reply["parameterAssignments"]
    ]


def test_suggestions_follow_from_a_growing_history(agent: Call, suggestion: str) -> None:
    first = ask(agent, suggestion, [], 3)
    trials = [
        succeeded(f"t-{number}", [{"name": k, "value": v} for k, v in values.items()])
        for number, values in enumerate(first)
    ]
    second = ask(agent, suggestion, trials, 6)
    assert [len(first), len(second)] == [3, 3]
    for values in first + second:
        assert set(values) == {"lr", "optimizer"}
        assert 0.01 <= float(values["lr"]) <= 0.1
        assert values["optimizer"] in ("sgd", "adam")
    assert len({values["lr"] for values in first + second}) == 6
    assert ask(agent, suggestion, trials, 6) == second


def test_good_algorithm_settings_are_accepted(agent: Call, suggestion: str) -> None:
    assert validate(agent, suggestion, experiment(n_startup_trials="5")) == {}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (experiment(n_startup_trials="many"), "n_startup_trials"),
        (experiment(surprise="1"), "surprise"),
        (experiment("nonsense"), "nonsense"),
    ],
)
def test_bad_algorithm_settings_are_invalid_arguments(
    agent: Call, suggestion: str, wrong: dict[str, Any], words: str
) -> None:
    with pytest.raises(RuntimeError, match=rf"INVALID_ARGUMENT: .*{words}"):
        validate(agent, suggestion, wrong)


def validate(agent: Call, target: str, asked: dict[str, Any]) -> Any:
    request = {"experiment": asked}
    method = "ValidateAlgorithmSettings"
    return agent("stub", target=target, service="Suggestion", method=method, request=request)


def test_the_suggestion_service_is_healthy_under_katibs_name(agent: Call, suggestion: str) -> None:
    for service in ("manager.v1beta1.Suggestion", ""):
        assert agent("health", target=suggestion, service=service) == "SERVING"


# ---- DBManager ----------------------------------------------------------------------------------


def rows(*values: str, name: str = "loss") -> list[dict[str, Any]]:
    return [
        {"timeStamp": f"2026-01-02T03:04:{second:02}Z", "metric": {"name": name, "value": value}}
        for second, value in enumerate(values)
    ]


def report(agent: Call, target: str, trial: str, logs: list[dict[str, Any]]) -> None:
    request = {"trialName": trial, "observationLog": {"metricLogs": logs}}
    method = "ReportObservationLog"
    agent("stub", target=target, service="DBManager", method=method, request=request)


def read(agent: Call, target: str, trial: str, **more: str) -> list[tuple[str, str]]:
    request = {"trialName": trial, **more}
    reply = agent(
        "stub", target=target, service="DBManager", method="GetObservationLog", request=request
    )
    logs = reply["observationLog"].get("metricLogs", [])
    return [(log["metric"]["name"], log["metric"]["value"]) for log in logs]


def test_an_observation_log_is_reported_read_and_deleted(agent: Call, db_manager: str) -> None:
    report(agent, db_manager, "a", rows("0.5", "0.25") + rows("0.9", name="accuracy"))
    report(agent, db_manager, "b", rows("7"))
    assert sorted(read(agent, db_manager, "a")) == [
        ("accuracy", "0.9"),
        ("loss", "0.25"),
        ("loss", "0.5"),
    ]
    assert read(agent, db_manager, "a", metricName="loss") == [("loss", "0.5"), ("loss", "0.25")]
    start = "2026-01-02T03:04:01Z"
    assert read(agent, db_manager, "a", metricName="loss", startTime=start) == [("loss", "0.25")]
    gone = {"trialName": "a"}
    agent(
        "stub",
        target=db_manager,
        service="DBManager",
        method="DeleteObservationLog",
        request=gone,
    )
    assert read(agent, db_manager, "a") == []
    assert read(agent, db_manager, "b") == [("loss", "7")]


def test_katibs_client_reads_the_metrics_of_a_trial(
    agent: Call, db_manager: str, tmp_path: Path
) -> None:
    report(agent, db_manager, "c", rows("0.5", "0.25"))
    arguments = {"name": "c", "db_manager_address": db_manager}
    found = agent("call", config=nowhere(tmp_path), method="get_trial_metrics", arguments=arguments)
    assert [row["metric"]["value"] for row in found] == ["0.5", "0.25"]


def nowhere(folder: Path) -> str:
    """A kubeconfig, which KatibClient wants even for what needs no API server."""
    path = folder / "config"
    path.write_text(
        """\
apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "http://127.0.0.1:9"}}]
users: [{name: u, user: {}}]
"""
    )
    return str(path)


# ---- EarlyStopping ------------------------------------------------------------------------------


def test_early_stopping_rules_follow_from_finished_trials(
    agent: Call, db_manager: str, early_stopping: str
) -> None:
    trials = []
    for number, base in enumerate((0.4, 0.5, 0.9)):
        name = f"es-{number}"
        report(agent, db_manager, name, rows(*[f"{base - step / 100}" for step in range(5)]))
        trials.append(succeeded(name, loss=str(base)))
    found = rules(agent, early_stopping, db_manager, trials)
    assert len(found) == 1
    (rule,) = found
    assert (rule["name"], rule["comparison"], rule["startStep"]) == ("loss", "GREATER", 2)
    # The median of the three means of the first two values: 0.395, 0.495, 0.895.
    assert float(rule["value"]) == pytest.approx(0.495)


def test_there_is_no_rule_before_enough_trials_have_finished(
    agent: Call, db_manager: str, early_stopping: str
) -> None:
    report(agent, db_manager, "few-0", rows("0.4"))
    assert rules(agent, early_stopping, db_manager, [succeeded("few-0")]) == []


def rules(agent: Call, target: str, db_manager: str, trials: Sequence[Any]) -> list[Any]:
    asked = experiment()
    asked["spec"]["earlyStopping"] = median_stop(min_trials_required="3", start_step="2")
    request = {"experiment": asked, "trials": list(trials), "dbManagerAddress": db_manager}
    reply = agent(
        "stub",
        target=target,
        service="EarlyStopping",
        method="GetEarlyStoppingRules",
        request=request,
    )
    return list(reply.get("earlyStoppingRules", []))


def median_stop(**settings: str) -> dict[str, Any]:
    listed = [{"name": name, "value": value} for name, value in settings.items()]
    return {"algorithmName": "medianstop", "algorithmSettings": listed}


def check_stopping(agent: Call, target: str, spec: dict[str, Any]) -> Any:
    return agent(
        "stub",
        target=target,
        service="EarlyStopping",
        method="ValidateEarlyStoppingSettings",
        request={"earlyStopping": spec},
    )


def test_good_early_stopping_settings_are_accepted(agent: Call, early_stopping: str) -> None:
    good = median_stop(min_trials_required="3", start_step="4")
    assert check_stopping(agent, early_stopping, good) == {}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (median_stop(start_step="0"), "start_step"),
        (median_stop(surprise="1"), "surprise"),
        ({"algorithmName": "nonsense"}, "nonsense"),
    ],
)
def test_bad_early_stopping_settings_are_invalid_arguments(
    agent: Call, early_stopping: str, wrong: dict[str, Any], words: str
) -> None:
    with pytest.raises(RuntimeError, match=rf"INVALID_ARGUMENT: .*{words}"):
        check_stopping(agent, early_stopping, wrong)
