# SPDX-License-Identifier: Apache-2.0
"""Points as rows of numbers: there and back, incrementally, and what is told of a trial's end."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tunesmith_api.problem import History, Outcome, OutcomeState
from tunesmith_api.search_space import (
    DoubleParameter,
    IntParameter,
    ListParameter,
    ParameterType,
    SearchSpace,
)
from tunesmith_suggestion.coordinates import Coordinates, Table, Tables
from tunesmith_suggestion.space import compile_space
from tunesmith_suggestion.testing import GRID, METRIC, SPACE, a_history, a_problem, points


def table(tables: Tables, history: History) -> Table:
    return tables.of(a_problem("any"), history, compile_space(SPACE))


def same(one: Table, other: Table) -> bool:
    return (
        np.array_equal(one.rows, other.rows)
        and np.array_equal(one.ordinals, other.ordinals)
        and np.array_equal(one.losses, other.losses, equal_nan=True)
        and np.array_equal(one.stopped, other.stopped)
    )


@pytest.mark.parametrize("space", [SPACE, GRID], ids=["mixed", "stepped"])
def test_a_point_survives_the_way_to_a_row_and_back(space: SearchSpace) -> None:
    coordinates = Coordinates(compile_space(space))
    drawn = points(space, 200)
    back = [coordinates.point(row) for row in coordinates.rows(drawn)]
    for there, here in zip(drawn, back, strict=True):
        assert list(here) == list(there)
        numbers = [(a, here[k]) for k, a in there.items() if isinstance(a, float)]
        assert all(math.isclose(a, float(b), rel_tol=1e-9, abs_tol=1e-12) for a, b in numbers)
        texts = {k: v for k, v in there.items() if not isinstance(v, float)}
        assert texts == {k: here[k] for k in texts}


def test_a_row_does_not_depend_on_the_rows_beside_it() -> None:
    coordinates = Coordinates(compile_space(SPACE))
    drawn = points(SPACE, 67)
    together = coordinates.rows(drawn)
    alone = np.concatenate([coordinates.rows([point]) for point in drawn])
    assert np.array_equal(together, alone)


def test_a_snapped_row_is_the_row_of_the_point_that_would_be_evaluated() -> None:
    coordinates = Coordinates(compile_space(GRID))
    spread = np.array([3.0 if choice else 1.0 for choice in coordinates.is_choice])
    rows = np.random.default_rng(3).random((100, len(coordinates.axes))) * spread
    snapped = coordinates.snap(rows)
    evaluated = coordinates.rows([coordinates.point(row) for row in rows])
    assert np.allclose(snapped, evaluated, atol=1e-12)


def test_parameters_with_one_value_have_no_column_and_keep_their_place() -> None:
    space = SearchSpace(
        (
            ListParameter("only", ("sgd",)),
            DoubleParameter("x", 0.0, 1.0),
            IntParameter("fixed", 3, 3),
        )
    )
    coordinates = Coordinates(compile_space(space))
    assert len(coordinates.axes) == 1
    assert coordinates.point(np.array([0.25])) == {"only": "sgd", "x": 0.25, "fixed": 3}


def test_discrete_numbers_are_ordered_however_they_were_listed() -> None:
    space = SearchSpace((ListParameter("batch", ("128", "32", "64"), ParameterType.DISCRETE),))
    coordinates = Coordinates(compile_space(space))
    rows = coordinates.rows([{"batch": text} for text in ("32", "64", "128")])
    assert rows[:, 0].tolist() == sorted(rows[:, 0])


def test_how_a_trial_ended_decides_what_is_learnt() -> None:
    ends = [
        (OutcomeState.SUCCEEDED, {METRIC: 0.5}),
        (OutcomeState.EARLY_STOPPED, {METRIC: 0.75}),
        (OutcomeState.FAILED, {METRIC: 0.1}),
        (OutcomeState.METRICS_UNAVAILABLE, {}),
        (OutcomeState.SUCCEEDED, {}),
        (OutcomeState.KILLED, {}),
    ]
    outcomes = tuple(
        Outcome(k, point, state, values)
        for k, (point, (state, values)) in enumerate(
            zip(points(SPACE, len(ends)), ends, strict=True)
        )
    )
    found = table(Tables(), History(outcomes))
    expected = [0.5, 0.75, math.inf, math.inf, math.inf, math.nan]
    assert np.array_equal(found.losses, expected, equal_nan=True)
    assert found.stopped.tolist() == [False, True, False, False, False, False]


def test_a_growing_and_a_rewritten_history_equal_a_fresh_conversion() -> None:
    tables = Tables()
    whole = a_history(SPACE, 40, states=tuple(OutcomeState)).outcomes
    late = tuple(o for o in whole if o.ordinal not in (7, 20))
    for outcomes in (whole[:10], late[:25], whole[:30], whole, whole[:5], late):
        history = History(outcomes)
        assert same(table(tables, history), table(Tables(), history))


def test_a_table_that_was_given_out_never_changes() -> None:
    tables = Tables()
    whole = a_history(SPACE, 40).outcomes
    early = table(tables, History(whole[:20]))
    kept = early.rows.copy()
    table(tables, History(whole[10:]))
    assert np.array_equal(early.rows, kept)


def test_running_trials_are_rows_of_their_own() -> None:
    history = a_history(SPACE, 5, pending=3)
    found = table(Tables(), history)
    assert found.pending_ordinals.tolist() == [5, 6, 7]
    assert found.pending_rows.shape == (3, 7)
