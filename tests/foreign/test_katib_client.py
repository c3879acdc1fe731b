# SPDX-License-Identifier: Apache-2.0
"""Katib's Python client, unmodified, works against `tunesmith serve` as against a cluster."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import CommandLine, eventually

pytestmark = [pytest.mark.integration, pytest.mark.oracle]

Call = Callable[..., Any]
QUICK = "import sys; x = float(sys.argv[1][4:]); print(f'loss={x * x}')"
GATED = (
    "import os, sys, time\nprint('loss=1', flush=True)\n"
    "while not os.path.exists(sys.argv[1]): time.sleep(0.02)\nprint('loss=0.5')"
)
"""Ends once the file that it is given exists."""


def experiment(name: str, code: str, *arguments: str, **spec: Any) -> dict[str, Any]:
    """What a user of Katib writes, and no more: defaults are the server's."""
    container = {
        "name": "training-container",
        "image": "docker.io/library/python:3.11",
        "command": [sys.executable, "-c", code, *arguments, "--x=${trialParameters.x}"],
        "resources": {"limits": {"cpu": "100m"}},
    }
    pod = {"restartPolicy": "Never", "containers": [container]}
    body = {
        "objective": {"type": "minimize", "objectiveMetricName": "loss"},
        "algorithm": {"algorithmName": "random"},
        "maxTrialCount": 3,
        "parallelTrialCount": 1,
        "parameters": [
            {
                "name": "x",
                "parameterType": "double",
                "feasibleSpace": {"min": "-2", "max": "2"},
            }
        ],
        "trialTemplate": {
            "primaryContainerName": "training-container",
            "trialParameters": [{"name": "x", "reference": "x"}],
            "trialSpec": {
                "apiVersion": "batch/v1",
                "kind": "Job",
                "spec": {"template": {"spec": pod}},
            },
        },
    }
    head = {"apiVersion": "kubeflow.org/v1beta1", "kind": "Experiment"}
    return {**head, "metadata": {"name": name}, "spec": {**body, **spec}}


def wait(katib: Call, name: str, condition: str = "Succeeded") -> Any:
    return katib(
        "wait_for_experiment_condition",
        name=name,
        expected_condition=condition,
        timeout=60,
        polling_interval=0.1,
    )


def loss_of(trial: dict[str, Any]) -> float:
    [metric] = trial["status"]["observation"]["metrics"]
    return float(metric["latest"])


# ---- an experiment that has ended ---------------------------------------------------------------


@pytest.fixture(scope="module")
def done(katib: Call) -> str:
    """The name of an experiment, given as a dict, that has succeeded with three trials."""
    katib("create_experiment", experiment=experiment("done", QUICK, parallelTrialCount=3))
    wait(katib, "done")
    return "done"


def test_an_experiment_waited_for_has_succeeded(katib: Call, done: str) -> None:
    status = wait(katib, done)["status"]
    assert status["trialsSucceeded"] == 3
    assert status["conditions"][-1]["type"] == "Succeeded"


def test_the_optimal_hyperparameters_are_those_of_the_best_trial(katib: Call, done: str) -> None:
    trials = katib("list_trials", experiment_name=done)
    best = min(trials, key=loss_of)
    optimal = katib("get_optimal_hyperparameters", name=done)
    assert optimal["bestTrialName"] == best["metadata"]["name"]
    assert optimal["parameterAssignments"] == best["spec"]["parameterAssignments"]
    [metric] = optimal["observation"]["metrics"]
    assert float(metric["latest"]) == loss_of(best)
    assert {metric[field] for field in ("min", "max")} == {metric["latest"]}


def test_trials_are_listed_by_experiment_and_read_by_name(katib: Call, done: str) -> None:
    trials = katib("list_trials", experiment_name=done)
    assert len(trials) == 3
    for trial in trials:
        assert katib("get_trial", name=trial["metadata"]["name"]) == trial
    assert katib("list_trials", experiment_name="another") == []


def test_experiments_are_listed_and_read(katib: Call, done: str) -> None:
    found = katib("get_experiment", name=done)
    assert found in katib("list_experiments")
    assert found["spec"]["trialTemplate"]["successCondition"]
    assert katib("list_experiments", namespace="another") == []


