# SPDX-License-Identifier: Apache-2.0
"""A CMA-ES search as a fold over its history: generations, and restarts of the distribution.

The trials that taught something are taken in ordinal order, so many at a time as the population
has; each such generation is learnt from, and the trials after the last whole one wait. What is
asked next is drawn from the distribution after the last whole generation, whichever trials run.
`Folds` remembers the distributions of the last generations; losing them changes nothing but time.
Called by `cmaes`.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from tunesmith_suggestion.algorithms.cmaes_kernel import Distribution, population_of
from tunesmith_suggestion.algorithms.cmaes_layout import Layout
from tunesmith_suggestion.chance import generator
from tunesmith_suggestion.coordinates import Integers, Table
from tunesmith_suggestion.space import Floats

_MOST_EXPERIMENTS = 64
_NEWEST_KEPT = 8
_KEPT_EVERY = 64
"""A trial that ends late changes the generation of its place, so older states are kept too."""


class RestartStrategy(StrEnum):
    NONE = "none"
    IPOP = "ipop"
    BIPOP = "bipop"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a search is, apart from its history."""

    chance_name: str
    chance_version: str
    seed: int
    sigma: float
    restarts: RestartStrategy

    def chance(self, ordinal: int) -> np.random.Generator:
        """For the point of an ordinal; for the n-th start, ordinal -n."""
        return generator(self.chance_name, self.chance_version, self.seed, ordinal)

    def seed_of(self, ordinal: int) -> int:
        """What the library's generator is seeded with: it takes 32 bits."""
        return self.seeds_of(ordinal, 1)[0]

    def seeds_of(self, ordinal: int, count: int) -> list[int]:
        """For several attempts at a point; the first is `seed_of`."""
        chance = self.chance(ordinal)
        return [int(chance.integers(1 << 32)) for _ in range(count)]


@dataclass(frozen=True, slots=True)
class Told:
    """The trials that taught something, in ordinal order; failed ones lost infinitely."""

    ordinals: Integers
    rows: Floats
    losses: Floats

    def shared(self, other: Told) -> int:
        """How many trials the two begin with alike."""
        n = min(len(self.ordinals), len(other.ordinals))
        same = (self.ordinals[:n] == other.ordinals[:n]) & (self.losses[:n] == other.losses[:n])
        same &= (self.rows[:n] == other.rows[:n]).all(axis=1)
        return n if same.all() else int(np.argmin(same))


def told_of(table: Table) -> Told:
    """What a history teaches CMA-ES."""
    kept = ~np.isnan(table.losses)
    return Told(table.ordinals[kept], table.rows[kept], table.losses[kept])


@dataclass(frozen=True, slots=True)
class State:
    """After `taken` trials in `generations`. `distribution` is not changed any more, only copied.

    `flat` counts the generations of this start since its best loss last improved. `spent` are
    the trials taken by starts with the large and the small populations (bipop), `doublings` how
    often the population was doubled.
    """

    taken: int
    generations: int
    distribution: Distribution
    starts: int = 0
    best: float = math.inf
    flat: int = 0
    doublings: int = 0
    is_small: bool = False
    spent: tuple[int, int] = (0, 0)


def first_state(plan: Plan, layout: Layout) -> State:
    """The middle of the space."""
    mean = np.full(layout.numbers, 0.5)
    population = population_of(layout.columns)
    return State(0, 0, Distribution(layout, mean, plan.sigma, population))


def after_generation(plan: Plan, layout: Layout, state: State, told: Told) -> State:
    """Pre: a whole generation was told after `state.taken`."""
    distribution = state.distribution.copied()
    end = state.taken + distribution.population
    here = slice(state.taken, end)
    seeds = [plan.seed_of(int(k)) for k in told.ordinals[here]]
    losses = told.losses[here]
    distribution.learn(seeds, told.rows[here], losses)
    best = float(losses.min())
    spent = _more_spent(state, distribution.population)
    later = replace(
        state,
        taken=end,
        generations=state.generations + 1,
        distribution=distribution,
        best=min(best, state.best),
        flat=0 if best < state.best else state.flat + 1,
        spent=spent,
    )
    is_stuck = plan.restarts is not RestartStrategy.NONE and later.flat >= _patience(
        layout, distribution.population
    )
    return _started_again(plan, layout, later) if is_stuck or distribution.is_spent else later


def _more_spent(state: State, trials: int) -> tuple[int, int]:
    large, small = state.spent
    return (large, small + trials) if state.is_small else (large + trials, small)


def _patience(layout: Layout, population: int) -> int:
    """Generations without a better trial before a restart (as long as the library's tolfun)."""
    return 10 + math.ceil(30 * layout.columns / population)


def _started_again(plan: Plan, layout: Layout, state: State) -> State:
    """A start from a random place.

    ipop: twice the population (Auger, Hansen, CEC 2005). bipop: the same, in turn with small
    populations and small steps, whichever took fewer trials so far (Hansen, GECCO 2009 BBOB).
    """
    starts = state.starts + 1
    chance = plan.chance(-starts)
    mean, shrink = chance.random(layout.numbers), float(chance.random())
    least = population_of(layout.columns)
    large, small = state.spent
    is_small = plan.restarts is RestartStrategy.BIPOP and small < large and state.doublings > 0
    doublings, sigma = state.doublings, plan.sigma
    if is_small:
        population = max(least, int(least * (2.0 ** (doublings - 1)) ** (shrink**2)))
        sigma *= 10.0 ** (-2.0 * float(chance.random()))
    else:
        doublings += plan.restarts is not RestartStrategy.NONE
        population = least * 2**doublings
    return replace(
        state,
        distribution=Distribution(layout, mean, sigma, population),
        starts=starts,
        best=math.inf,
        flat=0,
        doublings=doublings,
        is_small=is_small,
    )


@dataclass(frozen=True, slots=True)
class _Held:
    told: Told
    states: tuple[State, ...]


class Folds:
    """The newest states of the most recently used searches. Safe from several threads."""

    def __init__(self, limit: int = _MOST_EXPERIMENTS) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._held: OrderedDict[object, _Held] = OrderedDict()

    def state(self, key: object, plan: Plan, layout: Layout, told: Told) -> State:
        """After the last whole generation. `key` names the search: whatever, but for the history,
        a state depends on."""
        with self._lock:
            held = self._held.get(key)
        known = _usable(held, told) if held else ()
        states = _folded(plan, layout, known or (first_state(plan, layout),), told)
        with self._lock:
            self._held[key] = _Held(told, states)
            self._held.move_to_end(key)
            while len(self._held) > self._limit:
                self._held.popitem(last=False)
        return states[-1]


def _usable(held: _Held, told: Told) -> tuple[State, ...]:
    shared = held.told.shared(told)
    return tuple(state for state in held.states if state.taken <= shared)


def _folded(plan: Plan, layout: Layout, states: tuple[State, ...], told: Told) -> tuple[State, ...]:
    found = list(states)
    while found[-1].taken + found[-1].distribution.population <= len(told.ordinals):
        found.append(after_generation(plan, layout, found[-1], told))
        if len(found) > _NEWEST_KEPT and found[-_NEWEST_KEPT - 1].generations % _KEPT_EVERY:
            del found[-_NEWEST_KEPT - 1]
    return tuple(found)
