# SPDX-License-Identifier: Apache-2.0
"""The Experiments of examples/digits that read a file, and reports, differ from random.yaml in
nothing else that matters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tunesmith_api.defaulting import default
from tunesmith_api.validation import validate

FOLDER = Path(__file__).parents[2] / "examples" / "digits"


def read(name: str) -> Any:
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text())


def command(spec: Any) -> list[str]:
    (only,) = spec["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]["containers"]
    words: list[str] = only["command"]
    return words


@pytest.mark.parametrize("name", ["file-json", "report"])
def test_the_experiment_has_no_fault(name: str) -> None:
    experiment = read(name)
    assert experiment["metadata"]["name"] == f"digits-{name}"
    assert validate(default(experiment), algorithms=["random"]) == []


@pytest.mark.parametrize("name", ["file-json", "report"])
def test_search_space_and_objective_are_those_of_random(name: str) -> None:
    own, random = read(name)["spec"], read("random")["spec"]
    for part in ("parameters", "objective", "algorithm", "parallelTrialCount"):
        assert own[part] == random[part]
    assert [word for word in command(own) if "${" in word] == [
        word for word in command(random) if "${" in word
    ]


def test_the_program_writes_the_file_that_the_collector_reads() -> None:
    spec = read("file-json")["spec"]
    place = spec["metricsCollectorSpec"]["source"]["fileSystemPath"]["path"]
    assert command(spec)[1:3] == ["train_json.py", f"--metrics-file={place}"]


def test_the_reporting_variant_is_of_kind_push() -> None:
    spec = read("report")["spec"]
    assert spec["metricsCollectorSpec"] == {"collector": {"kind": "Push"}}
    assert command(spec)[1] == "train_report.py"
