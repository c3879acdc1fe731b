# SPDX-License-Identifier: Apache-2.0
"""The library under our fold: what is drawn and learnt is its own arithmetic, and no worse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tunesmith_api.search_space import DoubleParameter, IntParameter, ListParameter, SearchSpace
from tunesmith_suggestion.algorithms.cmaes_kernel import Distribution, population_of
from tunesmith_suggestion.algorithms.cmaes_layout import layout_of
from tunesmith_suggestion.algorithms.cmaes_runs import (
    Folds,
    Plan,
    RestartStrategy,
    State,
    Told,
    after_generation,
    first_state,
)
from tunesmith_suggestion.coordinates import Coordinates
from tunesmith_suggestion.space import Floats, compile_space
from tunesmith_suggestion.testing import ONE_VALUE_MOSTLY, SPACE, points

SHORT_AND_LONG = SearchSpace((IntParameter("short", 0, 2), IntParameter("long", 0, 15)))

SQUARE = SearchSpace((DoubleParameter("x", 0.0, 1.0), DoubleParameter("y", 0.0, 1.0)))


def coordinates(space: SearchSpace) -> Coordinates:
    return Coordinates(compile_space(space))


def distribution(space: SearchSpace = SPACE, sigma: float = 1 / 6) -> Distribution:
    layout = layout_of(coordinates(space))
    mean = np.full(layout.numbers, 0.5)
    return Distribution(layout, mean, sigma, population_of(layout.columns))


def plan(restarts: RestartStrategy = RestartStrategy.NONE) -> Plan:
    return Plan("cmaes", "1", 7, 1 / 6, restarts)


def bowl(row: Floats) -> float:
    return float(((row - 0.3) ** 2).sum())


def inner(of: Distribution) -> Any:
    return of._inner


def as_evaluated(space: Coordinates, row: Floats) -> Floats:
    """A row after its values were written down and read again."""
    found: Floats = space.rows([space.point(row)])[0]
    return found


def test_a_sequential_search_is_the_librarys_own_ask_and_tell() -> None:
    space, ours, theirs = coordinates(SPACE), distribution(), inner(distribution())
    for generation in range(15):
        seeds = [100 * generation + k for k in range(ours.population)]
        asked = []
        for seed in seeds:
            theirs.reseed_rng(seed)
            asked.append(theirs.ask())
        rows = np.array([as_evaluated(space, ours.row(seed)) for seed in seeds])
        losses = np.array([bowl(row) for row in rows])
        ours.learn(seeds, rows, losses)
        ranks = np.argsort(np.argsort(losses, kind="stable"), kind="stable")
        theirs.tell([(asked[i], float(rank)) for i, rank in enumerate(ranks)])
        assert np.allclose(inner(ours)._mean, theirs._mean, rtol=0, atol=1e-9), generation
        assert np.allclose(inner(ours)._q, theirs._q, rtol=0, atol=1e-9), generation


def test_the_library_still_has_the_attributes_that_it_does_not_publish() -> None:
    made = inner(distribution())
    drawn = made.ask()
    used = [made._mean, made._A, made._z_lim, drawn._v_raw, *made._eigen_decomposition()]
    assert all(isinstance(part, np.ndarray) for part in used)
    assert isinstance(made._sigma, float)


def test_a_drawn_point_is_the_mean_plus_steps_of_its_size() -> None:
    drawn = np.array([distribution(sigma=0.01).row(seed) for seed in range(200)])
    momentum = drawn[:, 4]
    assert abs(momentum.mean() - 0.5) < 0.003
    assert 0.008 < momentum.std() < 0.012


def test_every_kind_of_column_survives_the_way_there_and_back() -> None:
    for space in (SPACE, ONE_VALUE_MOSTLY, SHORT_AND_LONG):
        found = coordinates(space)
        layout = layout_of(found)
        for values in points(space, 20):
            row = found.snap(found.rows([values]))
            categories = layout.categories(row)[0]
            again = layout.row(row[0][layout.continuous], row[0][layout.stepped], categories)
            assert found.point(again) == found.point(row[0])


def test_numbers_with_two_values_are_categories_and_with_very_many_continuous() -> None:
    layout = layout_of(
        coordinates(
            SearchSpace(
                (
                    IntParameter("two", 0, 1),
                    IntParameter("some", 0, 9),
                    IntParameter("many", 0, 10**6),
                    ListParameter("list", ("a", "b", "c")),
                )
            )
        )
    )
    assert (list(layout.pairs), list(layout.stepped)) == ([0], [1])
    assert (list(layout.continuous), list(layout.choices)) == ([2], [3])
    assert layout.counts == (3, 2)


def test_a_short_list_beside_a_long_one_never_loses_its_lower_values() -> None:
    space, made = coordinates(SHORT_AND_LONG), distribution(SHORT_AND_LONG)
    for generation in range(60):
        seeds = [1000 * generation + k for k in range(made.population)]
        rows = np.array([as_evaluated(space, made.row(seed)) for seed in seeds])
        made.learn(seeds, rows, -rows.sum(axis=1))
    drawn = np.array([made.row(seed) for seed in range(1000)])
    assert ((drawn[:, 0] < 0.6).mean(), (drawn[:, 1] < 0.9).mean()) > (0.02, 0.02)


def test_a_far_point_hardly_widens_a_narrow_distribution() -> None:
    made = distribution(SQUARE, sigma=1e-4)
    seeds = list(range(made.population))
    rows = np.array([made.row(seed) for seed in seeds])
    rows[0] = [1.0, 0.0]
    made.learn(seeds, rows, np.arange(len(seeds), dtype=float))
    assert inner(made)._sigma < 3e-4
    assert np.abs(inner(made)._mean - 0.5).max() < 1e-3


@pytest.mark.parametrize("value", [0.0, 1e308, np.inf])
def test_losses_of_any_size_are_learnt_from(value: float) -> None:
    made = distribution()
    seeds = list(range(made.population))
    rows = np.array([made.row(seed) for seed in seeds])
    made.learn(seeds, rows, np.full(len(seeds), value))
    assert np.isfinite(inner(made)._mean).all() and inner(made)._sigma > 0


# ---- restarts -----------------------------------------------------------------------------------


def folded(restarts: RestartStrategy, trials: int) -> list[State]:
    """The states of a search in which all trials are as good, so that it is stuck soon."""
    layout = layout_of(coordinates(SPACE))
    rows = coordinates(SPACE).rows(points(SPACE, trials))
    told = Told(np.arange(trials), rows, np.zeros(trials))
    states = [first_state(plan(restarts), layout)]
    while states[-1].taken + states[-1].distribution.population <= trials:
        states.append(after_generation(plan(restarts), layout, states[-1], told))
    return states


def populations(states: list[State]) -> list[int]:
    """Of every start, in order."""
    return [
        state.distribution.population
        for before, state in zip([None, *states], states, strict=False)
        if before is None or state.starts != before.starts
    ]


def test_ipop_doubles_the_population_at_each_restart() -> None:
    least = population_of(7)
    found = populations(folded(RestartStrategy.IPOP, 2500))
    assert found[:4] == [least, 2 * least, 4 * least, 8 * least]


def test_bipop_gives_small_populations_as_many_trials_as_large_ones() -> None:
    least = population_of(7)
    states = folded(RestartStrategy.BIPOP, 2500)
    found = populations(states)
    assert found[:2] == [least, 2 * least] and 4 * least in found
    assert any(state.is_small for state in states)
    large, small = states[-1].spent
    assert large + small == states[-1].taken
    assert small > large / 3


def test_without_a_strategy_a_flat_search_keeps_its_population() -> None:
    assert set(populations(folded(RestartStrategy.NONE, 1500))) == {population_of(7)}


def test_a_distribution_that_has_collapsed_starts_again_elsewhere() -> None:
    layout = layout_of(coordinates(SHORT_AND_LONG))
    state = first_state(plan(), layout)
    inner(state.distribution)._sigma = np.float64(1e-320)
    count = state.distribution.population
    told = Told(np.arange(count), np.full((count, 2), 0.5), np.arange(count, dtype=float))
    with np.errstate(all="ignore"):
        later = after_generation(plan(), layout, state, told)
    assert later.starts == 1
    assert later.distribution.population == count
    assert inner(later.distribution)._sigma == 1 / 6


# ---- what is remembered -------------------------------------------------------------------------


def test_few_states_are_kept_of_a_long_search() -> None:
    layout, rows = layout_of(coordinates(SPACE)), coordinates(SPACE).rows(points(SPACE, 1500))
    told = Told(np.arange(1500), rows, np.arange(1500, dtype=float))
    folds = Folds()
    folds.state("one", plan(), layout, told)
    kept = folds._held["one"].states
    assert len(kept) < 20
    assert kept[-1].taken > 1500 - population_of(7)


def test_searches_that_were_not_used_lately_are_forgotten() -> None:
    layout = layout_of(coordinates(SPACE))
    nothing = Told(np.arange(0), np.empty((0, 7)), np.empty(0))
    folds = Folds(limit=2)
    for name in ("one", "two", "three"):
        folds.state(name, plan(), layout, nothing)
    assert list(folds._held) == ["two", "three"]
