# SPDX-License-Identifier: Apache-2.0
"""The rules of an Experiment: each with its place and its sentence, all faults at once."""

from __future__ import annotations

from typing import Any

import pytest
import written
from written import CONTAINER, JOB, POD, REMOVED, SPEC, TEMPLATE, bent, parameter

from tunesmith_api.defaulting import default
from tunesmith_api.validation import (
    FieldError,
    field_text,
    unsupported,
    validate,
    warnings,
)

OBJECTIVE: written.Path = (*SPEC, "objective")
COLLECTOR: written.Path = (*SPEC, "metricsCollectorSpec")
FIRST: written.Path = (*SPEC, "parameters", 0)
SPACE: written.Path = (*FIRST, "feasibleSpace")
DECLARED: written.Path = (*TEMPLATE, "trialParameters")


def faults(given: Any, **known: Any) -> list[FieldError]:
    return validate(default(given), **known)


def sentences(given: Any, **known: Any) -> list[str]:
    return [str(error) for error in faults(given, **known)]


def test_a_valid_experiment_has_no_faults_and_no_warnings() -> None:
    given = written.experiment()

    assert sentences(given, algorithms=["random"]) == []
    assert warnings(given) == []
    assert unsupported(default(given)) == []


def space(type_: str, **bounds: Any) -> tuple[written.Path, Any]:
    return FIRST, parameter("lr", type_, **bounds)


def collector(kind: str, **source: Any) -> tuple[written.Path, Any]:
    return COLLECTOR, {"collector": {"kind": kind}, "source": source}


def declared(**fields: Any) -> tuple[written.Path, Any]:
    return (*DECLARED, 0), {"name": "lr", "reference": "lr", **fields}


