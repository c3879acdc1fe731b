# SPDX-License-Identifier: Apache-2.0
"""Models are views: what was read is written again, known or not."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import written
from pydantic import ValidationError

from tunesmith_api.defaulting import default
from tunesmith_api.resources import Experiment, Suggestion, Trial, rfc3339

EXTRA = {"a": [1, {"b": None}], "c": {"d": 0.5}}


def mappings(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
    for child in (
        tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    ):
        yield from mappings(child)


def test_an_experiment_comes_back_as_it_was() -> None:
    given = default(written.experiment())

    assert Experiment.parse(given).json() == given


def test_unknown_fields_are_kept_at_every_level() -> None:
    given = default(written.experiment())
    given["status"] = {
        "conditions": [{"type": "Running", "status": "True", "reason": "R", "message": ""}],
        "currentOptimalTrial": {
            "bestTrialName": "t",
            "parameterAssignments": [{"name": "lr", "value": "0.1"}],
            "observation": {"metrics": [{"name": "loss", "min": "1", "max": "2", "latest": "1"}]},
        },
    }
    places = [m for m in mappings(given) if "env" not in m]
    for number, mapping in enumerate(places):
        mapping[f"unknown{number}"] = EXTRA

    assert len(places) > 20
    assert Experiment.parse(given).json() == given


def test_nulls_in_a_run_spec_are_kept() -> None:
    job = {"spec": {"env": [{"name": "A", "value": None}], "suspend": None}}
    given = {"apiVersion": "a/v1", "kind": "Trial", "spec": {"runSpec": job}}

    assert Trial.parse(given).json()["spec"]["runSpec"] == job


def test_numbers_and_booleans_are_read_where_katib_wants_texts() -> None:
    space = {"min": 1, "max": 0.5, "step": 1e-7, "list": [1, 2.5, True, "a"]}
    given = written.bent(("spec", "parameters", 0, "feasibleSpace"), space)

    found = Experiment.parse(given).spec.parameters[0].feasible_space

    assert (found.min, found.max, found.step) == ("1", "0.5", "1e-07")
    assert found.list == ("1", "2.5", "true", "a")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "maxTrialCount"), "3"),
        (("spec", "maxTrialCount"), 3.0),
        (("spec", "maxTrialCount"), True),
        (("spec", "objective", "goal"), "0.5"),
        (("spec", "trialTemplate", "retain"), "yes"),
    ],
)
def test_texts_are_not_read_where_katib_wants_numbers(path: written.Path, value: Any) -> None:
    with pytest.raises(ValidationError):
        Experiment.parse(written.bent(path, value))


def test_null_is_an_empty_list() -> None:
    given = {"spec": {"parameters": None, "objective": {"metricStrategies": None}}}

    spec = Experiment.parse(given).spec

    assert spec.parameters == ()
    assert spec.objective is not None
    assert spec.objective.metric_strategies == ()


def test_times_are_written_as_kubernetes_writes_them() -> None:
    given = {"metadata": {"creationTimestamp": "2026-01-02T05:04:05.678+02:00"}}

    found = Trial.parse(given)

    assert found.json()["metadata"]["creationTimestamp"] == "2026-01-02T03:04:05Z"
    assert rfc3339(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)) == "2026-01-02T03:04:05Z"


def test_our_fields_have_camel_case_names_and_come_back() -> None:
    trial = {"status": {"run": {"attempt": 2, "jobUID": "u", "lost": 1, "released": True}}}
    batch = {"first": 4, "count": 2, "pending": [3], "algorithmVersion": "v", "recorded": "{}"}
    status = {"seed": "7", "searchEnded": "done", "batches": [batch], "asking": batch}

    assert Trial.parse(trial).json() == trial
    assert Suggestion.parse({"status": status}).json() == {"status": status}


def test_a_changed_copy_leaves_the_original() -> None:
    found = Experiment.parse(written.experiment())

    changed = found.with_(spec=found.spec.with_(max_trial_count=99))

    assert (found.spec.max_trial_count, changed.spec.max_trial_count) == (12, 99)
    assert changed.json()["spec"]["maxTrialCount"] == 99
