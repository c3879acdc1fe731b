# SPDX-License-Identifier: Apache-2.0
"""Experiment files: what is read, with which line, and what is refused in which sentence."""

from __future__ import annotations

import textwrap

import pytest
import yaml

from tunesmith_api.experiment_file import FileError, line_of, load, load_all

HEAD = "apiVersion: kubeflow.org/v1beta1\nkind: Experiment\n"

EXPERIMENT = """\
# a comment
apiVersion: kubeflow.org/v1beta1
kind: Experiment
metadata: {name: quick}
spec:
  objective:
    goal: 1e-3
  parameters:
    - name: lr
      feasibleSpace: {min: 0.1,
                      max: 1e-1}
    - name: layers
"""


def refusal(text: str) -> FileError:
    with pytest.raises(FileError) as raised:
        load(text, "quick.yaml")
    assert raised.value.source == "quick.yaml"
    return raised.value


def spec(text: str) -> object:
    return load(HEAD + "spec:\n" + textwrap.indent(text, "  "), "quick.yaml").object["spec"]


def test_an_experiment_is_read_with_its_values() -> None:
    found = load(EXPERIMENT, "quick.yaml").object

    assert found["metadata"] == {"name": "quick"}
    assert found["spec"]["parameters"][1] == {"name": "layers"}


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("kind",), 3),
        (("metadata", "name"), 4),
        (("spec", "objective", "goal"), 7),
        (("spec", "parameters", 0), 9),
        (("spec", "parameters", 0, "feasibleSpace", "max"), 11),
        (("spec", "parameters", 1, "name"), 12),
        (("spec", "parameters", 1, "feasibleSpace", "max"), 12),
        (("spec", "algorithm", "algorithmName"), 5),
        (("status",), None),
        ((), None),
    ],
)
def test_a_place_has_its_line_or_that_of_the_part_around_it(
    path: tuple[str | int, ...], line: int | None
) -> None:
    loaded = load(EXPERIMENT, "quick.yaml")

    assert line_of(loaded, path) == line
    assert loaded.line_of(path) == line


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 100000.0),
        ("0.5", 0.5),
        ("3", 3),
        ('"1e-3"', "1e-3"),
        ("low", "low"),
    ],
)
def test_a_goal_in_scientific_notation_is_a_number(text: str, value: object) -> None:
    assert spec(f"objective: {{goal: {text}}}") == {"objective": {"goal": value}}


def test_keys_are_texts_as_they_are_written() -> None:
    assert spec("on: 1\n2: b\n1.0: c\n~: d") == {"on": 1, "2": "b", "1.0": "c", "~": "d"}


def test_dates_are_texts() -> None:
    assert spec("a: 2026-01-02\nb: 2026-01-02 03:04:05") == {
        "a": "2026-01-02",
        "b": "2026-01-02 03:04:05",
    }


def test_anchors_aliases_and_merges_are_expanded() -> None:
    text = "base: &b {x: 1, y: 2}\none: {<<: *b, y: 3}\ntwo: *b\nthree: {<<: [*b, {z: 4}]}"

    assert spec(text) == {
        "base": {"x": 1, "y": 2},
        "one": {"x": 1, "y": 3},
        "two": {"x": 1, "y": 2},
        "three": {"x": 1, "y": 2, "z": 4},
    }


def test_json_is_read_too() -> None:
    text = '{"apiVersion": "kubeflow.org/v1beta1",\n "kind": "Experiment", "spec": {"a": null}}'

    assert load(text, "a.json").object["spec"] == {"a": None}


@pytest.mark.parametrize("around", ["---\n{}", "---\n---\n{}---\n", "{}...\n---\n# nothing\n"])
def test_empty_documents_around_it_do_not_count(around: str) -> None:
    assert load(around.replace("{}", EXPERIMENT), "quick.yaml").object["kind"] == "Experiment"


# ---- refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reason", "line"),
    [
        ("", "is empty", None),
        ("# only a comment\n---\n", "is empty", None),
        ("- a\n", "is a list, not an Experiment", None),
        ("hello\n", "is the text 'hello', not an Experiment", None),
        ("kind: Experiment\n", "has no apiVersion", None),
        ("apiVersion: v1\n", "has no kind", None),
        ("apiVersion: batch/v1\nkind: Job\n", "is a Job of batch/v1, not an Experiment", None),
        (
            "apiVersion: kubeflow.org/v1alpha3\nkind: Experiment\n",
            "is an Experiment of kubeflow.org/v1alpha3, not an Experiment of kubeflow.org/v1beta1",
            None,
        ),
        (f"{HEAD}---\n{HEAD}---\n{HEAD}", "holds 3 documents", 4),
        (f"{HEAD}spec: 1\nmetadata: 2\nspec: 3\n", "gives spec twice, in line 3 and in line 5", 5),
        (
            f"{HEAD}spec:\n  parameters:\n  - name: a\n    name: b\n",
            "gives spec.parameters[0].name twice, in line 5 and in line 6",
            6,
        ),
        (f"{HEAD}spec: {{a: 1\n", "is not valid YAML at column", 4),
        (f"{HEAD}\tspec: 1\n", "is not valid YAML at column 1", 3),
        (f"{HEAD}spec: *nowhere\n", "undefined alias", 3),
        (f"{HEAD}spec: a\x01b\n", "U+0001", 3),
        (f"{HEAD}spec: !!python/object/apply:os.system [a]\n", "has the tag", 3),
        (f"{HEAD}spec: !secret x\n", "has the tag !secret", 3),
        (f"{HEAD}spec: !!binary aGk=\n", "has the tag", 3),
        (f"{HEAD}spec: !!int abc\n", "cannot be read: 'abc'", 3),
        (f"{HEAD}spec: {'9' * 5000}\n", "cannot be read", 3),
        (f"{HEAD}? [a]\n: b\n", "a key that is a list", 3),
        (f"{HEAD}spec: {{<<: 3}}\n", "merges with << something", 3),
        (f"{HEAD}spec: {'[' * 70}{']' * 70}\n", "nested deeper than 64", 3),
        (f"{HEAD}spec: {'[' * 200_000}\n", "nested deeper than 64", 3),
        (f"{HEAD}spec: &a [*a]\n", "nested deeper than 64 levels by its aliases", 3),
    ],
)
def test_what_is_no_experiment_is_refused_in_a_sentence(
    text: str, reason: str, line: int | None
) -> None:
    error = refusal(text)

    assert reason in error.reason
    assert "\n" not in error.reason
    assert error.line == line