# One bend, the field it must be reported at, and a part of the sentence.
RULES: list[tuple[tuple[written.Path, Any], str, str]] = [
    # identity
    ((("apiVersion",), "kubeflow.org/v1alpha3"), "apiVersion", "not 'kubeflow.org/v1alpha3'"),
    ((("apiVersion",), REMOVED), "apiVersion", "must be kubeflow.org/v1beta1"),
    ((("kind",), "Trial"), "kind", "must be Experiment, not 'Trial'"),
    ((("metadata", "name"), ""), "metadata.name", "must be given"),
    ((("metadata", "name"), "Quick"), "metadata.name", "lower-case"),
    ((("metadata", "name"), "1quick"), "metadata.name", "begin with a letter"),
    ((("metadata", "name"), "quick-"), "metadata.name", "'quick-'"),
    ((("metadata", "name"), "a.b"), "metadata.name", "'a.b'"),
    ((("metadata", "name"), "a" * 55), "metadata.name", "55 characters; at most 54"),
    ((("metadata",), {"generateName": "A-"}), "metadata.generateName", "lower-case"),
    ((("metadata",), {"generateName": "a" * 50}), "metadata.generateName", "at most 54"),
    ((("metadata", "namespace"), "My Team"), "metadata.namespace", "'My Team'"),
    # budgets
    (((*SPEC, "maxTrialCount"), 0), "spec.maxTrialCount", "from 1 to 100000, this is 0"),
    (((*SPEC, "maxTrialCount"), 100_001), "spec.maxTrialCount", "this is 100001"),
    (((*SPEC, "maxTrialCount"), "12"), "spec.maxTrialCount", "write it without quotes"),
    (((*SPEC, "maxFailedTrialCount"), -1), "spec.maxFailedTrialCount", "from 0"),
    (((*SPEC, "maxFailedTrialCount"), 13), "spec.maxFailedTrialCount", "maxTrialCount 12"),
    (((*SPEC, "parallelTrialCount"), 0), "spec.parallelTrialCount", "from 1 to 1000"),
    (((*SPEC, "parallelTrialCount"), 13), "spec.parallelTrialCount", "maxTrialCount 12"),
    (((*SPEC, "maxTrialCount"), 2), "spec.parallelTrialCount", "it is 3 where it is not given"),
    (((*SPEC, "resumePolicy"), "Always"), "spec.resumePolicy", "Never, LongRunning, FromVolume"),
    # objective
    ((OBJECTIVE, REMOVED), "spec.objective", "must be given"),
    (((*OBJECTIVE, "type"), "minimise"), "spec.objective.type", "did you mean minimize?"),
    (((*OBJECTIVE, "type"), REMOVED), "spec.objective.type", "minimize or maximize"),
    (((*OBJECTIVE, "goal"), "0.1"), "spec.objective.goal", "write it without quotes"),
    (((*OBJECTIVE, "goal"), float("nan")), "spec.objective.goal", "finite number, this is nan"),
    (((*OBJECTIVE, "goal"), float("-inf")), "spec.objective.goal", "this is -inf"),
    (
        ((*OBJECTIVE, "objectiveMetricName"), ""),
        "spec.objective.objectiveMetricName",
        "must be given",
    ),
    (
        ((*OBJECTIVE, "additionalMetricNames"), ["loss"]),
        "spec.objective.additionalMetricNames[0]",
        "is the objective",
    ),
    (
        ((*OBJECTIVE, "additionalMetricNames"), ["a", "b", "a"]),
        "spec.objective.additionalMetricNames[2]",
        "'a' occurs twice (first at [0])",
    ),
    (
        ((*OBJECTIVE, "additionalMetricNames"), ["ä" * 126]),
        "spec.objective.additionalMetricNames[0]",
        "longer than 250 bytes",
    ),
    (
        ((*OBJECTIVE, "metricStrategies"), [{"name": "loss", "value": "mean"}]),
        "spec.objective.metricStrategies[0].value",
        "min, max, latest",
    ),
    (
        ((*OBJECTIVE, "metricStrategies"), [{"name": "loss", "value": "min"}] * 2),
        "spec.objective.metricStrategies[1].name",
        "already the name of strategy 0",
    ),
    # algorithm
    (((*SPEC, "algorithm"), REMOVED), "spec.algorithm", "must be given"),
    (((*SPEC, "algorithm"), {}), "spec.algorithm.algorithmName", "must be given"),
    (
        ((*SPEC, "algorithm"), {"algorithmNam": "tpe"}),
        "spec.algorithm.algorithmName",
        "algorithmNam is not known; did you mean algorithmName?",
    ),
    (
        ((*SPEC, "algorithm", "algorithmName"), "randm"),
        "spec.algorithm.algorithmName",
        "there are: random, tpe (did you mean random?)",
    ),
    (
        ((*SPEC, "algorithm", "algorithmSettings"), [{"name": "a"}, {"name": "a"}]),
        "spec.algorithm.algorithmSettings[1].name",
        "already the name of setting 0",
    ),
    (
        ((*SPEC, "earlyStopping"), {"algorithmName": "median"}),
        "spec.earlyStopping.algorithmName",
        "did you mean medianstop?",
    ),
    # parameters
    (((*SPEC, "parameters"), []), "spec.parameters", "what is searched"),
    (((*SPEC, "nasConfig"), {}), "spec.nasConfig", "beside parameters"),
    (((*FIRST, "name"), ""), "spec.parameters[0].name", "must be given"),
    (((*FIRST, "name"), "layers"), "spec.parameters[1].name", "name of parameter 0"),
    (((*FIRST, "parameterType"), "float"), "spec.parameters[0].parameterType", "not 'float'"),
    (((*FIRST, "parameterType"), "Double"), "spec.parameters[0].parameterType", "mean double?"),
    (
        ((*SPACE, "distribution"), "loguniform"),
        "spec.parameters[0].feasibleSpace.distribution",
        "did you mean logUniform?",
    ),
    (space("double", max="1"), "spec.parameters[0].feasibleSpace.min", "must be given"),
    (space("double", min="0"), "spec.parameters[0].feasibleSpace.max", "must be given"),
    (space("double", min="a", max="1"), "spec.parameters[0].feasibleSpace.min", "this is 'a'"),
    (space("double", min="0", max="inf"), "spec.parameters[0].feasibleSpace.max", "finite"),
    (space("double", min="2", max="1"), "spec.parameters[0].feasibleSpace.min", "greater than"),
    (
        space("double", min="0", max="1", step="0"),
        "spec.parameters[0].feasibleSpace.step",
        "not greater than 0",
    ),
    (
        space("double", min="0", max="1", distribution="logUniform"),
        "spec.parameters[0].feasibleSpace.min",
        "logUniform needs min > 0",
    ),
    (
        space("double", min="-1e308", max="1e308"),
        "spec.parameters[0].feasibleSpace.max",
        "too far",
    ),
    (
        space("double", min="0", max="1", step="1e-300"),
        "spec.parameters[0].feasibleSpace.step",
        "2**53",
    ),
    (space("int", min="0.5", max="2"), "spec.parameters[0].feasibleSpace.min", "whole number"),
    (space("int", min="1", max="1_0"), "spec.parameters[0].feasibleSpace.max", "'1_0'"),
    (
        space("int", min="1", max="2", list=["1"]),
        "spec.parameters[0].feasibleSpace.list",
        "this one is int",
    ),
    (
        space("categorical", list=["a"], step="1"),
        "spec.parameters[0].feasibleSpace.step",
        "this one is categorical",
    ),
    (space("categorical"), "spec.parameters[0].feasibleSpace.list", "at least one value"),
    (
        space("categorical", list=["a", "b", "a"]),
        "spec.parameters[0].feasibleSpace.list[2]",
        "'a' occurs twice (first at [0])",
    ),
    (
        space("categorical", list=["a\0"]),
        "spec.parameters[0].feasibleSpace.list[0]",
        "NUL",
    ),
    (
        space("discrete", list=["1", "many"]),
        "spec.parameters[0].feasibleSpace.list[1]",
        "this is 'many' (categorical takes any text)",
    ),
    (
        space("discrete", list=["1", "1.0"]),
        "spec.parameters[0].feasibleSpace.list[1]",
        "is the same number as '1'",
    ),
    (
        ((*SPACE, "list"), "1"),
        "spec.parameters[0].feasibleSpace.list",
        "must be a list, this is '1'",
    ),
    # trial template
    ((TEMPLATE, REMOVED), "spec.trialTemplate", "must be given"),
    (
        ((*TEMPLATE, "primaryContainerName"), ""),
        "spec.trialTemplate.primaryContainerName",
        "must be given",
    ),
    (
        ((*TEMPLATE, "primaryContainerName"), "mian"),
        "spec.trialTemplate.primaryContainerName",
        "there are: main (did you mean main?)",
    ),
    (((*JOB, "kind"), "Dance"), "spec.trialTemplate.successCondition", "known kinds are: Job"),
    (((*JOB, "kind"), "Dance"), "spec.trialTemplate.failureCondition", "must be given"),
    (
        ((*TEMPLATE, "successCondition"), "broken"),
        "spec.trialTemplate.successCondition",
        "cannot be read as a condition: no closing bracket",
    ),
    ((JOB, REMOVED), "spec.trialTemplate.trialSpec", "must be given"),
    (
        ((*TEMPLATE, "configMap"), {"configMapName": "a"}),
        "spec.trialTemplate.configMap",
        "beside trialSpec",
    ),
    (
        ((*TEMPLATE, "configMap"), {"configMapName": "a"}),
        "spec.trialTemplate.configMap.templatePath",
        "must be given",
    ),
    ((DECLARED, REMOVED), "spec.trialTemplate.trialParameters", "write []"),
    (declared(name=""), "spec.trialTemplate.trialParameters[0].name", "must be given"),
    (declared(name="a}"), "spec.trialTemplate.trialParameters[0].name", "brace"),
    (declared(name="layers"), "spec.trialTemplate.trialParameters[1].name", "name of trial"),
    (declared(reference=""), "spec.trialTemplate.trialParameters[0].reference", "must be given"),
    (
        declared(reference="layers"),
        "spec.trialTemplate.trialParameters[1].reference",
        "already the reference of trial parameter 0",
    ),
    (
        declared(reference="learning"),
        "spec.trialTemplate.trialParameters[0].reference",
        "no search parameter; there are: lr, layers, width, optimizer",
    ),
    (
        declared(reference="${trialSpec.Labels[app]}"),
        "spec.trialTemplate.trialParameters[0].reference",
        "no label 'app'",
    ),
    (
        ((*DECLARED, 4), {"name": "x", "reference": "${trialSpec.Name}"}),
        "spec.trialTemplate.trialParameters[4].name",
        "does not occur in trialSpec",
    ),
    (
        ((*CONTAINER, "args", 0), "${trialParameters.layer}"),
        "spec.trialTemplate.trialSpec.spec.template.spec.containers[0].args[0]",
        "not declared in trialParameters (did you mean layers?)",
    ),
    (
        ((*JOB, "metadata"), {"labels": {"${trialParameters.lr}": "a"}}),
        'spec.trialTemplate.trialSpec.metadata.labels["${trialParameters.lr}"]',
        "in values only",
    ),
    (((*JOB, "metadata"), {"name": "a"}), "spec.trialTemplate.trialSpec.metadata.name", "is set"),
    (((*JOB, "metadata"), []), "spec.trialTemplate.trialSpec.metadata", "must be a mapping"),
    (((*JOB, "apiVersion"), REMOVED), "spec.trialTemplate.trialSpec.apiVersion", "as text"),
    (((*JOB, "kind"), 3), "spec.trialTemplate.trialSpec.kind", "as text, this is 3"),
    (((*JOB, "spec"), {}), "spec.trialTemplate.trialSpec.spec.template", "must be given"),
    (
        ((*CONTAINER, "args", 0), 0.5),
        "spec.trialTemplate.trialSpec.spec.template.spec.containers[0].args[0]",
        "must be text, this is 0.5 (put it in quotes)",
    ),
    (
        ((*CONTAINER, "command"), "python3 a.py"),
        "spec.trialTemplate.trialSpec.spec.template.spec.containers[0].command",
        "must be a list of texts",
    ),
    (
        ((*CONTAINER, "env"), [{"name": "SEED", "value": 7}]),
        "spec.trialTemplate.trialSpec.spec.template.spec.containers[0].env[0].value",
        "put it in quotes",
    ),
    # metrics collector
    (collector("Stdout"), "spec.metricsCollectorSpec.collector.kind", "did you mean StdOut?"),
    (
        collector("File", fileSystemPath={"kind": "Directory"}),
        "spec.metricsCollectorSpec.source.fileSystemPath.kind",
        "must be File, not 'Directory'",
    ),
    (
        collector("File", fileSystemPath={"path": "a.log"}),
        "spec.metricsCollectorSpec.source.fileSystemPath.path",
        "absolute",
    ),
    (
        collector("File", fileSystemPath={"format": "XML"}),
        "spec.metricsCollectorSpec.source.fileSystemPath.format",
        "TEXT or JSON",
    ),
    (
        collector("File", fileSystemPath={"format": "JSON"}, filter={"metricsFormat": ["(a)=(b)"]}),
        "spec.metricsCollectorSpec.source.filter.metricsFormat",
        "is for TEXT",
    ),
    (
        collector("TensorFlowEvent", fileSystemPath={"format": "TEXT"}),
        "spec.metricsCollectorSpec.source.fileSystemPath.format",
        "is for File",
    ),
    (
        collector("PrometheusMetric", httpGet={"port": "http"}),
        "spec.metricsCollectorSpec.source.httpGet.port",
        "from 1 to 65535",
    ),
    (
        collector("PrometheusMetric", httpGet={"path": "metrics"}),
        "spec.metricsCollectorSpec.source.httpGet.path",
        "begin with '/'",
    ),
    (collector("Custom"), "spec.metricsCollectorSpec.collector.customCollector", "must be given"),
    (
        collector("StdOut", filter={"metricsFormat": ["(a"]}),
        "spec.metricsCollectorSpec.source.filter.metricsFormat[0]",
        "no RE2 regular expression",
    ),
    (
        collector("Push", filter={"metricsFormat": ["(?:a)=(b)"]}),
        "spec.metricsCollectorSpec.source.filter.metricsFormat[0]",
        "two groups in parentheses",
    ),
    (
        collector("StdOut", filter={"metricsFormat": [r"(a)(?=b)(c)"]}),
        "spec.metricsCollectorSpec.source.filter.metricsFormat[0]",
        "no RE2",
    ),
    (
        collector("StdOut", filter={"metricsFormat": ["(a)(b)" + "c" * 1019]}),
        "spec.metricsCollectorSpec.source.filter.metricsFormat[0]",
        "longer than 1024 bytes",
    ),
    # spelling and types
    (((*SPEC, "max_trial_count"), 9), "spec.max_trial_count", "it is spelt maxTrialCount"),
    (((*SPEC, "parameters"), "lr"), "spec.parameters", "must be a list, this is 'lr'"),
    (((*SPEC, "parameters", 0), "lr"), "spec.parameters[0]", "must be a mapping, this is 'lr'"),
    ((("metadata", "labels"), {"a": None}), "metadata.labels.a", "remove the line"),
    ((("metadata", "labels"), {1: "a"}), 'metadata.labels["1"]', "is a key that is not text"),
    (((*TEMPLATE, "retain"), "yes"), "spec.trialTemplate.retain", "true or false, this is 'yes'"),
]


