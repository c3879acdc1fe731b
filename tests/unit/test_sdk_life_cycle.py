# SPDX-License-Identifier: Apache-2.0
"""Pause, resume, stop, extend, enqueue: what they write, and what they refuse with which words."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import written

from tunesmith.client import Client
from tunesmith.errors import InvalidExperiment, NotPossible, NotThere
from tunesmith_api import names
from tunesmith_controller.embedded import LocalPlane
from tunesmith_controller.ports import Json, Key

POINT = {"lr": 0.01, "layers": 3, "width": 32, "optimizer": "adam"}


class Stored:
    """The experiment "quick" in a state directory of its own, without a controller."""

    def __init__(self, home: Path, **spec: Any) -> None:
        self.client = Client(home, "team")
        self.home = home
        source = written.experiment()
        source["spec"].update(spec)
        self.client.create(source)

    def set(self, state: str, reason: str = "", message: str = "", **status: Any) -> Stored:
        """Puts it in a state; counters as keyword arguments."""
        last = {"type": state, "status": "True", "reason": reason, "message": message}
        status["conditions"] = [{"type": "Created", "status": "True"}, last]
        asyncio.run(self._patch({"status": status}))
        return self

    async def _patch(self, patch: Json) -> None:
        async with LocalPlane.open(self.home) as plane:
            await plane.store.patch(Key("Experiment", "team", "quick"), patch, status=True)

    @property
    def now(self) -> Json:
        async def got() -> Json:
            async with LocalPlane.open(self.home) as plane:
                return await plane.store.get(Key("Experiment", "team", "quick"))

        return asyncio.run(got())

    @property
    def marks(self) -> Mapping[str, str]:
        ours = (names.ANNOTATION_PAUSED, names.ANNOTATION_STOPPED)
        found = self.now["metadata"]["annotations"]
        return {name: value for name, value in found.items() if name in ours}


@pytest.fixture
def quick(tmp_path: Path) -> Stored:
    return Stored(tmp_path, resumePolicy="LongRunning").set("Running", trialsSucceeded=3)


def ended(quick: Stored, reason: str, **status: Any) -> Stored:
    return quick.set("Succeeded", reason, "It is over", **{"trialsSucceeded": 12, **status})


# ---- pause, stop, resume ------------------------------------------------------------------------


def test_pause_and_stop_are_marks_and_resume_takes_them_away(quick: Stored) -> None:
    assert quick.client.pause("quick").paused
    assert quick.marks == {names.ANNOTATION_PAUSED: "true"}
    assert quick.client.stop("quick").stopping
    assert quick.marks.keys() == {names.ANNOTATION_PAUSED, names.ANNOTATION_STOPPED}
    view = quick.client.resume("quick")
    assert (view.paused, view.stopping, quick.marks) == (False, False, {})


def test_doing_it_twice_is_the_same_as_once(quick: Stored) -> None:
    quick.client.pause("quick")
    version = quick.now["metadata"]["resourceVersion"]
    quick.client.pause("quick")
    assert quick.now["metadata"]["resourceVersion"] == version
    quick.client.resume("quick")
    quick.client.resume("quick")
    assert quick.marks == {}


@pytest.mark.parametrize("verb", ["pause", "stop"])
def test_what_has_ended_can_be_neither_paused_nor_stopped(verb: str, quick: Stored) -> None:
    ended(quick, "ExperimentGoalReached")
    with pytest.raises(NotPossible, match=f"nothing to {verb}") as refused:
        getattr(quick.client, verb)("quick")
    assert refused.value.hint == "tunesmith why quick -n team"
    assert quick.marks == {}


def test_a_stopped_experiment_with_budget_left_is_resumed(quick: Stored) -> None:
    quick.client.stop("quick")
    ended(quick, "ExperimentStopped", trialsSucceeded=5)
    quick.client.resume("quick")
    assert quick.marks == {}


@pytest.mark.parametrize(
    ("reason", "ended_trials", "said", "hint"),
    [
        ("ExperimentMaxTrialsReached", 12, "budget of 12 trials is used up", "--trials +20"),
        ("ExperimentStopped", 12, "budget of 12 trials is used up", "extend quick"),
        ("ExperimentDeadlineReached", 3, "time is used up", "extend quick --deadline"),
        ("ExperimentGoalReached", 3, "cannot be started again", "--fresh"),
        ("ExperimentSuggestionEndReached", 3, "cannot be started again", "--fresh"),
    ],
)
def test_resume_says_why_an_ended_experiment_does_not_go_on(
    reason: str, ended_trials: int, said: str, hint: str, quick: Stored
) -> None:
    ended(quick, reason, trialsSucceeded=ended_trials)
    with pytest.raises(NotPossible, match=said) as refused:
        quick.client.resume("quick")
    assert hint in refused.value.hint


def test_a_resume_policy_of_never_is_named(tmp_path: Path) -> None:
    never = ended(Stored(tmp_path), "ExperimentStopped", trialsSucceeded=5)
    with pytest.raises(NotPossible, match="resumePolicy is Never") as refused:
        never.client.resume("quick")
    assert "LongRunning" in refused.value.hint


def test_a_name_that_is_not_there_is_said_by_every_verb(quick: Stored) -> None:
    elsewhere = Client(quick.home, "blue")
    for act in (elsewhere.pause, elsewhere.resume, elsewhere.stop, elsewhere.extend):
        with pytest.raises(NotThere) as refused:
            act("quick")
        assert "-n team" in refused.value.hint


# ---- extend -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("trials", "budget"), [("+20", 32), (60, 60), ("60", 60), (" +1", 13)])
def test_a_budget_is_a_number_or_so_many_more(
    trials: int | str, budget: int, quick: Stored
) -> None:
    assert quick.client.extend("quick", trials=trials).budget == budget
    assert quick.now["spec"]["maxTrialCount"] == budget


def test_parallelism_changes_alone_or_with_the_budget(quick: Stored) -> None:
    view = quick.client.extend("quick", parallel=5)
    assert (view.budget, view.parallel) == (12, 5)
    view = quick.client.extend("quick", trials="+1", parallel=2)
    assert (view.budget, view.parallel) == (13, 2)


def test_a_deadline_keeps_the_rest_of_the_run_policy(tmp_path: Path) -> None:
    policy = {"activeDeadlineSeconds": 60, "runningTrialsAtEnd": "Finish"}
    limited = Stored(tmp_path, runPolicy=policy).set("Running")
    limited.client.extend("quick", deadline=3600)
    assert limited.now["spec"]["runPolicy"] == {**policy, "activeDeadlineSeconds": 3600}
    with pytest.raises(InvalidExperiment):
        limited.client.extend("quick", deadline=0)


@pytest.mark.parametrize("trials", ["lots", "-3", "+", "", "1.5", "٣"])
def test_what_is_no_number_of_trials_is_refused(trials: str, quick: Stored) -> None:
    with pytest.raises(InvalidExperiment, match="experiment quick") as refused:
        quick.client.extend("quick", trials=trials)
    assert "+20" in refused.value.faults[0].message


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"trials": 0}, "spec.maxTrialCount"),
        ({"parallel": 0}, "spec.parallelTrialCount"),
        ({"parallel": -1}, "spec.parallelTrialCount"),
    ],
)
def test_admission_refuses_with_the_field_and_a_sentence(
    change: Mapping[str, int], field: str, quick: Stored
) -> None:
    before = quick.now
    with pytest.raises(InvalidExperiment) as refused:
        quick.client.extend("quick", **change)
    assert field in [fault.field for fault in refused.value.faults]
    assert quick.now == before


def test_more_of_no_limit_is_refused_and_a_limit_can_be_set(tmp_path: Path) -> None:
    endless = Stored(tmp_path, maxTrialCount=None).set("Running")
    with pytest.raises(NotPossible, match="no maxTrialCount") as refused:
        endless.client.extend("quick", trials="+20")
    assert "--trials 60" in refused.value.hint
    assert endless.client.extend("quick", trials=60).budget == 60


def test_an_end_that_no_budget_undoes_is_refused(quick: Stored) -> None:
    ended(quick, "ExperimentGoalReached")
    with pytest.raises(NotPossible, match="cannot be started again"):
        quick.client.extend("quick", trials="+20")


def test_a_used_up_budget_is_extended_where_the_policy_allows_it(quick: Stored) -> None:
    ended(quick, "ExperimentMaxTrialsReached")
    assert quick.client.extend("quick", trials="+20").budget == 32


# ---- enqueue ------------------------------------------------------------------------------------


def points(quick: Stored) -> Sequence[Mapping[str, str]]:
    enqueued = quick.now["spec"].get("enqueued", [])
    return [{v["name"]: v["value"] for v in p["parameterAssignments"]} for p in enqueued]


def test_points_are_appended_as_texts_also_the_same_one_again(quick: Stored) -> None:
    quick.client.enqueue("quick", POINT)
    quick.client.enqueue("quick", {**POINT, "lr": "0.02"})
    assert quick.client.enqueue("quick", POINT).enqueued == 3
    assert [point["lr"] for point in points(quick)] == ["0.01", "0.02", "0.01"]
    assert points(quick)[0] == {name: str(value) for name, value in POINT.items()}


@pytest.mark.parametrize(
    "point",
    [
        {**POINT, "lr": 7},
        {**POINT, "optimizer": "none"},
        {**POINT, "layers": 1.5},
        {**POINT, "momentum": 0.9},
        {"lr": 0.01},
    ],
)
def test_a_point_outside_the_space_is_refused_and_not_stored(
    point: Mapping[str, object], quick: Stored
) -> None:
    with pytest.raises(InvalidExperiment) as refused:
        quick.client.enqueue("quick", point)
    assert all(fault.field.startswith("spec.enqueued[0]") for fault in refused.value.faults)
    assert points(quick) == []


def test_an_experiment_that_is_over_for_good_takes_no_points(quick: Stored) -> None:
    ended(quick, "ExperimentGoalReached")
    with pytest.raises(NotPossible, match="no trial will be started"):
        quick.client.enqueue("quick", POINT)


def test_points_of_several_people_at_once_are_all_kept(quick: Stored) -> None:
    from tunesmith import life_cycle
    from tunesmith_api.resources import Experiment

    async def scenario() -> None:
        async with LocalPlane.open(quick.home) as plane:
            stored = await plane.store.get(Key("Experiment", "team", "quick"))
            found = Experiment.parse(stored)
            await asyncio.gather(*(life_cycle.enqueue(plane.store, found, POINT) for _ in range(5)))

    asyncio.run(scenario())
    assert len(points(quick)) == 5