def test_the_suggestion_of_an_experiment_holds_its_assignments(katib: Call, done: str) -> None:
    suggestion = katib("get_suggestion", name=done)
    assert suggestion["spec"]["algorithm"]["algorithmName"] == "random"
    assert suggestion["status"]["suggestionCount"] == 3


def test_the_details_of_succeeded_trials_have_their_metrics(katib: Call, done: str) -> None:
    details = katib("get_success_trial_details", experiment_name=done)
    assert len(details) == 3
    for trial in details:
        [x] = trial["parameter_assignments"]
        [loss] = trial["metrics"]
        assert float(loss["latest"]) == pytest.approx(float(x["value"]) ** 2)


def test_the_logs_of_a_trial_are_what_it_printed(katib: Call, done: str) -> None:
    trial = katib("list_trials", experiment_name=done)[0]
    name = trial["metadata"]["name"]
    for follow in (False, True):
        lines = katib("get_job_logs", name=done, trial_name=name, follow=follow)
        assert [line for line in lines if "loss=" in line] == [f"loss={loss_of(trial)}"]


def test_conditions_say_where_an_experiment_is(katib: Call, done: str) -> None:
    states = ("created", "running", "restarting", "succeeded", "failed")
    found = {state: katib(f"is_experiment_{state}", name=done) for state in states}
    assert found == {
        "created": True,
        "running": False,
        "restarting": False,
        "succeeded": True,
        "failed": False,
    }
    types = [condition["type"] for condition in katib("get_experiment_conditions", name=done)]
    assert types[0] == "Created"
    assert types[-1] == "Succeeded"


def test_the_official_client_watches_what_the_api_serves(
    agent: Call, machine: CommandLine, katib: Call, done: str
) -> None:
    config = str(machine.home / "kubeconfig")
    listed = [trial["metadata"]["name"] for trial in katib("list_trials")]
    events = agent("watched", config=config, plural="trials", count=len(listed))
    assert sorted(events) == sorted(["ADDED", name] for name in listed)


# ---- other ways in ------------------------------------------------------------------------------


def test_an_experiment_can_be_given_as_katibs_model(
    agent: Call, machine: CommandLine, katib: Call
) -> None:
    config = str(machine.home / "kubeconfig")
    agent("create_model", config=config, experiment=experiment("model", QUICK, maxTrialCount=1))
    assert wait(katib, "model")["status"]["trialsSucceeded"] == 1


def test_tune_runs_a_function_with_its_searched_and_constant_arguments(
    agent: Call, machine: CommandLine, katib: Call
) -> None:
    agent("tune", config=str(machine.home / "kubeconfig"), name="tuned")
    found = wait(katib, "tuned")
    spaces = {p["name"]: p["feasibleSpace"] for p in found["spec"]["parameters"]}
    assert spaces["kind"]["list"] == ["good", "bad"]
    optimal = katib("get_optimal_hyperparameters", name="tuned")
    values = {found["name"]: found["value"] for found in optimal["parameterAssignments"]}
    assert set(values) == {"x", "steps", "kind"}
    expected = (float(values["x"]) - 1) ** 2 + int(values["steps"])
    expected += 0 if values["kind"] == "good" else 10
    assert float(optimal["observation"]["metrics"][0]["latest"]) == pytest.approx(expected)


def test_a_generated_name_is_the_servers(agent: Call, machine: CommandLine, katib: Call) -> None:
    draft = experiment("", QUICK, maxTrialCount=1)
    draft["metadata"] = {"generateName": "made-"}
    agent("create_model", config=str(machine.home / "kubeconfig"), experiment=draft)
    names = [found["metadata"]["name"] for found in katib("list_experiments")]
    [name] = [name for name in names if name.startswith("made-")]
    assert wait(katib, name)["status"]["trialsSucceeded"] == 1


# ---- while it runs ------------------------------------------------------------------------------