@pytest.mark.parametrize(
    ("bend", "field", "sentence"),
    RULES,
    ids=[f"{field}-{n}" for n, (_, field, _) in enumerate(RULES)],
)
def test_a_broken_rule_is_named_with_its_place(
    bend: tuple[written.Path, Any], field: str, sentence: str
) -> None:
    found = faults(
        bent(*bend),
        algorithms=["random", "tpe"],
        early_stopping=["medianstop"],
        check_condition=lambda text: "no closing bracket" if text == "broken" else None,
    )

    assert [e for e in found if e.field == field and sentence in str(e)], found


def test_all_faults_are_told_at_once_ill_typed_ones_included() -> None:
    given = bent((*OBJECTIVE, "type"), "up")
    bent((*SPEC, "maxTrialCount"), "12", given)
    bent((*SPEC, "parameters", 1), None, given)
    bent((*SPACE, "min"), "x", given)
    bent((*CONTAINER, "args", 0), 1, given)

    assert {e.field for e in faults(given)} == {
        "spec.objective.type",
        "spec.maxTrialCount",
        "spec.parameters[1]",
        "spec.parameters[0].feasibleSpace.min",
        "spec.trialTemplate.trialSpec.spec.template.spec.containers[0].args[0]",
        "spec.trialTemplate.trialParameters[0].name",
    }


