# SPDX-License-Identifier: Apache-2.0
"""The distribution of CMA-ES: draws points by ordinal, learns from whole generations.

The arithmetic is the `cmaes` library's CatCMAwM (Hamano et al., "CatCMA with Margin", GECCO 2025,
arXiv 2504.07884): a normal distribution with a margin for stepped numbers, joint with independent
categorical distributions. This is the only module that touches the library. It uses attributes
that the library does not publish (one test names them), so the library's minor version is pinned:

- the mean, step size and axes, to shorten the step to a point that is not of this distribution;
- the limits between stepped values, because the library gives lists that are shorter than the
  longest one a wrong last limit, and because ours need not be half-way.

Called by `cmaes_runs`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Protocol

import numpy as np

from tunesmith_suggestion.algorithms.cmaes_layout import Layout
from tunesmith_suggestion.coordinates import Integers
from tunesmith_suggestion.space import Floats


class _Solution(Protocol):
    """`x` inside the bounds, `z` on the steps, `c` one-hot; `_v_raw` before bounds and steps."""

    x: Floats | None
    z: Floats | None
    c: Floats | None
    _v_raw: Floats | None


class _Optimizer(Protocol):
    """What is used of CatCMAwM. It samples `_mean` + `_sigma` `_A` N(0, C)."""

    population_size: int
    _mean: Floats
    _sigma: float
    _A: Floats
    _z_lim: Floats

    def reseed_rng(self, seed: int) -> None: ...
    def ask(self) -> _Solution: ...
    def tell(self, solutions: list[tuple[_Solution, float]]) -> None: ...
    def should_stop(self) -> bool: ...
    def _eigen_decomposition(self) -> tuple[Floats, Floats]: ...


_SAME = 1e-7
"""A told position this near to a drawn one is the drawn one, but for rounding."""


def population_of(columns: int) -> int:
    """The usual 4 + 3 ln n (Hansen, "The CMA evolution strategy: a tutorial", eq. 48)."""
    return 4 + math.floor(3 * math.log(columns))


class Distribution:
    """Mutable; `copied` before it is drawn from by more than one caller."""

    def __init__(self, layout: Layout, mean: Floats, sigma: float, population: int) -> None:
        self._layout = layout
        self._inner = _optimizer(layout, mean, sigma, population)

    @property
    def population(self) -> int:
        return self._inner.population_size

    @property
    def is_spent(self) -> bool:
        """Whether it has collapsed to a point or diverged: its draws teach nothing more."""
        inner = self._inner
        if not self._layout.numbers:
            return False
        # A mean exactly on the last limit between steps makes the library's margin nothing.
        is_sound = np.isfinite(inner._mean).all() and (inner._A > 0).all()
        return not is_sound or bool(inner.should_stop())

    def copied(self) -> Distribution:
        """Another one that draws and learns alike."""
        made = copy.copy(self)
        made._inner = copy.deepcopy(self._inner)
        return made

    def row(self, seed: int) -> Floats:
        """The point that a 32-bit seed draws."""
        drawn = self._draw(seed)
        none = np.empty(0)
        categories = np.empty(0, dtype=np.int64) if drawn.c is None else drawn.c.argmax(axis=1)
        return self._layout.row(
            none if drawn.x is None else drawn.x, none if drawn.z is None else drawn.z, categories
        )

    def learn(self, seeds: Sequence[int], rows: Floats, losses: Floats) -> None:
        """A generation: points, best loss first wins, ties by position; infinite losses allowed.

        What counts of the losses is their order, so their size cannot overflow anything. A point
        that its seed draws counts as drawn, with the part that bounds and steps cut off.
        """
        inner, layout = self._inner, self._layout
        ranks = np.empty(len(losses))
        ranks[np.argsort(losses, kind="stable")] = np.arange(len(losses))
        categories = layout.categories(rows)
        told: list[tuple[_Solution, float]] = []
        for i, seed in enumerate(seeds):
            vector = self._vector(seed, rows[i])
            told.append((_solution(vector, _one_hot(categories[i], layout)), float(ranks[i])))
        inner.tell(told)

    def _draw(self, seed: int) -> _Solution:
        self._inner.reseed_rng(seed)
        return self._inner.ask()

    def _vector(self, seed: int, row: Floats) -> Floats | None:
        """The vector behind a point: what the seed drew where that gives the point's values.

        Elsewhere the values themselves; a point from another distribution (an older one, another
        algorithm's, a person's) is then brought near (Hansen, "Injecting external solutions into
        CMA-ES", arXiv 1110.4181), lest one far point blow up the step size.
        """
        layout = self._layout
        drawn = self._draw(seed)._v_raw
        if drawn is None:
            return None
        found = drawn.copy()
        many = len(layout.continuous)
        inside = row[layout.continuous]
        differs = np.abs(np.clip(drawn[:many], 0.0, 1.0) - inside) > _SAME
        found[:many][differs] = inside[differs]
        for i, (column, cells) in enumerate(zip(layout.stepped, layout.cells, strict=True), many):
            place = np.searchsorted(cells.limits, row[column])
            if place != np.searchsorted(cells.limits, drawn[i]):
                found[i] = cells.values[place]
        return found if np.array_equal(found, drawn) else self._near(found)

    def _near(self, vector: Floats) -> Floats:
        inner = self._inner
        turned, lengths = inner._eigen_decomposition()
        step = (vector - inner._mean) / (inner._sigma * inner._A)
        length = float(np.linalg.norm((turned.T @ step) / lengths))
        n = len(vector)
        longest = math.sqrt(n) + 2 * n / (n + 2)
        if length <= longest:
            return vector
        found: Floats = inner._mean + (vector - inner._mean) * (longest / length)
        return found


def _optimizer(layout: Layout, mean: Floats, sigma: float, population: int) -> _Optimizer:
    steps = [cells.values.tolist() for cells in layout.cells]
    n = layout.numbers
    made: _Optimizer = _library().CatCMAwM(
        x_space=[[0.0, 1.0]] * len(layout.continuous) or None,
        z_space=steps or None,
        c_space=layout.counts or None,
        population_size=population,
        mean=mean.copy() if n else None,
        sigma=sigma if n else None,
        cov=np.eye(n) if n else None,
        seed=0,
    )
    if steps:
        made._z_lim = _limits(layout)
    return made


def _limits(layout: Layout) -> Floats:
    """One line of limits a stepped column, the last limit repeated to equal length."""
    longest = max(len(cells.limits) for cells in layout.cells)
    lines = [np.pad(c.limits, (0, longest - len(c.limits)), mode="edge") for c in layout.cells]
    return np.array(lines)


def _one_hot(categories: Integers, layout: Layout) -> Floats | None:
    if not layout.counts:
        return None
    found = np.zeros((len(layout.counts), max(layout.counts)))
    found[np.arange(len(categories)), categories] = 1.0
    return found


def _solution(vector: Floats | None, categories: Floats | None) -> _Solution:
    made: _Solution = _library().CatCMAwM.Solution(c=categories, _v_raw=vector)
    return made


def _library() -> Any:
    """Imported when first used: it loads scipy.stats, which takes longer than the service."""
    return import_module("cmaes")
