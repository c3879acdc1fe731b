# SPDX-License-Identifier: Apache-2.0
"""Every rule of admission: an Experiment that is wrong in just that way, and exactly what is said.

In the order of Katib's rules (its validator, field by field), with those that Katib leaves out; the
rows of trialTemplate and metricsCollectorSpec are in test_admission_table_of_trials.
"""

from __future__ import annotations

import pytest
import written
from refusals import (
    DECLARED,
    FIRST,
    OBJECTIVE,
    SPACE,
    Bend,
    Case,
    case,
    collector,
    declared,
    ids,
    judged,
    point,
    space,
    told,
)
from written import CONTAINER, JOB, POD, REMOVED, SPEC, bent, parameter

CASES = [
    # ---- metadata
    case(
        "apiVersion: must be kubeflow.org/v1beta1, not 'kubeflow.org/v1alpha3'",
        (("apiVersion",), "kubeflow.org/v1alpha3"),
    ),
    case("kind: must be Experiment, not 'Trial'", (("kind",), "Trial")),
    case("metadata.name: must be given", (("metadata", "name"), "")),
    case(
        "metadata.name: must be lower-case letters, digits and '-', begin with a letter "
        "and end with a letter or digit, this is '1quick'",
        (("metadata", "name"), "1quick"),
    ),
    case(
        "metadata.name: must be lower-case letters, digits and '-', begin with a letter "
        "and end with a letter or digit, this is 'quick_1'",
        (("metadata", "name"), "quick_1"),
    ),
    case(
        "metadata.name: has 55 characters; at most 54 are possible, since trials are named "
        "after it with 9 more",
        (("metadata", "name"), "a" * 55),
    ),
    case(
        "metadata.generateName: has 55 characters; at most 54 are possible, since trials "
        "are named after it with 9 more",
        (("metadata",), {"generateName": "a" * 50}),
    ),
    case(
        "metadata.namespace: must be lower-case letters, digits and '-', at most 63, this "
        "is 'My Team'",
        (("metadata", "namespace"), "My Team"),
    ),
    # ---- budgets
    case(
        "spec.maxFailedTrialCount: must be from 0 to 100000, this is -1",
        ((*SPEC, "maxFailedTrialCount"), -1),
    ),
    case("spec.maxTrialCount: must be from 1 to 100000, this is 0", ((*SPEC, "maxTrialCount"), 0)),
    case(
        "spec.parallelTrialCount: must be from 1 to 1000, this is 0",
        ((*SPEC, "parallelTrialCount"), 0),
    ),
    case(
        "spec.maxFailedTrialCount: must not be greater than maxTrialCount 12, this is 13",
        ((*SPEC, "maxFailedTrialCount"), 13),
    ),
    case(
        "spec.parallelTrialCount: must not be greater than maxTrialCount 12, this is 13 "
        "(it is 3 where it is not given)",
        ((*SPEC, "parallelTrialCount"), 13),
    ),
    case(
        "spec.resumePolicy: must be one of Never, LongRunning, FromVolume, not 'Always'",
        ((*SPEC, "resumePolicy"), "Always"),
    ),
    # ---- objective
    case("spec.objective: must be given: the metric to improve", (OBJECTIVE, REMOVED)),
    case(
        "spec.objective.type: must be one of minimize, maximize, not 'minimise' (did you "
        "mean minimize?)",
        ((*OBJECTIVE, "type"), "minimise"),
    ),
    case(
        "spec.objective.objectiveMetricName: must be given: the metric that trials print",
        ((*OBJECTIVE, "objectiveMetricName"), ""),
    ),
    case(
        "spec.objective.additionalMetricNames[0]: 'loss' is the objective (remove it here)",
        ((*OBJECTIVE, "additionalMetricNames"), ["loss"]),
    ),
    case(
        "spec.objective.additionalMetricNames[1]: 'a' occurs twice (first at [0])",
        ((*OBJECTIVE, "additionalMetricNames"), ["a", "a"]),
    ),
    case(
        "spec.objective.goal: must be a finite number, this is nan",
        ((*OBJECTIVE, "goal"), float("nan")),
    ),
    case(
        "spec.objective.metricStrategies[0].value: must be one of min, max, latest, not 'mean'",
        ((*OBJECTIVE, "metricStrategies"), [{"name": "loss", "value": "mean"}]),
    ),
    # ---- algorithm and its settings
    case(
        "spec.algorithm: must be given: how parameters are proposed",
        ((*SPEC, "algorithm"), REMOVED),
    ),
    case(
        "spec.algorithm.algorithmName: must be given: the name of the algorithm",
        ((*SPEC, "algorithm", "algorithmName"), ""),
    ),
    case(
        "spec.algorithm.algorithmName: 'randm' is no algorithm of this installation; there "
        "are: auto, bayesianoptimization, cmaes, grid, multivariate-tpe, random, sobol, tpe "
        "(did you mean random?)",
        ((*SPEC, "algorithm", "algorithmName"), "randm"),
    ),
    case(
        "spec.algorithm.algorithmSettings[0]: unknown setting 'random_stat' for algorithm "
        "'random'; did you mean 'random_state'? (known: dedupe, random_state)",
        ((*SPEC, "algorithm", "algorithmSettings"), [{"name": "random_stat", "value": "1"}]),
    ),
    case(
        "spec.algorithm.algorithmSettings[0]: setting 'random_state' is 'x'; it must be an "
        "integer >= 0",
        ((*SPEC, "algorithm", "algorithmSettings"), [{"name": "random_state", "value": "x"}]),
    ),
    case(
        "spec.algorithm.algorithmSettings[1].name: 'random_state' is already the name of setting 0",
        ((*SPEC, "algorithm", "algorithmSettings"), [{"name": "random_state", "value": "1"}] * 2),
    ),
    case(
        "spec.parameters[0].feasibleSpace.step: grid needs a step for a double",
        ((*SPEC, "algorithm", "algorithmName"), "grid"),
    ),
    case(
        "spec.maxTrialCount: is 1000, and the grid has only 90 points: set maxTrialCount "
        "to 90 or less, or use smaller steps",
        ((*SPEC, "algorithm", "algorithmName"), "grid"),
        space("double", min="0", max="1", step="0.5"),
        ((*SPEC, "maxTrialCount"), 1000),
    ),
    case(
        "spec.earlyStopping.algorithmName: must be given: the name of the stopping rule",
        ((*SPEC, "earlyStopping"), {}),
    ),
    # ---- parameters: Katib checks neither numbers, order nor repetition
    case(
        "spec.parameters: must be given: what is searched",
        ((*SPEC, "parameters"), []),
        ((*DECLARED,), []),
        ((*CONTAINER, "args"), []),
    ),
    case(
        "spec.nasConfig: cannot be given beside parameters (remove one)",
        ((*SPEC, "nasConfig"), {"graphConfig": {"numLayers": 1}}),
    ),
    case(
        "spec.parameters[0].name: must be given",
        ((*FIRST, "name"), ""),
        ((*DECLARED, 0), {"name": "lr", "reference": "${trialSpec.Name}"}),
    ),
    case(
        "spec.parameters[4].name: 'lr' is already the name of parameter 0",
        ((*SPEC, "parameters", 4), parameter("lr", "int", min="1", max="2")),
    ),
    case(
        "spec.parameters[0].parameterType: must be one of double, int, discrete, "
        "categorical, not 'float'",
        ((*FIRST, "parameterType"), "float"),
    ),
    case(
        "spec.parameters[0].feasibleSpace.distribution: must be one of uniform, "
        "logUniform, normal, logNormal, not 'loguniform' (did you mean logUniform?)",
        ((*SPACE, "distribution"), "loguniform"),
    ),
    case(
        (
            "spec.parameters[0].feasibleSpace.min: must be given for int and double parameters",
            "spec.parameters[0].feasibleSpace.max: must be given for int and double parameters",
        ),
        ((*FIRST, "feasibleSpace"), REMOVED),
    ),
    case(
        "spec.parameters[0].feasibleSpace.list: is for discrete and categorical "
        "parameters, this one is double (give min and max, or change parameterType)",
        space("double", min="0", max="1", list=["1"]),
    ),
    case(
        "spec.parameters[0].feasibleSpace.max: must be given for int and double parameters",
        space("double", min="0"),
    ),
    case(
        "spec.parameters[0].feasibleSpace.min: must be given for int and double parameters",
        space("double", max="1"),
    ),
    case(
        "spec.parameters[0].feasibleSpace.min: must be a finite number, this is 'low'",
        space("double", min="low", max="1"),
    ),
    case(
        "spec.parameters[0].feasibleSpace.max: must be a finite number, this is 'inf'",
        space("double", min="0", max="inf"),
    ),
    case(
        "spec.parameters[0].feasibleSpace.min: must be a finite number, this is 'nan'",
        space("double", min="nan", max="1"),
    ),
    case(
        "spec.parameters[0].feasibleSpace.min: must be a whole number, this is '0.5'",
        space("int", min="0.5", max="2"),
    ),
    case(
        "spec.parameters[0].feasibleSpace.min: 2 is greater than max 1",
        space("double", min="2", max="1"),
    ),
    case(
        "spec.parameters[0].feasibleSpace.min: logUniform needs min > 0, got 0",
        space("double", min="0", max="1", distribution="logUniform"),
    ),
    case(
        "spec.parameters[0].feasibleSpace.min: logNormal needs min > 0, got -1",
        space("double", min="-1", max="1", distribution="logNormal"),
    ),
    case(
        "spec.parameters[0].feasibleSpace.step: 0 is not greater than 0",
        space("double", min="0", max="1", step="0"),
    ),
    case(
        "spec.parameters[0].feasibleSpace.step: -0.1 is not greater than 0",
        space("double", min="0", max="1", step="-0.1"),
    ),
    case(
        "spec.parameters[0].feasibleSpace.step: 2 is more than there is from min 0 to max 1",
        space("double", min="0", max="1", step="2"),
    ),
    case(
        "spec.parameters[0].feasibleSpace.step: 10 is more than there is from min 1 to max 5",
        space("int", min="1", max="5", step="10"),
    ),
    case(
        "spec.parameters[0].feasibleSpace.min: is for int and double parameters, this one "
        "is categorical (remove it and give a list)",
        space("categorical", list=["a"], min="1"),
    ),
    case(
        "spec.parameters[0].feasibleSpace.step: is for int and double parameters, this one "
        "is categorical (remove it and give a list)",
        space("categorical", list=["a"], step="1"),
    ),
    case(
        "spec.parameters[0].feasibleSpace.max: is for int and double parameters, this one "
        "is discrete (remove it and give a list)",
        space("discrete", list=["1"], max="1"),
    ),
    case(
        "spec.parameters[0].feasibleSpace.list: must have at least one value for a "
        "categorical parameter",
        space("categorical"),
    ),
    case(
        "spec.parameters[0].feasibleSpace.list[1]: 'a' occurs twice (first at [0])",
        space("categorical", list=["a", "a"]),
    ),
    case(
        "spec.parameters[0].feasibleSpace.list[1]: must be a finite number, this is 'many' "
        "(categorical takes any text)",
        space("discrete", list=["1", "many"]),
    ),
    case(
        "spec.parameters[0].feasibleSpace.list[1]: '1.0' is the same number as '1'",
        space("discrete", list=["1", "1.0"]),
    ),
    case(
        "spec.parameters[0].feasibleSpace.list[0]: must be a finite number, this is 'nan' "
        "(categorical takes any text)",
        space("discrete", list=["nan"]),
    ),
    case(
        "spec.parameters[0].feasibleSpace.distribution: must be text, this is a list",
        space("double", min="0", max="1", distribution=["a"]),
    ),
    case(
        (
            "spec.parameters[0].feasibleSpace.distribution: must be one of uniform, "
            "logUniform, normal, logNormal, not '[a, b'",
            "spec.parameters[0].feasibleSpace.list: must have at least one value for a "
            "categorical parameter",
        ),
        space("categorical", distribution="[a, b"),
    ),
    # ---- runPolicy (ours)
    case(
        "spec.runPolicy.activeDeadlineSeconds: must be from 1 to 2147483647 seconds, this is 0",
        ((*SPEC, "runPolicy"), {"activeDeadlineSeconds": 0}),
    ),
    case(
        "spec.runPolicy.trialActiveDeadlineSeconds: must be from 1 to 2147483647 seconds, "
        "this is -5",
        ((*SPEC, "runPolicy"), {"trialActiveDeadlineSeconds": -5}),
    ),
    case(
        "spec.runPolicy.trialActiveDeadlineSeconds: must be from 1 to 2147483647 seconds, "
        "this is 2147483648",
        ((*SPEC, "runPolicy"), {"trialActiveDeadlineSeconds": 2**31}),
    ),
    case(
        "spec.runPolicy.activeDeadlineSeconds: must be a whole number, this is '60' (write "
        "it without quotes)",
        ((*SPEC, "runPolicy"), {"activeDeadlineSeconds": "60"}),
    ),
    case(
        "spec.runPolicy.runningTrialsAtEnd: must be one of Stop, Finish, not 'Kill'",
        ((*SPEC, "runPolicy"), {"runningTrialsAtEnd": "Kill"}),
    ),
    case(
        "spec.enqueued[0].parameterAssignments: gives no value for layers, width, "
        "optimizer; a point names all parameters",
        ((*SPEC, "enqueued"), [{"parameterAssignments": [{"name": "lr", "value": "0.01"}]}]),
    ),
    # ---- earlyStopping
    case(
        "spec.earlyStopping.algorithmName: 'median' is no stopping rule of this "
        "installation; there are: medianstop (did you mean medianstop?)",
        ((*SPEC, "earlyStopping"), {"algorithmName": "median"}),
    ),
    case(
        "spec.earlyStopping.algorithmSettings[0]: unknown setting 'min_trials' for rule "
        "'medianstop' (known: horizon, min_trials_required, start_step, statistic)",
        (
            (*SPEC, "earlyStopping"),
            {
                "algorithmName": "medianstop",
                "algorithmSettings": [{"name": "min_trials", "value": "3"}],
            },
        ),
    ),
    case(
        "spec.earlyStopping.algorithmSettings[0]: setting 'start_step' is 'x'; it must be "
        "an integer >= 1",
        (
            (*SPEC, "earlyStopping"),
            {
                "algorithmName": "medianstop",
                "algorithmSettings": [{"name": "start_step", "value": "x"}],
            },
        ),
    ),
    # ---- enqueued (ours)
    case(
        "spec.enqueued[0].parameterAssignments[1].value: for layers: 9 is outside [1, 5]",
        ((*SPEC, "enqueued"), [point(layers="9")]),
    ),
    case(
        "spec.enqueued[1].parameterAssignments[0].value: for lr: 1e-9 is outside [0.001, 0.1]",
        ((*SPEC, "enqueued"), [point(), point(lr="1e-9")]),
    ),
    case(
        "spec.enqueued[0].parameterAssignments[2].value: for width: '17' is not one of 16, 32, 64",
        ((*SPEC, "enqueued"), [point(width="17")]),
    ),
    case(
        "spec.enqueued[0].parameterAssignments[3].value: for optimizer: 'adamw' is not one "
        "of sgd, adam",
        ((*SPEC, "enqueued"), [point(optimizer="adamw")]),
    ),
    case(
        "spec.enqueued[0].parameterAssignments[4].name: 'learning' is no search parameter; "
        "there are: lr, layers, width, optimizer",
        ((*SPEC, "enqueued"), [point(learning="1")]),
    ),
    case(
        "spec.enqueued[0].parameterAssignments[4].name: 'lr' is given twice (first at [0])",
        (
            (*SPEC, "enqueued"),
            [
                {
                    "parameterAssignments": [
                        *point()["parameterAssignments"],
                        {"name": "lr", "value": "0.1"},
                    ]
                }
            ],
        ),
    ),
    case(
        "spec.enqueued[0].parameterAssignments[4].name: must be given",
        (
            (*SPEC, "enqueued"),
            [{"parameterAssignments": [*point()["parameterAssignments"], {"value": "0.1"}]}],
        ),
    ),
    case(
        "spec.enqueued: has 1001 points; at most 1000 are possible",
        ((*SPEC, "enqueued"), [point()] * 1001),
    ),
    case("spec.enqueued: must be a list, this is a mapping", ((*SPEC, "enqueued"), {"lr": "1"})),
    case(
        "spec.run_policy: is not a field of Katib's API; it is spelt runPolicy",
        ((*SPEC, "run_policy"), {}),
    ),
    case(
        "spec.runPolicy.active_deadline_seconds: is not a field of Katib's API; it is "
        "spelt activeDeadlineSeconds",
        ((*SPEC, "runPolicy"), {"active_deadline_seconds": 1}),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=ids(CASES))
def test_a_broken_rule_is_told_with_its_place_and_nothing_else_is(case: Case) -> None:
    assert judged(case) == list(case.told)


ADMITTED: list[Bend] = [
    (SPEC, written.experiment()["spec"]),
    # list-valued distribution, as Katib's SDK sends it and as it comes back
    space("categorical", distribution=["a", "b"]),
    space("categorical", distribution="['a', 'b']"),
    space("discrete", distribution=["1", "2"]),
    space("double", min="1e-3", max="1", distribution="logUniform", step=""),
    space("double", min=1, max=1),
    # metadata of the trial and of its template
    declared(reference="${trialSpec.Name}"),
    declared(reference="${trialSpec.Namespace}"),
    declared(reference="${trialSpec.Kind}"),
    declared(reference="${trialSpec.APIVersion}"),
    # new in this part
    collector("File", fileSystemPath={"path": "/a/b.json", "format": "JSON"}),
    collector("Push"),
    ((*SPEC, "earlyStopping"), {"algorithmName": "medianstop"}),
    ((*SPEC, "resumePolicy"), "FromVolume"),
    ((*SPEC, "runPolicy"), {"activeDeadlineSeconds": 60, "runningTrialsAtEnd": "Finish"}),
    ((*SPEC, "runPolicy"), None),
    ((*SPEC, "enqueued"), [point(), point(lr=0.01, layers=1)]),
    ((*SPEC, "enqueued"), [point()] * 1000),
    # a placeholder where a Job has a number
    ((*JOB, "spec", "backoffLimit"), "${trialParameters.layers}"),
    ((*POD, "hostNetwork"), False),
    ((*CONTAINER, "resources"), {"limits": {"cpu": 0.5}}),
]


@pytest.mark.parametrize("bend", ADMITTED)
def test_what_is_right_is_admitted(bend: Bend) -> None:
    assert told(bent(*bend)) == []


@pytest.mark.parametrize("kind", ["Labels", "Annotations"])
def test_labels_and_annotations_of_the_template_may_be_referred_to(kind: str) -> None:
    given = bent(*declared(reference=f"${{trialSpec.{kind}[a.b/c]}}"))
    bent((*JOB, "metadata"), {kind.lower(): {"a.b/c": "x"}}, given)

    assert told(given) == []
