# SPDX-License-Identifier: Apache-2.0
"""The roster, kept current change by change, says what counting everything anew says."""

from __future__ import annotations

from dataclasses import replace

import given
from hypothesis import given as drawn
from hypothesis import strategies as st

from tunesmith_api.conditions import TrialState
from tunesmith_api.problems import objective_of, space_of
from tunesmith_controller.trial.facts import Census, TrialFacts, census
from tunesmith_controller.trial.roster import Roster, Rosters

OBJECTIVE = objective_of(given.experiment())
SPACE = space_of(given.experiment())

CHANGES = st.lists(
    st.tuples(
        st.integers(0, 7),
        st.none() | st.sampled_from(list(TrialState)),
        st.none() | st.sampled_from([0.5, 1.0, 2.0]),
    ),
    max_size=40,
)


def a_trial(ordinal: int, state: TrialState, loss: float | None) -> TrialFacts:
    values = {} if loss is None else {"loss": loss}
    return replace(given.facts(ordinal), state=state, values=values)


def said(counted: Census) -> tuple[object, ...]:
    return (
        dict(counted.by_ordinal),
        dict(counted.counts),
        counted.active,
        {state: list(ordinals) for state, ordinals in counted.recent.items()},
        counted.best,
        counted.told.below(9, SPACE),
    )


@drawn(CHANGES)
def test_any_changes_leave_what_counting_anew_says(
    changes: list[tuple[int, TrialState | None, float | None]],
) -> None:
    roster, trials = Roster(), dict[int, TrialFacts]()
    for ordinal, state, loss in changes:
        if state is not None:
            trials[ordinal] = a_trial(ordinal, state, loss)
            roster.put(trials[ordinal])
        elif ordinal in trials:
            roster.drop(trials.pop(ordinal))
        assert said(roster.census(OBJECTIVE)) == said(census(trials.values(), OBJECTIVE))


def test_a_trial_of_a_namesake_that_was_deleted_counts_for_its_own_experiment() -> None:
    rosters = Rosters()
    old, new = given.trial(0).json(), given.trial(1).json()
    old["metadata"]["ownerReferences"][0]["uid"] = "uid-before"
    for obj in (old, new):
        rosters.changed(None, obj)
    assert list(rosters.of("uid-quick", OBJECTIVE).by_ordinal) == [1]
    rosters.changed(new, None)
    assert len(rosters.of("uid-quick", OBJECTIVE)) == 0
    assert len(rosters.of("uid-before", OBJECTIVE)) == 1


def test_a_trial_that_cannot_be_read_does_not_stop_the_others() -> None:
    rosters = Rosters()
    broken = given.trial(0).json()
    broken["metadata"]["annotations"] = {}
    rosters.changed(None, broken)
    rosters.changed(None, given.trial(1).json())
    assert list(rosters.of("uid-quick", OBJECTIVE).by_ordinal) == [1]
