# SPDX-License-Identifier: Apache-2.0
"""What the tree-structured Parzen estimator learns from a history, and what it would try next.

Trials with a loss are split into the best and the rest. Failed ones join the rest, killed ones are
left out, and pending ones repel like the rest (constant liar: Ginsbourger, Le Riche, Carraro 2010).
Called by `tpe`, which makes points of the rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from tunesmith_suggestion.algorithms.parzen import Columns, Mixture, fit, fit_narrow, log_sum
from tunesmith_suggestion.coordinates import Flags, Integers, Table
from tunesmith_suggestion.space import Floats

_BEST: Final = 0.15
_MOST_BEST: Final = 25
_UNFORGOTTEN: Final = 25
"""The newest of the rest, which keep their full weight."""
_NEWEST: Final = 256
_OLDER: Final = 256
"""How many of the rest get a kernel: all of the newest, and up to so many evenly chosen others."""
_RUNNING: Final = 0.4
"""Width of a running trial's kernel, as a share of what is typical of the rest's. It shall keep
others from the same place; it is no sign that the surroundings, promising enough to be tried, are
bad. On benchmarks/algorithms full widths make the regret of batches of eight some 4 % larger."""
_LEAST_WEIGHT: Final = 0.01
"""Of the worst of the best."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings that the model obeys."""

    gamma: float | None
    prior_weight: float
    candidates: int


@dataclass(frozen=True, slots=True)
class Model:
    """The densities of the best (`good`) and of the rest (`bad`), before any pending trial."""

    good: Mixture
    bad: Mixture
    candidates: int

    def ranked(self, chance: np.random.Generator, pending: Floats) -> Floats:
        """Rows drawn from the density of the best, the most promising first.

        Promising is l(x) / g(x): maximal where expected improvement is (Bergstra et al. 2011,
        section 4.1). `pending` are the rows of running trials.
        """
        rows = self.good.sample(chance.random((self.candidates, 1 + self.good.columns.count)))
        repelled = self.bad.log_density(rows)
        if len(pending):
            running = fit_narrow(self.bad, pending, _RUNNING)
            repelled = log_sum(repelled, running.log_density(rows))
        ratio = self.good.log_density(rows) - repelled
        found: Floats = rows[np.argsort(-ratio, kind="stable")]
        return found


def learn(columns: Columns, table: Table, rules: Rules) -> Model:
    """Pre: at least one trial has a finite loss."""
    best = _best(table, rules.gamma)
    rest = np.flatnonzero(~np.isnan(table.losses))
    rest = rest[~np.isin(rest, best, assume_unique=True)]
    kept, weights = background(len(rest))
    good = fit(columns, table.rows[best], _improvements(table, best, rest), rules.prior_weight)
    bad = fit(columns, table.rows[rest[kept]], weights, rules.prior_weight)
    return Model(good, bad, rules.candidates)


def _best(table: Table, gamma: float | None) -> Integers:
    """The best trials, in ordinal order; the values of early-stopped ones come after all others,
    since a full run would have changed them."""
    finite = table.finite
    count = how_many_best(int(finite.sum()), gamma)
    full = _smallest(table.losses, finite & ~table.stopped, count)
    stopped = _smallest(table.losses, finite & table.stopped, count - len(full))
    return np.sort(np.concatenate([full, stopped]))


def how_many_best(finished: int, gamma: float | None) -> int:
    """Of so many trials with a loss. Unless told otherwise a fixed share: with weights by
    improvement 0.12 to 0.15 did best on benchmarks/algorithms, without them 0.1."""
    wanted = _BEST * finished if gamma is None else gamma * math.sqrt(finished)
    return min(math.ceil(wanted), _MOST_BEST)


def _smallest(losses: Floats, among: Flags, count: int) -> Integers:
    """Where the `count` smallest losses are, fewer if there are fewer; of equal ones the first."""
    places = np.flatnonzero(among)
    if count <= 0 or len(places) <= count:
        return places[: max(count, 0)]
    found = losses[places]
    last = np.partition(found, count - 1)[count - 1]
    below = places[found < last]
    return np.concatenate([below, places[found == last][: count - len(below)]])


def _improvements(table: Table, best: Integers, rest: Integers) -> Floats:
    """Weights of the best with mean 1, in proportion to how far each is below the rest's least.

    So l(x) is the expected improvement's, and the very best counts most (Song et al., "A General
    Recipe for Likelihood-free Bayesian Optimization", ICML 2022; Watanabe, arXiv 2304.11127).
    """
    losses, others = table.losses[best], table.losses[rest]
    others = others[np.isfinite(others)]
    if len(others) == 0:
        return np.ones(len(best))
    # Halves, since the difference of two doubles may overflow.
    gains = np.maximum(others.min() / 2 - losses / 2, 0.0)
    most = gains.max()
    if most == 0.0:
        return np.ones(len(best))
    weights = np.maximum(gains / most, _LEAST_WEIGHT)
    found: Floats = weights / weights.mean()
    return found


def background(count: int) -> tuple[Integers, Floats]:
    """Which of `count` observations, oldest first, get a kernel of g(x), and their weights.

    The newest all do: the search is where they are. Of the older ones every 2**k-th does, for the
    others too; so the choice stays as it is until their number has doubled. Old ones are forgotten
    linearly (Bergstra, Yamins, Cox, ICML 2013).
    """
    older = max(count - _NEWEST, 0)
    step = 1
    while older > step * _OLDER:
        step *= 2
    kept = np.concatenate([np.arange(0, older, step), np.arange(older, count)])
    weights = np.minimum((kept + 1.0) / max(count - _UNFORGOTTEN, 1), 1.0)
    weights[kept < older] *= step
    return kept, weights