def test_the_budget_of_a_running_experiment_is_edited_and_nothing_else(
    katib: Call, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    name = "edited"
    searched = experiment(name, GATED, str(gate), maxTrialCount=2, parallelTrialCount=1)
    # As katib.search.categorical writes it; edit_experiment_budget sends it back as one text.
    kind = {"name": "kind", "parameterType": "categorical"}
    searched["spec"]["parameters"].append({**kind, "feasibleSpace": {"distribution": ["a", "b"]}})
    katib("create_experiment", experiment=searched)
    wait(katib, name, "Running")
    before = katib("get_experiment", name=name)["spec"]
    katib(
        "edit_experiment_budget",
        name=name,
        max_trial_count=3,
        parallel_trial_count=2,
        max_failed_trial_count=1,
    )
    after = katib("get_experiment", name=name)["spec"]
    counts = {"maxTrialCount": 3, "parallelTrialCount": 2, "maxFailedTrialCount": 1}
    assert after == {**before, **counts}
    gate.touch()
    assert wait(katib, name)["status"]["trialsSucceeded"] == 3


def test_the_logs_of_a_running_trial_can_be_followed(
    katib: Call, agent: Call, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    name = "followed"
    katib("create_experiment", experiment=experiment(name, GATED, str(gate), maxTrialCount=1))
    trial = eventually(lambda: running_trial(katib, name), "a trial runs")
    ask = {"name": name, "trial_name": trial}
    eventually(lambda: "loss=1" in str(katib("get_job_logs", **ask)), "it has printed a line")
    gate.touch()
    lines = katib("get_job_logs", **ask, follow=True)
    assert [line for line in lines if "loss=" in line] == ["loss=1", "loss=0.5"]


def running_trial(katib: Call, experiment_name: str) -> str | None:
    for trial in katib("list_trials", experiment_name=experiment_name):
        types = [c["type"] for c in (trial.get("status") or {}).get("conditions", [])]
        if "Running" in types:
            return str(trial["metadata"]["name"])
    return None


def test_a_deleted_experiment_is_gone_with_its_trials(
    katib: Call, machine: CommandLine, tmp_path: Path
) -> None:
    name = "deleted"
    draft = experiment(name, GATED, str(tmp_path / "never"))
    katib("create_experiment", experiment=draft)
    eventually(lambda: running_trial(katib, name), "a trial runs")
    katib("delete_experiment", name=name)
    eventually(lambda: katib("list_trials", experiment_name=name) == [], "its trials are gone")
    eventually(lambda: name not in json.dumps(katib("list_experiments")), "it is gone")
    with pytest.raises(RuntimeError, match="Failed to get Katib Experiment: default/deleted"):
        katib("get_experiment", name=name)
    eventually(lambda: not processes_with(str(tmp_path / "never")), "its processes have ended")


def processes_with(argument: str) -> list[Path]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if argument.encode() in path.read_bytes():
                found.append(path)
        except OSError:
            continue
    return found


# ---- refusals -----------------------------------------------------------------------------------


def test_a_second_experiment_of_a_name_exists_already(katib: Call, done: str) -> None:
    with pytest.raises(RuntimeError, match=f"name default/{done} already exists"):
        katib("create_experiment", experiment=experiment(done, QUICK))


def test_an_invalid_experiment_is_refused_with_our_sentence(katib: Call) -> None:
    wrong = experiment("wrong", QUICK, maxTrialCount=0)
    wrong["spec"]["algorithm"] = {"algorithmName": "randon"}
    with pytest.raises(RuntimeError, match="Failed to create Katib Experiment") as caught:
        katib("create_experiment", experiment=wrong)
    told = str(caught.value)
    assert "(422)" in told
    assert "spec.algorithm.algorithmName" in told
    assert "did you mean random?" in told


def test_what_does_not_exist_is_not_found(katib: Call) -> None:
    for method in ("get_experiment", "get_suggestion", "get_trial", "delete_experiment"):
        with pytest.raises(RuntimeError, match="Failed to") as caught:
            katib(method, name="nobody")
        assert "(404)" in str(caught.value)
    with pytest.raises(RuntimeError, match="not found"):
        katib("get_job_logs", name="nobody", trial_name="nobody")
