# SPDX-License-Identifier: Apache-2.0
"""Katib's objects as ours, and again: the order of its assignments is kept."""

from __future__ import annotations

import copy

import katib_objects as katib

from tunesmith_api.resources import Suggestion, Trial
from tunesmith_controller.adoption.objects import (
    adopted_suggestion,
    adopted_trial,
    is_foreign,
    needs_its_service,
    ordinals,
)
from tunesmith_controller.ports import Json
from tunesmith_controller.trial.facts import facts_of

EXPERIMENT: Json = {
    "metadata": {"name": "old", "namespace": "team", "uid": "u"},
    "spec": {
        "algorithm": {"algorithmName": "random"},
        "objective": {"type": "minimize", "objectiveMetricName": "loss"},
        "trialTemplate": {"primaryContainerName": "main"},
    },
}
POINTS = {"old-zzzzzzzz": "1.5", "old-aaaaaaaa": "2.5", "old-mmmmmmmm": "3.5"}


def suggestion() -> Json:
    return katib.suggestion(EXPERIMENT, POINTS, ended=False)


def trial(name: str, loss: float | None = 0.5) -> Json:
    body = katib.trial(EXPERIMENT, name, POINTS.get(name, "9"), {"kind": "Job"}, loss)
    body["metadata"]["creationTimestamp"] = katib.TIME
    return body


def test_ordinals_are_the_places_of_the_assignments() -> None:
    found = ordinals(suggestion(), [trial("old-aaaaaaaa")])
    assert found == {"old-zzzzzzzz": 0, "old-aaaaaaaa": 1, "old-mmmmmmmm": 2}


def test_a_trial_that_no_assignment_explains_follows() -> None:
    trials = [trial("old-aaaaaaaa"), trial("old-stranger")]
    assert ordinals(suggestion(), trials)["old-stranger"] == 3
    whole = Suggestion.parse(adopted_suggestion(suggestion(), trials, 7))
    assert [each.ordinal for each in whole.status.suggestions] == [0, 1, 2, 3]
    assert whole.status.suggestion_count == 4


def test_an_adopted_trial_is_counted_with_what_it_found() -> None:
    wanted = adopted_trial(trial("old-mmmmmmmm", 0.25), 2)
    assert wanted is not None
    facts = facts_of(Trial.parse(wanted))
    assert (facts.ordinal, facts.state, facts.values) == (2, "Succeeded", {"loss": 0.25})


def test_adopting_again_changes_nothing() -> None:
    once = adopted_trial(trial("old-mmmmmmmm"), 2)
    assert once is not None
    assert adopted_trial(copy.deepcopy(once), 5) is None
    assert is_foreign(suggestion())
    assert not is_foreign(adopted_suggestion(suggestion(), [], 7))


def test_a_search_that_nobody_has_begun_is_not_katibs() -> None:
    new = suggestion()
    new["status"] = {}
    assert not is_foreign(new)


def test_a_trial_under_deletion_gets_no_finalizer() -> None:
    going = trial("old-mmmmmmmm")
    going["metadata"] |= {"deletionTimestamp": katib.TIME, "finalizers": ["somebodys"]}
    wanted = adopted_trial(going, 2)
    assert wanted is not None and wanted["metadata"]["finalizers"] == ["somebodys"]


def test_katibs_service_is_needed_while_a_collector_may_tell_it_of_early_stopping() -> None:
    runs, ended = trial("old-aaaaaaaa", None), trial("old-zzzzzzzz", 0.5)
    stopping = suggestion()
    stopping["spec"]["earlyStopping"] = {"algorithmName": "medianstop"}
    assert needs_its_service(stopping, [ended, runs])
    assert not needs_its_service(stopping, [ended])
    assert not needs_its_service(suggestion(), [ended, runs])
