# SPDX-License-Identifier: Apache-2.0
"""G19: a value replaces the leaves that name it and nothing else, whatever text it is."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import written
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from tunesmith_api.defaulting import default
from tunesmith_api.problems import space_of
from tunesmith_api.resources import Experiment, TrialParameterSpec
from tunesmith_api.template import (
    TemplateError,
    UnknownPlaceholder,
    UnresolvedReference,
    placeholder_keys,
    placeholders,
    reference_fault,
    render,
    substitute,
    trial_values,
)

NAMES = ("a", "b", "long name", "x.y")
HOSTILE = (
    'adam"],"securityContext":{"privileged":true},"x":["',
    "${trialParameters.b}",
    "${trialParameters.a}",
    "$" + "{trialSpec.Name}",
    "a: &anchor b\n<<: *anchor",
    "--- \n!!python/object/apply:os.system ['true']",
    "\0",
    "\\1 \\g<0> \\",
    "line one\nline two\r\n\t",
    "'\"`$(true)",
    "",
)

texts = st.one_of(st.text(max_size=40), st.sampled_from(HOSTILE))
pieces = st.one_of(
    st.text(max_size=8).filter(lambda text: "$" not in text),
    st.sampled_from([f"${{trialParameters.{name}}}" for name in NAMES]),
)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.lists(pieces, max_size=4).map("".join),
)
keys = st.one_of(st.sampled_from(["args", "env", "value", "labels", "spec"]), st.text(max_size=6))
trees = st.dictionaries(
    keys,
    st.recursive(
        leaves,
        lambda below: st.lists(below, max_size=4) | st.dictionaries(keys, below, max_size=4),
        max_leaves=20,
    ),
    max_size=4,
)
assignments = st.fixed_dictionaries({name: texts for name in NAMES})


def expected(tree: Any, values: dict[str, str]) -> Any:
    """The oracle: split each text at its placeholders; put values between what is left."""
    if isinstance(tree, dict):
        return {key: expected(child, values) for key, child in tree.items()}
    if isinstance(tree, list):
        return [expected(child, values) for child in tree]
    if not isinstance(tree, str):
        return tree
    head, *rest = tree.split("${trialParameters.")
    return head + "".join(
        values[name] + tail for name, _, tail in (part.partition("}") for part in rest)
    )


@given(trees, assignments)
@example({"args": ["--o=${trialParameters.a}"]}, dict.fromkeys(NAMES, HOSTILE[0]))
@example({"args": ["${trialParameters.a}${trialParameters.b}"]}, dict.fromkeys(NAMES, HOSTILE[1]))
def test_exactly_the_named_leaves_are_replaced(tree: Any, values: dict[str, str]) -> None:
    before = copy.deepcopy(tree)

    found = substitute(tree, values, numeric=())

    assert found == expected(tree, values)
    assert json.dumps(found) == json.dumps(expected(tree, values))  # the order of keys too
    assert tree == before


@given(trees, assignments)
def test_no_value_changes_the_shape_of_the_tree(tree: Any, values: dict[str, str]) -> None:
    """Types and keys are those of the template, numeric parameters or not."""

    def shape(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: shape(child) for key, child in node.items()}
        return [shape(child) for child in node] if isinstance(node, list) else ()

    assert shape(substitute(tree, values, numeric=NAMES)) == shape(tree)


@given(trees)
def test_every_placeholder_is_found_and_an_unknown_one_is_refused(tree: Any) -> None:
    used = placeholders(tree)

    assert used <= set(NAMES)
    if used:
        with pytest.raises(UnknownPlaceholder) as raised:
            substitute(tree, {}, numeric=())
        assert raised.value.name in used


@given(texts)
def test_yaml_and_json_see_the_value_as_one_text(value: str) -> None:
    rendered = substitute({"a": ["${trialParameters.a}"]}, {"a": value}, numeric=())

    assert json.loads(json.dumps(rendered)) == {"a": [value]}
    if "\0" not in value and value.isprintable():
        assert yaml.safe_load(yaml.safe_dump(rendered)) == {"a": [value]}


# ---- numbers where numbers are wanted -----------------------------------------------------------

WHOLE = "${trialParameters.a}"


@pytest.mark.parametrize(
    ("text", "number"), [("3", 3), ("-7", -7), ("0.1", 0.1), ("1e-05", 1e-5), ("3.0", 3.0)]
)
def test_a_leaf_that_is_one_numeric_placeholder_becomes_a_number(text: str, number: float) -> None:
    found = substitute({"spec": {"parallelism": WHOLE}}, {"a": text}, numeric={"a"})

    assert found == {"spec": {"parallelism": number}}
    assert type(found["spec"]["parallelism"]) is type(number)


@pytest.mark.parametrize(
    "tree",
    [
        {"args": [WHOLE]},
        {"command": ["python3", WHOLE]},
        {"env": [{"name": "A", "value": WHOLE}]},
        {"metadata": {"labels": {"a": WHOLE}}},
        {"metadata": {"annotations": {"a": WHOLE}}},
        {"spec": {"note": f" {WHOLE}"}},
        {"spec": {"note": WHOLE + WHOLE}},
    ],
)
def test_texts_stay_texts_where_kubernetes_wants_texts(tree: Any) -> None:
    found = json.dumps(substitute(tree, {"a": "3"}, numeric={"a"}))

    assert found == json.dumps(tree).replace(WHOLE, "3")


def test_a_categorical_parameter_is_always_text() -> None:
    assert substitute({"spec": {"mode": WHOLE}}, {"a": "3"}, numeric=()) == {"spec": {"mode": "3"}}


@pytest.mark.parametrize("text", ["nan", "inf", "1e999", "adam", "", "1_0"])
def test_a_text_that_is_no_json_number_stays_text(text: str) -> None:
    assert substitute({"spec": {"n": WHOLE}}, {"a": text}, numeric={"a"}) == {"spec": {"n": text}}


# ---- keys and references ------------------------------------------------------------------------


def test_a_placeholder_in_a_key_is_left_and_found() -> None:
    tree = {"labels": {WHOLE: "x"}}

    assert substitute(tree, {"a": "1"}, numeric=()) == tree
    assert list(placeholder_keys(tree)) == [("labels", WHOLE)]


TEMPLATE: written.Json = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"labels": {"app": "mnist"}, "annotations": {"a/b": "${trialParameters.x}"}},
}


@pytest.mark.parametrize(
    ("reference", "value"),
    [
        ("${trialSpec.Name}", "quick-1"),
        ("${trialSpec.Namespace}", ""),
        ("${trialSpec.Kind}", "Job"),
        ("${trialSpec.APIVersion}", "batch/v1"),
        ("${trialSpec.Labels[app]}", "mnist"),
        ("${trialSpec.Annotations[a/b]}", "${trialParameters.x}"),
        ("lr", "0.1"),
    ],
)
def test_a_reference_is_of_the_assignment_the_trial_or_the_template(
    reference: str, value: str
) -> None:
    parameter = TrialParameterSpec(name="p", reference=reference)

    found = trial_values([parameter], {"lr": "0.1"}, TEMPLATE, name="quick-1", namespace="")

    assert found == {"p": value}


@pytest.mark.parametrize(
    "reference",
    [
        "momentum",
        "${trialSpec.Labels}",
        "${trialSpec.Labels[none]}",
        "${trialSpec.Name[x]}",
        "${trialSpec.Spec}",
        "a ${trialSpec.Name}",
        "${trialParameters.lr}",
    ],
)
def test_a_reference_without_a_value_is_refused(reference: str) -> None:
    parameter = TrialParameterSpec(name="p", reference=reference)

    with pytest.raises(UnresolvedReference) as raised:
        trial_values([parameter], {"lr": "0.1"}, TEMPLATE, name="quick-1", namespace="team")

    assert raised.value.reference == reference
    assert reference_fault(reference, TEMPLATE)


# ---- the whole ----------------------------------------------------------------------------------

ASSIGNMENT = {"lr": "0.05", "layers": "3", "width": "32", "optimizer": "adam"}


def rendered(experiment: written.Json) -> written.Json:
    parsed = Experiment.parse(default(experiment))
    return render(parsed, ASSIGNMENT, space_of(parsed), name="quick-1")


def test_a_trial_runs_the_template_with_its_values_and_its_name() -> None:
    labelled = written.bent((*written.JOB, "metadata"), {"labels": {"lr": "${trialParameters.lr}"}})

    found = rendered(labelled)

    assert found["metadata"] == {"labels": {"lr": "0.05"}, "name": "quick-1", "namespace": "team"}
    assert written.at(found, ("spec", "template", "spec", "containers", 0, "args")) == [
        "--lr=0.05",
        "--layers=3",
        "--width=32",
        "--optimizer=adam",
    ]


def test_searched_numbers_reach_numeric_fields_as_numbers() -> None:
    given = written.bent((*written.JOB, "spec", "backoffLimit"), "${trialParameters.layers}")
    given["spec"]["trialTemplate"]["trialSpec"]["spec"]["mode"] = "${trialParameters.optimizer}"

    found = rendered(given)["spec"]

    assert (found["backoffLimit"], found["mode"]) == (3, "adam")


def test_an_experiment_without_a_template_cannot_be_rendered() -> None:
    with pytest.raises(TemplateError, match="has no trial template"):
        rendered(written.bent(written.TEMPLATE, {}))
