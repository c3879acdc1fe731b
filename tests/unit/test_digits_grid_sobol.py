# SPDX-License-Identifier: Apache-2.0
"""examples/digits/grid.yaml and sobol.yaml are admitted, and their algorithms take them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tunesmith_api.problem import History
from tunesmith_api.problems import problem_of
from tunesmith_api.resources import Experiment
from tunesmith_controller.admission.local import admit
from tunesmith_suggestion.registry import Registry
from tunesmith_suggestion.testing import proposed

FOLDER = Path(__file__).parents[2] / "examples" / "digits"
BOTH = pytest.mark.parametrize("algorithm", ["grid", "sobol"])


def read(algorithm: str) -> Any:
    return yaml.safe_load((FOLDER / f"{algorithm}.yaml").read_text())


@BOTH
def test_it_is_admitted_and_every_trial_of_its_budget_gets_a_point(algorithm: str) -> None:
    experiment = Experiment.parse(admit(read(algorithm)))
    problem = problem_of(experiment, "uid-1", seed=1)
    service = Registry().find(algorithm)
    assert list(service.validate(problem)) == []
    assert len(proposed(service, problem, History(), 99)) >= (problem.max_trials or 0) > 0


def test_the_budget_of_the_grid_is_all_of_its_points() -> None:
    experiment = Experiment.parse(admit(read("grid")))
    problem = problem_of(experiment, "uid-1", seed=1)
    assert problem.space.cardinality == problem.max_trials == 18


@BOTH
def test_every_parameter_reaches_the_argument_of_its_name(algorithm: str) -> None:
    spec = read(algorithm)["spec"]
    template = spec["trialTemplate"]
    (container,) = template["trialSpec"]["spec"]["template"]["spec"]["containers"]
    references = {item["name"]: item["reference"] for item in template["trialParameters"]}
    placeholders = re.findall(
        r"--([a-z-]+)=\$\{trialParameters\.(\w+)\}", " ".join(container["command"])
    )
    names = {item["name"] for item in spec["parameters"]}
    assert {flag: references[name] for flag, name in placeholders} == {n: n for n in names}
    assert len(placeholders) == len(references)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("auto", "auto"),
        ("bayesian", "bayesianoptimization"),
        ("cmaes", "cmaes"),
        ("multivariate-tpe", "multivariate-tpe"),
        ("sobol", "sobol"),
        ("tpe", "tpe"),
    ],
)
def test_it_differs_from_random_in_name_and_algorithm_only(file: str, name: str) -> None:
    random, other = read("random")["spec"], read(file)["spec"]
    assert random.pop("algorithm")["algorithmName"] == "random"
    assert other.pop("algorithm")["algorithmName"] == name
    assert random == other