def test_what_depends_on_an_unreadable_part_is_not_reported() -> None:
    assert [e.field for e in faults(bent((*SPEC, "parameters"), "lr"))] == ["spec.parameters"]


@pytest.mark.parametrize("place", [("metadata", "labels"), (*SPEC, "algorithm"), JOB])
def test_a_key_that_is_no_text_is_one_fault_and_hides_nothing_else(place: written.Path) -> None:
    given = bent((*OBJECTIVE, "type"), "up")
    bent(place, {**(written.at(given, place) if place[-1] != "labels" else {}), 1: "a"}, given)

    assert [e.path for e in faults(given)] == [(*place, "1"), (*OBJECTIVE, "type")]


@pytest.mark.parametrize("given", [None, [], "text", 3, True])
def test_what_is_no_mapping_is_refused_in_one_sentence(given: Any) -> None:
    (only,) = faults(given)

    assert only.message.startswith("must be a mapping")


def test_more_faults_than_a_person_reads_are_cut() -> None:
    given = bent((*SPEC, "parameters"), [3] * 5000)

    found = faults(given)

    assert len(found) == 101
    assert "more than 100 faults" in found[-1].message


def test_a_sentence_does_not_grow_with_the_value_it_quotes() -> None:
    found = faults(bent((*SPACE, "min"), "9" * 50_000 + "x"))

    assert all(len(e.message) < 700 for e in found)


