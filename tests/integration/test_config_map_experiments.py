# SPDX-License-Identifier: Apache-2.0
"""A template from a ConfigMap and metadata of the trial, from the file to the running program."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from command_line import CommandLine

pytestmark = pytest.mark.integration

# Prints the name it was given as metadata; the loss is the parameter.
PROGRAM = "import os, sys; print('told', os.environ['RUN']); print('loss=' + sys.argv[1])"


def in_config_map(cli: CommandLine) -> Path:
    """An experiment of which the job is in a ConfigMap, with braces between YAML's brackets."""
    path = cli.experiment("quick", ["python3"], maxTrialCount=2)
    experiment = yaml.safe_load(path.read_text())
    template = experiment["spec"]["trialTemplate"]
    job = template.pop("trialSpec")
    job["spec"]["template"]["spec"]["containers"][0] |= {
        "command": ["python3", "-c", PROGRAM, "${trialParameters.x}"],
        "env": [{"name": "RUN", "value": "${trialParameters.run}"}],
    }
    template["configMap"] = {
        "configMapName": "jobs",
        "configMapNamespace": "default",
        "templatePath": "job.yaml",
    }
    template["trialParameters"].append({"name": "run", "reference": "${trialSpec.Name}"})
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "jobs"},
        "data": {"job.yaml": yaml.safe_dump(job, default_flow_style=None)},
    }
    return cli.write("both.yaml", yaml.safe_dump_all([config_map, experiment]))


def test_trials_run_the_job_of_the_config_map_and_know_their_names(tmp_path: Path) -> None:
    cli = CommandLine(tmp_path, tmp_path / "home")
    file = in_config_map(cli)

    done = cli.run("run", file.name)

    assert done.returncode == 0, done.stdout + done.stderr
    trials = cli.json("trials", "quick")
    assert [trial["state"] for trial in trials] == ["Succeeded", "Succeeded"]
    for trial in trials:
        assert f"told {trial['name']}" in cli.run("logs", trial["name"]).stdout


def test_a_config_map_that_is_nowhere_is_refused_before_anything_is_stored(tmp_path: Path) -> None:
    cli = CommandLine(tmp_path, tmp_path / "home")
    _, experiment = yaml.safe_load_all(in_config_map(cli).read_text())
    cli.write("alone.yaml", yaml.safe_dump(experiment))

    done = cli.run("run", "alone.yaml")

    assert done.returncode != 0
    assert "ConfigMap default/jobs does not exist" in done.stdout + done.stderr
    assert cli.json("ls") == []
