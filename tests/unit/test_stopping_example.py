# SPDX-License-Identifier: Apache-2.0
"""examples/digits/medianstop.yaml is admitted and its rule saves epochs on real curves: a small
version of benchmarks/early_stopping.py."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tunesmith_api.problem import Direction
from tunesmith_api.stopping import StopProblem
from tunesmith_earlystopping.core import LocalRules

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "digits" / "medianstop.yaml"
RULE = StopProblem("medianstop", "accuracy", Direction.MAXIMIZE, {"start_step": "2"})


@pytest.fixture(scope="module")
def benchmark() -> Any:
    spec = importlib.util.spec_from_file_location(
        "early_stopping_benchmark", ROOT / "benchmarks" / "early_stopping.py"
    )
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_example_is_admitted_with_a_valid_rule_and_enough_epochs(benchmark: Any) -> None:
    setup = benchmark.read_setup(EXAMPLE)
    assert list(LocalRules().validate(setup.rule)) == []
    assert (setup.rule.metric, setup.rule.direction) == ("accuracy", Direction.MAXIMIZE)
    assert int(setup.fixed["epochs"]) >= 30
    assert setup.budget >= 10


def test_every_parameter_of_the_example_reaches_the_argument_of_its_name() -> None:
    spec = yaml.safe_load(EXAMPLE.read_text())["spec"]
    template = spec["trialTemplate"]
    (container,) = template["trialSpec"]["spec"]["template"]["spec"]["containers"]
    references = {item["name"]: item["reference"] for item in template["trialParameters"]}
    placeholders = re.findall(
        r"--([a-z-]+)=\$\{trialParameters\.(\w+)\}", " ".join(container["command"])
    )
    names = {item["name"] for item in spec["parameters"]}
    assert {flag: references[name] for flag, name in placeholders} == {n: n for n in names}


@pytest.mark.parametrize("seed", [1, 2])
def test_the_rule_saves_epochs_on_real_curves_and_keeps_the_best_trial(
    benchmark: Any, seed: int
) -> None:
    setup = benchmark.read_setup(EXAMPLE)
    smaller = [
        {**drawn, "epochs": "30", "hidden": str(int(drawn["hidden"]) // 16)}
        for drawn in benchmark.draw(setup, seed)
    ]
    result = benchmark.compare(setup, seed, [benchmark.train(drawn) for drawn in smaller])
    assert result.epochs_without == 30 * setup.budget
    assert result.stopped >= 3
    assert result.saved >= 0.15
    assert result.best_with == result.best_without


def test_without_a_rule_every_trial_runs_to_its_end(benchmark: Any) -> None:
    played = benchmark.play([[0.1] * 5, [0.9] * 5, [0.5] * 3], 2, None)
    assert (played.epochs, sorted(played.finished), played.stops) == (13, [0, 1, 2], ())


def test_a_stopped_trial_gives_its_place_to_the_next_and_is_no_peer(benchmark: Any) -> None:
    good, bad = [0.9] * 6, [0.1] * 6
    played = benchmark.play([good, good, good, bad, bad, good], 3, RULE)
    assert played.finished == (0, 1, 2, 5)
    assert [(ordinal, stop.step, stop.peers) for ordinal, stop in played.stops] == [
        (3, 2, 3),
        (4, 2, 3),
    ]
    assert played.epochs == 6 * 4 + 2 * 2