# ---- limits: below, at, above -------------------------------------------------------------------


def many(count: int) -> Any:
    given = bent(
        (*SPEC, "parameters"), [parameter(f"p{n}", "int", min="0", max="1") for n in range(count)]
    )
    return bent(DECLARED, [], bent((*CONTAINER, "args"), [], given))


@pytest.mark.parametrize(("count", "fields"), [(511, []), (512, []), (513, ["spec.parameters"])])
def test_at_most_512_parameters(count: int, fields: list[str]) -> None:
    assert [e.field for e in faults(many(count))] == fields


@pytest.mark.parametrize(("count", "faulty"), [(9_999, False), (10_000, False), (10_001, True)])
def test_at_most_10_000_categories(count: int, faulty: bool) -> None:
    bend = space("categorical", list=[str(n) for n in range(count)])

    assert [e.field for e in faults(bent(*bend))] == (
        ["spec.parameters[0].feasibleSpace.list"] if faulty else []
    )


@pytest.mark.parametrize(("size", "faulty"), [(-1, False), (0, False), (1, True)])
def test_at_most_256_kib(size: int, faulty: bool) -> None:
    import json

    given = default(bent(("metadata", "annotations"), {"note": ""}))
    room = 256 * 1024 - len(json.dumps(given, separators=(",", ":")))
    given["metadata"]["annotations"]["note"] = "x" * (room + size)

    assert [e.field for e in validate(given)] == ([""] if faulty else [])


