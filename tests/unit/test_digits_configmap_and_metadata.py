# SPDX-License-Identifier: Apache-2.0
"""examples/digits/configmap.yaml and metadata.yaml are admitted and give the jobs they promise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tunesmith_api.experiment_file import LoadedFile, load_all
from tunesmith_api.problems import space_of
from tunesmith_api.resources import Experiment, Json
from tunesmith_api.template import render
from tunesmith_api.validation import warnings
from tunesmith_controller.admission.local import admit

FOLDER = Path(__file__).parents[2] / "examples" / "digits"
VALUES = {
    "lr": "0.01",
    "batch-size": "32",
    "hidden": "64",
    "activation": "relu",
    "momentum": "0.9",
}


def read(name: str) -> LoadedFile:
    return load_all((FOLDER / f"{name}.yaml").read_text(), name)


def job_of(name: str) -> Json:
    """The job of the first trial, in namespace `default`."""
    loaded = read(name)
    stored = {c.object["metadata"]["name"]: c.object for c in loaded.config_maps}
    assert warnings(loaded.experiment.object) == []
    admitted = admit(loaded.experiment.object, config_map=lambda namespace, key: stored.get(key))
    admitted["metadata"]["namespace"] = "default"
    experiment = Experiment.parse(admitted)
    (config_map,) = stored.values() or (None,)
    return render(experiment, VALUES, space_of(experiment), name="a-1", config_map=config_map)


def container(job: Json) -> Any:
    return job["spec"]["template"]["spec"]["containers"][0]


def test_the_job_in_the_config_map_is_that_of_the_random_example() -> None:
    assert job_of("configmap") == job_of("random")


def test_the_config_map_is_where_the_experiment_looks_for_it() -> None:
    loaded = read("configmap")
    (config_map,) = (found.object for found in loaded.config_maps)
    source = loaded.experiment.object["spec"]["trialTemplate"]["configMap"]

    assert source["configMapName"] == config_map["metadata"]["name"]
    assert source["configMapNamespace"] == config_map["metadata"]["namespace"]
    assert source["templatePath"] in config_map["data"]


def test_a_trial_is_told_its_name_its_label_and_its_annotation() -> None:
    found = container(job_of("metadata"))

    assert {"name": "RUN_NAME", "value": "default/a-1"} in found["env"]
    assert {"name": "RUN_PURPOSE", "value": "first look"} in found["env"]
    assert "--seed=7" in found["command"]