def test_aliases_that_expand_without_end_are_refused_early() -> None:
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    text = f"{HEAD}spec:\n  a0: &a0 [x, x]\n  " + "\n  ".join(levels)

    assert "more than 100000 values" in refusal(text).reason


@pytest.mark.parametrize(("size", "fits"), [(0, True), (1, False)])
def test_at_most_one_mebibyte(size: int, fits: bool) -> None:
    text = f"{HEAD}#".ljust(1024 * 1024 + size, "x")

    if fits:
        assert load(text, "quick.yaml").object["kind"] == "Experiment"
    else:
        assert "larger than 1024 KiB" in refusal(text).reason


def test_the_c_and_the_python_readers_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = load(EXPERIMENT, "quick.yaml")
    monkeypatch.setattr("tunesmith_api.yaml_text._Loader", yaml.SafeLoader)

    slow = load(EXPERIMENT, "quick.yaml")

    assert (slow.object, slow.lines) == (fast.object, fast.lines)
    assert refusal(f"{HEAD}spec: a\x01b\n").line == 3
    assert refusal(f"{HEAD}spec: {{a: 1\n").line == 4


# ---- several documents --------------------------------------------------------------------------

MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: jobs}\ndata:\n  a.yaml: |\n    x: 1\n"
NO_DATA = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: jobs}\ndata: x\n"


def test_an_experiment_is_read_with_the_config_maps_beside_it() -> None:
    other = MAP.replace("name: jobs", "name: jobs, namespace: team")
    loaded = load_all(f"{MAP}---\n{EXPERIMENT}---\n{other}", "quick.yaml")

    assert loaded.experiment.object == load(EXPERIMENT, "quick.yaml").object
    assert [found.object["metadata"] for found in loaded.config_maps] == [
        {"name": "jobs"},
        {"name": "jobs", "namespace": "team"},
    ]
    assert loaded.config_maps[0].object["data"] == {"a.yaml": "x: 1\n"}


def test_lines_are_those_of_the_file() -> None:
    loaded = load_all(f"{MAP}---\n{EXPERIMENT}---\n{MAP.replace('jobs', 'b')}", "quick.yaml")

    assert loaded.experiment.line_of(("spec", "parameters", 0, "name")) == 7 + 9
    assert loaded.config_maps[0].line_of(("data", "a.yaml")) == 5
    assert loaded.config_maps[1].line_of(("data",)) == 7 + 12 + 1 + 4


def test_a_file_with_one_document_is_read_as_ever() -> None:
    loaded = load_all(EXPERIMENT, "quick.yaml")

    assert (loaded.experiment, loaded.config_maps) == (load(EXPERIMENT, "quick.yaml"), ())


@pytest.mark.parametrize(
    ("text", "reason", "line"),
    [
        (MAP, "is a ConfigMap of v1, not an Experiment", None),
        (f"{MAP}---\n{MAP}", "holds ConfigMaps and no Experiment of kubeflow.org/v1beta1", None),
        (f"{HEAD}---\n{MAP}---\n{HEAD}", "holds 2 Experiments; a file has one", 11),
        (
            f"{HEAD}---\napiVersion: v1\nkind: Secret\n",
            "holds a Secret of v1; one Experiment of kubeflow.org/v1beta1 and ConfigMaps of v1 can "
            "be together in a file",
            4,
        ),
        (f"{HEAD}---\n- a\n", "holds a document without apiVersion and kind", 4),
        (f"{HEAD}---\nkind: ConfigMap\n", "holds a document without apiVersion and kind", 4),
        (f"{HEAD}---\n{MAP}---\n{MAP}", "holds ConfigMap jobs twice, in line 4 and in line 11", 11),
        (f"{HEAD}---\napiVersion: v1\nkind: ConfigMap\n", "holds a ConfigMap without metadata.", 4),
        (f"{HEAD}---\n{MAP.replace('{name: jobs}', '[]')}", "without metadata.name", 4),
        (
            f"{HEAD}---\n{MAP.replace('name: jobs', 'name: jobs, namespace: 3')}",
            "holds ConfigMap jobs, whose metadata.namespace is no text",
            6,
        ),
        (f"{HEAD}---\n{MAP}  b: 3\n", "whose key b is 3, not text; begin it with `b: |`", 10),
        (f"{HEAD}---\n{NO_DATA}", "holds ConfigMap jobs, whose data is no mapping", 7),
        (f"{HEAD}---\n{MAP}---\na: [\n", "is not valid YAML", 12),
        ("---\na\n" * 33, "holds 33 documents; at most 32 are possible", 66),
    ],
)
def test_other_documents_beside_it_are_refused_in_a_sentence(
    text: str, reason: str, line: int | None
) -> None:
    with pytest.raises(FileError) as raised:
        load_all(text, "quick.yaml")

    assert reason in raised.value.reason
    assert raised.value.line == line