@pytest.mark.parametrize(
    ("key", "most"), [("parallelTrialCount", 1000), ("maxTrialCount", 100_000)]
)
def test_counts_up_to_their_limit(key: str, most: int) -> None:
    def fields(count: int) -> list[str]:
        given = bent((*SPEC, "maxTrialCount"), 100_000)
        return [e.field for e in faults(bent((*SPEC, key), count, given))]

    assert (fields(most - 1), fields(most), fields(most + 1)) == ([], [], [f"spec.{key}"])


@pytest.mark.parametrize(("length", "faulty"), [(53, False), (54, False), (55, True)])
def test_a_name_leaves_room_for_the_names_of_trials(length: int, faulty: bool) -> None:
    assert bool(faults(bent(("metadata", "name"), "a" * length))) == faulty


@pytest.mark.parametrize(("count", "faulty"), [(31, False), (32, False), (33, True)])
def test_at_most_32_filters(count: int, faulty: bool) -> None:
    bend = collector("StdOut", filter={"metricsFormat": ["(a)=(b)"] * count})

    assert bool(faults(bent(*bend))) == faulty


# ---- what is accepted ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bend",
    [
        space("double", min=0, max=1, step=0.1),
        space("double", min="1e-5", max="1e-1", distribution="logUniform"),
        space("int", min="1e1", max="2e1"),
        space("categorical", list=[""]),
        space("categorical", distribution=["a", "b"]),
        ((*OBJECTIVE, "goal"), 0),
        ((*SPEC, "algorithm", "algorithmSettings"), [{"name": "random_state", "value": 3}]),
        ((*SPEC, "resumePolicy"), "LongRunning"),
        ((*CONTAINER, "env"), [{"name": "A", "value": None}]),
        (("metadata",), {"generateName": "quick-"}),
        collector("Push"),
        collector("StdOut", filter={"metricsFormat": [r"([\w|-]+)\s*=\s*([+-]?\d+)"]}),
    ],
)
def test_what_katibs_users_write_is_accepted(bend: tuple[written.Path, Any]) -> None:
    assert sentences(bent(*bend)) == []


