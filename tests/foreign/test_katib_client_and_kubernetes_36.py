# SPDX-License-Identifier: Apache-2.0
"""Katib's client beside the newest `kubernetes` package that it can be installed with and used.

It then works for what carries neither labels nor annotations. The package's models changed how they
write their types, and Katib's own reader of models does not know the new form.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from command_line import CommandLine

pytestmark = [pytest.mark.integration, pytest.mark.oracle]

NAME = "newest"


@pytest.fixture(scope="module")
def katib(agent_36: Callable[..., Any], machine: CommandLine) -> Callable[..., Any]:
    """`katib(method, **arguments)`, after an experiment of one trial has succeeded."""
    config = str(machine.home / "kubeconfig")

    def call(method: str, **arguments: Any) -> Any:
        return agent_36("call", config=config, method=method, arguments=arguments)

    agent_36("create_model", config=config, experiment=experiment())
    call("wait_for_experiment_condition", name=NAME, timeout=60, polling_interval=0.1)
    return call


def experiment() -> dict[str, Any]:
    code = "import sys; print('loss=' + sys.argv[1])"
    container = {"name": "main", "image": "python", "command": [sys.executable, "-c", code]}
    container["args"] = ["${trialParameters.x}"]
    pod = {"restartPolicy": "Never", "containers": [container]}
    space = {"min": "1", "max": "2"}
    return {
        "apiVersion": "kubeflow.org/v1beta1",
        "kind": "Experiment",
        "metadata": {"name": NAME},
        "spec": {
            "objective": {"type": "minimize", "objectiveMetricName": "loss"},
            "algorithm": {"algorithmName": "random"},
            "maxTrialCount": 1,
            "parallelTrialCount": 1,
            "resumePolicy": "LongRunning",
            "parameters": [{"name": "x", "parameterType": "double", "feasibleSpace": space}],
            "trialTemplate": {
                "primaryContainerName": "main",
                "trialParameters": [{"name": "x", "reference": "x"}],
                "trialSpec": {
                    "apiVersion": "batch/v1",
                    "kind": "Job",
                    "spec": {"template": {"spec": pod}},
                },
            },
        },
    }


def test_an_experiment_is_run_read_extended_and_deleted(katib: Callable[..., Any]) -> None:
    optimal = katib("get_optimal_hyperparameters", name=NAME)
    [x] = optimal["parameterAssignments"]
    [loss] = optimal["observation"]["metrics"]
    assert loss["latest"] == x["value"]
    trial = optimal["bestTrialName"]
    # This release returns logs as the text of a bytes object, so a line is not a line any more.
    assert f"loss={x['value']}" in str(katib("get_job_logs", name=NAME, trial_name=trial))
    katib("edit_experiment_budget", name=NAME, max_trial_count=2)
    assert katib("get_experiment", name=NAME)["spec"]["maxTrialCount"] == 2
    katib("delete_experiment", name=NAME)


def test_objects_with_labels_fail_in_the_client_itself(katib: Callable[..., Any]) -> None:
    """When this fails, Katib's client has learned the new form: use the newer package for all."""
    with pytest.raises(RuntimeError, match=r"no attribute 'dict\[str, str\]'"):
        katib("list_trials")
