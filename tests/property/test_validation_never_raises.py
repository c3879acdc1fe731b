# SPDX-License-Identifier: Apache-2.0
"""Whatever JSON stands wherever in an Experiment: field errors, never an exception."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import written
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith_api.defaulting import default
from tunesmith_api.resources import Experiment
from tunesmith_api.validation import FieldError, unsupported, validate, validate_update, warnings
from tunesmith_controller.admission.local import Refused, admit, admit_update

RICH = default(written.experiment())
RICH["spec"] |= {
    "earlyStopping": {"algorithmName": "medianstop", "algorithmSettings": [{"name": "a"}]},
    "nasConfig": {
        "graphConfig": {"numLayers": 1, "inputSizes": [1], "outputSizes": [1]},
        "operations": [{"operationType": "a", "parameters": [{"name": "p"}]}],
    },
    "metricsCollectorSpec": {
        "collector": {"kind": "File", "customCollector": {}},
        "source": {
            "fileSystemPath": {"path": "/a", "kind": "File", "format": "TEXT"},
            "filter": {"metricsFormat": ["(a)(b)"]},
            "httpGet": {"path": "/", "port": 1},
        },
    },
}
RICH["spec"] |= {
    "runPolicy": {
        "activeDeadlineSeconds": 60,
        "trialActiveDeadlineSeconds": 6,
        "runningTrialsAtEnd": "Stop",
    },
    "enqueued": [{"parameterAssignments": [{"name": "lr", "value": "0.05"}]}],
}
RICH["metadata"] |= {"labels": {"a": "b"}, "ownerReferences": [{"uid": "u"}]}
RICH["status"] = {"conditions": [{"type": "Running"}], "trials": 1, "startTime": "2026-01-02"}


def places(tree: Any, path: written.Path = ()) -> Iterator[written.Path]:
    yield path
    if isinstance(tree, dict | list):
        for key, child in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from places(child, (*path, key))


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(
        ["1e400", "-0", "[" * 50, "${trialParameters.lr}", "${trialSpec.Labels}", "\ud800", "0x1p3"]
    ),
    st.sampled_from([2**63, -(2**200), 10**4000, b"x", object]),
)
keys = st.one_of(st.text(max_size=8), st.integers(), st.none(), st.tuples(st.integers()))
anything = st.recursive(
    scalars,
    lambda below: st.one_of(
        st.lists(below, max_size=3),
        st.tuples(below, below),
        st.dictionaries(keys, below, max_size=3),
    ),
    max_leaves=6,
)
PLACES = list(places(RICH))[1:]

VALID = admit(written.experiment())
TEMPLATE_TEXT = yaml.safe_dump(written.experiment()["spec"]["trialTemplate"]["trialSpec"])
SOURCE = {"configMapName": "a", "configMapNamespace": "team", "templatePath": "job.yaml"}
STORED = written.bent(
    written.TEMPLATE,
    {
        "primaryContainerName": "main",
        "configMap": SOURCE,
        "trialParameters": VALID["spec"]["trialTemplate"]["trialParameters"],
    },
)


def bent(path: written.Path, value: Any) -> Any:
    """Only the way to the place is copied."""

    def copied(tree: Any, rest: written.Path) -> Any:
        if not rest:
            return value
        fresh: Any = dict(tree) if isinstance(tree, dict) else list(tree)
        fresh[rest[0]] = copied(tree[rest[0]], rest[1:])
        return fresh

    return copied(RICH, path)


def judged(tree: Any) -> list[FieldError]:
    found = validate(tree, algorithms=["random"], early_stopping=["medianstop"])
    found += warnings(tree) + unsupported(tree) + validate_update(RICH, tree)
    return found + validate_update(tree, RICH) + validate(default(tree))


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(PLACES), anything)
def test_anything_anywhere_gives_sentences_with_places(path: written.Path, value: Any) -> None:
    for error in judged(bent(path, value)):
        assert error.message
        assert isinstance(error.field, str)
        assert str(error)


@settings(max_examples=100, deadline=None)
@given(anything)
def test_anything_at_all_is_judged(value: Any) -> None:
    judged(value)
    judged({"spec": value, "metadata": value})


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(PLACES), anything)
def test_what_is_admitted_can_be_read_by_the_reconcilers(path: written.Path, value: Any) -> None:
    tree = bent(path, value)

    if not validate(tree):
        Experiment.parse(tree)


@pytest.mark.parametrize("value", [10**5000, {10**5000: 1}], ids=["value", "key"])
@pytest.mark.parametrize("path", [("spec", "maxTrialCount"), ("metadata", "x")])
def test_a_number_too_long_to_print_is_refused(path: written.Path, value: Any) -> None:
    given = written.bent(path, value)

    assert path in [error.path[:2] for error in validate(default(given))]
    assert isinstance(warnings(given), list)


def test_depth_is_refused_before_anything_recurses() -> None:
    deep: Any = "x"
    for _ in range(20_000):
        deep = [deep]

    found = validate({**RICH, "spec": {"deep": deep}, "metadata": {"name": "a", "deep": deep}})

    assert {e.path for e in found if "nested" in e.message} == {("spec",), ("metadata",)}


# ---- admission as a whole -----------------------------------------------------------------------

edits = st.tuples(
    st.sampled_from(
        ["parallelTrialCount", "maxTrialCount", "runPolicy", "enqueued", "resumePolicy"]
    ),
    anything,
)


@settings(max_examples=200, deadline=None)
@given(edits, edits)
def test_an_update_of_anything_is_admitted_or_refused_in_sentences(
    was: tuple[str, Any], now: tuple[str, Any]
) -> None:
    old = {**VALID, "spec": {**VALID["spec"], was[0]: was[1]}}
    new = {**VALID, "spec": {**VALID["spec"], now[0]: now[1]}}
    for before, after in ((VALID, new), (old, VALID), (old, new)):
        try:
            Experiment.parse(admit_update(before, after))
        except Refused as refused:
            assert all(error.message for error in refused.errors)


texts = st.one_of(
    st.text(max_size=40),
    st.sampled_from(["{", "a: &a [*a]", "[" * 99, "a: .nan", "1: 2", "--- a\n--- b", "- x", "~"]),
    st.integers(0, len(TEMPLATE_TEXT)).map(lambda n: TEMPLATE_TEXT[:n]),
    st.integers(0, len(TEMPLATE_TEXT)).map(lambda n: TEMPLATE_TEXT[:n] + ": ]" + TEMPLATE_TEXT[n:]),
    st.just(TEMPLATE_TEXT),
)
config_maps = st.one_of(
    st.builds(lambda text: {"data": {"job.yaml": text}}, texts),
    st.dictionaries(st.sampled_from(["data", "job.yaml"]), anything, max_size=2),
    st.none(),
)


@settings(max_examples=200, deadline=None)
@given(config_maps)
def test_whatever_a_config_map_holds_is_admitted_or_refused_in_sentences(found: Any) -> None:
    try:
        admitted = admit(STORED, config_map=lambda namespace, name: found)
    except Refused as refused:
        assert {error.path[:3] for error in refused.errors} <= {
            ("spec", "trialTemplate", part)
            for part in ("configMap", "trialParameters", "primaryContainerName")
        } | {("spec", "trialTemplate", part) for part in ("successCondition", "failureCondition")}
    else:
        assert admitted["spec"]["trialTemplate"]["successCondition"]