def test_an_experiment_of_architectures_needs_no_parameters() -> None:
    given = bent((*SPEC, "nasConfig"), {"graphConfig": {"numLayers": 2}})
    given["spec"]["parameters"] = []
    bent((*CONTAINER, "args"), ["${trialParameters.lr}"], given)
    bent(DECLARED, [{"name": "lr", "reference": "architecture"}], given)

    assert sentences(given) == []


# ---- warnings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value", "warning"),
    [
        (
            (*SPEC, "paralelTrialCount"),
            3,
            "spec.paralelTrialCount: is not a known field; it is kept and has no effect "
            "(did you mean parallelTrialCount?)",
        ),
        ((*SPACE, "note"), 1, "spec.parameters[0].feasibleSpace.note: is not a known field"),
        ((*SPACE, "distribution"), ["a"], "feasibleSpace.distribution: holds the list of values"),
        ((*SPEC, "maxTrialCount"), REMOVED, "runs until it is stopped"),
        ((*POD, "restartPolicy"), REMOVED, "a Job needs Never or OnFailure"),
        (("metadata", "namespace"), "kube-system", "belongs to Kubernetes"),
        ((*SPEC, "parameters", 4), parameter("x", "int", min=0, max=1), "'x' is searched but"),
    ],
)
def test_a_likely_slip_is_a_warning_and_no_fault(
    path: written.Path, value: Any, warning: str
) -> None:
    found = [str(w) for w in warnings(bent(path, value))]

    assert len(found) == 1
    assert warning in found[0]


def test_free_form_places_have_no_unknown_fields() -> None:
    given = bent((*JOB, "spec", "anything"), {"goes": 1})
    given["metadata"] |= {"annotations": {"a": "b"}, "managedFields": []}
    given["status"] = {"unknown": 1}

    assert warnings(given) == []


def test_random_search_of_fewer_points_than_trials_is_a_warning() -> None:
    given = bent((*SPEC, "parameters"), [parameter("lr", "int", min="1", max="3")])
    bent((*CONTAINER, "args"), ["${trialParameters.lr}"], given)
    bent(DECLARED, [{"name": "lr", "reference": "lr"}], given)

    assert sentences(given) == []
    assert [w.message for w in warnings(given)] == [
        "is 12, and the search space has only 3 points: some are tried again"
    ]


# ---- what one machine cannot run ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("bend", "field"),
    [
        (collector("TensorFlowEvent"), "spec.metricsCollectorSpec.collector.kind"),
        (collector("PrometheusMetric"), "spec.metricsCollectorSpec.collector.kind"),
        (collector("Custom"), "spec.metricsCollectorSpec.collector.kind"),
        (((*SPEC, "nasConfig"), {}), "spec.nasConfig"),
        (
            (JOB, {"apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob"}),
            "spec.trialTemplate.trialSpec.kind",
        ),
        ((JOB, {"apiVersion": "x/v1", "kind": "Job"}), "spec.trialTemplate.trialSpec.kind"),
    ],
)
def test_what_one_machine_cannot_run_is_said(bend: tuple[written.Path, Any], field: str) -> None:
    (only,) = unsupported(default(bent(*bend)))

    assert only.field == field
    assert "on one machine in this release" in only.message


@pytest.mark.parametrize("policy", ["Never", "LongRunning", "FromVolume"])
def test_every_resume_policy_is_accepted_on_one_machine(policy: str) -> None:
    assert unsupported(default(bent((*SPEC, "resumePolicy"), policy))) == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), ""),
        (("spec", "parameters", 2, "feasibleSpace", "max"), "spec.parameters[2].feasibleSpace.max"),
        (("metadata", "labels", "a.b/c"), 'metadata.labels["a.b/c"]'),
    ],
)
def test_a_path_is_written_as_people_write_it(path: written.Path, text: str) -> None:
    assert field_text(path) == text
