# SPDX-License-Identifier: Apache-2.0
"""What may change of a stored Experiment, and in which sentence anything else is refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import written
from refusals import point
from written import SPEC, bent

from tunesmith_api.validation import validate_update
from tunesmith_controller.admission.local import Refused, admit, admit_update

MAX_TRIALS = "ExperimentMaxTrialsReached"
IT_ENDED = (
    "spec.resumePolicy: this experiment has ended ({}); it could go on after "
    "ExperimentMaxTrialsReached or ExperimentStopped or ExperimentDeadlineReached, with "
    "resumePolicy LongRunning or FromVolume (create an experiment of another name)"
)
FROZEN = (
    "spec.{}: cannot be changed after creation (only parallelTrialCount, maxTrialCount, "
    "maxFailedTrialCount, runPolicy can, and points can be added to enqueued; create an "
    "experiment of another name)"
)


def stored(trials: int = 0, **spec: Any) -> written.Json:
    given = written.experiment()
    given["spec"] |= spec
    return {**admit(given), "status": {"trials": trials, "conditions": [{"type": "Running"}]}}


def ended(reason: str, policy: str = "LongRunning", trials: int = 12) -> written.Json:
    state = "Failed" if reason == "ExperimentFailed" else "Succeeded"
    old = stored(trials, resumePolicy=policy)
    old["status"]["conditions"].append({"type": state, "status": "True", "reason": reason})
    return old


def changed(old: written.Json, **fields: Any) -> written.Json:
    return {**old, "spec": {**old["spec"], **fields}}


def told(old: written.Json, new: written.Json) -> list[str]:
    try:
        admit_update(old, new)
    except Refused as refused:
        return [str(error) for error in refused.errors]
    return []


# ---- what is editable ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"parallelTrialCount": 1, "maxTrialCount": 50, "maxFailedTrialCount": 2},
        {"maxTrialCount": None},
        {"runPolicy": {"activeDeadlineSeconds": 60}},
        {"enqueued": [point(), point(lr="0.01")]},
        {"nasConfig": None, "earlyStopping": None},
    ],
)
def test_budgets_policy_and_more_points_may_change(fields: Any) -> None:
    old = stored(trials=6, enqueued=[point()])

    assert told(old, changed(old, **fields)) == []
    assert admit_update(old, changed(old, **fields))["status"] == old["status"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("algorithm", {"algorithmName": "tpe"}),
        ("objective", {"type": "maximize", "objectiveMetricName": "loss"}),
        ("earlyStopping", {"algorithmName": "medianstop"}),
        ("resumePolicy", "LongRunning"),
        ("metricsCollectorSpec", {"collector": {"kind": "Push"}}),
    ],
)
def test_everything_else_is_fixed(key: str, value: Any) -> None:
    old = stored()

    assert told(old, changed(old, **{key: value})) == [FROZEN.format(key)]


def test_points_are_only_added() -> None:
    one, other = point(), point(lr="0.01")
    old = stored(enqueued=[one, other])

    assert told(old, changed(old, enqueued=[one])) == [
        "spec.enqueued: has 1 points, 2 are stored; points can only be added"
    ]
    assert told(old, changed(old, enqueued=[one, one, other])) == [
        "spec.enqueued[1]: is not the point that is stored; points can only be added, at the end"
    ]
    assert told(old, changed(old, enqueued=[one, other, {}])) == [
        "spec.enqueued[2].parameterAssignments: gives no value for lr, layers, width, optimizer; "
        "a point names all parameters"
    ]


def test_new_budgets_obey_the_rules_of_budgets() -> None:
    old = stored()

    assert told(old, changed(old, maxTrialCount=2)) == [
        "spec.parallelTrialCount: must not be greater than maxTrialCount 2, this is 3 "
        "(it is 3 where it is not given)"
    ]
    assert told(old, changed(old, maxTrialCount="20")) == [
        "spec.maxTrialCount: must be a whole number, this is '20' (write it without quotes)"
    ]


def test_a_grid_is_not_given_more_trials_than_points() -> None:
    grid = {"min": "0", "max": "1", "step": "0.5"}
    parameters = written.experiment()["spec"]["parameters"]
    parameters[0]["feasibleSpace"] = grid
    old = stored(algorithm={"algorithmName": "grid"}, parameters=parameters)

    assert told(old, changed(old, maxTrialCount=90)) == []
    (only,) = told(old, changed(old, maxTrialCount=91))
    assert only.startswith("spec.maxTrialCount: is 91, and the grid has only 90 points")


def test_what_was_wrong_before_is_not_held_against_a_change() -> None:
    """An Experiment of another installation: an algorithm and a kind of job unknown here."""
    old = bent((*SPEC, "algorithm", "algorithmName"), "cmaes")
    bent((*SPEC, "trialTemplate", "trialSpec", "kind"), "PyTorchJob", old)

    assert told(old, changed(old, maxTrialCount=20)) == []
    assert told(old, {**old, "metadata": {"name": "quick", "finalizers": []}}) == []
    assert told(old, changed(old, parallelTrialCount=0)) == [
        "spec.parallelTrialCount: must be from 1 to 1000, this is 0"
    ]


# ---- fewer and more trials ----------------------------------------------------------------------


def test_fewer_trials_than_there_are_name_the_commands_that_were_meant() -> None:
    old = stored(trials=6)

    assert told(old, changed(old, maxTrialCount=6)) == []
    assert told(old, changed(old, maxTrialCount=5)) == [
        "spec.maxTrialCount: is 5, and there are 6 trials already (`tunesmith stop quick` ends "
        "the experiment now with what it has found, `tunesmith pause quick` interrupts it)"
    ]


def test_parallelism_may_change_when_the_budget_of_trials_is_used_up() -> None:
    """Katib compares maxTrialCount with the trials whatever was changed."""
    running = stored(trials=12)
    over = ended(MAX_TRIALS, trials=13)

    assert told(running, changed(running, parallelTrialCount=1)) == []
    assert told(over, changed(over, parallelTrialCount=1, maxFailedTrialCount=3)) == []


@pytest.mark.parametrize("policy", ["LongRunning", "FromVolume"])
@pytest.mark.parametrize("reason", [MAX_TRIALS, "ExperimentStopped", "ExperimentDeadlineReached"])
def test_an_experiment_that_ended_for_want_of_budget_goes_on_with_more(
    reason: str, policy: str
) -> None:
    old = ended(reason, policy)

    assert told(old, changed(old, maxTrialCount=13)) == []
    assert len(told(old, changed(old, maxTrialCount=11))) == 1


@pytest.mark.parametrize(
    ("reason", "policy", "how"),
    [
        (MAX_TRIALS, "Never", "ExperimentMaxTrialsReached, resumePolicy Never"),
        ("ExperimentGoalReached", "LongRunning", "ExperimentGoalReached, resumePolicy LongRunning"),
        ("ExperimentFailed", "FromVolume", "ExperimentFailed, resumePolicy FromVolume"),
    ],
)
def test_any_other_ended_experiment_stays_ended(reason: str, policy: str, how: str) -> None:
    old = ended(reason, policy)

    assert told(old, changed(old, maxTrialCount=20)) == [IT_ENDED.format(how)]
    assert told(old, {**old, "metadata": {"name": "quick", "labels": {"a": "b"}}}) == []


# ---- the same in another spelling ---------------------------------------------------------------


def test_another_spelling_of_the_same_is_no_change() -> None:
    old = stored()
    parameters = copy.deepcopy(old["spec"]["parameters"])
    parameters[0]["feasibleSpace"] = {"min": 0.001, "max": 0.1, "step": "", "distribution": ""}

    assert told(old, changed(old, parameters=parameters, nasConfig=None, enqueued=[])) == []


def edited_by_katibs_sdk(old: written.Json, **budget: int) -> written.Json:
    """`edit_experiment_budget`: the whole object comes back, times in another form, the list of a
    categorical parameter as Python's text of it."""
    new = copy.deepcopy(old)
    new["spec"] |= budget
    new["metadata"] |= {"creationTimestamp": "2026-01-02T03:04:05+00:00"}
    new["status"] |= {"startTime": "2026-01-02T03:04:05+00:00"}
    space = new["spec"]["parameters"][3]["feasibleSpace"]
    if isinstance(space["distribution"], list):
        space["distribution"] = str(space["distribution"])
    return new


@pytest.mark.parametrize("admitted", [True, False])
def test_a_budget_edit_of_katibs_sdk_changes_the_counts_alone(admitted: bool) -> None:
    sent = bent((*SPEC, "parameters", 3, "feasibleSpace"), {"distribution": ["sgd", "adam"]})
    old = {**(admit(sent) if admitted else sent), "status": {"trials": 4}}

    new = admit_update(old, edited_by_katibs_sdk(old, maxTrialCount=20, parallelTrialCount=4))

    before = admit(sent)["spec"]
    assert new["spec"] == {**before, "maxTrialCount": 20, "parallelTrialCount": 4}


def test_a_default_that_a_client_takes_away_comes_back() -> None:
    old = stored()

    assert admit_update(old, changed(old, parallelTrialCount=None))["spec"] == old["spec"]


def test_an_update_to_something_unreadable_is_refused() -> None:
    assert [str(e) for e in validate_update(stored(), [])] == ["must be a mapping, this is a list"]
