# SPDX-License-Identifier: Apache-2.0
"""The Experiments of examples/digits fit the script beside them."""

from __future__ import annotations

import argparse
import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "examples" / "digits"
ALGORITHMS = ("random", "tpe")
PLACEHOLDER = re.compile(r"--([a-z-]+)=\$\{trialParameters\.(\w+)\}")


def read(algorithm: str) -> Any:
    return yaml.safe_load((FOLDER / f"{algorithm}.yaml").read_text())["spec"]


def script_parser() -> argparse.ArgumentParser:
    spec = importlib.util.spec_from_file_location("digits_train", FOLDER / "train.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    parser = module.parser()
    assert isinstance(parser, argparse.ArgumentParser)
    return parser


def container(spec: Any) -> Any:
    template = spec["trialTemplate"]
    (only,) = template["trialSpec"]["spec"]["template"]["spec"]["containers"]
    assert only["name"] == template["primaryContainerName"]
    return only


def corners(spec: Any) -> dict[str, list[str]]:
    """The ends of each parameter's range, or its list, by parameter name."""
    spaces = {item["name"]: item["feasibleSpace"] for item in spec["parameters"]}
    return {
        name: space["list"] if "list" in space else [space["min"], space["max"]]
        for name, space in spaces.items()
    }


def arguments(spec: Any, corner: int) -> list[str]:
    """The command's arguments with every placeholder replaced by one end of its range."""
    ends = corners(spec)
    references = {
        item["name"]: item["reference"] for item in spec["trialTemplate"]["trialParameters"]
    }

    def value(match: re.Match[str]) -> str:
        return f"--{match[1]}={ends[references[match[2]]][corner]}"

    return [PLACEHOLDER.sub(value, argument) for argument in container(spec)["command"][2:]]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("corner", [0, -1])
def test_the_script_takes_every_argument_at_both_ends_of_its_range(
    algorithm: str, corner: int
) -> None:
    spec = read(algorithm)
    parsed = script_parser().parse_args(arguments(spec, corner))
    for name, values in corners(spec).items():
        value = getattr(parsed, name.replace("-", "_"))
        assert value == type(value)(values[corner])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_parameter_reaches_the_argument_of_its_name(algorithm: str) -> None:
    spec = read(algorithm)
    references = {
        item["name"]: item["reference"] for item in spec["trialTemplate"]["trialParameters"]
    }
    used = PLACEHOLDER.findall(" ".join(container(spec)["command"]))
    assert {flag: references[name] for flag, name in used} == {name: name for name in corners(spec)}
    assert len(used) == len(references)


def test_the_two_files_differ_in_name_and_algorithm_only() -> None:
    random, tpe = (read(algorithm) for algorithm in ALGORITHMS)
    assert random.pop("algorithm")["algorithmName"] == "random"
    assert tpe.pop("algorithm")["algorithmName"] == "tpe"
    assert random == tpe


def test_every_metric_wanted_has_a_strategy_of_its_own() -> None:
    objective = read("tpe")["objective"]
    wanted = [objective["objectiveMetricName"], *objective["additionalMetricNames"]]
    assert [item["name"] for item in objective["metricStrategies"]] == wanted
