# SPDX-License-Identifier: Apache-2.0
"""Where a function of the search space is largest: many points first, then climbing from the best.

Numbers with many values are climbed by L-BFGS-B on slopes; the others are moved one at a time to
each of their values, as long as that helps (Optuna's GPSampler alternates alike). Used by
`bayesian`.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.optimize import minimize

from tunesmith_suggestion.coordinates import Coordinates, Flags
from tunesmith_suggestion.space import Floats

MOST_TABLED: Final = 16
"""Axes with at most so many values are moved value by value; finer ones are climbed."""
_SPREAD: Final = 768
_NEAR: Final = 48
_NEAR_SPREADS: Final = (0.2, 0.05)
_STARTS: Final = 4
_ROUNDS: Final = 3
_MOVES: Final = 12
_STEPS: Final = 30

Values = Callable[[Floats], Floats]
Slopes = Callable[[Floats], tuple[Floats, Floats]]


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """What is climbed: values of snapped rows, and values with slopes."""

    values: Values
    slopes: Slopes


class Search:
    """The rows of one space. `seen` rows (as bytes, snapped) are never the answer."""

    def __init__(self, coordinates: Coordinates, seen: Container[bytes]) -> None:
        self._coordinates = coordinates
        self._seen = seen
        self._is_choice = coordinates.is_choice
        counts = [axis.count for axis in coordinates.axes]
        self._smooth: Flags = np.array(
            [count is None or count > MOST_TABLED for count in counts], dtype=bool
        )
        self._smooth &= ~self._is_choice
        self._alternatives = [
            None if smooth else _values(coordinates, j) for j, smooth in enumerate(self._smooth)
        ]
        pairs = zip(coordinates.axes, self._is_choice, strict=True)
        self._widths = np.array([float(a.count or 1) if c else 1.0 for a, c in pairs])

    def best(
        self, surface: Surface, centres: Floats, chance: np.random.Generator, *, climb: bool = True
    ) -> list[Floats]:
        """Unseen snapped rows, the most promising first; empty when none was found.

        `centres` are rows near which good ones are likely.
        """
        rows = self._candidates(centres, chance)
        values = surface.values(rows)
        order = np.argsort(-values, kind="stable")
        if not climb:
            return [rows[i] for i in order]
        starts = self._apart(rows, order)
        climbed = [self._climbed(surface, rows[i], float(values[i])) for i in starts]
        climbed.sort(key=lambda found: -found[1])
        return [row for row, _ in climbed] + [rows[i] for i in order[:_STARTS]]

    def _candidates(self, centres: Floats, chance: np.random.Generator) -> Floats:
        columns = len(self._widths)
        spread = chance.random((_SPREAD, columns)) * self._widths
        near = [self._near(centres, sigma, chance) for sigma in _NEAR_SPREADS]
        rows = self._coordinates.snap(np.concatenate([spread, *near]))
        unseen = [i for i, row in enumerate(rows) if row.tobytes() not in self._seen]
        return rows[unseen]

    def _near(self, centres: Floats, sigma: float, chance: np.random.Generator) -> Floats:
        """Centres with some columns moved: numbers a little, categories to any choice."""
        rows = np.repeat(centres, _NEAR, axis=0)
        moved = chance.random(rows.shape) < max(0.4, 1 / len(self._widths))
        anywhere = chance.random(rows.shape) * self._widths
        nearby = np.clip(rows + sigma * chance.standard_normal(rows.shape), 0.0, 1.0)
        return np.where(moved, np.where(self._is_choice, anywhere, nearby), rows)

    def _apart(self, rows: Floats, order: np.ndarray) -> list[int]:
        """The first rows of an order, none close to another."""
        found: list[int] = []
        for i in order[:64]:
            far = [np.abs(rows[i] - rows[j]).max() > 0.1 for j in found]
            if all(far):
                found.append(int(i))
            if len(found) == _STARTS:
                break
        return found

    def _climbed(self, surface: Surface, row: Floats, value: float) -> tuple[Floats, float]:
        for i in range(_ROUNDS):
            before = value
            if self._smooth.any():
                row, value = self._climbed_smoothly(surface, row, value)
            if self._smooth.all():
                break
            row, value, moved = self._moved(surface, row, value)
            if not moved or (i and value <= before):
                break
        return row, value

    def _climbed_smoothly(
        self, surface: Surface, row: Floats, value: float
    ) -> tuple[Floats, float]:
        smooth = self._smooth

        def negative(part: Floats) -> tuple[float, Floats]:
            full = row.copy()
            full[smooth] = part
            values, slopes = surface.slopes(full[None])
            return -float(values[0]), -slopes[0][smooth]

        found = minimize(
            negative,
            row[smooth],
            jac=True,
            method="L-BFGS-B",
            bounds=[(0.0, 1.0)] * int(smooth.sum()),
            options={"maxiter": _STEPS, "ftol": 1e-7},
        )
        climbed = row.copy()
        climbed[smooth] = np.clip(found.x, 0.0, 1.0)
        climbed = self._coordinates.snap(climbed[None])[0]
        if climbed.tobytes() in self._seen:
            return row, value
        reached = float(surface.values(climbed[None])[0])
        return (climbed, reached) if reached > value else (row, value)

    def _moved(self, surface: Surface, row: Floats, value: float) -> tuple[Floats, float, bool]:
        """The best single move of a column with few values, again and again."""
        for i in range(_MOVES):
            moves = self._moves(row)
            if not len(moves):
                return row, value, i > 0
            values = surface.values(moves)
            best = int(np.argmax(values))
            if values[best] <= value:
                return row, value, i > 0
            row, value = moves[best], float(values[best])
        return row, value, True

    def _moves(self, row: Floats) -> Floats:
        found = []
        for j, alternatives in enumerate(self._alternatives):
            if alternatives is None:
                continue
            for other in alternatives[alternatives != row[j]]:
                move = row.copy()
                move[j] = other
                if move.tobytes() not in self._seen:
                    found.append(move)
        return np.array(found).reshape(-1, len(row))


def _values(coordinates: Coordinates, column: int) -> Floats:
    """All values of a finite axis as they stand in a snapped row."""
    axis = coordinates.axes[column]
    count = axis.count or 1
    rows = np.zeros((count, len(coordinates.axes)))
    if coordinates.is_choice[column]:
        rows[:, column] = np.arange(count)
    else:
        edges = np.array(axis.edges())  # type: ignore[union-attr]
        rows[:, column] = (edges[:-1] + edges[1:]) / 2
    return coordinates.snap(rows)[:, column]
